/* Vulkan as this machine has it: the loader, an instance, and what each physical device says of itself. */
#ifndef QN_VK_INSTANCE_H
#define QN_VK_INSTANCE_H

#include "base/host.h"
#include <quern/driver.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

/* The functions, without their "vk". */
struct qn_vk_api {
#define QN_VK_GLOBAL(name)   PFN_vk##name name;
#define QN_VK_INSTANCE(name) PFN_vk##name name;
#define QN_VK_DEVICE(name)   PFN_vk##name name;
#include "drivers/vulkan/functions.inc"
};

/* Optional features: see features.inc. */
enum qn_vk_feature {
#define FEATURE(id, name, help) QN_VK_##id,
#include "drivers/vulkan/features.inc"
    QN_VK_FEATURE_END,
};

/* Cooperative matrices of half floats summed in floats, of any size that is a multiple of these. */
struct qn_vk_flexible {
    uint32_t m, n, k;     /* 0: there are none */
    bool workgroup;       /* the workgroup has a matrix, not a subgroup */
    uint32_t invocations; /* of such a workgroup */
    uint32_t most;        /* rows and columns */
    uint32_t reserved;    /* shared memory that the device takes for them, bytes */
};

/* What a physical device says of itself. */
struct qn_vk_facts {
    VkPhysicalDevice handle;
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceMemoryProperties memory;
    char driver[128];                         /* "llvmpipe 22.3.6 (Vulkan 1.3.230)" */
    char driver_name[64], driver_version[64]; /* "llvmpipe", "22.3.6" */
    uint32_t type;                            /* enum quern_device_type */
    uint32_t features;                        /* bit per enum qn_vk_feature */
    uint32_t queue;                           /* family that computes, QUERN_NONE: there is none */
    uint32_t time_bits;                       /* of its timestamps that are valid; 0: it has none */
    uint32_t subgroup, min_subgroup, max_subgroup;
    uint32_t full_subgroup; /* what every subgroup of a kernel that asks for it has; 0: no number is sure */
    bool fast_dot;          /* it has 8-bit dot products of its own, not put together from others */
    uint32_t coopmat; /* M, N and K, a byte each, of cooperative matrices of half floats summed in floats */
    struct qn_vk_flexible flexible;
    char no_coopmat[256];  /* why it has the extension and not the feature; "" */
    uint64_t max_buffer;   /* bytes that a buffer and its memory can have */
    uint64_t import_align; /* of memory of the host that becomes a buffer */
    uint64_t max_rounds;   /* of all loops of an invocation together; 0: any number */
    const char *missing;   /* what Quern needs and it lacks; NULL: nothing */
    char identity[128];    /* as in struct quern_device_info */
};

enum { QN_VK_MAX_DEVICES = 16 };

struct qn_vk_instance {
    const struct quern_callbacks *cb;
    void *library;
    PFN_vkGetInstanceProcAddr get_proc;
    struct qn_vk_api api; /* all but those of a device */
    VkInstance handle;
    VkDebugUtilsMessengerEXT messenger;
    uint32_t n_devices;
    VkPhysicalDevice devices[QN_VK_MAX_DEVICES];
};

/* Names of the Vulkan loader's library, in the order in which they are tried; the list ends with NULL. */
const char *const *qn_vk_loader_names(void);

/* Loads the loader and lists the physical devices. QUERN_ERR_UNSUPPORTED where there is no loader.
 * validate: turns the validation layer on, whose messages go to the log as warnings; an error where it is not
 * installed. `instance` must stay where it is until it is finished. */
enum quern_status qn_vk_instance_init(struct qn_vk_instance *instance, const struct quern_callbacks *cb,
                                      bool validate, struct quern_error *err);
void qn_vk_instance_finish(struct qn_vk_instance *instance);

/* Facts of physical device i. `without`: bit per feature that is left out whether it is there or not. */
void qn_vk_facts_read(const struct qn_vk_instance *instance, uint32_t index, uint32_t without,
                      struct qn_vk_facts *facts);

struct qn_vk_shaders;
/* Leaves out the features whose kernels cannot be had. */
void qn_vk_facts_limit(struct qn_vk_facts *facts, struct qn_vk_shaders *shaders);

/* Facts for people, lines "name: value". */
void qn_vk_facts_print(const struct qn_vk_instance *instance, const struct qn_vk_facts *facts, char *text,
                       size_t size);

/* Whether its cooperative matrices can be used. */
static inline bool qn_vk_has_coopmat(const struct qn_vk_facts *facts)
{
    return facts->features >> QN_VK_COOPMAT & 1 && facts->coopmat != 0;
}

static inline bool qn_vk_has_coopmat2(const struct qn_vk_facts *facts)
{
    return qn_vk_has_coopmat(facts) && facts->features >> QN_VK_COOPMAT2 & 1 && facts->flexible.m != 0;
}

/* "int-dot,coopmat" to bits; QUERN_ERR_PARAM names the word that is none and lists those that are. */
enum quern_status qn_vk_features_parse(const char *text, uint32_t *features, struct quern_error *err);
/* Names of features, separated by spaces. */
void qn_vk_features_print(uint32_t features, char *text, size_t size);

/* "VK_ERROR_DEVICE_LOST" */
const char *qn_vk_result_name(VkResult result);
/* The sentence for a call that failed; what it means to the runtime. */
enum quern_status qn_vk_fail(struct quern_error *err, VkResult result, const char *call);

#endif
