/* Model families and their graphs: logits of every reference model through the plain evaluator, fusion,
 * faults in files and graphs, and memory that runs out. */
#include "models/arch.h"
#include "test.h"
#include "heap.h"
#include "support/eval.h"
#include "support/golden.h"

#include <math.h>

static struct qn_test_heap heap;
static struct quern_error err;

static struct qn_gguf *open_path(const char *path)
{
    struct qn_gguf *gguf;
    memset(&err, 0, sizeof err);
    if (qn_gguf_open(&heap.cb, &gguf, path, NULL, &err))
        fail_msg("%s", err.text);
    return gguf;
}

static struct qn_gguf *open_golden(const char *name)
{
    char file[128], path[1024];
    snprintf(file, sizeof file, "%s.gguf", name);
    qn_golden_path(path, sizeof path, "models", file);
    return open_path(path);
}

static struct qn_graph build(const struct qn_gguf *gguf, uint32_t n_ctx, bool fuse)
{
    struct qn_graph graph;
    struct qn_model_facts facts;
    if (qn_arch_build(&heap.cb, gguf, n_ctx, fuse, &graph, &facts, &err))
        fail_msg("%s", err.text);
    return graph;
}

/* ---- logits ---- */

static void check_logits(const struct qn_golden *golden, const float *logits, const char *what)
{
    if (!logits)
        fail_msg("%s, %s: no logits", golden->name, what);
    struct qn_golden_diff diff = qn_golden_compare(golden, logits, 0, QN_GOLDEN_TOKENS);
    if (!diff.finite || !(diff.max < golden->tolerance))
        fail_msg("%s, %s: off by up to %g (rms %g), worst in row %u", golden->name, what, diff.max, diff.rms,
                 diff.worst_row);
}

static void check_greedy(const struct qn_golden *golden, struct qn_eval *eval, const float *logits)
{
    int32_t token = qn_golden_argmax(logits + (QN_GOLDEN_TOKENS - 1) * golden->n_vocab, golden->n_vocab);
    for (uint32_t i = 0; i < golden->n_greedy; i++) {
        if (token != golden->greedy[i])
            fail_msg("%s: greedy token %u is %d, expected %d", golden->name, i, token, golden->greedy[i]);
        token = qn_golden_argmax(qn_eval_run(eval, &golden->greedy[i], 1), golden->n_vocab);
    }
}

static void check_model(const char *name)
{
    struct qn_golden golden;
    assert_true(qn_golden_load(&golden, name));
    struct qn_gguf *gguf = open_path(golden.model);
    struct qn_graph plain = build(gguf, QN_GOLDEN_CTX, false), fused = build(gguf, QN_GOLDEN_CTX, true);
    assert_true(fused.view.n_nodes < plain.view.n_nodes);
    assert_true(fused.view.n_values < plain.view.n_values);

    struct qn_eval *eval = qn_eval_create(gguf, &plain, QN_GOLDEN_TOKENS);
    assert_non_null(eval);
    check_logits(&golden, qn_eval_run(eval, golden.tokens, QN_GOLDEN_TOKENS), "as built");
    qn_eval_destroy(eval);

    eval = qn_eval_create(gguf, &fused, QN_GOLDEN_TOKENS + QN_GOLDEN_GREEDY);
    assert_non_null(eval);
    const float *logits = qn_eval_run(eval, golden.tokens, QN_GOLDEN_TOKENS);
    check_logits(&golden, logits, "fused");
    check_greedy(&golden, eval, logits);
    qn_eval_destroy(eval);

    qn_graph_finish(&heap.cb, &plain);
    qn_graph_finish(&heap.cb, &fused);
    qn_gguf_close(&heap.cb, &gguf);
    qn_golden_finish(&golden);
}

static void test_logits(void **state)
{
    static char names[256][64];
    qn_test_heap_init(&heap);
    size_t n = qn_golden_list(names, QN_LEN(names));
    assert_true(n > 50 && n < QN_LEN(names));
    for (size_t i = 0; i < n; i++)
        check_model(names[i]);
    assert_int_equal(heap.n_live, 0);
}

/* The same rows whether tokens come in one step or in several, past the sliding windows' ends. */
static void test_steps(void **state)
{
    struct qn_golden golden;
    qn_test_heap_init(&heap);
    assert_true(qn_golden_load(&golden, "gemma3"));
    struct qn_gguf *gguf = open_path(golden.model);
    struct qn_graph graph = build(gguf, QN_GOLDEN_CTX, true);
    struct qn_eval *eval = qn_eval_create(gguf, &graph, QN_GOLDEN_TOKENS);
    for (uint32_t step = 1; step <= 7; step += 6) {
        qn_eval_reset(eval);
        for (uint32_t at = 0; at < QN_GOLDEN_TOKENS; at += step) {
            uint32_t n = step < QN_GOLDEN_TOKENS - at ? step : QN_GOLDEN_TOKENS - at;
            const float *logits = qn_eval_run(eval, golden.tokens + at, n);
            assert_non_null(logits);
            assert_true(qn_golden_compare(&golden, logits, at, n).max < golden.tolerance);
        }
    }
    assert_null(qn_eval_run(eval, golden.tokens, 1)); /* full */
    qn_eval_destroy(eval);
    qn_graph_finish(&heap.cb, &graph);
    qn_gguf_close(&heap.cb, &gguf);
    qn_golden_finish(&golden);
}

/* ---- what the graphs are made of ---- */

static uint32_t count_ops(const struct qn_graph *graph, enum quern_op op)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < graph->view.n_nodes; i++)
        n += graph->nodes[i].op == (uint32_t)op;
    return n;
}

static void test_fusion(void **state)
{
    qn_test_heap_init(&heap);
    struct qn_gguf *gguf = open_golden("llama"); /* two layers */
    struct qn_graph graph = build(gguf, 0, true);
    assert_int_equal(count_ops(&graph, QUERN_OP_ACTIVATION), 0); /* in the matmul of gate and up */
    assert_int_equal(count_ops(&graph, QUERN_OP_ADD), 0);        /* in the matmuls before */
    assert_int_equal(count_ops(&graph, QUERN_OP_MATMUL), 2 * 4 + 1);
    assert_int_equal(graph.view.n_nodes,
                     1 + 2 * (2 + 4 + 2 + 2) + 4); /* per layer: norms, matmuls, rope, KV */
    qn_graph_finish(&heap.cb, &graph);
    qn_gguf_close(&heap.cb, &gguf);

    gguf = open_golden("gemma2"); /* four layers; norms stand between matmuls and adds */
    graph = build(gguf, 0, true);
    assert_int_equal(count_ops(&graph, QUERN_OP_ADD), 1); /* the last: only some of its rows are normalised */
    for (uint32_t l = 0; l < 4; l++)
        assert_int_equal(graph.kv[l].window, l % 2 == 0 ? 16 : 0);
    qn_graph_finish(&heap.cb, &graph);
    qn_gguf_close(&heap.cb, &gguf);
    assert_int_equal(heap.n_live, 0);
}

/* Name of the tensor by which the first rope's frequencies are divided. */
static struct qn_str rope_factors(const struct qn_gguf *gguf, uint32_t n_ctx)
{
    struct qn_graph graph = build(gguf, n_ctx, true);
    struct qn_str name = {NULL, 0};
    for (uint32_t i = 0; i < graph.view.n_nodes && !name.data; i++)
        if (graph.nodes[i].op == QUERN_OP_ROPE)
            name = qn_gguf_tensor_at(gguf, graph.values[graph.nodes[i].in[1]].weight)->name;
    qn_graph_finish(&heap.cb, &graph);
    return name;
}

static void test_long_and_short_factors(void **state)
{
    static const struct {
        uint32_t n_ctx; /* the original one is 64, the file's 512 */
        const char *name;
    } cases[] = {
        {64, "rope_factors_short.weight"}, {65, "rope_factors_long.weight"}, {0, "rope_factors_long.weight"}};
    qn_test_heap_init(&heap);
    struct qn_gguf *gguf = open_golden("phi3_long");
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct qn_str name = rope_factors(gguf, cases[i].n_ctx);
        assert_int_equal(name.len, strlen(cases[i].name));
        assert_memory_equal(name.data, cases[i].name, name.len);
    }
    qn_gguf_close(&heap.cb, &gguf);
}

static void test_registry(void **state)
{
    assert_int_equal(qn_arch_count(), 10);
    for (size_t i = 0; i < qn_arch_count(); i++) {
        const char *name = qn_arch_at(i)->name;
        assert_ptr_equal(qn_arch_find((struct qn_str){name, strlen(name)}), qn_arch_at(i));
    }
    assert_null(qn_arch_at(qn_arch_count()));
    assert_null(qn_arch_find((struct qn_str){"llam", 4}));
    assert_null(qn_arch_find((struct qn_str){"llama2", 6}));
}

/* ---- faults of graphs ---- */

/* A fresh graph with x [8, T] and a matrix [8, 4]. */
struct sketch {
    struct qn_graph graph;
    struct qn_builder b;
    uint32_t x, w, vector;
};

static void sketch_init(struct sketch *s)
{
    qn_graph_init(&s->graph);
    memset(&err, 0, sizeof err);
    s->b = (struct qn_builder){.cb = &heap.cb, .graph = &s->graph, .layer = 3, .err = &err};
    uint32_t table = qn_add_weight(&s->b, QUERN_F32, (int64_t[4]){8, 10, 1, 1}, 0, 0);
    s->x = qn_embed(&s->b, table, 1.0f);
    s->w = qn_add_weight(&s->b, QUERN_F32, (int64_t[4]){8, 4, 1, 1}, 1, 0);
    s->vector = qn_add_weight(&s->b, QUERN_F32, (int64_t[4]){5, 1, 1, 1}, 2, 0);
}

static void fault_matmul_width(struct sketch *s)
{
    qn_matmul(&s->b, qn_matmul(&s->b, s->x, s->w, QUERN_NONE), s->w, QUERN_NONE);
}
static void fault_matmul_bias(struct sketch *s)
{
    qn_matmul(&s->b, s->x, s->w, s->vector);
}
static void fault_no_weight(struct sketch *s)
{
    qn_matmul(&s->b, s->x, QUERN_NONE, QUERN_NONE);
}
static void fault_norm_group(struct sketch *s)
{
    qn_norm(&s->b, s->x, QUERN_NONE, QUERN_NONE, QUERN_NORM_RMS, 0, 3);
}
static void fault_norm_weight(struct sketch *s)
{
    qn_norm(&s->b, s->x, s->vector, QUERN_NONE, QUERN_NORM_RMS, 0, 8);
}
static void fault_rope_dims(struct sketch *s)
{
    qn_rope(&s->b, s->x, QUERN_NONE, &(struct quern_rope_attr){.head_dim = 4, .n_dims = 6});
}
static void fault_kv(struct sketch *s)
{
    qn_kv_store(&s->b, s->x, s->x, 7);
}
static void fault_heads(struct sketch *s)
{
    uint32_t kv =
        qn_add_kv(&s->b, &(struct quern_kv_layer){.n_head_kv = 3, .head_dim_k = 2, .head_dim_v = 2});
    qn_attention(&s->b, s->x, QUERN_NONE, &(struct quern_attention_attr){.kv_layer = kv, .n_head = 4});
}
static void fault_add(struct sketch *s)
{
    qn_add(&s->b, s->x, qn_matmul(&s->b, s->x, s->w, QUERN_NONE), 1);
}
static void fault_activation(struct sketch *s)
{
    qn_activation(&s->b, QUERN_ACT_SILU, s->x, qn_matmul(&s->b, s->x, s->w, QUERN_NONE), false);
}
static void fault_route(struct sketch *s)
{
    uint32_t weights;
    qn_moe_route(&s->b, s->x, QUERN_NONE, &(struct quern_moe_route_attr){.n_expert = 8, .n_used = 9},
                 &weights);
}

static void test_shape_faults(void **state)
{
    static const struct {
        void (*make)(struct sketch *s);
        const char *text;
    } cases[] = {
        {fault_matmul_width, "graph: matmul in layer 3: weight rows have 8 elements, the input has 4"},
        {fault_matmul_bias, "graph: matmul in layer 3: bias is [5, 1], expected [4, 1]"},
        {fault_no_weight, "graph: matmul in layer 3: input 1 is missing"},
        {fault_norm_group, "graph: norm in layer 3: rows of 8 cannot be normalised in groups of 3"},
        {fault_norm_weight, "graph: norm in layer 3: weight is [5, 1], expected [8, 1]"},
        {fault_rope_dims, "graph: rope in layer 3: 6 rotated dimensions in heads of 4"},
        {fault_kv, "graph: kv_store in layer 3: no KV layer 7"},
        {fault_heads, "graph: attention in layer 3: 4 heads cannot share 3 KV heads"},
        {fault_add, "graph: add in layer 3: the summands are 8 and 4 wide"},
        {fault_activation, "graph: activation in layer 3: gate and up differ in shape"},
        {fault_route, "graph: moe_route in layer 3: 9 of 8 experts"},
    };
    qn_test_heap_init(&heap);
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct sketch s;
        sketch_init(&s);
        assert_int_equal(s.b.status, QUERN_OK);
        cases[i].make(&s);
        assert_int_not_equal(s.b.status, QUERN_OK);
        assert_string_equal(err.text, cases[i].text);
        /* the first error sticks */
        assert_int_equal(qn_rows(&s.b, s.x), QUERN_NONE);
        assert_string_equal(err.text, cases[i].text);
        qn_graph_finish(&heap.cb, &s.graph);
    }
    assert_int_equal(heap.n_live, 0);
}

/* ---- faults of files ---- */

/* The graph must be refused with a sentence that has this part, or be built when `part` is NULL. */
static void check_verdict(const struct qn_gguf *gguf, enum quern_status status, const char *part)
{
    struct qn_graph graph;
    struct qn_model_facts facts;
    memset(&err, 0, sizeof err);
    size_t live = heap.n_live;
    enum quern_status got = qn_arch_build(&heap.cb, gguf, QN_GOLDEN_CTX, true, &graph, &facts, &err);
    if (got != status || (part && (!strstr(err.text, part) || !strstr(err.text, qn_gguf_name(gguf)))))
        fail_msg("%s: status %d, '%s'; expected %d, '%s'", qn_gguf_name(gguf), (int)got, err.text,
                 (int)status, part ? part : "");
    qn_graph_finish(&heap.cb, &graph);
    assert_int_equal(heap.n_live, live);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *file;
        enum quern_status status;
        const char *part;
    } cases[] = {
        {"00-valid-dense", QUERN_OK, NULL},
        {"01-valid-moe", QUERN_OK, NULL},
        {"43-no-arch", QUERN_ERR_FILE, "general.architecture"},
        {"44-unknown-arch", QUERN_ERR_UNSUPPORTED, "general.architecture \"frobnicator\""},
        {"45-arch-wrong-type", QUERN_ERR_FILE, "general.architecture"},
        {"46-no-block-count", QUERN_ERR_FILE, "llama.block_count"},
        {"47-block-count-wrong-type", QUERN_ERR_FILE, "llama.block_count"},
        {"48-block-count-huge", QUERN_ERR_FILE, "llama.block_count is 4000000000, expected 1 to 1024"},
        {"49-block-count-2", QUERN_ERR_FILE, "tensor \"blk.1.attn_norm.weight\" is missing"},
        {"50-head-count-0", QUERN_ERR_FILE, "llama.attention.head_count is 0, expected 1"},
        {"52-head-kv-not-divisor", QUERN_ERR_FILE, "llama.attention.head_count is 2, expected a multiple"},
        {"56-embd-mismatch", QUERN_ERR_FILE,
         "tensor \"token_embd.weight\" is [16, 288, 1], expected [64, 288, 1]"},
        {"57-ctx-0", QUERN_OK, NULL},
        {"59-extra-tensor", QUERN_ERR_FILE, "tensor \"blk.0.foo.weight\""},
        {"72-expert-used-0", QUERN_ERR_FILE, "llama.expert_used_count is 0, expected 1 to 4"},
        {"74-expert-count-huge", QUERN_ERR_FILE, "llama.expert_count is 2147483648, expected 1 to 4096"},
        {"75-nan-weights", QUERN_OK, NULL},
        {"76-inf-weights", QUERN_OK, NULL},
        {"77-nan-eps", QUERN_ERR_FILE, "llama.attention.layer_norm_rms_epsilon is nan"},
        {"83-valid-headkv-array", QUERN_OK, NULL},
        {"84-headkv-array-short", QUERN_ERR_FILE, "llama.attention.head_count_kv has 0 entries"},
        {"85-headkv-array-long", QUERN_ERR_FILE, "llama.attention.head_count_kv has 3 entries"},
        {"86-valid-unknown-keys", QUERN_OK, NULL},
        {"87-valid-f16-matrix", QUERN_OK, NULL},
    };
    qn_test_heap_init(&heap);
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        char file[128], path[1024];
        snprintf(file, sizeof file, "%s.gguf", cases[i].file);
        qn_golden_path(path, sizeof path, "malformed", file);
        struct qn_gguf *gguf = open_path(path);
        check_verdict(gguf, cases[i].status, cases[i].part);
        qn_gguf_close(&heap.cb, &gguf);
    }
    assert_int_equal(heap.n_live, 0);
}

/* What a copy of a reference model has in place of one entry. */
enum change { DROP, PUT_U32, PUT_F32, PUT_STR };

struct edit {
    const char *model, *key;
    enum change change;
    double number;
    const char *part; /* of the refusal, NULL: must be built */
};

static bool str_is(struct qn_str str, const char *text)
{
    return str.len == strlen(text) && memcmp(str.data, text, str.len) == 0;
}

static void *edited(const struct qn_gguf *gguf, const struct edit *edit, size_t *size)
{
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&heap.cb, 32);
    for (size_t i = 0; i < qn_gguf_n_kvs(gguf); i++)
        if (!str_is(qn_gguf_kv_at(gguf, i)->key, edit->key))
            qn_gguf_put_kv(writer, qn_gguf_kv_at(gguf, i));
    if (edit->change == PUT_U32)
        qn_gguf_put_u32(writer, edit->key, (uint32_t)edit->number);
    if (edit->change == PUT_F32)
        qn_gguf_put_f32(writer, edit->key, (float)edit->number);
    if (edit->change == PUT_STR)
        qn_gguf_put_str(writer, edit->key, "sideways");
    for (size_t i = 0; i < qn_gguf_n_tensors(gguf); i++) {
        const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(gguf, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)tensor->name.len, tensor->name.data);
        if (strcmp(name, edit->key) != 0)
            qn_gguf_put_tensor(writer, name, tensor->format, tensor->n_dims, tensor->dim, tensor->data);
    }
    void *file = NULL;
    assert_int_equal(qn_gguf_write_memory(writer, &file, size, &err), QUERN_OK);
    qn_gguf_writer_destroy(&heap.cb, &writer);
    return file;
}

static void test_edited(void **state)
{
    static const struct edit edits[] = {
        {"qwen2", "qwen2.attention.layer_norm_rms_epsilon", DROP, 0,
         "qwen2.attention.layer_norm_rms_epsilon"},
        {"qwen2", "qwen2.attention.layer_norm_rms_epsilon", PUT_F32, -1e-5,
         "layer_norm_rms_epsilon is -1e-05"},
        {"qwen2", "qwen2.feed_forward_length", PUT_U32, 0, "qwen2.feed_forward_length is 0"},
        {"qwen2", "qwen2.feed_forward_length", PUT_U32, 4e9, "qwen2.feed_forward_length is 4000000000"},
        {"qwen2", "qwen2.feed_forward_length", PUT_U32, 97,
         "tensor \"blk.0.ffn_gate.weight\" is [64, 96, 1]"},
        {"qwen2", "qwen2.embedding_length", PUT_U32, 4e9, "qwen2.embedding_length is 4000000000"},
        {"qwen2", "qwen2.attention.head_count", PUT_U32, 1e6, "qwen2.attention.head_count is 1000000"},
        {"qwen2", "qwen2.attention.head_count", PUT_U32, 128, "expected a multiple of attention.head_count"},
        {"qwen2", "qwen2.attention.head_count_kv", PUT_U32, 0, "qwen2.attention.head_count_kv is 0"},
        {"qwen2", "qwen2.attention.head_count_kv", DROP, 0, "tensor \"blk.0.attn_k.weight\" is [64, 32, 1]"},
        {"qwen2", "qwen2.rope.freq_base", PUT_F32, 0, "qwen2.rope.freq_base is 0"},
        {"qwen2", "qwen2.rope.freq_base", PUT_F32, INFINITY, "qwen2.rope.freq_base is inf"},
        {"qwen2", "qwen2.rope.freq_base", PUT_STR, 0, "qwen2.rope.freq_base"},
        {"qwen2", "qwen2.rope.freq_base", DROP, 0, NULL},
        {"qwen2", "qwen2.rope.dimension_count", PUT_U32, 15, "qwen2.rope.dimension_count is 15"},
        {"qwen2", "qwen2.rope.dimension_count", PUT_U32, 18, "qwen2.rope.dimension_count is 18"},
        {"qwen2", "qwen2.rope.dimension_count", DROP, 0, NULL},
        {"qwen2", "qwen2.rope.scaling.type", PUT_STR, 0, "qwen2.rope.scaling.type"},
        {"qwen2", "token_embd.weight", DROP, 0, "tensor \"token_embd.weight\" is missing"},
        {"qwen2", "output_norm.weight", DROP, 0, "tensor \"output_norm.weight\" is missing"},
        {"qwen2", "output.weight", DROP, 0, NULL},
        {"qwen3", "qwen3.attention.key_length", PUT_U32, 0, "qwen3.attention.key_length is 0"},
        {"qwen3", "qwen3.attention.key_length", PUT_U32, 1e9, "qwen3.attention.key_length is 1000000000"},
        {"qwen3", "blk.1.attn_k_norm.weight", DROP, 0, "tensor \"blk.1.attn_k_norm.weight\" is missing"},
        {"qwen3moe", "qwen3moe.expert_used_count", PUT_U32, 9,
         "qwen3moe.expert_used_count is 9, expected 1 to 8"},
        {"qwen3moe", "qwen3moe.expert_count", PUT_U32, 0, "qwen3moe.expert_count is 0"},
        {"qwen3moe", "qwen3moe.expert_feed_forward_length", DROP, 0, "expert_feed_forward_length"},
        {"qwen3moe", "blk.0.ffn_up_exps.weight", DROP, 0, "tensor \"blk.0.ffn_up_exps.weight\" is missing"},
        {"qwen2moe", "qwen2moe.expert_shared_feed_forward_length", PUT_U32, 0,
         "shared_feed_forward_length is 0"},
        {"qwen2moe", "blk.1.ffn_gate_inp_shexp.weight", DROP, 0, "blk.1.ffn_gate_inp_shexp.weight"},
        {"gemma2", "gemma2.attn_logit_softcapping", PUT_F32, NAN, "gemma2.attn_logit_softcapping is nan"},
        {"gemma2", "gemma2.attention.sliding_window", PUT_U32, 0, "gemma2.attention.sliding_window is 0"},
        {"gemma2", "gemma2.attention.sliding_window", DROP, 0, NULL},
        {"gemma3", "gemma3.attention.sliding_window_pattern", PUT_U32, 0, "sliding_window_pattern is 0"},
        {"gemma3", "gemma3.rope.scaling.factor", PUT_F32, NAN, "gemma3.rope.scaling.factor is nan"},
        {"gemma3", "blk.3.post_ffw_norm.weight", DROP, 0, "tensor \"blk.3.post_ffw_norm.weight\" is missing"},
        {"phi3", "phi3.attention.head_count_kv", PUT_U32, 1,
         "tensor \"blk.0.attn_qkv.weight\" is [64, 128, 1]"},
        {"granite", "granite.logit_scale", PUT_F32, -1, "granite.logit_scale is -1"},
        {"granite", "granite.residual_scale", DROP, 0, NULL},
    };
    qn_test_heap_init(&heap);
    for (size_t i = 0; i < QN_LEN(edits); i++) {
        struct qn_gguf *original = open_golden(edits[i].model), *gguf;
        size_t size;
        void *file = edited(original, &edits[i], &size);
        qn_gguf_close(&heap.cb, &original);
        assert_int_equal(qn_gguf_open_memory(&heap.cb, &gguf, file, size, NULL, &err), QUERN_OK);
        check_verdict(gguf, edits[i].part ? QUERN_ERR_FILE : QUERN_OK, edits[i].part);
        qn_gguf_close(&heap.cb, &gguf);
        qn_free(&heap.cb, file);
    }
    assert_int_equal(heap.n_live, 0);
}

/* phi3 sees as much as the file says, llama everything. */
static void test_windows(void **state)
{
    static const struct {
        struct edit edit;
        uint32_t window;
    } cases[] = {
        {{"phi3", "phi3.attention.sliding_window", PUT_U32, 20, NULL}, 20},
        {{"phi3", "phi3.attention.sliding_window", DROP, 0, NULL}, 0},
        {{"mistral_swa", "llama.attention.sliding_window", PUT_U32, 20, NULL}, 0},
    };
    qn_test_heap_init(&heap);
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct qn_gguf *original = open_golden(cases[i].edit.model), *gguf;
        size_t size;
        void *file = edited(original, &cases[i].edit, &size);
        qn_gguf_close(&heap.cb, &original);
        assert_int_equal(qn_gguf_open_memory(&heap.cb, &gguf, file, size, NULL, &err), QUERN_OK);
        struct qn_graph graph = build(gguf, 0, true);
        assert_int_equal(graph.view.n_kv, 2);
        assert_int_equal(graph.kv[0].window, cases[i].window);
        assert_int_equal(graph.kv[1].window, cases[i].window);
        qn_graph_finish(&heap.cb, &graph);
        qn_gguf_close(&heap.cb, &gguf);
        qn_free(&heap.cb, file);
    }
    assert_int_equal(heap.n_live, 0);
}

static void test_memory(void **state)
{
    static const char *const models[] = {"llama", "qwen2moe", "gemma3", "phi3"};
    for (size_t i = 0; i < QN_LEN(models); i++) {
        qn_test_heap_init(&heap);
        struct qn_gguf *gguf = open_golden(models[i]);
        struct qn_graph graph;
        struct qn_model_facts facts;
        size_t live = heap.n_live, n_failed = 0;
        for (;; n_failed++) {
            heap.fail_at = heap.n_calls + n_failed + 1;
            enum quern_status status = qn_arch_build(&heap.cb, gguf, 0, true, &graph, &facts, &err);
            if (!status)
                break;
            assert_int_equal(status, QUERN_ERR_MEMORY);
            assert_int_equal(heap.n_live, live);
            assert_int_equal(graph.view.n_nodes, 0);
        }
        assert_true(n_failed > 5);
        heap.fail_at = 0;
        qn_graph_finish(&heap.cb, &graph);
        qn_gguf_close(&heap.cb, &gguf);
        assert_int_equal(heap.n_live, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),    cmocka_unit_test(test_steps),
        cmocka_unit_test(test_fusion),    cmocka_unit_test(test_long_and_short_factors),
        cmocka_unit_test(test_registry),  cmocka_unit_test(test_shape_faults),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_edited),
        cmocka_unit_test(test_windows),   cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
