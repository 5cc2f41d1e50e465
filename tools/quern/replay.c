#include "replay.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DEVICES = 16 };

/* A driver has no place for what it belongs to, and the command replays one dump. */
static struct {
    char name[32];
    uint32_t n;
    struct quern_device_info infos[MOST_DEVICES];
    struct quern_driver driver;
} replay;

/* ---- the driver ---- */

static int32_t replay_probe(const struct quern_host *host, struct quern_device_info *infos, uint32_t cap,
                            uint32_t *n, struct quern_error *err)
{
    *n = replay.n;
    for (uint32_t i = 0; i < replay.n && i < cap; i++)
        infos[i] = replay.infos[i];
    return QUERN_OK;
}

static int32_t no_device(const struct quern_host *host, uint32_t index,
                         const struct quern_profile_view *profile, struct quern_device **device,
                         struct quern_error *err)
{
    *device = NULL;
    snprintf(err->text, sizeof err->text, "%s is a device of another machine, written down in a file",
             replay.infos[index].name);
    return err->status = QUERN_ERR_UNSUPPORTED;
}

/* ---- the file ---- */

static int wrong(const char *path, const char *field, const char *expected)
{
    return fault_text(path, "%s: expected %s; this is no dump of quern device dump", field, expected);
}

static bool take_text(const cJSON *object, const char *key, char *to, size_t size)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(value) || strlen(value->valuestring) >= size)
        return false;
    memcpy(to, value->valuestring, strlen(value->valuestring) + 1);
    return true;
}

static bool take_number(const cJSON *object, const char *key, uint32_t *to)
{
    char text[32], *end = text;
    unsigned long number = take_text(object, key, text, sizeof text) ? strtoul(text, &end, 16) : 0;
    *to = (uint32_t)number;
    return end != text && *end == '\0' && number <= UINT32_MAX;
}

static bool take_type(const cJSON *object, uint32_t *type)
{
    char text[32];
    if (!take_text(object, "type", text, sizeof text))
        return false;
    *type = 0;
    while (quern_device_type_name(*type) && strcmp(quern_device_type_name(*type), text) != 0)
        ++*type;
    return quern_device_type_name(*type) != NULL;
}

static bool take_facts(const cJSON *facts, char *to, size_t size)
{
    const cJSON *fact;
    size_t n = 0;
    cJSON_ArrayForEach(fact, facts)
    {
        if (!cJSON_IsString(fact) || n >= size)
            return false;
        n += (size_t)snprintf(to + n, size - n, "%s: %s\n", fact->string, fact->valuestring);
    }
    return cJSON_IsObject(facts) && n < size;
}

static int take_device(const char *path, const cJSON *item, struct quern_device_info *info)
{
    const cJSON *match = cJSON_GetObjectItemCaseSensitive(item, "match");
    const cJSON *memory = cJSON_GetObjectItemCaseSensitive(item, "memory");
    *info = (struct quern_device_info){.struct_size = sizeof *info};
    if (!take_text(item, "name", info->name, sizeof info->name))
        return wrong(path, "name", "a text");
    if (!take_type(item, &info->type))
        return wrong(path, "type", "a type of devices");
    if (!take_text(item, "driver_version", info->driver, sizeof info->driver) ||
        !take_text(item, "features", info->features, sizeof info->features) ||
        !take_text(item, "identity", info->identity, sizeof info->identity))
        return wrong(path, "driver_version, features, identity", "texts");
    if (!cJSON_IsNumber(memory) || !(memory->valuedouble >= 0 && memory->valuedouble < 1e18))
        return wrong(path, "memory", "a number of bytes");
    info->memory = (uint64_t)memory->valuedouble;
    if (!take_number(match, "vendor", &info->vendor_id) ||
        !take_number(match, "device_id", &info->device_id) ||
        !take_text(match, "driver", info->driver_name, sizeof info->driver_name) ||
        !take_text(match, "driver_version", info->driver_version, sizeof info->driver_version))
        return wrong(path, "match", "vendor, device_id, driver and driver_version as texts");
    if (!take_facts(cJSON_GetObjectItemCaseSensitive(item, "facts"), info->facts, sizeof info->facts))
        return wrong(path, "facts", "a mapping of texts");
    return EXIT_DONE;
}

static int take_dump(const char *path, const cJSON *root)
{
    const cJSON *devices = cJSON_GetObjectItemCaseSensitive(root, "devices"), *item;
    if (!take_text(root, "driver", replay.name, sizeof replay.name))
        return wrong(path, "driver", "its name");
    if (!cJSON_IsArray(devices) || cJSON_GetArraySize(devices) > MOST_DEVICES)
        return wrong(path, "devices", "a list of at most 16");
    int code = EXIT_DONE;
    cJSON_ArrayForEach(item, devices)
    {
        if (code == EXIT_DONE)
            code = take_device(path, item, &replay.infos[replay.n++]);
    }
    return code;
}

int replay_open(const char *path, const struct quern_driver **driver)
{
    struct buffer text = {0};
    int code = read_input(path, &text);
    if (code != EXIT_DONE)
        return code;
    memset(&replay, 0, sizeof replay);
    cJSON *root = cJSON_ParseWithLength(text.data, text.n);
    code = root ? take_dump(path, root) : fault_text(path, "this is no JSON");
    cJSON_Delete(root);
    buffer_finish(&text);
    replay.driver = (struct quern_driver){.struct_size = sizeof replay.driver,
                                          .abi = QUERN_DRIVER_ABI,
                                          .name = replay.name,
                                          .probe = replay_probe,
                                          .open = no_device};
    *driver = &replay.driver;
    return code;
}
