/* The Vulkan driver. Its settings: "vk-validate" ("1": the validation layer, messages to the log) and
 * "vk-disable" (names of optional features, separated by commas, that it does without). */
#ifndef QN_VULKAN_H
#define QN_VULKAN_H

#include <quern/driver.h>

const struct quern_driver *quern_vulkan_driver_get(uint32_t abi);

#endif
