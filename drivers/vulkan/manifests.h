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
/* The library that a manifest names, as qn_vk_identify found it; false: it is not there. */
bool qn_vk_part_library(const struct quern_driver_part *part, char *library, size_t size);
/* Path of the first of the kernel's nodes of GPUs from number *index on, which becomes its number. False:
 * there is none. `root`: folder that stands for "/"; "". */
bool qn_vk_node(const struct quern_callbacks *cb, const char *root, uint32_t *index, char *path, size_t size);

/* The function of struct quern_driver, on all systems. */
void qn_vk_examine(const struct quern_host *host, const char *root, quern_finding_fn finding, void *user);

#endif
