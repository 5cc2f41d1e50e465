/* The driver ABI: what a device driver sees of Quern, and all that it sees. A vendor's plug-in includes this
 * file alone.
 *
 * A driver is a table of functions (struct quern_driver, at the end). It is given whole segments: runs of
 * nodes of a graph, with every value bound to memory. It prepares a segment once and runs it many times; what
 * changes from step to step lies in the step block and in the list of KV pools.
 *
 * Rules of the ABI
 * - Every struct that may grow starts with struct_size, set by whoever fills it, and grows only at its end; a
 * zero in a field that the other side does not know must mean "as before". Arrays of graph structs carry
 * their stride.
 * - Operation, attribute, format and layout numbers are append-only.
 * - Handles are opaque. What one side allocates, the same side frees.
 * - Functions return an enum quern_status as int32_t and describe a failure in *err (never NULL).
 * - A function of one device is called from one thread at a time, in any thread; different devices in
 * parallel.
 */
#ifndef QUERN_DRIVER_H
#define QUERN_DRIVER_H

#include <quern/format.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUERN_DRIVER_ABI 1

#define QUERN_NONE       UINT32_MAX /* no value, no node */

/* ---------------------------------------------------------------- graph */

/* Sizes known only when a plan or a step is made. In a plan for a bucket they stand for its largest size. */
#define QUERN_DIM_TOKENS  (-1) /* tokens of the step */
#define QUERN_DIM_OUTPUTS (-2) /* rows whose logits are asked for */

enum quern_value_kind {
    QUERN_VALUE_WEIGHT = 0,     /* read-only, bound for the life of the plan */
    QUERN_VALUE_ACTIVATION = 1, /* lives in the arena between two nodes */
    QUERN_VALUE_OUTPUT = 2,     /* an activation that the runtime reads after the step (logits) */
};

/* A tensor. Row-major with the innermost dimension first: element (i, j) is at j * dim[0] + i. Activations
 * are F32, dense, and I32 for expert ids. */
struct quern_value {
    uint32_t kind;   /* enum quern_value_kind */
    uint32_t format; /* enum quern_format */
    int64_t dim[4];  /* unused: 1 */
    uint32_t weight; /* weights: number in the runtime's list of tensors; else QUERN_NONE */
    uint32_t layer;  /* layer of the model that it belongs to, QUERN_NONE outside of layers */
    uint64_t
        weight_offset; /* bytes: where a value that is some rows of a tensor starts in it; for the runtime */
};

enum quern_op {
    QUERN_OP_EMBED = 0,
    QUERN_OP_NORM = 1,
    QUERN_OP_MATMUL = 2,
    QUERN_OP_ROPE = 3,
    QUERN_OP_KV_STORE = 4,
    QUERN_OP_ATTENTION = 5,
    QUERN_OP_ACTIVATION = 6,
    QUERN_OP_ADD = 7,
    QUERN_OP_ROWS = 8,
    QUERN_OP_MOE_ROUTE = 9,
    QUERN_OP_MOE_MATMUL = 10,
    QUERN_OP_MOE_COMBINE = 11,
    QUERN_OP_SELECT = 12,
    QUERN_OP_END = 13,
};

enum quern_activation {
    QUERN_ACT_NONE = 0,
    QUERN_ACT_SILU = 1,       /* x / (1 + exp(-x)) */
    QUERN_ACT_GELU_TANH = 2,  /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    QUERN_ACT_GELU_ERF = 3,   /* x/2 (1 + erf(x / sqrt(2))) */
    QUERN_ACT_GELU_QUICK = 4, /* x / (1 + exp(-1.702 x)) */
    QUERN_ACT_RELU = 5,
    QUERN_ACT_RELU2 = 6, /* max(x, 0)^2 */
};

enum quern_norm_kind {
    QUERN_NORM_RMS = 0,   /* x / sqrt(mean(x^2) + eps) * weight */
    QUERN_NORM_LAYER = 1, /* (x - mean) / sqrt(var + eps) * weight + bias */
};

enum quern_rope_kind {
    QUERN_ROPE_ADJACENT = 0, /* rotates the pairs (2i, 2i+1) */
    QUERN_ROPE_HALVES = 1,   /* rotates the pairs (i, i + n_dims/2) */
};

enum quern_gating {
    QUERN_GATING_SOFTMAX = 0,          /* softmax over all experts, then top-k */
    QUERN_GATING_SIGMOID = 1,          /* sigmoid of each, then top-k */
    QUERN_GATING_SOFTMAX_SELECTED = 2, /* top-k of the logits, then softmax over the chosen */
};

/* Attributes. T = tokens of the step, O = output rows. An input slot that is optional may be QUERN_NONE.
 * Where it says "may alias", out[0] may have the same address as in[0]. */

/* in: table [d, n_vocab]. out: [d, T] = scale * table[token]. Ids come from the step. */
struct quern_embed_attr {
    float scale;
};

/* in: x [d, T], weight [group] optional, bias [group] optional, addend [d, T] optional.
 * out: y [d, T]; out[1] with an addend: x + addend, which is then what is normalised. May alias.
 * Each row is normalised in groups of `group` elements (head size for q/k norms), or whole when group = d. */
struct quern_norm_attr {
    uint32_t kind; /* enum quern_norm_kind */
    uint32_t group;
    float eps;
};

/* in: x [k, T or O], w0, w1, w2 [k, n_i] (w1, w2 optional), bias0, bias1, bias2 [n_i] optional,
 *     residual [n_0, T] optional.
 * out: y_i [n_i, T or O] = act(softcap((W_i x + bias_i) * scale)) for each weight; softcap(v) = c tanh(v /
 * c), c > 0. glu: exactly w0 (gate) and w1 (up) of one shape, one output: act(W_0 x + b_0) * (W_1 x + b_1).
 * residual: y_0 = residual + residual_scale * (what stands above); only with one output. */
struct quern_matmul_attr {
    uint32_t n_weights; /* 1 to 3 */
    uint32_t act;       /* enum quern_activation */
    uint32_t glu;
    float scale;
    float softcap; /* 0: none */
    float residual_scale;
};

/* in: x [head_dim * n_head, T], factors [n_dims / 2] optional (divide the frequencies). out: [same, T]. May
 * alias. Angle of pair i at position p: with f = base^(-2i / n_dims) / factor_i, extrapolated e = p f,
 * interpolated s = freq_scale e; ext_factor != 0 (YaRN, arXiv 2309.00071): mixes s (1 - r) + e r with
 * r = ext_factor * (1 - clamp((i - low) / max(0.001, high - low), 0, 1)), where low and high (floor and ceil,
 * within 0 and n_dims - 1) are n_dims ln(n_ctx_orig / (beta 2 pi)) / (2 ln base) for beta_fast and beta_slow.
 * cos and sin are multiplied by mscale. Elements from n_dims to head_dim pass through. */
struct quern_rope_attr {
    uint32_t kind; /* enum quern_rope_kind */
    uint32_t head_dim;
    uint32_t n_dims;
    float base;
    float freq_scale;
    float ext_factor;
    float beta_fast, beta_slow;
    float mscale;
    uint32_t n_ctx_orig;
};

/* in: k [head_dim_k * n_head_kv, T], v [head_dim_v * n_head_kv, T]. out: none. Writes the rows of the step's
 * tokens to their KV slots, rounding to the KV format. Comes before the attention of the same KV layer in
 * every order. */
struct quern_kv_store_attr {
    uint32_t kv_layer;
};

/* in: q [head_dim_k * n_head, T], sinks [n_head] optional. out: [head_dim_v * n_head, T].
 * Of head h: softmax over the keys j of the token's sequence with position <= the token's, and, window > 0,
 * position > the token's - window, of softcap(scale q . k_j); a sink takes part in the softmax's sum only. KV
 * head = h / (n_head / n_head_kv). */
struct quern_attention_attr {
    uint32_t kv_layer;
    uint32_t n_head;
    float scale;
    float softcap; /* 0: none */
};

/* in: gate [n, ...], up [n, ...] optional. out: [n, ...] = act(gate) * up. split: gate is [2n, ...], its
 * second half is up. May alias (not with split). */
struct quern_activation_attr {
    uint32_t act;
    uint32_t split;
};

/* in: a [d, T], b [d, T]. out: a + scale * b. May alias. */
struct quern_add_attr {
    float scale;
};

/* QUERN_OP_ROWS, no attributes. in: x [d, T]. out: [d, O], the rows that the step's output list names. */

/* in: logits [n_expert, T], bias [n_expert] optional (added for the choice of experts only).
 * out: ids [n_used, T] (I32, best first, ties to the lower id), weights [n_used, T].
 * normalise: weights are divided by their sum; then all are multiplied by scale. */
struct quern_moe_route_attr {
    uint32_t n_expert;
    uint32_t n_used;
    uint32_t gating; /* enum quern_gating */
    uint32_t normalise;
    float scale;
};

/* in: x [k, T], or [k, n_used, T] when `per_slot`; w0, w1 [k, n, E] (w1 for glu), bias0, bias1 [n, E]
 * optional, ids [n_used, T], slots [n_expert] I32 optional: place of each expert in the weights or -1 (row is
 * then 0). out: [n, n_used, T]; act and glu as in matmul. */
struct quern_moe_matmul_attr {
    uint32_t n_weights;
    uint32_t act;
    uint32_t glu;
    uint32_t per_slot;
};

/* in: y [n, n_used, T], weights [n_used, T], shared [n, T] optional, shared_gate [1, T] optional (logit of
 * the shared expert's weight), residual [n, T] optional. out: [n, T] = residual + sum_i weights_i y_i +
 * sigmoid(shared_gate) * shared. */

/* in: x [n, O]. out: [2 k, O] (I32), the best k of each row, best first, ties to the lower place: of each the
 * bits of the float, then its place. What is not finite is better than all that is. A step says how many are
 * wanted: what lies behind them is left as it is. */
struct quern_select_attr {
    uint32_t k; /* 1 to QUERN_MAX_SELECT */
};

#define QUERN_MAX_SELECT      64
#define QUERN_MAX_SELECT_ROWS 8 /* output rows of a step that selects */

#define QUERN_MAX_IN          8
#define QUERN_MAX_OUT         4

struct quern_node {
    uint32_t op;    /* enum quern_op */
    uint32_t layer; /* layer of the model, QUERN_NONE outside of layers */
    uint32_t in[QUERN_MAX_IN];
    uint32_t out[QUERN_MAX_OUT];
    union {
        struct quern_embed_attr embed;
        struct quern_norm_attr norm;
        struct quern_matmul_attr matmul;
        struct quern_rope_attr rope;
        struct quern_kv_store_attr kv_store;
        struct quern_attention_attr attention;
        struct quern_activation_attr activation;
        struct quern_add_attr add;
        struct quern_moe_route_attr moe_route;
        struct quern_moe_matmul_attr moe_matmul;
        struct quern_select_attr select;
        uint32_t words[24];
    } attr;
};

/* One layer's keys and values. */
struct quern_kv_layer {
    uint32_t n_head_kv;
    uint32_t head_dim_k;
    uint32_t head_dim_v;
    uint32_t window; /* tokens that its attention sees, 0: all */
};

/* Nodes are in an order in which they may run. Read-only. */
struct quern_graph {
    uint32_t struct_size;
    uint32_t value_size, node_size, kv_size; /* strides of the arrays */
    uint32_t n_values, n_nodes, n_kv;
    const struct quern_value *values;
    const struct quern_node *nodes;
    const struct quern_kv_layer *kv;
};

static inline const struct quern_value *quern_graph_value(const struct quern_graph *graph, uint32_t id)
{
    return (const struct quern_value *)((const char *)graph->values + (size_t)id * graph->value_size);
}

static inline const struct quern_node *quern_graph_node(const struct quern_graph *graph, uint32_t id)
{
    return (const struct quern_node *)((const char *)graph->nodes + (size_t)id * graph->node_size);
}

static inline const struct quern_kv_layer *quern_graph_kv(const struct quern_graph *graph, uint32_t id)
{
    return (const struct quern_kv_layer *)((const char *)graph->kv + (size_t)id * graph->kv_size);
}

/* ---------------------------------------------------------------- step */

#define QUERN_MAX_KV_GROUPS 4

/* Header of the step block: one piece of memory, position-independent, that a driver may copy as it is. The
 * arrays lie at byte offsets from the header's start, which are the same in every step of a plan. All entries
 * are 32 bits.
 *
 * A sequence is a row of the KV tables. Its token at position p has its keys and values, in KV group g, in
 * page page_table[g][sequence][p / page_tokens], row p % page_tokens. Layers with the same window share a
 * group. */
struct quern_step {
    uint32_t struct_size;
    uint32_t block_bytes; /* header and arrays */
    uint32_t n_tokens, n_outputs, n_seqs, n_groups;
    uint32_t page_tokens;
    uint32_t max_tokens, max_seqs, max_pages; /* strides */
    uint32_t token;                           /* int32 [n_tokens] */
    uint32_t position;                        /* uint32 [n_tokens] */
    uint32_t sequence;   /* uint32 [n_tokens], below n_seqs; tokens of a sequence ascend */
    uint32_t slot;       /* uint32 [n_groups][max_tokens]: page * page_tokens + row */
    uint32_t output;     /* uint32 [n_outputs], ascending token numbers */
    uint32_t kv_len;     /* uint32 [max_seqs]: tokens of the sequence, this step's included */
    uint32_t page_table; /* uint32 [n_groups][max_seqs][max_pages]; QUERN_NONE: freed */
    uint32_t select;     /* wanted of SELECT's results, of at most QUERN_MAX_SELECT_ROWS outputs; 0: none */
};

static inline const uint32_t *quern_step_u32(const struct quern_step *step, uint32_t offset)
{
    return (const uint32_t *)(const void *)((const char *)step + offset);
}

static inline const int32_t *quern_step_tokens(const struct quern_step *step)
{
    return (const int32_t *)(const void *)((const char *)step + step->token);
}

static inline const uint32_t *quern_step_slots(const struct quern_step *step, uint32_t group)
{
    return quern_step_u32(step, step->slot) + (size_t)group * step->max_tokens;
}

static inline const uint32_t *quern_step_pages(const struct quern_step *step, uint32_t group,
                                               uint32_t sequence)
{
    return quern_step_u32(step, step->page_table) +
           ((size_t)group * step->max_seqs + sequence) * step->max_pages;
}

/* ---------------------------------------------------------------- host */

struct quern_cache; /* the runtime's */

/* What the runtime offers a driver. Valid from probe or open until close. */
struct quern_host {
    uint32_t struct_size;
    const struct quern_callbacks *callbacks; /* alloc and free are set; the others may be NULL */

    /* What is kept on disk between runs, by kind ("spirv": 'a' to 'z', digits and '-', at most 31) and key
     * (at most 1 MiB): for what can be worked out again, and holds no secret and nothing of a prompt. The key
     * names everything that the data depends on. Any thread may call these, several at once. */
    struct quern_cache *cache; /* handed to both; NULL: nothing is kept, the functions are not called */
    /* Calls `take` with the data, which are valid during the call and aligned to 64 bytes; false: not there.
     */
    bool (*cache_get)(struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                      void (*take)(void *user, const void *data, size_t bytes), void *user);
    /* Keeps the data, in place of what had the key before. It may fail, which costs time only. */
    void (*cache_put)(struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                      const void *data, size_t bytes);
};

/* Settings from profile, command line and environment: names and values as text. A driver ignores names that
 * it does not know and refuses values that it cannot use. Of two with one name the later one counts. */
struct quern_setting {
    const char *name;
    const char *value;
};

struct quern_profile_view {
    uint32_t struct_size;
    uint32_t n_settings;
    const struct quern_setting *settings;
    /* Where profiles say the first n_origins of them, for people: "FILE:LINE:COLUMN". */
    uint32_t n_origins;
    uint32_t pad;
    const char *const *origins;
};

/* What the text of a setting that a profile may give stands for. Profiles are checked by it and may write it
 * in other words; a driver gets it as it is here. */
enum quern_tunable_type {
    QUERN_TUNABLE_FLAG = 0,  /* "0" or "1"; profiles: off, on */
    QUERN_TUNABLE_COUNT = 1, /* "64" */
    QUERN_TUNABLE_BYTES = 2, /* "65536"; profiles: 64 KiB */
    QUERN_TUNABLE_TIME = 3,  /* microseconds, "100000"; profiles: 100 ms */
    QUERN_TUNABLE_WORD = 4,  /* one of `choices` */
    QUERN_TUNABLE_RATE = 5,  /* bytes a second, "68000000000"; profiles: 68 GB/s */
    QUERN_TUNABLE_OPS = 6,   /* operations a second, "4000000000000"; profiles: 4 TOP/s, 4 TFLOP/s */
};

enum quern_tunable_flags {
    QUERN_TUNABLE_FORMATS = 1, /* each number format of weights may have a value of its own */
    QUERN_TUNABLE_SPEED = 2,   /* changes how fast things are: values are worth trying */
};

/* Something about a device that a profile may say: a setting. One for a number format alone has the format's
 * name before the last word: "kernels.matvec.Q4_K.lanes". */
struct quern_tunable {
    const char *name; /* where it stands in a profile: "kernels.matvec.lanes" */
    uint32_t type;    /* enum quern_tunable_type */
    uint32_t flags;   /* enum quern_tunable_flags */
    uint64_t min, max;
    const char *choices; /* words, or the only numbers, separated by spaces; NULL: all from min to max */
    const char *preset;  /* what holds where no profile says anything, for people */
    const char *help;    /* what it is, for people: a sentence without its full stop */
};

/* They live as long as the program. */
struct quern_tunables {
    uint32_t struct_size;
    uint32_t n, stride; /* bytes from one to the next */
    const struct quern_tunable *items;
};

static inline const struct quern_tunable *quern_tunable_at(const struct quern_tunables *table, uint32_t i)
{
    return (const struct quern_tunable *)((const char *)table->items + (size_t)i * table->stride);
}

/* ---------------------------------------------------------------- device */

struct quern_device;   /* the driver's */
struct quern_buffer;   /* the driver's */
struct quern_prepared; /* the driver's */

enum quern_device_type {
    QUERN_DEVICE_CPU = 0,
    QUERN_DEVICE_INTEGRATED_GPU = 1,
    QUERN_DEVICE_DISCRETE_GPU = 2,
    QUERN_DEVICE_NPU = 3,
    QUERN_DEVICE_SOFTWARE = 4, /* emulates another kind */
    QUERN_DEVICE_NULL = 5,     /* computes nothing */
};

struct quern_device_info {
    uint32_t struct_size;
    uint32_t type;      /* enum quern_device_type */
    char name[128];     /* of the hardware, for people */
    char driver[128];   /* driver and its version */
    char features[256]; /* words separated by spaces, for people: "avx2 avx512-vnni" */
    uint64_t memory;    /* bytes that it could use, 0: unknown */
    /* Tells the device, with this build of its driver, from all others; two of one kind may share it. "": not
     * known. */
    char identity[128];
    char facts[4096]; /* what else is known, for people: lines "name: value" */
    /* What profiles ask for. 0, "": not known. */
    uint32_t vendor_id, device_id; /* of PCI, or of Khronos */
    char driver_name[64];          /* "radv", "NVIDIA" */
    char driver_version[64];       /* numbers with dots: "23.1.4" */
};

enum quern_heap_flags {
    QUERN_HEAP_HOST_VISIBLE = 1, /* buffers can be mapped */
    QUERN_HEAP_HOST_SHARED = 2,  /* it is the host's own memory */
    QUERN_HEAP_IMPORT = 4,       /* buffer_import works */
    QUERN_HEAP_SLOW_READ = 8,    /* the host writes mapped buffers well and reads them slowly */
    QUERN_HEAP_MEASURE = 16, /* imported memory may be slower for the device: used where measured not to be */
};

/* Storage order of a weight. */
enum quern_layout {
    QUERN_LAYOUT_FILE = 0,   /* as in the model file: rows of blocks */
    QUERN_LAYOUT_ROWS16 = 1, /* 16 rows side by side, in as many bytes */
    QUERN_LAYOUT_END = 2,
};

/* Heap 0 is for activations, weights and KV. Where its buffers cannot be mapped, or are read slowly, data
 * come and go by copies from and to buffers of another heap, which is QUERN_HEAP_HOST_VISIBLE. */
#define QUERN_MAX_HEAPS 4

enum quern_caps_flags {
    /* A prepared segment can be run again while its last run is under way, and take the token of
     * quern_run_args.token. */
    QUERN_CAPS_AHEAD = 1,
    /* Segments run while their weights are being laid out: see quern_segment.origins. */
    QUERN_CAPS_ORIGINS = 2,
};

struct quern_caps {
    uint32_t struct_size;
    uint32_t n_heaps;
    struct {
        uint32_t flags; /* enum quern_heap_flags */
        uint32_t pad;
        uint64_t bytes;
    } heap[QUERN_MAX_HEAPS];
    uint64_t weight_formats; /* bit per enum quern_format: readable by embed, matmul and moe_matmul */
    uint64_t kv_formats;     /* bit per enum quern_format */
    uint32_t layouts;        /* bit per enum quern_layout */
    uint32_t offset_align;   /* of a value within a buffer, bytes; a power of two */
    uint64_t max_buffer_bytes;
    uint64_t max_pool_bytes;  /* of a KV pool; 0: as of any buffer */
    uint32_t max_pools;       /* of one home; 0: any number */
    uint32_t flags;           /* enum quern_caps_flags */
    uint64_t max_value_bytes; /* of an activation; 0: as of any buffer */
    /* bit per enum quern_format: what matmul and moe_matmul would rather read as QUERN_LAYOUT_ROWS16, which
     * the driver then has weights_prepare for, and reads in embed too. None of it is read where a segment is
     * exact. */
    uint64_t rows16_formats;
};

/* ---------------------------------------------------------------- bring-up */

enum { QUERN_MAX_PARTS = 32 };

/* Code of others that a driver loads: a file, and what changes when it does (size and date). */
struct quern_driver_part {
    char path[512];
    char version[256];
};

/* What can be known of a driver before anything of it is loaded. What was found out about it holds as long as
 * all of this stays the same. */
struct quern_driver_identity {
    uint32_t struct_size;
    uint32_t n_parts;  /* 0: nothing to drive is installed */
    char build[64];    /* of the driver itself, with its kernels */
    char machine[512]; /* what else decides which devices there are */
    struct quern_driver_part part[QUERN_MAX_PARTS];
};

/* ---------------------------------------------------------------- what is wrong with a machine */

enum quern_finding_state {
    QUERN_FINDING_GOOD = 0,
    QUERN_FINDING_HINT = 1,    /* all works, and more would with the fix */
    QUERN_FINDING_PROBLEM = 2, /* something that is there does not work */
};

/* Something that was looked at. Strings live during the call that hands it over. */
struct quern_finding {
    const char *topic; /* "system", "vulkan" */
    const char *what;  /* "loader"; "gpu": a GPU that the system has, whether or not a driver offers it */
    const char *found; /* "/usr/lib/x86_64-linux-gnu/libvulkan.so.1"; "none" */
    uint32_t state;    /* enum quern_finding_state */
    uint32_t pad;
    const char *wrong; /* a sentence without its full stop; "" where it is good */
    const char *fix;   /* what to do about it, a command where there is one; "" where it is good */
};
typedef void (*quern_finding_fn)(void *user, const struct quern_finding *finding);

/* ---------------------------------------------------------------- work */

/* Where a value lies. */
struct quern_binding {
    struct quern_buffer *buffer; /* NULL: the segment does not touch the value */
    uint64_t offset;
    uint64_t bytes;
    uint32_t layout; /* enum quern_layout */
};

/* Rows of a weight on their way into a buffer, in another order. */
struct quern_weight_rows {
    uint32_t struct_size;
    uint32_t layout; /* enum quern_layout: that of the buffer */
    uint32_t format; /* enum quern_format */
    uint32_t pad;
    uint64_t n;       /* weights in a row */
    uint64_t n_rows;  /* a multiple of 16, or those up to the end of a matrix */
    const void *rows; /* on the host, QUERN_LAYOUT_FILE; NULL: the buffer has them already */
    struct quern_buffer *buffer;
    uint64_t offset; /* of the first of the rows */
};

/* Where a KV layer lies: in the pages of pool list `home`. Page p is at byte
 * (p % pages_per_pool) * page_bytes of pool p / pages_per_pool; in it, K of this layer starts at k_offset as
 * [n_head_kv][page_tokens][head_dim_k] in k_format, V at v_offset the same way. */
struct quern_kv_binding {
    uint32_t home;
    uint32_t group;
    uint32_t k_format, v_format;
    uint64_t k_offset, v_offset;
    uint64_t page_bytes;
    uint32_t page_tokens;
    uint32_t pages_per_pool;
};

struct quern_segment {
    uint32_t struct_size;
    uint32_t n_nodes;
    const struct quern_graph *graph;
    const uint32_t *nodes;                /* ids, in order */
    const struct quern_binding *bindings; /* [graph->n_values] */
    const struct quern_kv_binding *kv;    /* [graph->n_kv] */
    uint32_t max_tokens;                  /* the bucket: largest T of a step */
    uint32_t max_outputs;
    uint32_t exact; /* float32 arithmetic on exactly decoded weights */
    uint32_t pad;
    /* With QUERN_CAPS_ORIGINS, [graph->n_values]: where the same weights lie as QUERN_LAYOUT_FILE; buffer
     * NULL: nowhere. A run reads them there beyond the rows that weights_prepare has reached so far, with the
     * same results. NULL: everything has been laid out. */
    const struct quern_binding *origins;
};

/* The pools of one home, as they are now. Pools are only ever added. */
struct quern_kv_pools {
    uint32_t n_pools;
    struct quern_buffer *const *pool;
};

struct quern_run_args {
    uint32_t struct_size;
    uint32_t n_homes;
    const struct quern_step *step; /* valid during the call: a driver copies what it needs later */
    const struct quern_kv_pools *kv;
    uint32_t trace; /* keep times per node for `times` */
    uint32_t pad;
    /* With QUERN_CAPS_AHEAD: where work given to the device before leaves the step's first token, an int32 at
     * byte token_offset. The step block does not know it. NULL: it does. */
    struct quern_buffer *token;
    uint64_t token_offset;
};

struct quern_node_time {
    uint32_t node;
    uint32_t pad;
    uint64_t begin_ns, end_ns; /* on the clock of the host (monotonic) */
};

/* A part of getting ready to work: how often it was done so far, and how long that took. */
struct quern_phase {
    char name[24]; /* "compile GLSL" */
    uint64_t ns;
    uint32_t n;
    uint32_t pad;
};

/* Memory of a heap, in bytes. */
struct quern_memory {
    uint32_t struct_size;
    uint32_t n_allocations; /* pieces of memory that the buffers lie in */
    uint64_t asked;         /* size of the buffers that there are */
    uint64_t taken;         /* taken for them */
    uint64_t left;          /* can be taken besides; UINT64_MAX: unknown */
    uint32_t same_as;       /* the first heap that is the same memory: all of this counts both; its own number
                               where there is none */
    uint32_t pad;
};

/* Work given to a device is done in the order of submission and numbered: `point` is the number under which a
 * call's work completes. */
struct quern_driver {
    uint32_t struct_size;
    uint32_t abi; /* QUERN_DRIVER_ABI */
    const char *name;

    /* Lists devices: fills at most `cap` infos (struct_size set by the caller) and *n with how many there
     * are. Cheap, opens nothing. */
    int32_t (*probe)(const struct quern_host *host, struct quern_device_info *infos, uint32_t cap,
                     uint32_t *n, struct quern_error *err);
    int32_t (*open)(const struct quern_host *host, uint32_t index, const struct quern_profile_view *profile,
                    struct quern_device **device, struct quern_error *err);
    /* Everything made from the device has been destroyed. */
    void (*close)(struct quern_device *device);
    void (*caps)(struct quern_device *device, struct quern_caps *caps);
    /* mask[node] = 1 where the device can run the node. */
    void (*supports)(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask);

    int32_t (*buffer_create)(struct quern_device *device, uint32_t heap, uint64_t bytes,
                             struct quern_buffer **buffer, struct quern_error *err);
    /* A buffer over memory of the host, which outlives it. NULL: the device cannot. */
    int32_t (*buffer_import)(struct quern_device *device, void *memory, uint64_t bytes,
                             struct quern_buffer **buffer, struct quern_error *err);
    /* Work given to the device before is finished with it first. */
    void (*buffer_destroy)(struct quern_device *device, struct quern_buffer *buffer);
    /* Address of a host-visible buffer, for as long as it lives; NULL where it is not. */
    void *(*buffer_map)(struct quern_device *device, struct quern_buffer *buffer);
    int32_t (*copy)(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                    struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                    struct quern_error *err);

    /* The segment's arrays are valid during the call only, the buffers until release. */
    int32_t (*prepare)(struct quern_device *device, const struct quern_segment *segment,
                       struct quern_prepared **prepared, struct quern_error *err);
    void (*release)(struct quern_device *device, struct quern_prepared *prepared);
    int32_t (*run)(struct quern_device *device, struct quern_prepared *prepared,
                   const struct quern_run_args *args, uint64_t *point, struct quern_error *err);
    /* Waits until all work up to `point` is done: QUERN_OK, QUERN_ERR_TIMEOUT (0 ns: only asks), or how it
     * failed. */
    int32_t (*wait)(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                    struct quern_error *err);
    /* Times of the last finished run with trace set, at most cap; returns how many there are. NULL: none. */
    uint32_t (*times)(struct quern_device *device, struct quern_prepared *prepared,
                      struct quern_node_time *times, uint32_t cap);
    /* What the device has spent on getting ready, at most cap parts; returns how many there are. NULL, or a
     * table that ends before: it does not tell. */
    uint32_t (*phases)(struct quern_device *device, struct quern_phase *phases, uint32_t cap);

    /* Both or none (NULL: the driver loads no code of others, and is used without a trial). Such a driver
     * refuses with QUERN_ERR_LOST to open a device whose identity is not that of the setting "identity",
     * where there is one. */
    int32_t (*identify)(const struct quern_host *host, struct quern_driver_identity *identity,
                        struct quern_error *err);
    /* Environment in which a process loads no part besides those in `parts` (bit per part): assignments
     * "NAME=VALUE", each with its NUL, and an empty one at the end. */
    int32_t (*confine)(const struct quern_host *host, const struct quern_driver_identity *identity,
                       uint32_t parts, char *environment, size_t size, struct quern_error *err);

    /* The rest may be missing from the table's end; so may what they do (NULL). */

    /* A buffer of heap 0 larger than max_buffer_bytes, for a weight: in parts of part_bytes each, a multiple
     * of its rows or, with three dimensions, of its matrices. It cannot be mapped, only copied. */
    int32_t (*buffer_create_parts)(struct quern_device *device, uint64_t bytes, uint64_t part_bytes,
                                   struct quern_buffer **buffer, struct quern_error *err);
    /* struct_size is set by the caller. */
    void (*memory)(struct quern_device *device, uint32_t heap, struct quern_memory *memory);
    /* Lays out rows of a weight; the rows are valid during the call, or NULL where the buffer, an imported
     * one, holds them in that layout: then the device takes note that it may read them there. Where a segment
     * has origins, the rows of a buffer come in the order of their offsets. */
    int32_t (*weights_prepare)(struct quern_device *device, const struct quern_weight_rows *rows,
                               struct quern_error *err);
    /* What profiles may say about the driver's devices. struct_size is set by the caller. */
    void (*tunables)(struct quern_tunables *tunables);
    /* Which settings do not fit each other, on any device: calls `fault` with the name of one and a sentence.
     * Each by itself is within what its tunable says. */
    void (*check)(const struct quern_profile_view *profile,
                  void (*fault)(void *user, const char *setting, const char *why), void *user);
    /* Looks at what the driver needs of the system, and loads nothing of others but libraries that the
     * process itself would. `root`: folder that stands for "/" where the system's own files are looked at;
     * "". */
    void (*examine)(const struct quern_host *host, const char *root, quern_finding_fn finding, void *user);
};

/* Whether the table has this function. */
#define QUERN_DRIVER_HAS(driver, function)                                                            \
    ((driver)->struct_size >= offsetof(struct quern_driver, function) + sizeof((driver)->function) && \
     (driver)->function)

/* The one symbol that a driver exports. Returns NULL where it cannot serve the ABI version asked for. */
typedef const struct quern_driver *(*quern_driver_get_fn)(uint32_t abi);

#ifdef __cplusplus
}
#endif

#endif
