/* A prepared segment: the dispatches that its nodes became. Which buffers the step and the KV pools are in is
 * known at the first run only; then the commands are recorded, and replayed until one of these changes. */
#ifndef QN_VK_SEGMENT_H
#define QN_VK_SEGMENT_H

#include "drivers/vulkan/device.h"

/* What is bound to a kernel. */
struct qn_vk_bound {
    enum qn_vk_bound_kind {
        QN_VK_BOUND_STEP, /* the step block; also where an optional buffer is not used */
        QN_VK_BOUND_BUFFER,
        QN_VK_BOUND_CONSTANTS, /* of the segment */
        QN_VK_BOUND_GRIDS,     /* tables of the IQ formats */
        QN_VK_BOUND_POOLS,     /* of the home `home` */
        QN_VK_BOUND_SCRATCH,   /* of the segment */
        QN_VK_BOUND_SIZES,     /* an entry of the segment's sizes, for `indirect` */
        QN_VK_BOUND_PARTS,     /* results of blocks of keys, of the segment */
    } kind;
    bool written;
    uint32_t home;
    const struct quern_buffer *buffer;
    uint64_t offset, bytes;
};

struct qn_vk_dispatch {
    enum qn_vk_kernel kernel;
    uint32_t constants[QN_VK_MAX_CONSTANTS]; /* specialisation constants, by id */
    bool full_subgroups;                     /* each has facts.full_subgroup invocations */
    uint32_t node;                           /* id in the graph */
    const struct qn_vk_pipeline *pipeline;
    struct qn_vk_bound bound[QN_VK_MAX_BUFFERS];
    uint32_t words[QN_VK_MAX_WORDS]; /* push constants */
    uint32_t groups[3]; /* with `indirect` as many as there may be; kernels pass over the others */
    uint32_t indirect;  /* slot whose first three words are the groups; 0: none */
    uint32_t slices;    /* of the workgroups, for submits of their own; 0: 1 */
    uint32_t across;    /* of these side by side in y */
    uint32_t by;        /* the dimension in which the others follow each other */
};

/* Where a submit begins. */
struct qn_vk_cut {
    size_t dispatch;
    uint32_t slice;
};

/* Attention takes the keys of a sequence in blocks (BLOCK in shaders/lib/attention.glsl). */
enum { QN_VK_KEY_BLOCK = 128 };

/* What depends on the lengths of the step's sequences. Workgroups: x, the most blocks of keys that a token
 * sees through the window, tokens. x = 0: a workgroup takes all blocks itself, its loops go round `rounds`
 * times for each. */
struct qn_vk_sizes {
    uint32_t x, window;
    uint64_t rounds;
};
enum { QN_VK_SIZE_BYTES = 12 }; /* three words for the device */

/* Runs of a segment that can be under way: one that the host waits for, and one after it. */
enum { QN_VK_SLOTS = 2 };

struct qn_vk_slot {
    VkCommandBuffer lead; /* what goes before the recorded commands */
    uint64_t point;       /* of the run that used it last */
    uint64_t begin_ns;    /* when that was submitted; 0: how long it took is known, or of no interest */
};

enum { QN_VK_PLAIN, QN_VK_TIMED, QN_VK_RECORDINGS };

struct quern_prepared {
    struct qn_vk_dispatch *dispatches;
    size_t n_dispatches, cap_dispatches;
    float *constants; /* until they are on the device */
    size_t n_constants, cap_constants;
    struct quern_buffer *constant_buffer, *step_buffer, *scratch_buffer;
    struct quern_buffer *step_upload; /* where the host writes the step, for each slot */
    struct qn_vk_slot slots[QN_VK_SLOTS];
    uint32_t slot; /* of the last run */
    uint64_t scratch_bytes;
    struct qn_vk_sizes *sizes; /* at the begin of the step's buffer */
    size_t n_sizes, cap_sizes;
    uint64_t step_at;                  /* byte where the step block follows */
    struct quern_buffer *parts_buffer; /* grows with the longest sequence */
    uint64_t part_bytes;               /* for each block of keys */

    VkDescriptorPool pool;
    VkDescriptorSet *sets; /* [n_dispatches] */
    struct qn_vk_cut *cuts;
    size_t n_cuts, cap_cuts;
    VkCommandBuffer *commands[QN_VK_RECORDINGS]; /* per cut */
    size_t n_commands[QN_VK_RECORDINGS];
    bool recorded[QN_VK_RECORDINGS];
    bool measured;        /* the cuts come from measured times */
    uint64_t expected_ns; /* of a run */
    uint64_t took_ns;     /* the longest run since that was looked at */
    uint64_t end_ns;      /* of the last run that is over */
    VkQueryPool queries;
    const struct quern_buffer *pools[QUERN_MAX_KV_GROUPS * 8][QN_VK_POOLS]; /* as recorded, by home */
    uint64_t point;                                                         /* of the last run */
    uint64_t begin_ns; /* when it was submitted; 0: without times */
};

/* ---- pipeline.c ---- */

/* Sets the pipelines of the dispatches; those that are not there yet are compiled, in parallel. Where
 * optional kernels fail, they are given up: fails, but what is planned anew does without them. */
enum quern_status qn_vk_pipelines_get(struct quern_device *device, struct qn_vk_dispatch *dispatches,
                                      size_t n, struct quern_error *err);

/* ---- record.c ---- */

void qn_vk_forget_recordings(struct quern_prepared *prepared);
/* Records a command buffer for each cut. */
enum quern_status qn_vk_record(struct quern_device *device, struct quern_prepared *prepared, int which,
                               struct quern_error *err);

/* ---- step.c ---- */

/* Waits until no run of the segment is under way. */
enum quern_status qn_vk_settle(struct quern_device *device, const struct quern_prepared *prepared,
                               struct quern_error *err);
/* Takes the next slot for this run: writes its step, sees that all it needs has room, records its lead. */
enum quern_status qn_vk_step_take(struct quern_device *device, struct quern_prepared *prepared,
                                  const struct quern_run_args *args, struct quern_error *err);
/* idle: nothing of the device is under way. */
void qn_vk_steps_finish(struct quern_device *device, struct quern_prepared *prepared, bool idle);

/* ---- submit.c ---- */

/* The workgroups of a slice. */
void qn_vk_slice(const struct quern_prepared *prepared, const struct qn_vk_dispatch *d, uint32_t slice,
                 uint32_t base[3], uint32_t groups[3]);
/* Gives the segment's work to the device, recorded as it must be; prepared->point is when it is done. */
enum quern_status qn_vk_submit_all(struct quern_device *device, struct quern_prepared *prepared, int which,
                                   struct quern_error *err);

/* ---- ops.c ---- */

/* Whether the driver can run the node. */
bool qn_vk_op_supported(const struct quern_device *device, const struct quern_graph *graph, uint32_t node);
/* Appends the dispatches of the segment's nodes. */
enum quern_status qn_vk_ops_plan(struct quern_device *device, const struct quern_segment *segment,
                                 struct quern_prepared *prepared, struct quern_error *err);

#endif
