/* Small vocabularies made in memory, for tests and fuzzing. */
#ifndef QN_TEXT_MADE_H
#define QN_TEXT_MADE_H

#include "text/text.h"

#include <stdio.h>
#include <string.h>

enum { MADE_TOKENS = 512 };

/* A vocabulary in the making; start from zero. */
struct made {
    struct qn_str token[MADE_TOKENS];
    int32_t type[MADE_TOKENS];
    float score[MADE_TOKENS];
    size_t n, n_scores, n_types; /* lengths of the three arrays in the file */
    struct qn_str merge[MADE_TOKENS];
    size_t n_merges;
    char room[1 << 14];
    size_t used;
};

static inline void made_add(struct made *made, const char *text, size_t len, int32_t type)
{
    if (made->n == MADE_TOKENS || made->used + len > sizeof made->room)
        return;
    memcpy(made->room + made->used, text, len);
    made->token[made->n] = (struct qn_str){made->room + made->used, len};
    made->used += len;
    made->type[made->n] = type;
    made->score[made->n] = -(float)(made->n % 37);
    made->n_scores = made->n_types = ++made->n;
}

static inline void made_text(struct made *made, const char *text, int32_t type)
{
    made_add(made, text, strlen(text), type);
}

static inline void made_merge(struct made *made, const char *text)
{
    made->merge[made->n_merges++] = (struct qn_str){text, strlen(text)};
}

/* The 256 tokens <0x00> to <0xFF>. */
static inline void made_bytes(struct made *made)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        made_text(made, text, 6);
    }
}

/* The 256 letters of GPT-2's byte alphabet. */
static inline void made_letters(struct made *made)
{
    for (int byte = 0; byte < 256; byte++) {
        bool own = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        int cp = own ? byte : byte <= 32 ? 256 + byte : byte <= 160 ? 256 + 33 + byte - 127 : 256 + 67;
        const char wide[2] = {(char)(0xC0 | cp >> 6), (char)(0x80 | (cp & 63))};
        const char ascii = (char)cp;
        made_add(made, cp < 128 ? &ascii : wide, cp < 128 ? 1 : 2, 1);
    }
}

/* The vocabulary, or NULL with *err where it is refused. `pre` NULL: the key is left out. */
static inline struct qn_vocab *made_vocab(const struct quern_callbacks *cb, const struct made *made,
                                          const char *model, const char *pre, struct quern_error *err)
{
    struct quern_callbacks plain = qn_callbacks_resolve(NULL);
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&plain, 32);
    void *bytes = NULL;
    size_t size = 0;
    struct qn_gguf *gguf = NULL;
    struct qn_vocab *vocab = NULL;
    const struct qn_gguf_params params = {.no_tensors = true};
    qn_gguf_put_str(writer, "general.architecture", "llama");
    qn_gguf_put_str(writer, "tokenizer.ggml.model", model);
    if (pre)
        qn_gguf_put_str(writer, "tokenizer.ggml.pre", pre);
    qn_gguf_put_strs(writer, "tokenizer.ggml.tokens", made->token, made->n);
    qn_gguf_put_array(writer, "tokenizer.ggml.scores", QN_GGUF_F32, made->score, made->n_scores);
    qn_gguf_put_array(writer, "tokenizer.ggml.token_type", QN_GGUF_I32, made->type, made->n_types);
    qn_gguf_put_strs(writer, "tokenizer.ggml.merges", made->merge, made->n_merges);
    if (qn_gguf_write_memory(writer, &bytes, &size, err) == QUERN_OK &&
        qn_gguf_open_memory(&plain, &gguf, bytes, size, &params, err) == QUERN_OK)
        qn_vocab_create(cb, &vocab, gguf, NULL, err);
    qn_gguf_close(&plain, &gguf);
    qn_gguf_writer_destroy(&plain, &writer);
    qn_free(&plain, bytes);
    return vocab;
}

#endif
