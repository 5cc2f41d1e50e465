/* An open Vulkan device: what its files share. Buffers are in memory.c, pipelines in pipeline.c, what an
 * operation becomes in ops.c, segments in record.c, the driver's table in driver.c. */
#ifndef QN_VK_DEVICE_H
#define QN_VK_DEVICE_H

#include "drivers/vulkan/instance.h"
#include "drivers/vulkan/settings.h"
#include "drivers/vulkan/spirv.h"

/* VK(device, call(arguments)): the call's result; on failure `status` is set and control goes to `done`. */
#define VK(device, name, ...)                               \
    do {                                                    \
        VkResult result_ = (device)->api.name(__VA_ARGS__); \
        if (result_ != VK_SUCCESS) {                        \
            status = qn_vk_fail(err, result_, #name);       \
            goto done;                                      \
        }                                                   \
    } while (0)

/* How long the driver waits by itself, for work that the runtime has long been waiting for or that only
 * copies: a device that is not done by then hangs. */
static const uint64_t QN_VK_PATIENCE_NS = 120ull * 1000 * 1000 * 1000;

/* What memory is for. */
enum qn_vk_use {
    QN_VK_USE_DEVICE, /* weights, activations, keys and values: what kernels reach best */
    QN_VK_USE_HOST,   /* what comes from the host and goes there: what the host reads best */
    QN_VK_USE_STEP,   /* written by the host and read by kernels, step by step */
};

struct qn_vk_block;

/* Part of a block of memory. */
struct qn_vk_piece {
    struct qn_vk_block *block; /* NULL: none */
    VkDeviceMemory memory;
    uint64_t offset;
    char *map; /* NULL: not visible to the host */
};

struct quern_buffer {
    VkBuffer handle;
    struct qn_vk_piece piece;
    VkDeviceMemory imported;     /* instead of the piece */
    uint32_t type;               /* of memory */
    uint64_t bytes;              /* as asked for */
    char *map;                   /* NULL: not visible to the host */
    struct quern_buffer **parts; /* of part_bytes each, the last less; NULL: it is one */
    uint64_t part_bytes;
};

struct qn_vk_memory {
    struct qn_vk_block *blocks;
    uint32_t n_blocks;
    uint32_t allowed;                    /* bit per memory type: buffers can lie there */
    uint64_t taken[VK_MAX_MEMORY_HEAPS]; /* bytes of the blocks */
    uint64_t asked[VK_MAX_MEMORY_HEAPS]; /* bytes of the buffers in them */
};

/* A kernel with its specialisation constants; made at first use. */
struct qn_vk_pipeline {
    struct qn_vk_pipeline *next; /* of the same kernel */
    enum qn_vk_kernel kernel;
    size_t bytes; /* of the kernel */
    bool listed;  /* among those to be compiled */
    uint32_t constants[QN_VK_MAX_CONSTANTS];
    bool full_subgroups;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline handle;
};

/* Parts of starting up whose time is told, in the order of their names in driver.c. */
enum qn_vk_phase {
    QN_VK_PHASE_INSTANCE,
    QN_VK_PHASE_DEVICE,
    QN_VK_PHASE_GLSL,
    QN_VK_PHASE_PIPELINES,
    QN_VK_PHASE_CACHE,
    QN_VK_PHASE_RECORD,
    QN_VK_PHASE_FIRST_RUN,
    QN_VK_PHASE_END,
};

/* A copy, which can be under way beside another one. */
enum { QN_VK_COPIES = 2 };
struct qn_vk_copy {
    VkCommandBuffer commands;
    uint64_t point;
};

struct quern_device {
    bool imports;       /* memory of the host can become buffers */
    bool unsure_import; /* whether that is as fast, is to be measured */
    struct qn_vk_settings settings;
    PFN_vkGetMemoryHostPointerPropertiesEXT host_pointer_properties;
    const struct quern_host *host;
    const struct quern_callbacks *cb;
    struct qn_vk_instance instance;
    struct qn_vk_facts facts;
    struct qn_vk_api api; /* of the instance, and of this device */
    VkDevice handle;
    VkQueue queue;
    VkSemaphore timeline;         /* its value is the last point that is done */
    uint64_t point;               /* last one given away */
    uint64_t done_point, done_ns; /* last one waited for, and when that ended */
    uint64_t submit_ns;           /* most that a submit should take; 0: any time */
    bool hung;                    /* work given to it does not end: its objects are left as they are */
    struct qn_vk_memory memory;
    VkCommandPool commands;
    struct qn_vk_copy copies[QN_VK_COPIES]; /* used by turns */
    uint32_t next_copy;
    struct quern_buffer *grids; /* tables of the IQ formats */
    struct qn_vk_shaders shaders;
    struct qn_vk_pipeline *pipelines[QN_VK_KERNEL_END];
    VkPipelineCache pipeline_cache; /* VK_NULL_HANDLE: none */
    uint64_t kept_hash;             /* of its data as they are on disk */
    size_t kept_bytes;
    struct quern_phase phases[QN_VK_PHASE_END]; /* without their names */
    uint64_t first_point, first_ns; /* of a first run that is under way, and its begin; 0: none is */
};

static inline void qn_vk_phase_add(struct quern_device *device, enum qn_vk_phase phase, uint32_t n,
                                   uint64_t ns)
{
    device->phases[phase].n += n;
    device->phases[phase].ns += ns;
}

/* ---- device.c ---- */

/* With the settings. QUERN_ERR_LOST where the device of that index is another than the one that they name. */
enum quern_status qn_vk_device_init(struct quern_device *device, uint32_t index, struct quern_error *err);
void qn_vk_device_finish(struct quern_device *device);
/* Command buffers of the device's pool, for qn_vk_submit. */
enum quern_status qn_vk_commands(struct quern_device *device, VkCommandBuffer *commands, uint32_t n,
                                 struct quern_error *err);
/* Submits n command buffers; *point is when they are done. */
enum quern_status qn_vk_submit(struct quern_device *device, const VkCommandBuffer *commands, uint32_t n,
                               uint64_t *point, struct quern_error *err);
enum quern_status qn_vk_wait(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                             struct quern_error *err);
/* Waits until nothing runs any more, so that objects may be destroyed. False: the device hangs; its functions
 * that destroy do nothing any more. */
bool qn_vk_idle(struct quern_device *device);
/* All that came before is done and seen by what follows, on the device and, at `host`, by the host. */
void qn_vk_barrier(const struct quern_device *device, VkCommandBuffer commands, bool host);

/* ---- blocks.c ---- */

/* Memory of a type, at a multiple of `align`. */
enum quern_status qn_vk_memory_take(struct quern_device *device, uint32_t type, uint64_t bytes,
                                    uint64_t align, struct qn_vk_piece *piece, struct quern_error *err);
void qn_vk_memory_give(struct quern_device *device, const struct qn_vk_piece *piece);
/* Bytes of a heap that can still be taken, UINT64_MAX: unknown. */
uint64_t qn_vk_memory_left(const struct quern_device *device, uint32_t heap);

/* ---- memory.c ---- */

/* The best of the allowed memory types, QUERN_NONE: there is none. */
uint32_t qn_vk_memory_type(const struct qn_vk_facts *facts, enum qn_vk_use use, uint32_t allowed);
enum quern_status qn_vk_buffer_create(struct quern_device *device, enum qn_vk_use use, uint64_t bytes,
                                      struct quern_buffer **buffer, struct quern_error *err);
/* One in parts of part_bytes each, for more than a buffer of the device can hold. It cannot be mapped. */
enum quern_status qn_vk_buffer_create_parts(struct quern_device *device, uint64_t bytes, uint64_t part_bytes,
                                            struct quern_buffer **buffer, struct quern_error *err);
/* One over memory of the host, which begins at a page. QUERN_ERR_UNSUPPORTED where the device does not take
 * it.
 */
enum quern_status qn_vk_buffer_import(struct quern_device *device, void *memory, uint64_t bytes,
                                      struct quern_buffer **buffer, struct quern_error *err);
void qn_vk_buffer_destroy(struct quern_device *device, struct quern_buffer *buffer);
/* The part that holds byte *offset, which is then relative to it. */
const struct quern_buffer *qn_vk_buffer_part(const struct quern_buffer *buffer, uint64_t *offset);
enum quern_status qn_vk_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                             struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                             struct quern_error *err);
/* Brings bytes into a buffer or out of it, whether the host sees it or not, and waits for it: for little,
 * while things are prepared. */
enum quern_status qn_vk_write(struct quern_device *device, struct quern_buffer *buffer, uint64_t offset,
                              const void *data, uint64_t bytes, struct quern_error *err);
enum quern_status qn_vk_read(struct quern_device *device, struct quern_buffer *buffer, uint64_t offset,
                             void *data, uint64_t bytes, struct quern_error *err);

/* ---- pipeline.c ---- */

void qn_vk_pipelines_finish(struct quern_device *device);

/* ---- pipeline_cache.c: pipelines as the driver keeps them, on disk between runs ---- */

/* Takes what was kept. Without it, all pipelines are compiled anew: that is no failure. */
void qn_vk_pipeline_cache_open(struct quern_device *device);
/* Keeps what is new, together with what other processes have kept meanwhile. */
void qn_vk_pipeline_cache_save(struct quern_device *device);
void qn_vk_pipeline_cache_close(struct quern_device *device);

/* ---- record.c ---- */

int32_t qn_vk_prepare(struct quern_device *device, const struct quern_segment *segment,
                      struct quern_prepared **prepared, struct quern_error *err);
void qn_vk_release(struct quern_device *device, struct quern_prepared *prepared);
int32_t qn_vk_run(struct quern_device *device, struct quern_prepared *prepared,
                  const struct quern_run_args *args, uint64_t *point, struct quern_error *err);
uint32_t qn_vk_times(struct quern_device *device, struct quern_prepared *prepared,
                     struct quern_node_time *times, uint32_t cap);

#endif
