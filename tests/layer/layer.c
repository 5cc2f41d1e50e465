/* What makes it a layer: dispatch tables, and the functions that are handed on. */
#include "layer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>

#define LAYER_NAME "VK_LAYER_QUERN_test"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct qt_instance *instances; /* under the lock */
static struct qt_device *devices;     /* under the lock */

void qt_lock(void)
{
    pthread_mutex_lock(&lock);
}

void qt_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------- who is meant */

/* The loader puts the address of its table at the start of everything that it dispatches, once the call that
 * made it has returned; what belongs to one instance or one device has the same. */
static const void *key_of(const void *handle)
{
    return *(const void *const *)handle;
}

struct qt_instance *qt_instance_of(const void *handle)
{
    qt_lock();
    struct qt_instance *at = instances;
    while (at && (const void *)at->handle != handle && key_of(at->handle) != key_of(handle))
        at = at->next;
    qt_unlock();
    return at;
}

struct qt_device *qt_device_of(const void *handle)
{
    qt_lock();
    struct qt_device *at = devices;
    while (at && (const void *)at->handle != handle && key_of(at->handle) != key_of(handle))
        at = at->next;
    qt_unlock();
    return at;
}

/* ---------------------------------------------------------------- objects */

static size_t bucket_of(uint64_t id)
{
    return (size_t)((id * 0x9e3779b97f4a7c15ull) >> 32) % QT_BUCKETS;
}

struct qt_object *qt_object_add(struct qt_device *device, VkObjectType type, uint64_t id)
{
    struct qt_object *object = calloc(1, sizeof *object);
    if (!object)
        abort();
    object->type = type;
    object->id = id;
    qt_lock();
    struct qt_object **bucket = &device->objects[bucket_of(id)];
    object->next = *bucket;
    *bucket = object;
    qt_unlock();
    return object;
}

struct qt_object *qt_object_find(struct qt_device *device, VkObjectType type, uint64_t id)
{
    qt_lock();
    struct qt_object *at = device->objects[bucket_of(id)];
    while (at && (at->id != id || at->type != type))
        at = at->next;
    qt_unlock();
    return at;
}

void qt_object_remove(struct qt_device *device, VkObjectType type, uint64_t id)
{
    if (id == 0)
        return;
    qt_lock();
    struct qt_object **at = &device->objects[bucket_of(id)];
    while (*at && ((*at)->id != id || (*at)->type != type))
        at = &(*at)->next;
    struct qt_object *object = *at;
    if (object)
        *at = object->next;
    qt_unlock();
    if (!object) {
        qt_breach("an object of type %d is destroyed that is not there", (int)type);
        return;
    }
    free(object->data);
    free(object);
}

/* Says what is left of each type, and forgets it. */
static void end_objects(struct qt_device *device)
{
    static const struct {
        VkObjectType type;
        const char *name;
    } types[] = {
#define DESTROY(name, Type, TYPE) {VK_OBJECT_TYPE_##TYPE, #Type},
#include "calls.inc"
        {VK_OBJECT_TYPE_DEVICE_MEMORY, "VkDeviceMemory"},
    };
    for (size_t t = 0; t < QT_LEN(types); t++) {
        uint64_t n = 0;
        for (size_t b = 0; b < QT_BUCKETS; b++)
            for (const struct qt_object *o = device->objects[b]; o; o = o->next)
                n += o->type == types[t].type;
        if (n > 0)
            qt_log("leak %llu %s", (unsigned long long)n, types[t].name);
    }
    for (size_t b = 0; b < QT_BUCKETS; b++)
        while (device->objects[b]) {
            struct qt_object *object = device->objects[b];
            device->objects[b] = object->next;
            free(object->data);
            free(object);
        }
}

uint64_t qt_heap_used(VkPhysicalDevice physical, uint32_t heap)
{
    uint64_t bytes = 0;
    qt_lock();
    for (const struct qt_device *device = devices; device; device = device->next)
        if (device->physical == physical)
            bytes += device->heap_used[heap];
    qt_unlock();
    return bytes;
}

/* ---------------------------------------------------------------- instances */

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *alloc, VkInstance *out)
{
    qt_settings_read();
    VkResult result = qt_before(NULL, QT_CreateInstance);
    if (result != VK_SUCCESS)
        return result;
    const VkLayerInstanceCreateInfo *link = info->pNext;
    while (link && (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO ||
                    link->function != VK_LAYER_LINK_INFO))
        link = link->pNext;
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    struct qt_instance *instance = calloc(1, sizeof *instance);
    if (!instance)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    instance->get_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    /* what the next layer finds is its own link; the structure is the loader's, made for this */
    ((VkLayerInstanceCreateInfo *)(uintptr_t)link)->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance create =
        (PFN_vkCreateInstance)instance->get_proc(VK_NULL_HANDLE, "vkCreateInstance");
    result = create ? create(info, alloc, out) : VK_ERROR_INITIALIZATION_FAILED;
    if (result != VK_SUCCESS) {
        free(instance);
        return result;
    }
    instance->handle = *out;
#define INSTANCE(name, can) instance->name = (PFN_vk##name)instance->get_proc(*out, "vk" #name);
#include "calls.inc"
    qt_lock();
    instance->next = instances;
    instances = instance;
    qt_unlock();
    qt_log("create VkInstance");
    return VK_SUCCESS;
}
const PFN_vkCreateInstance qt_instance_CreateInstance = create_instance;

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance handle, const VkAllocationCallbacks *alloc)
{
    if (!handle)
        return;
    struct qt_instance *instance = qt_instance_of(handle);
    qt_before(NULL, QT_DestroyInstance);
    qt_lock();
    struct qt_instance **at = &instances;
    while (*at != instance)
        at = &(*at)->next;
    *at = instance->next;
    for (const struct qt_device *device = devices; device; device = device->next)
        if (device->instance == instance)
            qt_log("leak 1 VkDevice");
    qt_unlock();
    instance->DestroyInstance(handle, alloc);
    free(instance);
    qt_log_calls();
    qt_log("destroy VkInstance");
}
const PFN_vkDestroyInstance qt_instance_DestroyInstance = destroy_instance;

static VKAPI_ATTR VkResult VKAPI_CALL enumerate(VkInstance handle, uint32_t *n, VkPhysicalDevice *out)
{
    VkResult result = qt_before(NULL, QT_EnumeratePhysicalDevices);
    return result == VK_SUCCESS ? qt_instance_of(handle)->EnumeratePhysicalDevices(handle, n, out) : result;
}
const PFN_vkEnumeratePhysicalDevices qt_instance_EnumeratePhysicalDevices = enumerate;

/* ---------------------------------------------------------------- devices */

/* What the program sees of the device, and what the layer needs to know of the real one. */
static void read_device(struct qt_device *device, VkPhysicalDevice physical)
{
    device->physical = physical;
    device->instance->GetPhysicalDeviceMemoryProperties(physical, &device->real_memory);
    qt_shown_properties(device->instance, physical, &device->properties);
    qt_shown_memory(device->instance, physical, &device->memory);
}

/* Extensions that only the program sees, and the layer makes up, are not asked for below. */
static uint32_t real_extensions(const VkDeviceCreateInfo *info, const char **names)
{
    uint64_t budget;
    bool made_up = qt_setting(QT_SET_heapBudget, &budget);
    uint32_t n = 0;
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (!made_up || strcmp(info->ppEnabledExtensionNames[i], VK_EXT_MEMORY_BUDGET_EXTENSION_NAME) != 0)
            names[n++] = info->ppEnabledExtensionNames[i];
    return n;
}

/* What the program was not shown it may not ask for. */
static VkResult check_request(const VkDeviceCreateInfo *info)
{
    const char *feature = qt_refused_feature(info);
    if (feature) {
        qt_breach("a device with %s, which is not there", feature);
        return VK_ERROR_FEATURE_NOT_PRESENT;
    }
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (qt_hidden_extension(info->ppEnabledExtensionNames[i])) {
            qt_breach("a device with %s, which is not there", info->ppEnabledExtensionNames[i]);
            return VK_ERROR_EXTENSION_NOT_PRESENT;
        }
    return VK_SUCCESS;
}

static VkResult create_below(struct qt_device *device, const VkDeviceCreateInfo *info,
                             const VkAllocationCallbacks *alloc, VkDevice *out)
{
    const VkLayerDeviceCreateInfo *link = info->pNext;
    while (link && (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO ||
                    link->function != VK_LAYER_LINK_INFO))
        link = link->pNext;
    const char **names = calloc(info->enabledExtensionCount + 1, sizeof *names);
    if (!link || !names) {
        free(names);
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    PFN_vkGetInstanceProcAddr get_instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    device->get_proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    ((VkLayerDeviceCreateInfo *)(uintptr_t)link)->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice create =
        (PFN_vkCreateDevice)get_instance_proc(device->instance->handle, "vkCreateDevice");
    VkDeviceCreateInfo real = *info;
    real.enabledExtensionCount = real_extensions(info, names);
    real.ppEnabledExtensionNames = names;
    qt_hide_tensors(info, true);
    VkResult result = create ? create(device->physical, &real, alloc, out) : VK_ERROR_INITIALIZATION_FAILED;
    qt_hide_tensors(info, false);
    free(names);
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *alloc, VkDevice *out)
{
    VkResult result = qt_before(NULL, QT_CreateDevice);
    if (result == VK_SUCCESS)
        result = check_request(info);
    if (result != VK_SUCCESS)
        return result;
    struct qt_device *device = calloc(1, sizeof *device);
    if (!device)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    device->instance = qt_instance_of(physical);
    read_device(device, physical);
    result = create_below(device, info, alloc, out);
    if (result != VK_SUCCESS) {
        free(device);
        return result;
    }
    device->handle = *out;
#define FIND(name)                           device->name = (PFN_vk##name)device->get_proc(*out, "vk" #name);
#define HOOK(name, can)                      FIND(name)
#define CALL(name, can, first, params, args) FIND(name)
#define WORK(name, first, params, args)      FIND(name)
#define CREATE(name, Type, TYPE)             FIND(name)
#define DESTROY(name, Type, TYPE)            FIND(name)
#include "calls.inc"
    qt_lock();
    device->next = devices;
    devices = device;
    qt_unlock();
    qt_log("create VkDevice");
    return VK_SUCCESS;
}
const PFN_vkCreateDevice qt_instance_CreateDevice = create_device;

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice handle, const VkAllocationCallbacks *alloc)
{
    if (!handle)
        return;
    struct qt_device *device = qt_device_of(handle);
    qt_before(device, QT_DestroyDevice);
    qt_lock();
    struct qt_device **at = &devices;
    while (*at != device)
        at = &(*at)->next;
    *at = device->next;
    qt_unlock();
    end_objects(device);
    device->DestroyDevice(handle, alloc);
    free(device);
    qt_log("destroy VkDevice");
}
const PFN_vkDestroyDevice qt_hook_DestroyDevice = destroy_device;

/* ---------------------------------------------------------------- functions that are handed on */

#define CALL(name, can, first, params, args)                       \
    static VKAPI_ATTR VkResult VKAPI_CALL call_##name params       \
    {                                                              \
        struct qt_device *device_ = qt_device_of(first);           \
        VkResult result = qt_before(device_, QT_##name);           \
        return result == VK_SUCCESS ? device_->name args : result; \
    }
#define WORK(name, first, params, args)                  \
    static VKAPI_ATTR void VKAPI_CALL call_##name params \
    {                                                    \
        struct qt_device *device_ = qt_device_of(first); \
        qt_before(device_, QT_##name);                   \
        device_->name args;                              \
    }
#define CREATE(name, Type, TYPE)                                                                     \
    static VKAPI_ATTR VkResult VKAPI_CALL call_##name(VkDevice handle, const Type##CreateInfo *info, \
                                                      const VkAllocationCallbacks *alloc, Type *out) \
    {                                                                                                \
        struct qt_device *device = qt_device_of(handle);                                             \
        VkResult result = qt_before(device, QT_##name);                                              \
        if (result == VK_SUCCESS)                                                                    \
            result = device->name(handle, info, alloc, out);                                         \
        if (result == VK_SUCCESS)                                                                    \
            qt_object_add(device, VK_OBJECT_TYPE_##TYPE, QT_ID(*out));                               \
        return result;                                                                               \
    }
#define DESTROY(name, Type, TYPE)                                                     \
    static VKAPI_ATTR void VKAPI_CALL call_##name(VkDevice handle, Type object,       \
                                                  const VkAllocationCallbacks *alloc) \
    {                                                                                 \
        struct qt_device *device = qt_device_of(handle);                              \
        qt_before(device, QT_##name);                                                 \
        qt_object_remove(device, VK_OBJECT_TYPE_##TYPE, QT_ID(object));               \
        device->name(handle, object, alloc);                                          \
    }
#include "calls.inc"

/* ---------------------------------------------------------------- looking up */

#define EXPORT __attribute__((visibility("default")))

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc(VkDevice handle, const char *name);
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_proc(VkInstance handle, const char *name);

/* Our function of that name; NULL: none. */
static PFN_vkVoidFunction own_function(const char *name, bool of_instance)
{
    const struct {
        const char *name;
        PFN_vkVoidFunction function;
        bool of_instance;
    } functions[] = {
        {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)get_instance_proc, true},
        {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)get_device_proc, false},
#define INSTANCE(name, can)                  {"vk" #name, (PFN_vkVoidFunction)qt_instance_##name, true},
#define HOOK(name, can)                      {"vk" #name, (PFN_vkVoidFunction)qt_hook_##name, false},
#define CALL(name, can, first, params, args) {"vk" #name, (PFN_vkVoidFunction)call_##name, false},
#define WORK(name, first, params, args)      {"vk" #name, (PFN_vkVoidFunction)call_##name, false},
#define CREATE(name, Type, TYPE)             {"vk" #name, (PFN_vkVoidFunction)call_##name, false},
#define DESTROY(name, Type, TYPE)            {"vk" #name, (PFN_vkVoidFunction)call_##name, false},
#include "calls.inc"
    };
    for (size_t i = 0; i < QT_LEN(functions); i++)
        if ((of_instance || !functions[i].of_instance) && strcmp(name, functions[i].name) == 0)
            return functions[i].function;
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc(VkDevice handle, const char *name)
{
    PFN_vkVoidFunction next = qt_device_of(handle)->get_proc(handle, name);
    PFN_vkVoidFunction own = next ? own_function(name, false) : NULL;
    return own ? own : next;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_proc(VkInstance handle, const char *name)
{
    PFN_vkVoidFunction own = own_function(name, true);
    struct qt_instance *instance = handle ? qt_instance_of(handle) : NULL;
    return own || !instance ? own : instance->get_proc(handle, name);
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version);
VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version)
{
    if (version->loaderLayerInterfaceVersion < 2)
        return VK_ERROR_INITIALIZATION_FAILED;
    version->loaderLayerInterfaceVersion = 2;
    version->pfnGetInstanceProcAddr = get_instance_proc;
    version->pfnGetDeviceProcAddr = get_device_proc;
    version->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
