/* Inside the CPU driver: the device, a prepared segment, and what an operation hands to both.
 *
 * A segment becomes a list of stages. A stage is a loop over items (tokens, rows of a weight, heads) that the
 * worker threads share; items are independent of each other, and the bits of a result depend neither on how
 * items are grouped nor on who does them. An operation is one or a few stages: a matmul packs its input, then
 * multiplies. Operations are in ref/, one row each in ops.inc. */
#ifndef QN_CPU_DEVICE_H
#define QN_CPU_DEVICE_H

#include <quern/driver.h>

#include "base/host.h"
#include "drivers/cpu/kernels.h"
#include "drivers/cpu/pool.h"

#include <stdatomic.h>

/* ---------------------------------------------------------------- device */

struct quern_buffer {
    char *data;
    uint64_t bytes;
    bool imported;
    uint64_t laid_out; /* bytes from the start that weights_prepare has gone through */
};

/* Memory that stages of any segment share, since one segment runs at a time. It holds something for as long
 * as a segment says, and grows when a segment is prepared. */
enum qn_area {
    QN_AREA_PACK_0, /* packed activations, kept for the next matmul of the same input */
    QN_AREA_PACK_1,
    QN_AREA_ROPE_0, /* cos and sin of the step's positions */
    QN_AREA_ROPE_1,
    QN_AREA_GROUP, /* tokens sorted by expert */
    QN_AREA_PAIRS, /* packed activations in that order */
    QN_AREA_PARTS, /* sums of the parts of a long context */
    QN_AREA_END,
};

struct qn_area_memory {
    void *data;
    size_t bytes;
};

struct qn_worker {
    uint32_t index;
    void *scratch; /* scratch_bytes of the device, for this thread alone */
};

struct quern_device {
    const struct quern_callbacks *cb;
    struct qn_kernels kernels;
    uint64_t in_file_layout; /* bit per enum quern_format: weights wanted as the file has them */
    struct qn_pool *pool;
    struct qn_worker *workers; /* [threads] */
    size_t scratch_bytes;
    struct qn_area_memory area[QN_AREA_END];
    uint64_t point;
    struct quern_phase laying_out; /* of weights */
};

/* ---------------------------------------------------------------- operations */

/* A value as an operation sees it: described from the graph, then bound to memory. */
struct qn_arg {
    bool present;
    bool weight;     /* else an activation */
    bool per_output; /* activations: one row for each output row of the step, not for each token */
    uint32_t id;     /* of the value */
    uint32_t format;
    int64_t dim[4];   /* as in the graph; the step's dimension is 1 for activations */
    size_t row;       /* activations: elements for each token */
    size_t row_bytes; /* weights: bytes of dim[0] elements */
    uint32_t layout;  /* enum quern_layout; known when bound */
    void *data;       /* NULL until bound */
    /* Weights that are still being laid out: the same rows as QUERN_LAYOUT_FILE; NULL: all of it is there. */
    const void *origin;
    const struct quern_buffer *buffer; /* in which data lies */
};

struct qn_stage;
struct qn_planner;

struct qn_matmul_plan {
    const struct qn_matmul_kernel *kernel[3];
    const struct qn_matmul_kernel *origin_kernel[3]; /* for rows that are not laid out yet */
    uint32_t unit_rows;                              /* rows of a weight that are never split */
    size_t unit_bytes;                               /* of the weights that a unit reads, at most */
    uint32_t n_units[3];                             /* units of each weight */
    enum qn_area area;                               /* of the packed input, where a kernel wants it */
    size_t pack_offset[QN_PACK_END]; /* MoE: where the rows of each kind start in the area of pairs */
    bool packs[QN_PACK_END];         /* which kinds the kernels want */
};

struct qn_rope_plan {
    double *step; /* [n_dims / 2]: angle of one position, before division by the factors; owned */
    enum qn_area area;
};

struct qn_kv_plan {
    struct quern_kv_layer layer;
    struct quern_kv_binding at;
    size_t k_row_bytes, v_row_bytes;
};

/* A node of the segment. in and out are numbered as in driver.h. */
struct qn_op {
    struct quern_node node;
    const struct qn_op_kind *kind;
    struct qn_arg in[QUERN_MAX_IN];
    struct qn_arg out[QUERN_MAX_OUT];
    struct qn_kv_plan kv;
    union {
        struct qn_matmul_plan matmul;
        struct qn_rope_plan rope;
    } plan;
};

/* What a stage sees of a run. */
struct qn_run {
    struct quern_device *device;
    const struct qn_kernels *kernels;
    const struct quern_step *step;
    const struct quern_kv_pools *kv;
    uint32_t n_homes;
    _Atomic bool *lost_page; /* a page that is needed is not there */
};

/* Size of a stage in this step. */
struct qn_work {
    uint32_t items;
    uint32_t cost; /* of an item, in nanoseconds or so; decides what is worth sharing */
};

struct qn_stage {
    const struct qn_op *op;
    uint32_t node; /* place in the segment */
    struct qn_work (*size)(const struct qn_op *op, const struct qn_run *run);
    void (*run)(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                struct qn_worker *worker);
};

/* One row of the table of operations. */
struct qn_op_kind {
    const char *name;
    /* Shapes, formats and attributes; args are described, not bound. */
    int32_t (*check)(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err);
    /* Adds the stages of a bound operation: false when memory is out. */
    bool (*plan)(struct qn_planner *planner, struct qn_op *op);
    /* Frees what plan has made; NULL: nothing. */
    void (*finish)(const struct quern_callbacks *cb, struct qn_op *op);
};

const struct qn_op_kind *qn_op_kind_get(uint32_t op);

/* Fills *op from a node of the graph and checks it: everything but the memory. */
int32_t qn_op_describe(const struct quern_graph *graph, uint32_t node, const struct qn_kernels *kernels,
                       struct qn_op *op, struct quern_error *err);

/* ---------------------------------------------------------------- checks for the operations */

/* Says what is wrong with an operation: "matmul: ...". */
int32_t qn_op_fail(const struct qn_op *op, struct quern_error *err, const char *fmt, ...) QUERN_PRINTF(3, 4);
/* An activation of `row` elements a token (0: any), in rows of the same kind as in[0]. */
bool qn_is_rows(const struct qn_op *op, const struct qn_arg *arg, size_t row);
/* The same, or absent. */
bool qn_is_rows_or_none(const struct qn_op *op, const struct qn_arg *arg, size_t row);
/* A dense F32 weight of n elements, or absent. */
bool qn_is_vector_or_none(const struct qn_arg *arg, int64_t n);

/* ---------------------------------------------------------------- planning */

struct quern_prepared {
    uint32_t n_ops, n_stages;
    uint32_t max_tokens, max_outputs;
    struct qn_op *ops;
    struct qn_stage *stages; /* [n_ops * QN_MAX_STAGES] */
    uint32_t *node_ids;      /* [n_ops] */
    struct quern_node_time *times;
    uint32_t n_times;
};

enum {
    QN_MAX_STAGES = 4, /* of one operation */
    QN_UNIT_ROWS = 32, /* rows of a weight that kernels work with at once, at most */
};

struct qn_planner {
    struct quern_device *device;
    struct quern_prepared *prepared;
    bool exact;
    size_t scratch_bytes;
    size_t area_bytes[QN_AREA_END];
    uint32_t area_holds[QN_AREA_END]; /* key of what an area holds at this point of the list, or QUERN_NONE */
    uint32_t area_used[QN_AREA_END];  /* when it was last asked for */
    uint32_t clock;
};

void qn_plan_stage(struct qn_planner *planner, const struct qn_op *op,
                   struct qn_work (*size)(const struct qn_op *op, const struct qn_run *run),
                   void (*run)(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                               struct qn_worker *worker));
void qn_plan_scratch(struct qn_planner *planner, size_t bytes);
/* Room in an area; what it held is gone. */
void qn_plan_area(struct qn_planner *planner, enum qn_area area, size_t bytes);
/* An area from first to last for the thing called `key`. True: it must be filled. False: an earlier stage has
 * done so. */
bool qn_plan_cached(struct qn_planner *planner, enum qn_area first, enum qn_area last, uint32_t key,
                    size_t bytes, enum qn_area *area);
/* Rows of an activation in the largest step of the segment. */
uint32_t qn_plan_max_rows(const struct qn_planner *planner, const struct qn_arg *arg);

int32_t qn_cpu_prepare(struct quern_device *device, const struct quern_segment *segment,
                       struct quern_prepared **prepared, struct quern_error *err);
void qn_cpu_release(struct quern_device *device, struct quern_prepared *prepared);
int32_t qn_cpu_run(struct quern_device *device, struct quern_prepared *prepared,
                   const struct quern_run_args *args, uint64_t *point, struct quern_error *err);

/* ---------------------------------------------------------------- running */

/* Rows that an activation has in this step. */
static inline uint32_t qn_rows(const struct qn_arg *arg, const struct qn_run *run)
{
    return arg->per_output ? run->step->n_outputs : run->step->n_tokens;
}

static inline float *qn_row(const struct qn_arg *arg, size_t row)
{
    return (float *)arg->data + row * arg->row;
}

/* How many rows of a bound weight can be read in its layout, of all its matrices; the others are in `origin`.
 * Changes between runs only. */
static inline size_t qn_laid_rows(const struct qn_arg *arg)
{
    if (!arg->origin)
        return SIZE_MAX;
    const uint64_t offset = (uint64_t)((const char *)arg->data - arg->buffer->data);
    return arg->buffer->laid_out > offset ? (size_t)((arg->buffer->laid_out - offset) / arg->row_bytes) : 0;
}

/* Bytes from one row of packed activations to the next. */
static inline size_t qn_pack_stride(enum qn_pack pack, size_t k)
{
    return pack == QN_PACK_Q8 ? qn_q8_row_bytes(k) : k * sizeof(float);
}

/* Address of a page of the op's KV layer, or NULL (and the run has failed) when it is not there. */
char *qn_kv_page(const struct qn_op *op, const struct qn_run *run, uint32_t page);

/* See driver.h. */
int32_t qn_cpu_weights_prepare(struct quern_device *device, const struct quern_weight_rows *rows,
                               struct quern_error *err);

/* Description of this machine, for people; bytes of its memory, 0 when unknown. */
void qn_cpu_name(char *text, size_t size);
/* Maker, family, model and stepping of an x86 processor, as CPUID gives them; "": not known. */
void qn_cpu_identity(char *text, size_t size);
uint64_t qn_cpu_memory(void);
/* Formats that keys and values may have, bit per enum quern_format. */
static const uint64_t QN_CPU_KV_FORMATS = (uint64_t)1 << QUERN_F32 | (uint64_t)1 << QUERN_F16 |
                                          (uint64_t)1 << QUERN_BF16 | (uint64_t)1 << QUERN_Q8_0 |
                                          (uint64_t)1 << QUERN_Q4_0;
/* Reads the value of the setting "isa" against what the machine has. */
int32_t qn_isa_parse(const char *text, uint32_t have, uint32_t *isa, struct quern_error *err);
/* A set and those that are weaker, or all where this kind of processor has no set of that name. */
uint32_t qn_isa_up_to(const char *name);
/* Their names, of all kinds of processors. */
#define QN_ISA_WORDS "avx2 avx512 avx512-vnni avx512-bf16 amx-int8 neon dotprod i8mm"

#endif
