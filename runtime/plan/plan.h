/* Planning: which device computes which node, where every value lies, and what runs in what order. Pure over
 * the graph and driver tables: knows no files, no sequences, no particular device. A plan is made once for a
 * model and a bucket of tokens, and run many times by any number of sessions, one after another. */
#ifndef QN_PLAN_H
#define QN_PLAN_H

#include "graph/graph.h"

enum {
    QN_MAX_DEVICES = 8,
    QN_PAGE_TOKENS = 32, /* tokens in a page of the KV cache */
    QN_MAX_BUCKET = 512, /* most tokens in a step */
};

/* What a step is for: each phase may have devices of its own. */
enum qn_phase { QN_PHASE_DECODE, QN_PHASE_PREFILL, QN_PHASES };

/* How long a device may take for little work, such as a copy, before it counts as hung: time enough for a
 * machine that compiles kernels, reads from a slow disk and does much else. */
static const uint64_t QN_HANG_NS = 120ull * 1000 * 1000 * 1000;

/* Buffers that the host sees, for bytes that come from it or go there. */
struct qn_staging {
    struct quern_buffer *buffer[2];
    uint64_t bytes;    /* of each */
    uint64_t point[2]; /* when the copy from it is done; 0: it is */
    int next;
};

/* A device as the planner sees it. */
struct qn_plan_device {
    const struct quern_driver *driver;
    struct quern_device *handle; /* NULL: dropped */
    uint32_t stands_in;          /* bit per phase in which it does only what no other device can */
    struct quern_caps caps;
    struct quern_buffer *arena;  /* activations of every plan */
    uint64_t arena_bytes;        /* its size */
    struct quern_buffer *output; /* where the output comes to be read; NULL: it is read in the arena */
    uint64_t output_bytes;       /* its size */
    struct qn_staging staging;
    const struct quern_binding
        *weights; /* per tensor of the model; buffer NULL where the device has it not */
    const struct quern_binding
        *origins; /* the same, of what is still being laid out: as the file has it; NULL: nothing is */
};

/* ---- place.c ---- */

/* Chooses a device for every node in a phase: place[node]. Today that is the first device that supports them
 * all, or, where there is none, the first that supports the node; those that stand in come after the others.
 * QUERN_ERR_UNSUPPORTED names an operation that none supports. */
enum quern_status qn_place(const struct quern_callbacks *cb, const struct quern_graph *graph,
                           const struct qn_plan_device *devices, uint32_t n_devices, enum qn_phase phase,
                           uint8_t *place, struct quern_error *err);

/* ---- memory.c ---- */

/* A piece of memory that is in use from step `first` to step `last`, both included. */
struct qn_lifetime {
    uint32_t first, last;
    uint64_t bytes;
    uint64_t offset; /* result, a multiple of the alignment */
};
/* Gives every piece an offset such that pieces alive at the same time do not overlap, largest first, lowest
 * gap that fits. Returns the bytes needed in all; UINT64_MAX when memory for the planning itself is out. */
uint64_t qn_memory_plan(const struct quern_callbacks *cb, struct qn_lifetime *pieces, size_t n,
                        uint64_t align);

/* ---- transfer.c ---- */

/* The heap through which the host sees data of the device; QUERN_NONE: none. 0: as they are. */
uint32_t qn_host_heap(const struct quern_caps *caps);
/* Makes sure that a buffer of the device has `want` bytes or more; what it held is lost if it had not.
 * *bytes: what it has, 0 and no buffer after a failure. */
enum quern_status qn_fit_buffer(const struct qn_plan_device *device, uint32_t heap, uint64_t want,
                                struct quern_buffer **buffer, uint64_t *bytes, struct quern_error *err);
/* Brings bytes into a buffer of heap 0. They are there for work that is given to the device afterwards. */
enum quern_status qn_transfer_write(struct qn_plan_device *device, struct quern_buffer *buffer,
                                    uint64_t offset, const void *data, uint64_t bytes,
                                    struct quern_error *err);
/* Fetches bytes that work given to the device before has left there. */
enum quern_status qn_transfer_read(struct qn_plan_device *device, struct quern_buffer *buffer,
                                   uint64_t offset, void *data, uint64_t bytes, struct quern_error *err);
/* Brings bytes from one device to another, after work that `from` was given before, through `bridge`, which
 * has room for them. On failure *failed is one of the two. */
enum quern_status qn_transfer(struct qn_plan_device *from, struct quern_buffer *source,
                              uint64_t source_offset, struct qn_plan_device *to, struct quern_buffer *target,
                              uint64_t target_offset, void *bridge, uint64_t bytes,
                              struct qn_plan_device **failed, struct quern_error *err);
/* Waits until all that was brought is there. */
enum quern_status qn_transfer_wait(struct qn_plan_device *device, struct quern_error *err);
/* Frees the staging buffers. */
void qn_transfer_finish(struct qn_plan_device *device);

/* ---- kv_layout.c ---- */

/* Where the KV cache of a model lies. Layers with the same window form a group; the layers of a group whose
 * attention is on the same device, in either phase, form a home, and a page of the group has one slice of
 * storage in each of its homes. */
struct qn_kv_home {
    uint32_t group;
    uint32_t owner;  /* device that allocates the pools */
    uint32_t access; /* bit per device that touches them */
    uint64_t page_bytes;
};
/* Bytes of a page that belong to the same layers in both phases. */
struct qn_kv_move {
    uint32_t group;
    uint32_t home[QN_PHASES];
    uint64_t offset[QN_PHASES]; /* in the page's slice of that home */
    uint64_t bytes;
};
struct qn_kv_layout {
    uint32_t n_groups;
    uint32_t window[QUERN_MAX_KV_GROUPS]; /* 0: all tokens */
    uint32_t pages_per_pool[QUERN_MAX_KV_GROUPS];
    uint32_t max_pools; /* of a home; 0: any number */
    uint32_t n_homes;
    struct qn_kv_home home[QUERN_MAX_KV_GROUPS * QN_MAX_DEVICES];
    struct quern_kv_binding *layer[QN_PHASES]; /* per KV layer of the graph; owned */
    struct qn_kv_move *moves;                  /* what of a page lies elsewhere in the other phase; owned */
    uint32_t n_moves;
};
/* What it is to hold at most: so many sequences of so many tokens. */
struct qn_kv_size {
    uint32_t n_seqs, n_ctx;
};
/* A pool is made for one sequence, or for less where that is large; for more where kernels reach few. */
struct qn_kv_layout_params {
    const struct quern_graph *graph;
    const uint8_t *place[QN_PHASES];
    const struct qn_plan_device *devices;
    uint32_t n_devices;
    enum quern_format k_format, v_format;
    struct qn_kv_size size;
};
enum quern_status qn_kv_layout_make(const struct quern_callbacks *cb, struct qn_kv_layout *layout,
                                    const struct qn_kv_layout_params *params, struct quern_error *err);
/* Whether its kernels reach as many pools as that takes. */
bool qn_kv_layout_holds(const struct qn_kv_layout *layout, struct qn_kv_size size);
void qn_kv_layout_finish(const struct quern_callbacks *cb, struct qn_kv_layout *layout);

/* ---- plan.c ---- */

/* Nodes of one device, one after another. */
struct qn_plan_segment {
    uint32_t device;
    uint32_t first, n;             /* nodes */
    uint32_t first_copy, n_copies; /* values that must come from other devices first */
    struct quern_prepared *prepared;
};

struct qn_plan_copy {
    uint32_t value;
    uint32_t from; /* device */
};

/* What the host reads after a step: the rows of logits, or the best of each. */
enum qn_result { QN_RESULT_ROWS, QN_RESULT_BEST, QN_RESULTS };

struct qn_plan_result {
    uint32_t value; /* QUERN_NONE: the graph has none such */
    uint32_t device;
    uint64_t bytes; /* that must be fetched, at most; 0: it is read in place */
};

struct qn_plan {
    const struct qn_graph *graph;
    struct qn_plan_device *devices;
    uint32_t n_devices;
    uint32_t max_tokens, max_outputs;
    struct qn_plan_segment *segments;
    uint32_t n_segments;
    struct qn_plan_copy *copies;
    uint32_t n_copies;
    struct quern_binding *bindings[QN_MAX_DEVICES]; /* per value */
    uint64_t arena_bytes[QN_MAX_DEVICES];           /* needed */
    uint32_t *nodes;                                /* 0, 1, 2, ...: a segment's list is a part of it */
    struct qn_plan_result results[QN_RESULTS];
    uint64_t hang_ns;              /* a step that takes longer hangs */
    char *bridge;                  /* values between two devices */
    struct qn_plan_device *failed; /* device whose call failed last, or NULL */
};

struct qn_plan_params {
    const struct qn_graph *graph;
    struct qn_plan_device *devices; /* outlives the plan */
    uint32_t n_devices;
    const uint8_t *place;
    const struct quern_kv_binding *kv; /* per KV layer of the graph */
    uint32_t max_tokens, max_outputs;
    uint32_t n_ctx; /* longest sequence */
    bool exact;
};

/* The smallest of 1, 2, 4, ... QN_MAX_BUCKET that holds n tokens. */
uint32_t qn_bucket(uint32_t n_tokens);
/* What a step of n tokens is: prefill where arithmetic limits it, decode where memory does. */
enum qn_phase qn_phase_of(uint32_t n_tokens);

/* Lays out a plan without preparing it: `arena_bytes` says what each device must have. */
enum quern_status qn_plan_create(const struct quern_callbacks *cb, struct qn_plan **plan,
                                 const struct qn_plan_params *params, struct quern_error *err);
/* Binds the values to the devices' arenas and has the drivers prepare the segments. */
enum quern_status qn_plan_prepare(const struct quern_callbacks *cb, struct qn_plan *plan,
                                  const struct qn_plan_params *params, struct quern_error *err);
void qn_plan_destroy(const struct quern_callbacks *cb, struct qn_plan **plan);

/* Bytes in a buffer of a device. */
struct qn_plan_place {
    struct quern_buffer *buffer; /* NULL: nowhere */
    uint64_t offset;
};

/* A run of a plan. */
struct qn_plan_run {
    const struct quern_step *step;
    const struct quern_kv_pools *const *pools; /* [device]: of every home, in that device's handles */
    uint32_t n_homes;
    bool trace;
    /* For plans whose only device is capable of QUERN_CAPS_AHEAD: */
    struct qn_plan_place token;  /* where the step's first token is; nowhere: in the step */
    struct qn_plan_place result; /* where the result is to be copied, in the heap that the host sees; nowhere:
                                    qn_plan_result */
};

/* A run that was given to the devices. It does not need its plan any more. */
struct qn_plan_ticket {
    struct qn_plan_device *device; /* the last */
    uint64_t point;
    uint64_t hang_ns;
};

/* Gives one step to the devices; where there are several, all but the last have finished. On failure
 * plan->failed is the device that did it. */
enum quern_status qn_plan_start(struct qn_plan *plan, const struct qn_plan_run *run,
                                struct qn_plan_ticket *ticket, struct quern_error *err);
/* Waits for it. If it fails, ticket->device does. */
enum quern_status qn_plan_wait(const struct qn_plan_ticket *ticket, struct quern_error *err);
/* Bytes that a device must have room for, so that results can be fetched from it. */
uint64_t qn_plan_fetched_bytes(const struct qn_plan *plan, uint32_t device);
/* Which result a step brings to the host. */
enum qn_result qn_step_result(const struct quern_step *step);
/* Address of that result after a run, [width, n_outputs]; NULL: the host cannot read it. */
const void *qn_plan_result(const struct qn_plan *plan, enum qn_result result);

#endif
