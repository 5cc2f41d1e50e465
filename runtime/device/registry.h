/* Devices of all drivers: listing them, and opening one by its id. The only place that knows which drivers
 * are built in. An id is "driver", "driver:index" or "driver:part of a name"; "cpu:1" is a second instance of
 * the one processor. */
#ifndef QN_DEVICE_REGISTRY_H
#define QN_DEVICE_REGISTRY_H

#include "base/claim.h"
#include "cache/cache.h"
#include "device/tunables.h"
#include <quern/device.h>

/* Where drivers come from besides the built-in ones, and how they are tried. */
struct qn_drivers {
    const struct quern_driver *const *extra; /* tables that the host program passed */
    uint32_t n_extra;
    struct quern_cache *cache; /* for the drivers; NULL: none. Outlives the devices */
    const struct quern_setting *settings;
    uint32_t n_settings;
    const char *helper; /* see struct quern_device_params; NULL: none */
    uint32_t helper_ms;
    const struct quern_profiles *profiles; /* NULL: none */
};

/* An open device. */
struct qn_device {
    char id[64];
    struct quern_device_desc desc; /* desc.id is `id` */
    struct quern_host host;        /* what its driver was given */
    const struct quern_driver *driver;
    struct quern_device *handle; /* NULL: closed */
    struct quern_caps caps;
    bool imports;         /* see QUERN_HEAP_MEASURE */
    struct qn_mark *mark; /* NULL: work of its first times is not marked */
};

/* The built-in driver of that name, or NULL. */
const struct quern_driver *qn_driver_builtin(const struct quern_callbacks *cb, const char *name);
/* What a driver is given. */
struct quern_host qn_device_host(const struct quern_callbacks *cb, struct quern_cache *cache);

/* What a list of devices, or work on one, is asked to use. */
struct qn_drivers qn_drivers_of(const struct quern_device_params *params, struct quern_cache *cache);
/* The tunables of all drivers, of which `extra` are the host program's. */
void qn_registry_tunables(const struct quern_callbacks *cb, const struct quern_driver *const *extra,
                          uint32_t n_extra, struct qn_tunable_set *set);

/* Driver number i, extra ones first (they may replace a built-in one of the same name); NULL: left out.
 * False at the end. */
bool qn_driver_at(const struct quern_callbacks *cb, const struct qn_drivers *drivers, size_t i,
                  const struct quern_driver **out);

/* Something of its own to compute with: a GPU or NPU. */
bool qn_device_is_hardware(uint32_t type);

/* What "auto" stands for, as a list of ids with commas: for each phase the device that was measured to be the
 * fastest, then the processor. Only the processor without a helper to measure and a cache to keep what it
 * found. */
enum { QN_AUTO_SIZE = 192 };
void qn_device_auto(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                    char ids[QN_AUTO_SIZE]);

/* Opens the device of that id (len bytes). `device` must stay where it is, and cb valid, until it is closed.
 * QUERN_ERR_PARAM lists the ids that there are; a driver's failure keeps its status. */
enum quern_status qn_device_open(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                 const char *id, size_t len, struct qn_device *device,
                                 struct quern_error *err);
/* The same for the index-th device of a driver, whatever is known of it. */
enum quern_status qn_device_open_plain(struct qn_device *device, const struct quern_driver *driver,
                                       uint32_t index, const struct quern_setting *settings,
                                       uint32_t n_settings, struct quern_error *err);
enum quern_status qn_device_open_view(struct qn_device *device, const struct quern_driver *driver,
                                      uint32_t index, const struct quern_profile_view *view,
                                      struct quern_error *err);
void qn_device_close(struct qn_device *device);

#endif
