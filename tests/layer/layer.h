/* A Vulkan layer for tests. It makes calls fail, crash or hang where a test says, passes a device off as a
 * smaller one and watches that the program stays within what it was told, keeps pipeline caches of its own,
 * and counts objects that are left behind. README.md says how it is used. */
#ifndef QN_TEST_LAYER_H
#define QN_TEST_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#define QT_LEN(a) (sizeof(a) / sizeof *(a))
/* A handle as a number: handles of objects are pointers or numbers of 64 bits, by platform. */
#define QT_ID(handle) ((uint64_t)(handle))

enum qt_call {
#define INSTANCE(name, can)                  QT_##name,
#define HOOK(name, can)                      QT_##name,
#define CALL(name, can, first, params, args) QT_##name,
#define WORK(name, first, params, args)      QT_##name,
#define CREATE(name, Type, TYPE)             QT_##name,
#define DESTROY(name, Type, TYPE)            QT_##name,
#include "calls.inc"
    QT_CALLS,
};

/* ---------------------------------------------------------------- objects */

struct qt_module;

/* What is known of an object of a device. */
struct qt_object {
    struct qt_object *next;
    uint64_t id;
    VkObjectType type;
    uint64_t bytes;       /* buffers, memory */
    uint32_t memory_type; /* memory: as the program sees it */
    uint64_t hash;        /* shader modules: of their code */
    uint32_t *data;       /* shader modules: code; pipeline caches: keys of pipelines, two words each */
    size_t n_data;        /* words */
};

enum { QT_BUCKETS = 1024 };

struct qt_instance {
    struct qt_instance *next;
    VkInstance handle;
    PFN_vkGetInstanceProcAddr get_proc;
#define INSTANCE(name, can) PFN_vk##name name;
#include "calls.inc"
};

struct qt_device {
    struct qt_device *next;
    VkDevice handle;
    VkPhysicalDevice physical;
    struct qt_instance *instance;
    PFN_vkGetDeviceProcAddr get_proc;
#define HOOK(name, can)                      PFN_vk##name name;
#define CALL(name, can, first, params, args) PFN_vk##name name;
#define WORK(name, first, params, args)      PFN_vk##name name;
#define CREATE(name, Type, TYPE)             PFN_vk##name name;
#define DESTROY(name, Type, TYPE)            PFN_vk##name name;
#include "calls.inc"
    VkPhysicalDeviceProperties properties;   /* as the program sees them */
    VkPhysicalDeviceMemoryProperties memory; /* so too */
    VkPhysicalDeviceMemoryProperties real_memory;
    /* under the layer's lock */
    bool lost, hung, destroyed_hung;
    struct qt_object *objects[QT_BUCKETS];
    uint64_t heap_used[VK_MAX_MEMORY_HEAPS];
    uint32_t n_allocations;
};

/* ---------------------------------------------------------------- layer.c */

void qt_lock(void);
void qt_unlock(void);
/* Of a handle that is dispatched: instances and physical devices; devices, queues and command buffers. */
struct qt_instance *qt_instance_of(const void *handle);
struct qt_device *qt_device_of(const void *handle);

/* With the lock held or taken by itself: notes, finds, forgets an object. NULL: not known. */
struct qt_object *qt_object_add(struct qt_device *device, VkObjectType type, uint64_t id);
struct qt_object *qt_object_find(struct qt_device *device, VkObjectType type, uint64_t id);
void qt_object_remove(struct qt_device *device, VkObjectType type, uint64_t id);

#define INSTANCE(name, can) extern const PFN_vk##name qt_instance_##name;
#define HOOK(name, can)     extern const PFN_vk##name qt_hook_##name;
#include "calls.inc"

/* ---------------------------------------------------------------- faults.c */

/* Reads the environment anew; where it has changed, counting starts anew. */
void qt_settings_read(void);
/* Counts a call. Does not come back from a crash or a hang; VK_SUCCESS: go on, else what to return. `device`
 * may be NULL. */
VkResult qt_before(struct qt_device *device, enum qt_call call);
const char *qt_call_name(enum qt_call call);
/* A line in the log. */
void qt_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The program did what the device that it was shown cannot do: a line in the log and on stderr. */
void qt_breach(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Lines with how often each call was made. */
void qt_log_calls(void);

/* ---------------------------------------------------------------- device.c */

enum qt_setting {
#define SETTING(name) QT_SET_##name,
#include "settings.inc"
    QT_SETTINGS,
};
/* The device that is played. False: as it is. */
bool qt_setting(enum qt_setting setting, uint64_t *value);
/* Whether a feature or an extension is turned off. */
bool qt_feature_off(enum qt_setting setting);
bool qt_hidden_extension(const char *name);
/* Reads "phone,maxPushConstantsSize=128,..."; aborts where it makes no sense. */
void qt_device_settings_read(const char *text);
/* What the program is shown. */
void qt_shown_properties(const struct qt_instance *instance, VkPhysicalDevice device,
                         VkPhysicalDeviceProperties *properties);
void qt_shown_memory(const struct qt_instance *instance, VkPhysicalDevice device,
                     VkPhysicalDeviceMemoryProperties *memory);
/* Bytes that the devices of a physical device have taken of a heap. */
uint64_t qt_heap_used(VkPhysicalDevice physical, uint32_t heap);
/* The memory type of the real device that stands for one that the program sees, and the other way, as bits.
 */
uint32_t qt_real_memory_type(const struct qt_device *device, uint32_t type);
uint32_t qt_shown_memory_bits(const struct qt_device *device, uint32_t real_bits);
/* What the device to be made asks for that it was told is not there; NULL: nothing. */
const char *qt_refused_feature(const VkDeviceCreateInfo *info);
/* Loads of tensors, which the device lacks and the layer plays: turned off in what the device below is asked
 * for, and on again. */
void qt_hide_tensors(const VkDeviceCreateInfo *info, bool hidden);

/* ---------------------------------------------------------------- spirv.c */

/* Whether a pipeline of this code stays within the limits; breaches say where not. */
void qt_check_code(const struct qt_device *device, const uint32_t *code, size_t n,
                   const VkSpecializationInfo *special);

bool qt_has_capability(const uint32_t *code, size_t n, uint64_t capability);

/* ---------------------------------------------------------------- tensors.c */

/* The module without loads of tensors, which the caller frees; NULL: it has none. */
uint32_t *qt_play_tensors(const uint32_t *code, size_t n, size_t *n_out);

#endif
