/* Which drivers the Vulkan loader would load: what is known of them before they are. */
#ifndef QN_VK_MANIFESTS_H
#define QN_VK_MANIFESTS_H

#include "base/host.h"
#include <quern/driver.h>

/* The functions of struct quern_driver. Not on Windows and macOS, where drivers are found in other ways. */
int32_t qn_vk_identify(const struct quern_host *host, struct quern_driver_identity *identity,
                       struct quern_error *err);
int32_t qn_vk_confine(const struct quern_host *host, const struct quern_driver_identity *identity,
                      uint32_t parts, char *environment, size_t size, struct quern_error *err);

#endif
