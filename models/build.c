/* From a file to a graph: the entry point, hyper-parameters and tensors. */
#include "models/arch.h"

#include "formats/formats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { QN_MAX_LAYERS = 1024, QN_MAX_HEAD_DIM = 4096 };

#define ARCH(NAME, FUNCTION) void qn_arch_build_##FUNCTION(struct qn_build *b);
#include "models/registry.inc"
#undef ARCH

#define ARCH(NAME, FUNCTION) {NAME, qn_arch_build_##FUNCTION},
static const struct qn_arch archs[] = {
#include "models/registry.inc"
};
#undef ARCH

size_t qn_arch_count(void)
{
    return QN_LEN(archs);
}

const struct qn_arch *qn_arch_at(size_t index)
{
    return index < QN_LEN(archs) ? &archs[index] : NULL;
}

const struct qn_arch *qn_arch_find(struct qn_str name)
{
    for (size_t i = 0; i < QN_LEN(archs); i++)
        if (strlen(archs[i].name) == name.len && memcmp(archs[i].name, name.data, name.len) == 0)
            return &archs[i];
    return NULL;
}

static enum quern_status no_such_arch(const struct qn_gguf *gguf, struct qn_str name, struct quern_error *err)
{
    char have[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < QN_LEN(archs) && n < sizeof have; i++)
        n += (size_t)snprintf(have + n, sizeof have - n, "%s%s", i ? ", " : "", archs[i].name);
    return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                   "%s: general.architecture \"%.*s\" is not one that Quern knows; there is: %s",
                   qn_gguf_name(gguf), (int)(name.len < 64 ? name.len : 64), name.data, have);
}

static enum quern_status check_all_used(const struct qn_build *b, struct quern_error *err)
{
    for (size_t i = 0; i < qn_gguf_n_tensors(b->gguf); i++)
        if (!b->used[i]) {
            const struct qn_gguf_tensor *t = qn_gguf_tensor_at(b->gguf, i);
            return qn_fail(err, QUERN_ERR_FILE, "%s: tensor \"%.*s\" is not one that architecture %s has",
                           qn_gguf_name(b->gguf), (int)t->name.len, t->name.data, b->arch);
        }
    return QUERN_OK;
}

enum quern_status qn_arch_build(const struct quern_callbacks *cb, const struct qn_gguf *gguf, uint32_t n_ctx,
                                bool fuse, struct qn_graph *graph, struct qn_model_facts *facts,
                                struct quern_error *err)
{
    qn_graph_init(graph);
    struct qn_str name;
    enum quern_status status = qn_gguf_str(gguf, "general.architecture", &name, true, err);
    if (status)
        return status;
    const struct qn_arch *arch = qn_arch_find(name);
    if (!arch)
        return no_such_arch(gguf, name, err);

    size_t n_tensors = qn_gguf_n_tensors(gguf);
    struct qn_build b = {.g = {.cb = cb, .graph = graph, .layer = QUERN_NONE, .err = err},
                         .cb = cb,
                         .gguf = gguf,
                         .arch = arch->name,
                         .facts = {.n_ctx = n_ctx}};
    b.used = qn_zalloc(cb, n_tensors ? n_tensors : 1, 1);
    if (!b.used)
        return qn_fail_memory(err, "the graph");
    arch->build(&b);
    status = b.g.status;
    if (!status)
        status = check_all_used(&b, err);
    if (!status && fuse)
        status = qn_graph_fuse(cb, graph, err);
    qn_free(cb, b.used);
    if (status)
        qn_graph_finish(cb, graph);
    *facts = b.facts;
    return status;
}

/* ---- hyper-parameters ---- */

void qn_hp_fault(struct qn_build *b, const char *fmt, ...)
{
    if (b->g.status)
        return;
    char text[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    b->g.status = qn_fail(b->g.err, QUERN_ERR_FILE, "%s: %s", qn_gguf_name(b->gguf), text);
}

/* "<arch>.<key>" */
struct key {
    char text[128];
};

static struct key full_key(const struct qn_build *b, const char *key)
{
    struct key full;
    snprintf(full.text, sizeof full.text, "%s.%s", b->arch, key);
    return full;
}

static uint32_t get_u32(struct qn_build *b, const char *key, uint32_t value, bool required, uint32_t min,
                        uint32_t max)
{
    if (b->g.status)
        return min;
    struct key full = full_key(b, key);
    b->g.status = qn_gguf_u32(b->gguf, full.text, &value, required, b->g.err);
    if (!b->g.status && (value < min || value > max))
        qn_hp_fault(b, "%s is %u, expected %u to %u", full.text, value, min, max);
    return b->g.status ? min : value;
}

uint32_t qn_hp_u32(struct qn_build *b, const char *key, uint32_t min, uint32_t max)
{
    return get_u32(b, key, 0, true, min, max);
}

uint32_t qn_hp_u32_or(struct qn_build *b, const char *key, uint32_t fallback, uint32_t min, uint32_t max)
{
    if (b->g.status)
        return min;
    if (!qn_gguf_find(b->gguf, full_key(b, key).text))
        return fallback;
    return get_u32(b, key, fallback, true, min, max);
}

static float get_f32(struct qn_build *b, const char *key, float value, bool required, float min, float max)
{
    if (b->g.status)
        return min;
    struct key full = full_key(b, key);
    b->g.status = qn_gguf_f32(b->gguf, full.text, &value, required, b->g.err);
    if (!b->g.status && !(isfinite(value) && value >= min && value <= max))
        qn_hp_fault(b, "%s is %g, expected %g to %g", full.text, (double)value, (double)min, (double)max);
    return b->g.status ? min : value;
}

float qn_hp_f32(struct qn_build *b, const char *key, float min, float max)
{
    return get_f32(b, key, 0, true, min, max);
}

float qn_hp_f32_or(struct qn_build *b, const char *key, float fallback, float min, float max)
{
    if (b->g.status)
        return min;
    if (!qn_gguf_find(b->gguf, full_key(b, key).text))
        return fallback;
    return get_f32(b, key, fallback, true, min, max);
}

bool qn_hp_bool_or(struct qn_build *b, const char *key, bool fallback)
{
    bool value = fallback;
    if (!b->g.status)
        b->g.status = qn_gguf_bool(b->gguf, full_key(b, key).text, &value, false, b->g.err);
    return value;
}

bool qn_hp_str_is(struct qn_build *b, const char *key, const char *text)
{
    struct qn_str value = {0};
    if (!b->g.status)
        b->g.status = qn_gguf_str(b->gguf, full_key(b, key).text, &value, false, b->g.err);
    return !b->g.status && value.len == strlen(text) && memcmp(value.data, text, value.len) == 0;
}

void qn_hp_per_layer(struct qn_build *b, const char *key, uint32_t *out, const uint32_t *fallback,
                     uint32_t min, uint32_t max)
{
    for (uint32_t l = 0; l < b->facts.n_layer; l++)
        out[l] = min;
    if (b->g.status)
        return;
    struct key full = full_key(b, key);
    const struct qn_gguf_kv *kv = qn_gguf_find(b->gguf, full.text);
    if (!kv || !kv->is_array) {
        uint32_t value = fallback ? qn_hp_u32_or(b, key, *fallback, min, max) : qn_hp_u32(b, key, min, max);
        for (uint32_t l = 0; l < b->facts.n_layer; l++)
            out[l] = value;
        return;
    }
    b->g.status = qn_gguf_array(b->gguf, full.text, QN_GGUF_U32, &kv, true, b->g.err);
    if (b->g.status)
        return;
    if (kv->n != b->facts.n_layer) {
        qn_hp_fault(b, "%s has %llu entries, expected one for each of the %u layers", full.text,
                    (unsigned long long)kv->n, b->facts.n_layer);
        return;
    }
    for (uint32_t l = 0; l < b->facts.n_layer; l++) {
        int64_t value = qn_gguf_int_at(kv, l);
        if (value < min || value > max) {
            qn_hp_fault(b, "%s[%u] is %lld, expected %u to %u", full.text, l, (long long)value, min, max);
            return;
        }
        out[l] = (uint32_t)value;
    }
}

uint32_t qn_hp_uniform(struct qn_build *b, const char *key, const uint32_t *fallback, uint32_t min,
                       uint32_t max)
{
    uint32_t values[QN_MAX_LAYERS] = {0};
    qn_hp_per_layer(b, key, values, fallback, min, max);
    for (uint32_t l = 1; l < b->facts.n_layer; l++)
        if (values[l] != values[0])
            qn_hp_fault(b, "%s.%s is %u in layer 0 and %u in layer %u, expected the same in all", b->arch,
                        key, values[0], values[l], l);
    return b->g.status ? min : values[0];
}

void qn_hp_common(struct qn_build *b)
{
    struct qn_model_facts *facts = &b->facts;
    facts->n_layer = qn_hp_u32(b, "block_count", 1, QN_MAX_LAYERS);
    facts->n_embd = qn_hp_u32(b, "embedding_length", 1, 1u << 20);
    uint32_t n_ctx = qn_hp_u32(b, "context_length", 0, UINT32_MAX);
    if (n_ctx == 0 && !b->g.status) {
        n_ctx = 2048;
        qn_log(b->cb, QUERN_LOG_WARNING, "%s: %s.context_length is 0; taking %u", qn_gguf_name(b->gguf),
               b->arch, n_ctx);
    }
    facts->n_ctx_train = n_ctx;
    if (facts->n_ctx == 0)
        facts->n_ctx = n_ctx;
    if (b->g.status)
        return;
    /* the embedding table is the authority on the number of tokens */
    const struct qn_gguf_tensor *table = qn_gguf_find_tensor(b->gguf, "token_embd.weight");
    if (!table || table->n_dims != 2 || table->dim[1] > INT32_MAX) {
        qn_hp_fault(b, "tensor \"token_embd.weight\" is %s",
                    table ? "not a matrix [embedding_length, vocabulary]" : "missing");
        return;
    }
    facts->n_vocab = (uint32_t)table->dim[1];
}

struct qn_heads qn_hp_heads(struct qn_build *b)
{
    struct qn_heads heads = {.n_head = qn_hp_uniform(b, "attention.head_count", NULL, 1, 65536)};
    heads.n_head_kv = qn_hp_uniform(b, "attention.head_count_kv", &heads.n_head, 1, 65536);
    if (!b->g.status && heads.n_head % heads.n_head_kv != 0)
        qn_hp_fault(b, "%s.attention.head_count is %u, expected a multiple of head_count_kv, %u", b->arch,
                    heads.n_head, heads.n_head_kv);
    if (!b->g.status && !qn_gguf_find(b->gguf, full_key(b, "attention.key_length").text) &&
        b->facts.n_embd % heads.n_head != 0)
        qn_hp_fault(b, "%s.embedding_length is %u, expected a multiple of attention.head_count, %u", b->arch,
                    b->facts.n_embd, heads.n_head);
    uint32_t dim = b->facts.n_embd / heads.n_head;
    heads.dim_k = qn_hp_u32_or(b, "attention.key_length", dim, 1, QN_MAX_HEAD_DIM);
    heads.dim_v = qn_hp_u32_or(b, "attention.value_length", dim, 1, QN_MAX_HEAD_DIM);
    if (!b->g.status && (heads.dim_k == 0 || heads.dim_k > QN_MAX_HEAD_DIM || heads.dim_v > QN_MAX_HEAD_DIM))
        qn_hp_fault(b, "%s.attention.head_count is %u, which makes heads of %u; expected 1 to %d", b->arch,
                    heads.n_head, dim, QN_MAX_HEAD_DIM);
    return heads;
}

struct quern_rope_attr qn_hp_rope(struct qn_build *b, enum quern_rope_kind kind, uint32_t head_dim)
{
    struct quern_rope_attr rope = {.kind = kind, .head_dim = head_dim, .freq_scale = 1.0f, .mscale = 1.0f};
    rope.n_dims = qn_hp_u32_or(b, "rope.dimension_count", head_dim, 2, 4096);
    rope.base = qn_hp_f32_or(b, "rope.freq_base", 10000.0f, 1.0f, 1e15f);
    rope.n_ctx_orig =
        qn_hp_u32_or(b, "rope.scaling.original_context_length", b->facts.n_ctx_train, 1, UINT32_MAX);
    if (!b->g.status && (rope.n_dims > head_dim || rope.n_dims % 2))
        qn_hp_fault(b, "%s.rope.dimension_count is %u, expected an even number up to the head size %u",
                    b->arch, rope.n_dims, head_dim);
    float factor = qn_hp_f32_or(b, "rope.scale_linear", 1.0f, 1e-6f, 1e6f);
    bool linear = factor != 1.0f || qn_hp_str_is(b, "rope.scaling.type", "linear");
    bool yarn = qn_hp_str_is(b, "rope.scaling.type", "yarn");
    if (!linear && !yarn && !b->g.status && qn_gguf_find(b->gguf, full_key(b, "rope.scaling.type").text) &&
        !qn_hp_str_is(b, "rope.scaling.type", "none") && !qn_hp_str_is(b, "rope.scaling.type", "longrope"))
        qn_hp_fault(b, "%s.rope.scaling.type is not one of none, linear, yarn, longrope", b->arch);
    factor = qn_hp_f32_or(b, "rope.scaling.factor", factor, 0.0f, 1e6f);
    rope.mscale = qn_hp_f32_or(b, "rope.scaling.attn_factor", 1.0f, 1e-6f, 1e6f);
    if ((linear || yarn) && factor > 0.0f)
        rope.freq_scale = 1.0f / factor;
    if (yarn) {
        rope.ext_factor = qn_hp_f32_or(b, "rope.scaling.yarn_ext_factor", 1.0f, 0.0f, 1e6f);
        rope.mscale = qn_hp_f32_or(b, "rope.scaling.yarn_attn_factor", rope.mscale, 1e-6f, 1e6f);
        rope.beta_fast = qn_hp_f32_or(b, "rope.scaling.yarn_beta_fast", 32.0f, 1e-6f, 1e6f);
        rope.beta_slow = qn_hp_f32_or(b, "rope.scaling.yarn_beta_slow", 1.0f, 1e-6f, 1e6f);
        if (rope.ext_factor != 0.0f) /* magnitude correction of the YaRN paper, section 3.4 */
            rope.mscale *= 1.0f + 0.1f * logf(1.0f / rope.freq_scale);
    }
    return rope;
}

/* ---- tensors ---- */

/* What a family expects of a tensor. */
struct tensor_want {
    int64_t dim[4];
    bool vector;
    bool required;
    int64_t first_row, n_rows; /* part of a matrix; n_rows 0: all */
};

static const struct qn_gguf_tensor *find_tensor(struct qn_build *b, const struct tensor_want *want,
                                                const char *name)
{
    const struct qn_gguf_tensor *tensor = qn_gguf_find_tensor(b->gguf, name);
    if (!tensor) {
        if (want->required)
            qn_hp_fault(b, "tensor \"%s\" is missing", name);
        return NULL;
    }
    for (unsigned i = 0; i < 4; i++)
        if (tensor->dim[i] != (uint64_t)want->dim[i]) {
            qn_hp_fault(b, "tensor \"%s\" is [%llu, %llu, %llu], expected [%lld, %lld, %lld]", name,
                        (unsigned long long)tensor->dim[0], (unsigned long long)tensor->dim[1],
                        (unsigned long long)tensor->dim[2], (long long)want->dim[0], (long long)want->dim[1],
                        (long long)want->dim[2]);
            return NULL;
        }
    const struct qn_format *format = qn_format_get(tensor->format);
    if (!format->dequantise || (want->vector && tensor->format != QUERN_F32)) {
        qn_hp_fault(b, "tensor \"%s\" has format %s, expected %s", name, format->name,
                    want->vector ? "F32" : "one that holds weights");
        return NULL;
    }
    return tensor;
}

static uint32_t add_tensor(struct qn_build *b, const struct tensor_want *want, const char *fmt, va_list args)
{
    if (b->g.status)
        return QUERN_NONE;
    char name[128];
    vsnprintf(name, sizeof name, fmt, args);
    const struct qn_gguf_tensor *tensor = find_tensor(b, want, name);
    if (!tensor)
        return QUERN_NONE;
    size_t index = (size_t)(tensor - qn_gguf_tensor_at(b->gguf, 0));
    b->used[index] = 1;
    int64_t dim[4];
    memcpy(dim, want->dim, sizeof dim);
    if (want->n_rows > 0)
        dim[1] = want->n_rows;
    uint64_t row_bytes = qn_format_row_bytes(tensor->format, (uint64_t)dim[0]);
    return qn_add_weight(&b->g, tensor->format, dim, (uint32_t)index, row_bytes * (uint64_t)want->first_row);
}

/* Body of the functions below: the variadic name, and what is expected of the tensor. */
#define TENSOR(...)                                                                \
    va_list args;                                                                  \
    va_start(args, fmt);                                                           \
    uint32_t value = add_tensor(b, &(struct tensor_want){__VA_ARGS__}, fmt, args); \
    va_end(args);                                                                  \
    return value

uint32_t qn_matrix(struct qn_build *b, int64_t k, int64_t n, const char *fmt, ...)
{
    TENSOR(.dim = {k, n, 1, 1}, .required = true);
}

uint32_t qn_matrix_opt(struct qn_build *b, int64_t k, int64_t n, const char *fmt, ...)
{
    TENSOR(.dim = {k, n, 1, 1});
}

uint32_t qn_matrix_rows(struct qn_build *b, int64_t k, int64_t n, int64_t first, int64_t n_rows,
                        const char *fmt, ...)
{
    TENSOR(.dim = {k, n, 1, 1}, .required = true, .first_row = first, .n_rows = n_rows);
}

uint32_t qn_experts(struct qn_build *b, int64_t k, int64_t n, int64_t n_expert, const char *fmt, ...)
{
    TENSOR(.dim = {k, n, n_expert, 1}, .required = true);
}

uint32_t qn_vector(struct qn_build *b, int64_t n, const char *fmt, ...)
{
    TENSOR(.dim = {n, 1, 1, 1}, .vector = true, .required = true);
}

uint32_t qn_vector_opt(struct qn_build *b, int64_t n, const char *fmt, ...)
{
    TENSOR(.dim = {n, 1, 1, 1}, .vector = true);
}
