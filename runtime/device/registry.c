#include "device/registry.h"

#include "device/bringup.h"
#include "base/words.h"
#include "device/marks.h"

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

bool qn_driver_at(const struct quern_callbacks *cb, const struct qn_drivers *drivers, size_t i,
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

void qn_registry_tunables(const struct quern_callbacks *cb, const struct quern_driver *const *extra,
                          uint32_t n_extra, struct qn_tunable_set *set)
{
    const struct qn_drivers drivers = {.extra = extra, .n_extra = n_extra};
    const struct quern_driver *driver;
    *set = (struct qn_tunable_set){0};
    for (size_t i = 0; qn_driver_at(cb, &drivers, i, &driver); i++)
        if (driver && !qn_tunables_add(set, driver))
            qn_log(cb, QUERN_LOG_WARNING, "driver %s: profiles know of %d drivers, not of this one",
                   driver->name, QN_MAX_DRIVERS - 1);
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

struct quern_host qn_device_host(const struct quern_callbacks *cb, struct quern_cache *cache)
{
    return (struct quern_host){.struct_size = sizeof(struct quern_host),
                               .callbacks = cb,
                               .cache = cache,
                               .cache_get = host_get,
                               .cache_put = host_put};
}

const struct quern_driver *qn_driver_builtin(const struct quern_callbacks *cb, const char *name)
{
    for (size_t i = 0; i < QN_LEN(builtin); i++) {
        const struct quern_driver *driver = builtin[i](QUERN_DRIVER_ABI);
        if (usable(cb, driver) && strcmp(driver->name, name) == 0)
            return driver;
    }
    return NULL;
}

/* "vulkan", or "vulkan:1" where the driver has several. */
void qn_device_write_id(const struct qn_bringup *bringup, uint32_t index, char *id, size_t size)
{
    if (bringup->listing.n == 1)
        snprintf(id, size, "%s", bringup->driver->name);
    else
        snprintf(id, size, "%s:%u", bringup->driver->name, index);
}

/* ---- listing ---- */

struct listed {
    char id[64], reason[384];
};

struct fault {
    char part[512], reason[384];
};

enum { ENVIRONMENT_BYTES = 40 << 10 };

struct quern_device_list {
    struct quern_callbacks cb;
    struct quern_device_desc *desc;
    struct listed *text; /* of each desc */
    size_t n, cap_desc, cap_text;
    struct quern_device_fault *fault;
    struct fault *fault_text;
    size_t n_faults, cap_faults, cap_fault_texts;
    char *environment;                /* as struct quern_driver.confine writes it; NULL: none */
    struct quern_profiles *own;       /* where the caller has none */
    struct qn_profile_values *values; /* of each desc */
    size_t cap_values;
};

static bool add_device(struct quern_device_list *list, struct qn_bringup *bringup, uint32_t index)
{
    const struct quern_callbacks *cb = &list->cb;
    if (!qn_grow(cb, &list->desc, &list->cap_desc, list->n + 1, sizeof *list->desc) ||
        !qn_grow(cb, &list->text, &list->cap_text, list->n + 1, sizeof *list->text))
        return false;
    if (!qn_grow(cb, &list->values, &list->cap_values, list->n + 1, sizeof *list->values))
        return false;
    struct qn_verdict verdict = {.good = true};
    struct quern_error err;
    bool known = true;
    (void)qn_bringup_verdict(bringup, index, false, &verdict, &known, &err);
    list->values[list->n] = (struct qn_profile_values){0};
    qn_profiles_tell_unused(bringup->drivers->profiles, cb, bringup->driver->name,
                            &bringup->listing.infos[index]);
    if (bringup->drivers->profiles &&
        qn_profiles_resolve(bringup->drivers->profiles, cb, bringup->driver->name,
                            &bringup->listing.infos[index], &list->values[list->n], &err))
        return false;
    struct listed *text = &list->text[list->n];
    qn_device_write_id(bringup, index, text->id, sizeof text->id);
    snprintf(text->reason, sizeof text->reason, "%s", verdict.reason);
    list->desc[list->n++] = (struct quern_device_desc){.driver = bringup->driver->name,
                                                       .info = bringup->listing.infos[index],
                                                       .state = !verdict.good ? QUERN_DEVICE_REFUSED
                                                                : known       ? QUERN_DEVICE_READY
                                                                              : QUERN_DEVICE_UNTRIED};
    return true;
}

static bool add_fault(struct quern_device_list *list, const struct qn_bringup *bringup, const char *part,
                      const char *reason)
{
    const struct quern_callbacks *cb = &list->cb;
    if (!qn_grow(cb, &list->fault, &list->cap_faults, list->n_faults + 1, sizeof *list->fault) ||
        !qn_grow(cb, &list->fault_text, &list->cap_fault_texts, list->n_faults + 1, sizeof *list->fault_text))
        return false;
    struct fault *text = &list->fault_text[list->n_faults];
    snprintf(text->part, sizeof text->part, "%s", part);
    snprintf(text->reason, sizeof text->reason, "%s", reason);
    list->fault[list->n_faults++] = (struct quern_device_fault){.driver = bringup->driver->name};
    return true;
}

/* The one driver that must be confined is the last word: no other one reads its variables. */
static enum quern_status add_environment(struct quern_device_list *list, const struct qn_bringup *bringup,
                                         struct quern_error *err)
{
    if (qn_bringup_confined(bringup) || list->environment)
        return QUERN_OK;
    list->environment = qn_zalloc(&list->cb, ENVIRONMENT_BYTES, 1);
    return list->environment ? qn_bringup_environment(bringup, list->environment, ENVIRONMENT_BYTES, err)
                             : qn_fail_memory(err, "the list of devices");
}

static enum quern_status list_driver(struct quern_device_list *list, const struct qn_drivers *drivers,
                                     const struct quern_driver *driver, bool fresh, struct quern_error *err)
{
    struct qn_bringup bringup;
    enum quern_status status = qn_bringup_init(&bringup, &list->cb, drivers, driver, fresh, err);
    if (status)
        return status;
    bool good = true;
    for (uint32_t i = 0; i < bringup.listing.n && good; i++)
        good = add_device(list, &bringup, i);
    for (uint32_t i = 0; bringup.bad && i < bringup.bad->n && good; i++)
        good = add_fault(list, &bringup, bringup.bad->part[i].path, bringup.bad->part[i].reason);
    if (good && bringup.listing.n == 0 && bringup.listing.reason[0] && qn_bringup_confined(&bringup))
        good = add_fault(list, &bringup, "", bringup.listing.reason);
    status = good ? add_environment(list, &bringup, err) : qn_fail_memory(err, "the list of devices");
    qn_bringup_finish(&bringup);
    return status;
}

static void set_strings(struct quern_device_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        list->desc[i].id = list->text[i].id;
        list->desc[i].reason = list->text[i].reason;
    }
    for (size_t i = 0; i < list->n_faults; i++) {
        list->fault[i].part = list->fault_text[i].part;
        list->fault[i].reason = list->fault_text[i].reason;
    }
}

struct qn_drivers qn_drivers_of(const struct quern_device_params *params, struct quern_cache *cache)
{
    return (struct qn_drivers){.extra = params->drivers,
                               .n_extra = params->n_drivers,
                               .cache = cache,
                               .settings = params->settings,
                               .n_settings = params->n_settings,
                               .helper = params->helper,
                               .helper_ms = params->helper_ms,
                               .profiles = params->profiles};
}

enum quern_status quern_device_list_create(struct quern_device_list **out,
                                           const struct quern_device_params *params, struct quern_error *err)
{
    *out = NULL;
    const struct quern_device_params defaults = *quern_device_params();
    if (!params)
        params = &defaults;
    struct quern_callbacks cb = qn_callbacks_resolve(params->callbacks);
    struct quern_device_list *list = qn_zalloc(&cb, 1, sizeof *list);
    if (!list)
        return qn_fail_memory(err, "the list of devices");
    list->cb = cb;
    struct quern_cache *cache = NULL;
    enum quern_status status = QUERN_OK;
    if (params->cache_dir && params->cache_dir[0])
        status = quern_cache_open(&cache, params->cache_dir, params->cache_limit, &cb, err);
    struct qn_drivers drivers = qn_drivers_of(params, cache);
    if (!status && !drivers.profiles)
        status = quern_profiles_open(&list->own,
                                     quern_profiles_params(.callbacks = &cb, .drivers = params->drivers,
                                                           .n_drivers = params->n_drivers),
                                     err);
    if (!drivers.profiles)
        drivers.profiles = list->own;
    const struct quern_driver *driver;
    for (size_t i = 0; !status && qn_driver_at(&cb, &drivers, i, &driver); i++)
        if (driver)
            status = list_driver(list, &drivers, driver, params->fresh, err);
    quern_cache_close(&cache);
    set_strings(list);
    if (status)
        quern_device_list_destroy(&list);
    *out = list;
    return status;
}

void quern_device_list_destroy(struct quern_device_list **out)
{
    struct quern_device_list *list = *out;
    if (!list)
        return;
    struct quern_callbacks cb = list->cb;
    for (size_t i = 0; i < list->n; i++)
        qn_profile_values_finish(&cb, &list->values[i]);
    quern_profiles_close(&list->own);
    void *const parts[] = {list->desc,       list->text,        list->fault,
                           list->fault_text, list->environment, list->values};
    for (size_t i = 0; i < QN_LEN(parts); i++)
        qn_free(&cb, parts[i]);
    qn_free(&cb, list);
    *out = NULL;
}

const char *quern_device_type_name(uint32_t type)
{
    static const char *const name[] = {"cpu", "integrated-gpu", "discrete-gpu", "npu", "software", "null"};
    return type < QN_LEN(name) ? name[type] : NULL;
}

size_t quern_device_list_count(const struct quern_device_list *list)
{
    return list->n;
}

const struct quern_device_desc *quern_device_list_at(const struct quern_device_list *list, size_t index)
{
    return index < list->n ? &list->desc[index] : NULL;
}

const struct quern_device_fault *quern_device_list_fault(const struct quern_device_list *list, size_t index)
{
    return index < list->n_faults ? &list->fault[index] : NULL;
}

size_t quern_device_list_values(const struct quern_device_list *list, size_t index, const char **profile,
                                const struct quern_profile_value *const **values)
{
    const struct qn_profile_values *found = index < list->n ? &list->values[index] : NULL;
    *profile = found && found->profile ? found->profile->name : NULL;
    *values = found ? found->value : NULL;
    return found ? found->n : 0;
}

size_t quern_device_list_unused_quirks(const struct quern_device_list *list, size_t index,
                                       const struct quern_profile_value *const **values)
{
    const struct qn_profile_values *found = index < list->n ? &list->values[index] : NULL;
    *values = found ? found->unused : NULL;
    return found ? found->n_unused : 0;
}

const char *quern_device_list_environment(const struct quern_device_list *list, size_t index)
{
    const char *at = list->environment;
    for (size_t i = 0; at && *at && i < index; i++)
        at += strlen(at) + 1;
    return at && *at ? at : NULL;
}

enum quern_status quern_device_forget(const struct quern_device_params *params, struct quern_error *err)
{
    struct quern_callbacks cb = qn_callbacks_resolve(params->callbacks);
    struct quern_cache *cache;
    if (!params->cache_dir || !params->cache_dir[0])
        return QUERN_OK;
    enum quern_status status = quern_cache_open(&cache, params->cache_dir, params->cache_limit, &cb, err);
    if (status)
        return status;
    status = qn_bringup_forget(&cb, cache, err);
    quern_cache_close(&cache);
    return status;
}

/* ---- opening ---- */

/* What an id says: the driver's name, and after a colon a number or a part of the device's name. */
struct wanted {
    char driver[64];
    bool numbered;
    uint32_t index;
    char name[128]; /* in any case */
};

static bool parse_id(const char *id, size_t len, struct wanted *wanted)
{
    const char *colon = memchr(id, ':', len);
    size_t n = colon ? (size_t)(colon - id) : len;
    *wanted = (struct wanted){.index = 0};
    if (n == 0 || n >= sizeof wanted->driver)
        return false;
    memcpy(wanted->driver, id, n);
    if (!colon)
        return true;
    size_t rest = len - n - 1;
    bool digits = rest > 0;
    for (size_t i = 0; i < rest; i++)
        digits = digits && colon[1 + i] >= '0' && colon[1 + i] <= '9';
    if (rest == 0 || rest >= sizeof wanted->name || (digits && rest > 3))
        return false;
    wanted->numbered = digits;
    for (size_t i = 0; i < rest; i++) {
        wanted->name[i] = digits ? '\0' : colon[1 + i];
        wanted->index = digits ? wanted->index * 10 + (uint32_t)(colon[1 + i] - '0') : 0;
    }
    return true;
}

static bool name_has(const char *name, const char *part)
{
    size_t n = strlen(part), left = strlen(name);
    for (; left >= n; name++, left--)
        if (qn_same_in_any_case(name, part, n))
            return true;
    return false;
}

static enum quern_status no_such_device(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                        const char *id, size_t len, struct quern_error *err)
{
    char have[256] = "auto";
    size_t n = strlen(have);
    const struct quern_driver *driver;
    for (size_t i = 0; qn_driver_at(cb, drivers, i, &driver) && n < sizeof have; i++)
        if (driver)
            n += (size_t)snprintf(have + n, sizeof have - n, ", %s", driver->name);
    return qn_fail(err, QUERN_ERR_PARAM, "device \"%.*s\" is not one of: %s", (int)(len < 64 ? len : 64), id,
                   have);
}

/* The one device whose name has the part. */
static enum quern_status find_named(const struct qn_bringup *bringup, struct wanted *wanted,
                                    struct quern_error *err)
{
    const struct qn_listing *listing = &bringup->listing;
    char have[320] = "";
    size_t n = 0;
    uint32_t found = 0;
    for (uint32_t i = 0; i < listing->n; i++)
        if (name_has(listing->infos[i].name, wanted->name) && found++ == 0)
            wanted->index = i;
    for (uint32_t i = 0; i < listing->n && n < sizeof have; i++)
        if (found == 0 || name_has(listing->infos[i].name, wanted->name))
            n += (size_t)snprintf(have + n, sizeof have - n, "%s%s:%u (%.64s)", n ? ", " : "", wanted->driver,
                                  i, listing->infos[i].name);
    if (found == 1)
        return QUERN_OK;
    if (found == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "no device of driver %s has \"%.64s\" in its name; there are %s",
                       wanted->driver, wanted->name, have);
    return qn_fail(err, QUERN_ERR_PARAM, "\"%s:%.64s\" may be each of %s", wanted->driver, wanted->name,
                   have);
}

bool qn_device_is_hardware(uint32_t type)
{
    return type == QUERN_DEVICE_INTEGRATED_GPU || type == QUERN_DEVICE_DISCRETE_GPU ||
           type == QUERN_DEVICE_NPU;
}

/* Which of the driver's devices it is: *index for the driver's table. */
static enum quern_status choose(const struct qn_bringup *bringup, struct wanted *wanted, uint32_t *index,
                                struct quern_error *err)
{
    const struct qn_listing *listing = &bringup->listing;
    if (listing->n == 0)
        return qn_fail(err, listing->status ? (enum quern_status)listing->status : QUERN_ERR_DEVICE,
                       "driver %s has no device%s%s", wanted->driver, listing->reason[0] ? ": " : "",
                       listing->reason);
    if (wanted->name[0]) {
        enum quern_status status = find_named(bringup, wanted, err);
        if (status)
            return status;
    } else if (!wanted->numbered) { /* the first that is no emulation */
        while (wanted->index < listing->n && !qn_device_is_hardware(listing->infos[wanted->index].type))
            wanted->index++;
        wanted->index = wanted->index < listing->n ? wanted->index : 0;
    }
    bool instances = listing->n == 1 && (listing->infos[0].type == QUERN_DEVICE_CPU ||
                                         listing->infos[0].type == QUERN_DEVICE_NULL);
    *index = instances ? 0 : wanted->index;
    if (*index >= listing->n)
        return qn_fail(err, QUERN_ERR_PARAM, "device \"%s:%u\" is not there: driver %s has %u",
                       wanted->driver, wanted->index, wanted->driver, listing->n);
    return QUERN_OK;
}

/* What the planner computes with must be usable. */
static enum quern_status check_caps(const struct qn_device *device, struct quern_error *err)
{
    const struct quern_caps *caps = &device->caps;
    if (caps->n_heaps < 1 || caps->n_heaps > QUERN_MAX_HEAPS)
        return qn_fail(err, QUERN_ERR_DEVICE, "it has %u heaps, expected 1 to %d", caps->n_heaps,
                       QUERN_MAX_HEAPS);
    if (caps->offset_align == 0 || (caps->offset_align & (caps->offset_align - 1)))
        return qn_fail(err, QUERN_ERR_DEVICE, "its alignment is %u, expected a power of two",
                       caps->offset_align);
    return QUERN_OK;
}

enum quern_status qn_device_open_plain(struct qn_device *device, const struct quern_driver *driver,
                                       uint32_t index, const struct quern_setting *settings,
                                       uint32_t n_settings, struct quern_error *err)
{
    const struct quern_profile_view view = {
        .struct_size = sizeof view, .n_settings = n_settings, .settings = settings};
    return qn_device_open_view(device, driver, index, &view, err);
}

enum quern_status qn_device_open_view(struct qn_device *device, const struct quern_driver *driver,
                                      uint32_t index, const struct quern_profile_view *view,
                                      struct quern_error *err)
{
    device->driver = driver;
    int32_t status = driver->open(&device->host, index, view, &device->handle, err);
    if (status) {
        device->handle = NULL;
        return (enum quern_status)status;
    }
    device->caps.struct_size = sizeof device->caps;
    driver->caps(device->handle, &device->caps);
    status = check_caps(device, err);
    if (status)
        qn_device_close(device);
    return (enum quern_status)status;
}

/* A device that may be used, with a mark while the driver opens it. */
static enum quern_status open_tried(struct qn_device *device, struct qn_bringup *bringup, uint32_t index,
                                    struct quern_error *err)
{
    struct qn_verdict verdict;
    bool known;
    if (!qn_bringup_confined(bringup))
        return qn_fail(
            err, QUERN_ERR_DEVICE,
            "the driver %s must not be loaded (%s): set what quern_device_list_environment() says first",
            bringup->bad->part[0].path, bringup->bad->part[0].reason);
    enum quern_status status = qn_bringup_verdict(bringup, index, true, &verdict, &known, err);
    if (status)
        return status;
    if (verdict.status == QUERN_ERR_PARAM) /* the settings are wrong, not the device */
        return qn_fail(err, QUERN_ERR_PARAM, "%s", verdict.reason);
    if (!verdict.good)
        return qn_fail(err, verdict.status == QUERN_ERR_MEMORY ? QUERN_ERR_MEMORY : QUERN_ERR_DEVICE,
                       "%s is not used: %s; quern device forget gives it another chance",
                       bringup->listing.infos[index].name, verdict.reason);
    struct qn_settings settings;
    qn_profiles_tell_unused(bringup->drivers->profiles, bringup->cb, bringup->driver->name,
                            &bringup->listing.infos[index]);
    status = qn_bringup_settings(bringup, index, &settings, err);
    if (status)
        return status;
    if (verdict.without[0]) {
        settings.item[settings.n++] = (struct quern_setting){verdict.without, "0"};
        qn_log(bringup->cb, QUERN_LOG_WARNING, "%s: %s", bringup->listing.infos[index].name, verdict.reason);
    }
    settings.item[settings.n++] = (struct quern_setting){"identity", bringup->listing.infos[index].identity};
    device->mark = qn_mark_create(bringup, index);
    qn_mark_begin(device->mark, "opening");
    const struct quern_profile_view view = {.struct_size = sizeof view,
                                            .n_settings = settings.n,
                                            .settings = settings.item,
                                            .n_origins = settings.n_origins,
                                            .origins = settings.origin};
    status = qn_device_open_view(device, bringup->driver, index, &view, err);
    qn_mark_end(device->mark, false);
    qn_settings_finish(bringup->cb, &settings);
    device->imports = verdict.import;
    if (status)
        qn_device_close(device);
    return status;
}

/* What an id asks for, and of which driver. */
static enum quern_status find_driver(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                     const char *id, size_t len, struct wanted *wanted,
                                     const struct quern_driver **driver, struct quern_error *err)
{
    size_t i = 0;
    if (!parse_id(id, len, wanted))
        return no_such_device(cb, drivers, id, len, err);
    while (qn_driver_at(cb, drivers, i, driver) && !(*driver && strcmp((*driver)->name, wanted->driver) == 0))
        i++;
    return i < drivers->n_extra + QN_LEN(builtin) ? QUERN_OK : no_such_device(cb, drivers, id, len, err);
}

enum quern_status qn_device_find(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                 const char *id, struct qn_bringup *bringup, uint32_t *index,
                                 struct quern_error *err)
{
    struct wanted wanted;
    const struct quern_driver *driver;
    enum quern_status status = find_driver(cb, drivers, id, strlen(id), &wanted, &driver, err);
    if (!status)
        status = qn_bringup_init(bringup, cb, drivers, driver, false, err);
    if (status)
        return status;
    status = choose(bringup, &wanted, index, err);
    if (status)
        qn_bringup_finish(bringup);
    return status;
}

enum quern_status qn_device_open(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                 const char *id, size_t len, struct qn_device *device,
                                 struct quern_error *err)
{
    *device = (struct qn_device){.host = qn_device_host(cb, drivers->cache)};
    struct wanted wanted;
    const struct quern_driver *driver;
    enum quern_status status = find_driver(cb, drivers, id, len, &wanted, &driver, err);
    if (status)
        return status;
    bool again = true;
    for (int attempt = 0; again && attempt < 2; attempt++) { /* the kept list may be an old one */
        struct qn_bringup bringup;
        struct quern_error detail = {0};
        uint32_t index = 0;
        status = qn_bringup_init(&bringup, cb, drivers, driver, attempt > 0, err);
        if (status)
            return status;
        status = choose(&bringup, &wanted, &index, err);
        again = status == QUERN_ERR_PARAM && bringup.identity && !bringup.in_process;
        if (!status) {
            if (!wanted.numbered)
                qn_device_write_id(&bringup, index, device->id, sizeof device->id);
            else
                snprintf(device->id, sizeof device->id, "%.*s", (int)len, id);
            device->desc = (struct quern_device_desc){
                .id = device->id, .driver = driver->name, .info = bringup.listing.infos[index], .reason = ""};
            status = open_tried(device, &bringup, index, &detail);
            again = status == QUERN_ERR_LOST && bringup.identity && !bringup.in_process;
            if (status)
                qn_fail(err, status, "device %s: %.400s", device->id, detail.text);
        }
        qn_bringup_finish(&bringup);
    }
    return status;
}

void qn_device_close(struct qn_device *device)
{
    if (device->handle)
        device->driver->close(device->handle);
    device->handle = NULL;
    qn_mark_destroy(&device->mark);
}
