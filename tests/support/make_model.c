/* Writes a tiny llama model whose answer is known, for tests and for trying the command without a real model.
 *
 * usage: make_model OUT.gguf
 *
 * Vocabulary: <unk> <s> </s>, the control tokens of a chat template, the 256 byte tokens, the words of one
 * sentence, then all beginnings of these words, so that the sentence becomes the tokens that it was made of.
 * Embeddings are random and nearly orthogonal; the head maps each word's embedding to the word that follows
 * it in the sentence, so greedy decoding recites the sentence after any prompt that does not end with one of
 * its words, and ends with </s>. The layers are random and small: they add noise, which the head drowns, but
 * every operation of the family runs. */
#include "vocab.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Each is a token with a space before it. */
static const char *const words[] = {
    "I",    "am", "not", "trained,", "only",  "made", "up:",  "give",      "me",      "the",
    "path", "of", "a",   "real",     "model", "to",   "hear", "something", "better.",
};

enum {
    N_EMBD = 64,
    N_LAYER = 2,
    N_HEAD = 4,
    N_HEAD_KV = 2,
    HEAD_DIM = N_EMBD / N_HEAD,
    N_KV = HEAD_DIM * N_HEAD_KV,
    N_FF = 128,
    N_CTX = 2048,
    FIRST_WORD = QN_VOCAB_FIRST,
    FIRST_PREFIX = FIRST_WORD + (int)QN_LEN(words),
    MAX_VOCAB = FIRST_PREFIX + 128,
    TEXT_ROOM = 16,
};

/* Everything the file holds stays alive until it is written. */
struct model {
    struct qn_test_vocab vocab;
    float embd[MAX_VOCAB][N_EMBD]; /* [n_vocab, N_EMBD] */
    float head[MAX_VOCAB][N_EMBD];
    float ones[N_EMBD];
    float q[N_LAYER][N_EMBD * N_EMBD], k[N_LAYER][N_KV * N_EMBD], v[N_LAYER][N_KV * N_EMBD];
    float out[N_LAYER][N_EMBD * N_EMBD];
    float gate[N_LAYER][N_FF * N_EMBD], up[N_LAYER][N_FF * N_EMBD], down[N_LAYER][N_EMBD * N_FF];
};

/* Uniform in [-1, 1), the same numbers everywhere (splitmix64). */
static float uniform(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)(x >> 40) / 8388608.0f - 1.0f;
}

static void fill(float *out, size_t n, float scale, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        out[i] = scale * uniform(state);
}

/* A random direction of length 1. */
static void direction(float out[N_EMBD], uint64_t *state)
{
    float square = 0.0f;
    fill(out, N_EMBD, 1.0f, state);
    for (int i = 0; i < N_EMBD; i++)
        square += out[i] * out[i];
    for (int i = 0; i < N_EMBD; i++)
        out[i] /= sqrtf(square);
}

static bool has_token(const struct model *m, const char *text, size_t length)
{
    for (size_t id = FIRST_WORD; id < m->vocab.n; id++) {
        struct qn_str known = qn_test_vocab_text(&m->vocab, id);
        if (known.len == length && memcmp(known.data, text, length) == 0)
            return true;
    }
    return false;
}

static void fill_vocabulary(struct model *m)
{
    enum { MARK = 3 }; /* bytes of the space mark */
    char text[TEXT_ROOM];
    for (size_t i = 0; i < QN_LEN(words); i++)
        qn_test_vocab_add(&m->vocab, text, (size_t)snprintf(text, sizeof text, "\xe2\x96\x81%s", words[i]));
    for (size_t id = FIRST_WORD; id < FIRST_PREFIX; id++) {
        struct qn_str word = qn_test_vocab_text(&m->vocab, id);
        for (size_t length = MARK; length < word.len; length++)
            if (!has_token(m, word.data, length))
                qn_test_vocab_add(&m->vocab, word.data, length);
    }
}

static void fill_weights(struct model *m)
{
    uint64_t state = 2;
    float start[N_EMBD]; /* what all but the words share: the sentence begins after them */
    direction(start, &state);
    for (int id = 0; id < (int)m->vocab.n; id++) {
        float own[N_EMBD];
        bool word = id >= FIRST_WORD && id < FIRST_PREFIX;
        direction(own, &state);
        for (int i = 0; i < N_EMBD; i++)
            m->embd[id][i] = word ? own[i] : 0.9f * start[i] + 0.3f * own[i];
    }
    fill(&m->head[0][0], m->vocab.n * N_EMBD, 0.02f, &state);
    for (int id = FIRST_WORD; id <= FIRST_PREFIX; id++) {
        const float *before = id == FIRST_WORD ? start : m->embd[id - 1];
        memcpy(m->head[id == FIRST_PREFIX ? QN_VOCAB_EOS : id], before, sizeof m->head[0]);
    }
    for (int id = 0; id < (int)m->vocab.n; id++)
        for (int i = 0; i < N_EMBD; i++)
            m->head[id][i] *= 4.0f;
    for (int i = 0; i < N_EMBD; i++)
        m->ones[i] = 1.0f;
    for (int layer = 0; layer < N_LAYER; layer++) {
        fill(m->q[layer], QN_LEN(m->q[0]), 0.1f, &state);
        fill(m->k[layer], QN_LEN(m->k[0]), 0.1f, &state);
        fill(m->v[layer], QN_LEN(m->v[0]), 0.02f, &state);
        fill(m->out[layer], QN_LEN(m->out[0]), 0.02f, &state);
        fill(m->gate[layer], QN_LEN(m->gate[0]), 0.05f, &state);
        fill(m->up[layer], QN_LEN(m->up[0]), 0.05f, &state);
        fill(m->down[layer], QN_LEN(m->down[0]), 0.02f, &state);
    }
}

static void put_metadata(struct qn_gguf_writer *w, const struct model *m)
{
    qn_gguf_put_str(w, "general.architecture", "llama");
    qn_gguf_put_str(w, "general.name", "Quern synthetic");
    qn_gguf_put_u32(w, "general.file_type", 0);
    qn_gguf_put_u32(w, "llama.context_length", N_CTX);
    qn_gguf_put_u32(w, "llama.embedding_length", N_EMBD);
    qn_gguf_put_u32(w, "llama.block_count", N_LAYER);
    qn_gguf_put_u32(w, "llama.feed_forward_length", N_FF);
    qn_gguf_put_u32(w, "llama.rope.dimension_count", HEAD_DIM);
    qn_gguf_put_u32(w, "llama.attention.head_count", N_HEAD);
    qn_gguf_put_u32(w, "llama.attention.head_count_kv", N_HEAD_KV);
    qn_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    qn_gguf_put_u32(w, "llama.vocab_size", (uint32_t)m->vocab.n);
}

/* [rows, cols], cols innermost; a vector has no rows */
static void put_matrix(struct qn_gguf_writer *w, const char *name, uint64_t rows, uint64_t cols,
                       const float *data)
{
    uint64_t dim[2] = {cols, rows};
    qn_gguf_put_tensor(w, name, QUERN_F32, rows ? 2 : 1, dim, data);
}

static void put_tensors(struct qn_gguf_writer *w, const struct model *m)
{
    put_matrix(w, "token_embd.weight", m->vocab.n, N_EMBD, &m->embd[0][0]);
    put_matrix(w, "output_norm.weight", 0, N_EMBD, m->ones);
    put_matrix(w, "output.weight", m->vocab.n, N_EMBD, &m->head[0][0]);
    for (int layer = 0; layer < N_LAYER; layer++) {
        const struct {
            const char *name;
            uint64_t rows, cols;
            const float *data;
        } tensors[] = {
            {"attn_norm", 0, N_EMBD, m->ones},
            {"attn_q", N_EMBD, N_EMBD, m->q[layer]},
            {"attn_k", N_KV, N_EMBD, m->k[layer]},
            {"attn_v", N_KV, N_EMBD, m->v[layer]},
            {"attn_output", N_EMBD, N_EMBD, m->out[layer]},
            {"ffn_norm", 0, N_EMBD, m->ones},
            {"ffn_gate", N_FF, N_EMBD, m->gate[layer]},
            {"ffn_up", N_FF, N_EMBD, m->up[layer]},
            {"ffn_down", N_EMBD, N_FF, m->down[layer]},
        };
        for (size_t i = 0; i < QN_LEN(tensors); i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, tensors[i].name);
            put_matrix(w, name, tensors[i].rows, tensors[i].cols, tensors[i].data);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_model OUT.gguf\n");
        return 2;
    }
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct quern_error err = {.status = QUERN_ERR_MEMORY, .text = "memory ran out"};
    enum quern_status status = QUERN_ERR_MEMORY;
    struct model *m = qn_zalloc(&cb, 1, sizeof *m);
    struct qn_gguf_writer *writer = m ? qn_gguf_writer_create(&cb, 32) : NULL;
    if (writer && qn_test_vocab_init(&cb, &m->vocab, MAX_VOCAB)) {
        fill_vocabulary(m);
        fill_weights(m);
        put_metadata(writer, m);
        put_tensors(writer, m);
        if (qn_test_vocab_put(&cb, &m->vocab, writer))
            status = qn_gguf_write_path(writer, argv[1], &err);
    }
    if (status != QUERN_OK)
        fprintf(stderr, "make_model: %s\n", err.text);
    qn_gguf_writer_destroy(&cb, &writer);
    if (m)
        qn_test_vocab_finish(&cb, &m->vocab);
    qn_free(&cb, m);
    return status == QUERN_OK ? 0 : 1;
}
