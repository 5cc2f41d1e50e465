/* The loader and the instance. */
#include "drivers/vulkan/instance.h"

#include "base/library.h"

#include <stdio.h>
#include <string.h>

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

const char *qn_vk_result_name(VkResult result)
{
    switch (result) {
#define NAME(x) \
    case x:     \
        return #x;
        NAME(VK_SUCCESS)
        NAME(VK_NOT_READY)
        NAME(VK_TIMEOUT)
        NAME(VK_INCOMPLETE)
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        NAME(VK_ERROR_INITIALIZATION_FAILED)
        NAME(VK_ERROR_DEVICE_LOST)
        NAME(VK_ERROR_MEMORY_MAP_FAILED)
        NAME(VK_ERROR_LAYER_NOT_PRESENT)
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
        NAME(VK_ERROR_FEATURE_NOT_PRESENT)
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
        NAME(VK_ERROR_TOO_MANY_OBJECTS)
        NAME(VK_ERROR_FRAGMENTED_POOL)
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
        NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE)
        NAME(VK_ERROR_FRAGMENTATION)
#undef NAME
    default:
        return "an unknown error";
    }
}

enum quern_status qn_vk_fail(struct quern_error *err, VkResult result, const char *call)
{
    enum quern_status status = QUERN_ERR_DEVICE;
    if (result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
        result == VK_ERROR_OUT_OF_POOL_MEMORY || result == VK_ERROR_TOO_MANY_OBJECTS)
        status = QUERN_ERR_MEMORY;
    else if (result == VK_ERROR_DEVICE_LOST)
        status = QUERN_ERR_LOST;
    else if (result == VK_TIMEOUT)
        status = QUERN_ERR_TIMEOUT;
    return qn_fail(err, status, "vk%s: %s", call, qn_vk_result_name(result));
}

/* ---- the instance ---- */

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    const struct quern_callbacks *cb = user;
    qn_log(cb, QUERN_LOG_WARNING, "Vulkan validation: %s", data->pMessage);
    return VK_FALSE;
}

static const VkDebugUtilsMessengerCreateInfoEXT messenger_info = {
    .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
    .messageSeverity =
        VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
    .messageType =
        VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
    .pfnUserCallback = on_message,
};

const char *const *qn_vk_loader_names(void)
{
    static const char *const names[] = {
#if defined(_WIN32)
        "vulkan-1.dll",
#elif defined(__APPLE__)
        "libvulkan.1.dylib",
        "libMoltenVK.dylib",
#else
        "libvulkan.so.1",
        "libvulkan.so",
#endif
        NULL
    };
    return names;
}

static enum quern_status load_loader(struct qn_vk_instance *instance, struct quern_error *err)
{
    const char *const *names = qn_vk_loader_names();
    instance->library = qn_library_open(names);
    if (!instance->library)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                       "there is no Vulkan loader (%s); Debian has it in libvulkan1", names[0]);
    void *symbol = qn_library_symbol(instance->library, "vkGetInstanceProcAddr");
    memcpy(&instance->get_proc, &symbol, sizeof symbol); /* ISO C has no cast from data to function */
    if (!instance->get_proc)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s is no Vulkan loader", names[0]);
    bool all = true;
#define QN_VK_GLOBAL(name)                                                             \
    instance->api.name = (PFN_vk##name)instance->get_proc(VK_NULL_HANDLE, "vk" #name); \
    all = all && instance->api.name;
#define QN_VK_INSTANCE(name)
#define QN_VK_DEVICE(name)
#include "drivers/vulkan/functions.inc"
    uint32_t version = 0;
    if (!all || instance->api.EnumerateInstanceVersion(&version) != VK_SUCCESS ||
        version < VK_API_VERSION_1_2)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "the Vulkan loader is older than version 1.2");
    return QUERN_OK;
}

static bool has_layer(const struct qn_vk_instance *instance, const char *name)
{
    VkLayerProperties layers[64];
    uint32_t n = QN_LEN(layers);
    if (instance->api.EnumerateInstanceLayerProperties(&n, layers) < 0)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(layers[i].layerName, name) == 0)
            return true;
    return false;
}

static enum quern_status create(struct qn_vk_instance *instance, bool validate, struct quern_error *err)
{
    if (validate && !has_layer(instance, VALIDATION_LAYER))
        return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                       "the layer " VALIDATION_LAYER
                       " is not installed; Debian has it in vulkan-validationlayers");
    const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                           .pApplicationName = "quern",
                                           .apiVersion = VK_API_VERSION_1_3};
    static const VkValidationFeatureEnableEXT more[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    const VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                              .pNext = &messenger_info,
                                              .enabledValidationFeatureCount = QN_LEN(more),
                                              .pEnabledValidationFeatures = more};
    static const char *const layers[] = {VALIDATION_LAYER};
    static const char *const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
    VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info;
    messenger.pUserData = (void *)(uintptr_t)instance->cb;
    VkValidationFeaturesEXT chain = features;
    chain.pNext = &messenger;
    if (validate) {
        info.pNext = &chain;
        info.enabledLayerCount = QN_LEN(layers);
        info.ppEnabledLayerNames = layers;
        info.enabledExtensionCount = QN_LEN(extensions);
        info.ppEnabledExtensionNames = extensions;
    }
    VkResult result = instance->api.CreateInstance(&info, NULL, &instance->handle);
    if (result != VK_SUCCESS) {
        instance->handle = VK_NULL_HANDLE;
        if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
            return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                           "no Vulkan driver is installed for a GPU of this machine");
        return qn_vk_fail(err, result, "CreateInstance");
    }
#define QN_VK_GLOBAL(name)
#define QN_VK_INSTANCE(name)                                                             \
    instance->api.name = (PFN_vk##name)instance->get_proc(instance->handle, "vk" #name); \
    if (!instance->api.name)                                                             \
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "the Vulkan loader has no vk" #name);
#define QN_VK_DEVICE(name)
#include "drivers/vulkan/functions.inc"
    if (!validate)
        return QUERN_OK;
    PFN_vkCreateDebugUtilsMessengerEXT create_messenger =
        (PFN_vkCreateDebugUtilsMessengerEXT)instance->get_proc(instance->handle,
                                                               "vkCreateDebugUtilsMessengerEXT");
    result = create_messenger ? create_messenger(instance->handle, &messenger, NULL, &instance->messenger)
                              : VK_ERROR_EXTENSION_NOT_PRESENT;
    return result == VK_SUCCESS ? QUERN_OK : qn_vk_fail(err, result, "CreateDebugUtilsMessengerEXT");
}

enum quern_status qn_vk_instance_init(struct qn_vk_instance *instance, const struct quern_callbacks *cb,
                                      bool validate, struct quern_error *err)
{
    *instance = (struct qn_vk_instance){.cb = cb};
    enum quern_status status = load_loader(instance, err);
    if (!status)
        status = create(instance, validate, err);
    if (!status) {
        instance->n_devices = QN_VK_MAX_DEVICES;
        VkResult result =
            instance->api.EnumeratePhysicalDevices(instance->handle, &instance->n_devices, instance->devices);
        if (result < 0)
            status = qn_vk_fail(err, result, "EnumeratePhysicalDevices");
    }
    if (status)
        qn_vk_instance_finish(instance);
    return status;
}

void qn_vk_instance_finish(struct qn_vk_instance *instance)
{
    if (instance->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy = (PFN_vkDestroyDebugUtilsMessengerEXT)instance->get_proc(
            instance->handle, "vkDestroyDebugUtilsMessengerEXT");
        if (destroy)
            destroy(instance->handle, instance->messenger, NULL);
    }
    if (instance->handle && instance->api.DestroyInstance)
        instance->api.DestroyInstance(instance->handle, NULL);
    qn_library_close(instance->library);
    *instance = (struct qn_vk_instance){.cb = instance->cb};
}
