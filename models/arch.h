/* Model families: from a file's hyper-parameters and tensor names to a graph. One file a family, registered
 * by one row in registry.inc; everything below is what those files are written with.
 *
 * Errors stick: after the first one every call returns a harmless value, so that a family reads as its
 * description. An error names the file, the key or tensor, and what was expected. */
#ifndef QN_MODELS_ARCH_H
#define QN_MODELS_ARCH_H

#include "gguf/gguf.h"
#include "graph/graph.h"

/* What the rest of Quern wants to know of a model. */
struct qn_model_facts {
    uint32_t n_layer;
    uint32_t n_embd;
    uint32_t n_vocab;
    uint32_t n_ctx_train;
    uint32_t n_ctx; /* in use: what was asked for, else n_ctx_train */
    uint32_t n_expert;
};

struct qn_build {
    struct qn_builder g; /* graph, sticky status */
    const struct quern_callbacks *cb;
    const struct qn_gguf *gguf;
    const char *arch; /* prefix of the keys */
    struct qn_model_facts facts;
    uint8_t *used; /* per tensor of the file */
};

struct qn_arch {
    const char *name; /* general.architecture */
    void (*build)(struct qn_build *b);
};

/* NULL when there is none of that name. */
const struct qn_arch *qn_arch_find(struct qn_str name);
size_t qn_arch_count(void);
const struct qn_arch *qn_arch_at(size_t index);

/* Builds and fuses the graph of a file. n_ctx: longest context wanted, 0 = what the model was trained for. On
 * failure the graph is empty. */
enum quern_status qn_arch_build(const struct quern_callbacks *cb, const struct qn_gguf *gguf, uint32_t n_ctx,
                                bool fuse, struct qn_graph *graph, struct qn_model_facts *facts,
                                struct quern_error *err);

/* ---- hyper-parameters: keys without the architecture's prefix ---- */

/* Required, between min and max. */
uint32_t qn_hp_u32(struct qn_build *b, const char *key, uint32_t min, uint32_t max);
/* Optional. */
uint32_t qn_hp_u32_or(struct qn_build *b, const char *key, uint32_t fallback, uint32_t min, uint32_t max);
/* Optional; must be finite and between min and max. */
float qn_hp_f32_or(struct qn_build *b, const char *key, float fallback, float min, float max);
float qn_hp_f32(struct qn_build *b, const char *key, float min, float max);
bool qn_hp_bool_or(struct qn_build *b, const char *key, bool fallback);
/* True when the string key is there and equals `text`. */
bool qn_hp_str_is(struct qn_build *b, const char *key, const char *text);
/* One number for all layers or an array with one a layer; out has facts.n_layer entries. `fallback` NULL:
 * required. */
void qn_hp_per_layer(struct qn_build *b, const char *key, uint32_t *out, const uint32_t *fallback,
                     uint32_t min, uint32_t max);
/* Reports a fault of the family's own checks. */
void qn_hp_fault(struct qn_build *b, const char *fmt, ...) QUERN_PRINTF(2, 3);

/* What every family has: layers, width, context, vocabulary. Fills b->facts. */
void qn_hp_common(struct qn_build *b);

/* The same key where all layers must agree: a number, or an array whose entries are equal. */
uint32_t qn_hp_uniform(struct qn_build *b, const char *key, const uint32_t *fallback, uint32_t min,
                       uint32_t max);

/* Heads. Head sizes default to n_embd / n_head. */
struct qn_heads {
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t dim_k, dim_v;
};
struct qn_heads qn_hp_heads(struct qn_build *b);

/* rope.* keys for heads of dim_k: dimension_count, freq_base, scaling (none, linear, yarn, longrope). */
struct quern_rope_attr qn_hp_rope(struct qn_build *b, enum quern_rope_kind kind, uint32_t head_dim);

/* ---- tensors: names are printf formats with the layer ---- */

/* Required matrix [k, n] (rows of k), any weight format. */
uint32_t qn_matrix(struct qn_build *b, int64_t k, int64_t n, const char *fmt, ...) QUERN_PRINTF(4, 5);
/* Optional: QUERN_NONE where the file has none. */
uint32_t qn_matrix_opt(struct qn_build *b, int64_t k, int64_t n, const char *fmt, ...) QUERN_PRINTF(4, 5);
/* Required: n_rows rows from `first` of a matrix [k, n], for tensors that hold several matrices one after
 * another. */
uint32_t qn_matrix_rows(struct qn_build *b, int64_t k, int64_t n, int64_t first, int64_t n_rows,
                        const char *fmt, ...) QUERN_PRINTF(6, 7);
/* Required stack of matrices [k, n, n_expert]. */
uint32_t qn_experts(struct qn_build *b, int64_t k, int64_t n, int64_t n_expert, const char *fmt, ...)
    QUERN_PRINTF(5, 6);
/* Vectors [n] are F32. */
uint32_t qn_vector(struct qn_build *b, int64_t n, const char *fmt, ...) QUERN_PRINTF(3, 4);
uint32_t qn_vector_opt(struct qn_build *b, int64_t n, const char *fmt, ...) QUERN_PRINTF(3, 4);

/* ---- blocks that families share ---- */

enum qn_qk_norm {
    QN_QK_NORM_NONE,
    QN_QK_NORM_HEAD, /* weights [head_dim], each head by itself */
    QN_QK_NORM_FULL, /* weights [n_head * head_dim], the whole row */
};

struct qn_attention_spec {
    struct qn_heads heads;
    struct quern_rope_attr rope;
    uint32_t rope_factors; /* value or QUERN_NONE */
    enum qn_qk_norm qk_norm;
    float norm_eps;
    float scale; /* 0: 1 / sqrt(dim_k) */
    float softcap;
    uint32_t window; /* 0: all */
    bool joint_qkv;  /* one tensor blk.N.attn_qkv: rows of Q, K, V in that order */
    bool no_rope;
};
/* x (normalised) [n_embd, T] to the output projection [n_embd, T]; tensors blk.N.attn_{q,k,v,output,...}. */
uint32_t qn_block_attention(struct qn_build *b, uint32_t x, uint32_t layer,
                            const struct qn_attention_spec *spec);

struct qn_ffn_spec {
    uint32_t n_ff;
    enum quern_activation act;
    bool joint; /* gate and up are the halves of one tensor blk.N.ffn_up */
};
/* (act(x W_gate) * (x W_up)) W_down; tensors blk.N.ffn_{gate,up,down}. */
uint32_t qn_block_ffn(struct qn_build *b, uint32_t x, uint32_t layer, const struct qn_ffn_spec *spec);

struct qn_moe_spec {
    uint32_t n_expert, n_used, n_ff; /* n_expert 0: no experts */
    enum quern_gating gating;
    bool normalise;
    float scale;
    enum quern_activation act;
    uint32_t n_ff_shared; /* shared expert with a sigmoid gate (tensors *_shexp), 0: none */
};
/* expert_count, expert_used_count, expert_feed_forward_length. Softmax gating, SiLU, no normalisation. n_ff
 * 0: the experts' width must be in the file; else what it is by default. */
struct qn_moe_spec qn_hp_moe(struct qn_build *b, uint32_t n_ff);
/* sum of the chosen experts' feed-forwards; tensors blk.N.ffn_gate_inp and blk.N.ffn_{gate,up,down}_exps. */
uint32_t qn_block_moe(struct qn_build *b, uint32_t x, uint32_t layer, const struct qn_moe_spec *spec);

/* ---- the transformer: what all families here have in common ----
 *
 *   x = embedding_scale * embed(tokens)
 *   in each layer:  x = x + residual_scale * post(attention(norm(x)))    blk.N.attn_norm, post_attention_norm
 *                   x = x + residual_scale * post(ffn(norm(x)))          blk.N.ffn_norm, post_ffw_norm
 *   logits = softcap(logit_scale * head(norm(x)))                        output_norm, output or token_embd
 *
 * with RMS norms; ffn is the mixture of experts where there is one, and post is nothing but in families with
 * post norms. */
struct qn_transformer {
    struct qn_attention_spec attention;
    struct qn_ffn_spec ffn;
    struct qn_moe_spec moe;
    float norm_eps;
    bool post_norms;
    float embedding_scale;
    float residual_scale;
    float logit_scale;
    float logit_softcap; /* 0: none */
};
/* What every family has: qn_hp_common(), feed_forward_length, attention.layer_norm_rms_epsilon, heads, rope.
 * The rest is as plain as can be: SiLU, no experts, no post norms, scales of 1. */
struct qn_transformer qn_hp_transformer(struct qn_build *b, enum quern_rope_kind rope);
/* The parts, for families whose layers differ, and the whole, for those whose layers are all the same. */
uint32_t qn_transformer_input(struct qn_build *b, const struct qn_transformer *spec);
uint32_t qn_transformer_layer(struct qn_build *b, uint32_t x, uint32_t layer,
                              const struct qn_transformer *spec);
void qn_transformer_output(struct qn_build *b, uint32_t x, const struct qn_transformer *spec);
void qn_transformer_graph(struct qn_build *b, const struct qn_transformer *spec);

#endif
