/* The Vulkan driver. Its settings: "vk-validate" ("1": the validation layer, messages to the log),
 * "vk-disable" (names of optional features, separated by commas, that it does without), "vk-shaders" (a
 * folder of GLSL, from which all kernels are compiled in place of the program's) and "identity" (what the
 * device must be). */
#ifndef QN_VULKAN_H
#define QN_VULKAN_H

#include <quern/driver.h>

const struct quern_driver *quern_vulkan_driver_get(uint32_t abi);

#endif
