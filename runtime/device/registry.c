#include "device/registry.h"

#include <stdio.h>
#include <string.h>

/* The built-in drivers, most wanted first. Removing one costs its row here and its `subdir` line. */
const struct quern_driver *quern_cpu_driver_get(uint32_t abi);
const struct quern_driver *quern_null_driver_get(uint32_t abi);
#ifdef QN_HAVE_VULKAN
const struct quern_driver *quern_vulkan_driver_get(uint32_t abi);
#endif
static const quern_driver_get_fn builtin[] = {
    quern_cpu_driver_get,
#ifdef QN_HAVE_VULKAN
    quern_vulkan_driver_get,
#endif
    quern_null_driver_get,
};

/* The table of the first version: up to and with `times`. */
static const size_t DRIVER_MIN_SIZE =
    offsetof(struct quern_driver, times) + sizeof(((struct quern_driver *)0)->times);

static bool usable(const struct quern_callbacks *cb, const struct quern_driver *driver)
{
    if (!driver)
        return false;
    if (driver->abi == QUERN_DRIVER_ABI && driver->struct_size >= DRIVER_MIN_SIZE)
        return true;
    qn_log(cb, QUERN_LOG_WARNING,
           "driver %s has ABI version %u and a table of %u bytes, expected version %d and at least %zu: left "
           "out",
           driver->name, driver->abi, driver->struct_size, QUERN_DRIVER_ABI, DRIVER_MIN_SIZE);
    return false;
}

/* Driver number i, extra ones first (they may replace a built-in one of the same name); NULL: left out.
 * False at the end. */
static bool driver_at(const struct quern_callbacks *cb, const struct qn_drivers *drivers, size_t i,
                      const struct quern_driver **out)
{
    if (i >= drivers->n_extra + QN_LEN(builtin))
        return false;
    const struct quern_driver *driver =
        i < drivers->n_extra ? drivers->extra[i] : builtin[i - drivers->n_extra](QUERN_DRIVER_ABI);
    *out = usable(cb, driver) ? driver : NULL;
    for (size_t j = 0; *out && i >= drivers->n_extra && j < drivers->n_extra; j++)
        if (drivers->extra[j] && strcmp(drivers->extra[j]->name, driver->name) == 0)
            *out = NULL;
    return true;
}

/* ---- the host table ---- */

static bool host_get(struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                     void (*take)(void *user, const void *data, size_t bytes), void *user)
{
    struct qn_blob blob;
    bool found = qn_cache_get(cache, kind, key, key_bytes, &blob);
    if (found)
        take(user, blob.data, blob.bytes);
    qn_blob_finish(cache, &blob);
    return found;
}

static void host_put(struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                     const void *data, size_t bytes)
{
    qn_cache_put(cache, kind, key, key_bytes, data, bytes);
}

static struct quern_host host_table(const struct quern_callbacks *cb, const struct qn_drivers *drivers)
{
    return (struct quern_host){.struct_size = sizeof(struct quern_host),
                               .callbacks = cb,
                               .cache = drivers->cache,
                               .cache_get = host_get,
                               .cache_put = host_put};
}

enum { MAX_PROBED = 16 };

/* Devices of one driver; 0 with the reason in err->text when it fails, which is logged: a driver without
 * anything to drive is no fault. */
static uint32_t probe(const struct quern_host *host, const struct quern_driver *driver,
                      struct quern_device_info infos[MAX_PROBED], struct quern_error *err)
{
    uint32_t n = 0;
    *err = (struct quern_error){0};
    for (uint32_t i = 0; i < MAX_PROBED; i++)
        infos[i] = (struct quern_device_info){.struct_size = sizeof infos[i]};
    int32_t status = driver->probe(host, infos, MAX_PROBED, &n, err);
    if (status) {
        qn_log(host->callbacks, status == QUERN_ERR_UNSUPPORTED ? QUERN_LOG_INFO : QUERN_LOG_WARNING,
               "driver %s cannot list its devices: %s", driver->name, err->text);
        return 0;
    }
    return n < MAX_PROBED ? n : MAX_PROBED;
}

/* ---- listing ---- */

struct quern_device_list {
    struct quern_callbacks cb;
    struct quern_device_desc *desc;
    char (*id)[64];
    size_t n, cap_desc, cap_id;
};

static bool list_driver(struct quern_device_list *list, const struct quern_host *host,
                        const struct quern_driver *driver)
{
    struct quern_device_info infos[MAX_PROBED];
    struct quern_error err;
    uint32_t n = probe(host, driver, infos, &err);
    for (uint32_t i = 0; i < n; i++) {
        if (!qn_grow(&list->cb, &list->desc, &list->cap_desc, list->n + 1, sizeof *list->desc) ||
            !qn_grow(&list->cb, &list->id, &list->cap_id, list->n + 1, sizeof *list->id))
            return false;
        if (n == 1)
            snprintf(list->id[list->n], sizeof *list->id, "%s", driver->name);
        else
            snprintf(list->id[list->n], sizeof *list->id, "%s:%u", driver->name, i);
        list->desc[list->n++] = (struct quern_device_desc){.driver = driver->name, .info = infos[i]};
    }
    return true;
}

enum quern_status quern_device_list_create(struct quern_device_list **out,
                                           const struct quern_callbacks *callbacks,
                                           const struct quern_driver *const *extra, uint32_t n_extra,
                                           struct quern_error *err)
{
    *out = NULL;
    struct quern_callbacks cb = qn_callbacks_resolve(callbacks);
    struct quern_device_list *list = qn_zalloc(&cb, 1, sizeof *list);
    if (!list)
        return qn_fail_memory(err, "the list of devices");
    list->cb = cb;
    struct qn_drivers drivers = {extra, n_extra, NULL};
    struct quern_host host = host_table(&list->cb, &drivers);
    const struct quern_driver *driver;
    for (size_t i = 0; driver_at(&cb, &drivers, i, &driver); i++)
        if (driver && !list_driver(list, &host, driver)) {
            quern_device_list_destroy(&list);
            return qn_fail_memory(err, "the list of devices");
        }
    for (size_t i = 0; i < list->n; i++)
        list->desc[i].id = list->id[i];
    *out = list;
    return QUERN_OK;
}

void quern_device_list_destroy(struct quern_device_list **out)
{
    struct quern_device_list *list = *out;
    if (!list)
        return;
    struct quern_callbacks cb = list->cb;
    qn_free(&cb, list->desc);
    qn_free(&cb, list->id);
    qn_free(&cb, list);
    *out = NULL;
}

size_t quern_device_list_count(const struct quern_device_list *list)
{
    return list->n;
}

const struct quern_device_desc *quern_device_list_at(const struct quern_device_list *list, size_t index)
{
    return index < list->n ? &list->desc[index] : NULL;
}

/* ---- opening ---- */

/* Splits "name:index"; false when the index is not a number. */
static bool parse_id(const char *id, size_t len, char name[64], uint32_t *index)
{
    const char *colon = memchr(id, ':', len);
    size_t name_len = colon ? (size_t)(colon - id) : len;
    if (name_len == 0 || name_len >= 64)
        return false;
    memcpy(name, id, name_len);
    name[name_len] = '\0';
    *index = 0;
    if (!colon)
        return true;
    if (len - name_len < 2 || len - name_len > 4)
        return false;
    for (const char *c = colon + 1; c < id + len; c++) {
        if (*c < '0' || *c > '9')
            return false;
        *index = *index * 10 + (uint32_t)(*c - '0');
    }
    return true;
}

static enum quern_status no_such_device(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                        const char *id, size_t len, struct quern_error *err)
{
    char have[256] = "auto";
    size_t n = strlen(have);
    const struct quern_driver *driver;
    for (size_t i = 0; driver_at(cb, drivers, i, &driver) && n < sizeof have; i++)
        if (driver)
            n += (size_t)snprintf(have + n, sizeof have - n, ", %s", driver->name);
    return qn_fail(err, QUERN_ERR_PARAM, "device \"%.*s\" is not one of: %s", (int)(len < 64 ? len : 64), id,
                   have);
}

/* What the planner computes with must be usable. */
static enum quern_status check_caps(const struct qn_device *device, struct quern_error *err)
{
    const struct quern_caps *caps = &device->caps;
    if (caps->n_heaps < 1 || caps->n_heaps > QUERN_MAX_HEAPS)
        return qn_fail(err, QUERN_ERR_DEVICE, "device %s: it has %u heaps, expected 1 to %d", device->id,
                       caps->n_heaps, QUERN_MAX_HEAPS);
    if (caps->offset_align == 0 || (caps->offset_align & (caps->offset_align - 1)))
        return qn_fail(err, QUERN_ERR_DEVICE, "device %s: its alignment is %u, expected a power of two",
                       device->id, caps->offset_align);
    return QUERN_OK;
}

enum quern_status qn_device_open(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                 const char *id, size_t len, const struct quern_setting *settings,
                                 uint32_t n_settings, struct qn_device *device, struct quern_error *err)
{
    *device = (struct qn_device){.host = host_table(cb, drivers)};
    char name[64];
    uint32_t index;
    bool is_auto = len == 4 && memcmp(id, "auto", 4) == 0;
    if (!parse_id(is_auto ? "cpu" : id, is_auto ? 3 : len, name, &index))
        return no_such_device(cb, drivers, id, len, err);

    const struct quern_driver *driver;
    size_t i = 0;
    while (driver_at(cb, drivers, i, &driver) && !(driver && strcmp(driver->name, name) == 0))
        i++;
    if (i == drivers->n_extra + QN_LEN(builtin))
        return no_such_device(cb, drivers, id, len, err);
    struct quern_device_info infos[MAX_PROBED];
    struct quern_error why;
    uint32_t n = probe(&device->host, driver, infos, &why);
    if (n == 0)
        return qn_fail(err, why.status ? why.status : QUERN_ERR_DEVICE, "driver %s has no device%s%s", name,
                       why.text[0] ? ": " : "", why.text);
    bool instances = n == 1 && (infos[0].type == QUERN_DEVICE_CPU || infos[0].type == QUERN_DEVICE_NULL);
    if (index >= n && !instances)
        return qn_fail(err, QUERN_ERR_PARAM, "device \"%s:%u\" is not there: driver %s has %u", name, index,
                       name, n);

    struct quern_profile_view view = {
        .struct_size = sizeof view, .n_settings = n_settings, .settings = settings};
    struct quern_error detail = {0};
    snprintf(device->id, sizeof device->id, "%.*s", (int)(is_auto ? 3 : len), is_auto ? "cpu" : id);
    device->driver = driver;
    device->desc = (struct quern_device_desc){
        .id = device->id, .driver = driver->name, .info = infos[instances ? 0 : index]};
    int32_t status = driver->open(&device->host, instances ? 0 : index, &view, &device->handle, &detail);
    if (status) {
        device->handle = NULL;
        return qn_fail(err, status, "device %s: %s", device->id, detail.text);
    }
    device->caps.struct_size = sizeof device->caps;
    driver->caps(device->handle, &device->caps);
    status = check_caps(device, err);
    if (status)
        qn_device_close(device);
    return status;
}

void qn_device_close(struct qn_device *device)
{
    if (device->handle)
        device->driver->close(device->handle);
    device->handle = NULL;
}
