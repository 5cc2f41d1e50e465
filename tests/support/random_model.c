/* Writes a model of any shape and number format with random weights, for measuring and testing where no real
 * models are.
 *
 *     random_model SHAPE TYPE OUT.gguf [--family NAME] [--layers N] [--width N] [--heads N] [--kv-heads N]
 * [--head N]
 *                  [--ff N] [--vocabulary N] [--context N] [--experts N] [--used N] [--tied 0|1] [--seed N]
 *
 * SHAPE is a row of `shapes` below; the options change single numbers of it. TYPE is a number format (q4_k,
 * ...), or q4_k_m or q5_k_m, in which the head, and of some layers the values and the second half of the
 * feed-forward, have six bits. Rows that no whole number of blocks fills are kept in f16, vectors and routers
 * in f32. Weights have a deviation of 0.02, so that all logits are finite numbers; they repeat after a prime
 * number of blocks. The same arguments give the same file. The vocabulary reads and writes any text. */
#include "conformance/fill.h"
#include "vocab.h"

#include "base/clock.h"
#include "formats/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { POOL_BLOCKS = 65521, MAX_TENSORS = 1 << 16 };

static const float deviation = 0.02f;

enum qk_norm { QK_NONE, QK_HEAD, QK_FULL };

struct shape {
    const char *name, *family;
    uint32_t layers, width, heads, kv_heads, head, ff, vocabulary, context, experts, used, tied;
    float base, eps;
};

static const struct shape shapes[] = {
    {"tiny", "llama", 2, 256, 4, 2, 64, 512, 512, 2048, 0, 0, 0, 10000, 1e-5f},
    {"tiny-moe", "olmoe", 2, 256, 4, 4, 64, 256, 512, 2048, 8, 2, 0, 10000, 1e-5f},
    {"qwen3-0.6b", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 40960, 0, 0, 1, 1000000, 1e-6f},
    {"llama-1b", "llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 0, 0, 1, 500000, 1e-5f},
    {"llama-8b", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 0, 0, 0, 500000, 1e-5f},
    {"llama-70b", "llama", 80, 8192, 64, 8, 128, 28672, 128256, 131072, 0, 0, 0, 500000, 1e-5f},
    {"olmoe", "olmoe", 16, 2048, 16, 16, 128, 1024, 50304, 4096, 64, 8, 0, 10000, 1e-5f},
    {"mixtral", "llama", 32, 4096, 32, 8, 128, 14336, 32000, 32768, 8, 2, 0, 1000000, 1e-5f},
    {"qwen3-30b-a3b", "qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, 40960, 128, 8, 0, 1000000, 1e-6f},
};

static const struct {
    const char *name;
    enum qk_norm qk_norm;
    bool biases; /* of Q, K and V */
} families[] = {{"llama", QK_NONE, false},
                {"qwen2", QK_NONE, true},
                {"qwen3", QK_HEAD, false},
                {"qwen3moe", QK_HEAD, false},
                {"olmoe", QK_FULL, false}};

struct maker {
    struct quern_callbacks cb;
    struct qn_gguf_writer *writer;
    struct shape shape;
    enum qk_norm qk_norm;
    bool biases;
    enum quern_format format, better; /* better: of the mixtures' finer matrices */
    uint64_t seed;
    uint64_t bytes[QUERN_FORMAT_END]; /* of the largest tensor */
    uint8_t *pool[QUERN_FORMAT_END];  /* random blocks that all tensors of the format are taken from */
    float *ones;
    bool measuring; /* tensors are counted, not put */
    uint64_t total;
};

/* ---------------------------------------------------------------- weights */

static void *take(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory) {
        fprintf(stderr, "random_model: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return memory;
}

/* Room for the largest tensor, random blocks repeated. */
static void make_pool(struct maker *m, enum quern_format number)
{
    const struct qn_format *format = qn_format_get(number);
    size_t period = (size_t)POOL_BLOCKS * format->block_bytes, bytes = (size_t)m->bytes[number];
    m->pool[number] = take(bytes > period ? bytes : period);
    qn_fill_weights_of(number, deviation, m->seed + number, m->pool[number],
                       (size_t)POOL_BLOCKS * format->block_len);
    for (size_t done = period; done < bytes; done += period)
        memcpy(m->pool[number] + done, m->pool[number], bytes - done < period ? bytes - done : period);
}

static void put(struct maker *m, enum quern_format number, uint32_t n_dims, const uint64_t *dim,
                const char *name)
{
    uint64_t rows = 1;
    for (uint32_t i = 1; i < n_dims; i++)
        rows *= dim[i];
    uint64_t bytes = qn_format_row_bytes(number, dim[0]) * rows;
    if (m->measuring) {
        m->bytes[number] = bytes > m->bytes[number] ? bytes : m->bytes[number];
        m->total += bytes;
        return;
    }
    qn_gguf_put_tensor(m->writer, name, number, n_dims, dim,
                       n_dims == 1 ? (const void *)m->ones : m->pool[number]);
}

struct name {
    char text[64];
};

/* layer < 0: of no layer */
static struct name name_of(int layer, const char *what, const char *kind)
{
    struct name name;
    if (layer < 0)
        snprintf(name.text, sizeof name.text, "%s.%s", what, kind);
    else
        snprintf(name.text, sizeof name.text, "blk.%d.%s.%s", layer, what, kind);
    return name;
}

/* [k, n] or, for experts, [k, n, n_expert] */
static void put_matrix(struct maker *m, enum quern_format format, int layer, const char *what, uint64_t k,
                       uint64_t n, uint64_t n_expert)
{
    const uint64_t dim[3] = {k, n, n_expert};
    if (k % qn_format_get(format)->block_len != 0)
        format = QUERN_F16;
    put(m, format, n_expert > 0 ? 3 : 2, dim, name_of(layer, what, "weight").text);
}

static void put_vector(struct maker *m, int layer, const char *what, const char *kind, uint64_t n)
{
    put(m, QUERN_F32, 1, &n, name_of(layer, what, kind).text);
}

/* Layers whose values and second feed-forward half the mixtures keep finer. */
static bool is_finer(const struct maker *m, uint32_t layer)
{
    uint32_t n = m->shape.layers;
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static void put_attention(struct maker *m, int layer, enum quern_format finer)
{
    const struct shape *s = &m->shape;
    uint64_t q = (uint64_t)s->heads * s->head, kv = (uint64_t)s->kv_heads * s->head;
    put_vector(m, layer, "attn_norm", "weight", s->width);
    put_matrix(m, m->format, layer, "attn_q", s->width, q, 0);
    put_matrix(m, m->format, layer, "attn_k", s->width, kv, 0);
    put_matrix(m, finer, layer, "attn_v", s->width, kv, 0);
    put_matrix(m, m->format, layer, "attn_output", q, s->width, 0);
    if (m->biases) {
        put_vector(m, layer, "attn_q", "bias", q);
        put_vector(m, layer, "attn_k", "bias", kv);
        put_vector(m, layer, "attn_v", "bias", kv);
    }
    if (m->qk_norm != QK_NONE) {
        put_vector(m, layer, "attn_q_norm", "weight", m->qk_norm == QK_HEAD ? s->head : q);
        put_vector(m, layer, "attn_k_norm", "weight", m->qk_norm == QK_HEAD ? s->head : kv);
    }
}

static void put_tensors(struct maker *m)
{
    const struct shape *s = &m->shape;
    put_matrix(m, s->tied ? m->better : m->format, -1, "token_embd", s->width, s->vocabulary, 0);
    put_vector(m, -1, "output_norm", "weight", s->width);
    if (!s->tied)
        put_matrix(m, m->better, -1, "output", s->width, s->vocabulary, 0);
    for (uint32_t l = 0; l < s->layers; l++) {
        int layer = (int)l;
        enum quern_format finer = is_finer(m, l) ? m->better : m->format;
        put_attention(m, layer, finer);
        put_vector(m, layer, "ffn_norm", "weight", s->width);
        if (s->experts > 0) {
            put_matrix(m, QUERN_F32, layer, "ffn_gate_inp", s->width, s->experts, 0);
            put_matrix(m, m->format, layer, "ffn_gate_exps", s->width, s->ff, s->experts);
            put_matrix(m, m->format, layer, "ffn_up_exps", s->width, s->ff, s->experts);
            put_matrix(m, finer, layer, "ffn_down_exps", s->ff, s->width, s->experts);
        } else {
            put_matrix(m, m->format, layer, "ffn_gate", s->width, s->ff, 0);
            put_matrix(m, m->format, layer, "ffn_up", s->width, s->ff, 0);
            put_matrix(m, finer, layer, "ffn_down", s->ff, s->width, 0);
        }
    }
}

/* ---------------------------------------------------------------- keys */

/* All texts of two letters, of three, and so on, after the letters themselves. */
static void fill_vocabulary(struct qn_test_vocab *vocab)
{
    static const char letters[] = "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLUCMFWYPVBGKJQXZ.,:;!?'-0123456789";
    enum { N_LETTERS = sizeof letters - 1 };
    qn_test_vocab_add(vocab, "\xe2\x96\x81", 3);
    for (uint64_t number = 0, n = N_LETTERS, length = 1; vocab->n < vocab->cap; number++) {
        if (number == n)
            number = 0, n *= N_LETTERS, length++;
        char text[16];
        uint64_t rest = number;
        for (uint64_t i = length; i-- > 0; rest /= N_LETTERS)
            text[i] = letters[rest % N_LETTERS];
        qn_test_vocab_add(vocab, text, (size_t)length);
    }
}

static void put_u32(struct maker *m, const char *key, uint32_t value)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", m->shape.family, key);
    qn_gguf_put_u32(m->writer, full, value);
}

static void put_f32(struct maker *m, const char *key, float value)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", m->shape.family, key);
    qn_gguf_put_f32(m->writer, full, value);
}

static void put_keys(struct maker *m)
{
    const struct shape *s = &m->shape;
    qn_gguf_put_str(m->writer, "general.architecture", s->family);
    qn_gguf_put_str(m->writer, "general.name", s->name);
    put_u32(m, "context_length", s->context);
    put_u32(m, "embedding_length", s->width);
    put_u32(m, "block_count", s->layers);
    put_u32(m, "feed_forward_length", s->ff);
    put_u32(m, "attention.head_count", s->heads);
    put_u32(m, "attention.head_count_kv", s->kv_heads);
    put_u32(m, "attention.key_length", s->head);
    put_u32(m, "attention.value_length", s->head);
    put_u32(m, "rope.dimension_count", s->head);
    put_u32(m, "vocab_size", s->vocabulary);
    put_f32(m, "rope.freq_base", s->base);
    put_f32(m, "attention.layer_norm_rms_epsilon", s->eps);
    if (s->experts > 0) {
        put_u32(m, "expert_count", s->experts);
        put_u32(m, "expert_used_count", s->used);
        put_u32(m, "expert_feed_forward_length", s->ff);
    }
}

/* ---------------------------------------------------------------- arguments */

static int usage(const char *wrong, const char *text)
{
    fprintf(stderr,
            "random_model: %s%s\nusage: random_model SHAPE TYPE OUT.gguf [OPTION N]...\nshapes:", wrong,
            text);
    for (size_t i = 0; i < QN_LEN(shapes); i++)
        fprintf(stderr, " %s", shapes[i].name);
    fprintf(
        stderr,
        "\ntypes: q4_k_m, q5_k_m, or a number format\noptions: --family --layers --width --heads --kv-heads "
        "--head --ff --vocabulary --context --experts --used --tied --seed\n");
    return 2;
}

static bool set_type(struct maker *m, const char *name)
{
    if (strcasecmp(name, "q4_k_m") == 0 || strcasecmp(name, "q5_k_m") == 0) {
        m->format = name[1] == '4' ? QUERN_Q4_K : QUERN_Q5_K;
        m->better = QUERN_Q6_K;
        return true;
    }
    for (int f = 0; f < QUERN_FORMAT_END; f++) {
        const struct qn_format *format = qn_format_get((enum quern_format)f);
        if (format && format->dequantise && strcasecmp(format->name, name) == 0) {
            m->format = m->better = (enum quern_format)f;
            return true;
        }
    }
    return false;
}

static bool set_option(struct maker *m, const char *name, const char *text)
{
    struct shape *s = &m->shape;
    const struct {
        const char *name;
        uint32_t *at;
    } numbers[] = {{"--layers", &s->layers},
                   {"--width", &s->width},
                   {"--heads", &s->heads},
                   {"--kv-heads", &s->kv_heads},
                   {"--head", &s->head},
                   {"--ff", &s->ff},
                   {"--vocabulary", &s->vocabulary},
                   {"--context", &s->context},
                   {"--experts", &s->experts},
                   {"--used", &s->used},
                   {"--tied", &s->tied}};
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    bool is_number = *text != '\0' && *end == '\0' && number <= INT32_MAX;
    if (strcmp(name, "--family") == 0) {
        s->family = text;
        return true;
    }
    if (strcmp(name, "--seed") == 0) {
        m->seed = number;
        return is_number;
    }
    for (size_t i = 0; i < QN_LEN(numbers); i++)
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].at = (uint32_t)number;
            return is_number;
        }
    return false;
}

/* What no file could hold; the model's reader checks the rest. */
static const char *fault_of(struct maker *m)
{
    const struct shape *s = &m->shape;
    for (size_t i = 0; i < QN_LEN(families); i++)
        if (strcmp(families[i].name, s->family) == 0) {
            m->qk_norm = families[i].qk_norm;
            m->biases = families[i].biases;
            return s->layers < 1 || s->width < 1 || s->heads < 1 || s->kv_heads < 1 || s->head < 1 ||
                           s->ff < 1
                       ? "a number is 0"
                   : s->vocabulary < 512          ? "a vocabulary has 512 tokens at least"
                   : s->layers > MAX_TENSORS / 16 ? "too many layers"
                                                  : NULL;
        }
    return "a family that it does not make; there are: llama qwen2 qwen3 qwen3moe olmoe";
}

/* ---------------------------------------------------------------- writing */

static enum quern_status write_model(struct maker *m, const char *path, struct quern_error *err)
{
    struct qn_test_vocab vocab;
    uint64_t start = qn_now_ns();
    m->measuring = true;
    put_tensors(m);
    m->measuring = false;
    printf("%s: %.2f GB of weights\n", path, (double)m->total * 1e-9);
    size_t most = (size_t)m->bytes[QUERN_F32] / 4 + 1;
    m->ones = take(most * sizeof *m->ones);
    for (size_t i = 0; i < most; i++)
        m->ones[i] = 1;
    for (int f = 0; f < QUERN_FORMAT_END; f++)
        if (m->bytes[f] > 0) {
            make_pool(m, (enum quern_format)f);
            printf("%6.1f s: random %s\n", (double)(qn_now_ns() - start) * 1e-9,
                   qn_format_get((enum quern_format)f)->name);
            fflush(stdout);
        }
    put_keys(m);
    put_tensors(m);
    enum quern_status status = QUERN_ERR_MEMORY;
    bool ok = qn_test_vocab_init(&m->cb, &vocab, m->shape.vocabulary);
    if (ok)
        fill_vocabulary(&vocab);
    if (ok && qn_test_vocab_put(&m->cb, &vocab, m->writer))
        status = qn_gguf_write_path(m->writer, path, err);
    qn_test_vocab_finish(&m->cb, &vocab);
    if (!status)
        printf("%6.1f s: written\n", (double)(qn_now_ns() - start) * 1e-9);
    return status;
}

int main(int argc, char **argv)
{
    struct maker m = {.cb = qn_callbacks_resolve(NULL), .seed = 1};
    struct quern_error err = {.text = "memory ran out"};
    size_t shape = 0;
    while (argc >= 4 && shape < QN_LEN(shapes) && strcmp(shapes[shape].name, argv[1]) != 0)
        shape++;
    if (argc < 4 || shape == QN_LEN(shapes))
        return usage("no such shape: ", argc > 1 ? argv[1] : "(none)");
    m.shape = shapes[shape];
    if (!set_type(&m, argv[2]))
        return usage("no such type: ", argv[2]);
    for (int i = 4; i < argc; i += 2)
        if (i + 1 >= argc || !set_option(&m, argv[i], argv[i + 1]))
            return usage("not understood: ", argv[i]);
    const char *fault = fault_of(&m);
    if (fault)
        return usage(fault, "");
    m.writer = qn_gguf_writer_create(&m.cb, 0);
    enum quern_status status = m.writer ? write_model(&m, argv[3], &err) : QUERN_ERR_MEMORY;
    if (status)
        fprintf(stderr, "random_model: %s\n", err.text);
    qn_gguf_writer_destroy(&m.cb, &m.writer);
    for (int f = 0; f < QUERN_FORMAT_END; f++)
        free(m.pool[f]);
    free(m.ones);
    return status != QUERN_OK;
}
