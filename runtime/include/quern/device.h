/* Devices: what could run a model here. */
#ifndef QUERN_DEVICE_H
#define QUERN_DEVICE_H

#include <quern/driver.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quern_device_list;

/* One device of the list. Strings live as long as the list. */
struct quern_device_desc {
    const char *id;     /* what `device` in params takes: "cpu", "vulkan:0" */
    const char *driver; /* name of the driver */
    struct quern_device_info info;
};

/* Lists the devices of the built-in drivers and of `drivers` (n_drivers tables, may be NULL). Opens none. A
 * driver that fails to list is logged and left out. On failure *list is NULL. */
QUERN_API enum quern_status quern_device_list_create(struct quern_device_list **list,
                                                     const struct quern_callbacks *callbacks,
                                                     const struct quern_driver *const *drivers,
                                                     uint32_t n_drivers, struct quern_error *err);
QUERN_API void quern_device_list_destroy(struct quern_device_list **list);
QUERN_API size_t quern_device_list_count(const struct quern_device_list *list);
QUERN_API const struct quern_device_desc *quern_device_list_at(const struct quern_device_list *list,
                                                               size_t index);

#ifdef __cplusplus
}
#endif

#endif
