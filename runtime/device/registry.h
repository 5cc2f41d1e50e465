/* Devices of all drivers: listing them, and opening one by its id. The only place that knows which drivers
 * are built in. An id is "driver" or "driver:index"; "cpu:1" is a second instance of the one processor. */
#ifndef QN_DEVICE_REGISTRY_H
#define QN_DEVICE_REGISTRY_H

#include "cache/cache.h"
#include <quern/device.h>

/* Where drivers come from besides the built-in ones: tables that the host program passed. */
struct qn_drivers {
    const struct quern_driver *const *extra;
    uint32_t n_extra;
    struct quern_cache *cache; /* for the drivers; NULL: none. Outlives the devices */
};

/* An open device. */
struct qn_device {
    char id[64];
    struct quern_device_desc desc; /* desc.id is `id` */
    struct quern_host host;        /* what its driver was given */
    const struct quern_driver *driver;
    struct quern_device *handle; /* NULL: closed */
    struct quern_caps caps;
};

/* Opens the device of that id (len bytes; "auto" is the best one). `device` must stay where it is, and cb
 * valid, until it is closed. QUERN_ERR_PARAM lists the ids that there are; a driver's failure keeps its
 * status. */
enum quern_status qn_device_open(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                 const char *id, size_t len, const struct quern_setting *settings,
                                 uint32_t n_settings, struct qn_device *device, struct quern_error *err);
void qn_device_close(struct qn_device *device);

#endif
