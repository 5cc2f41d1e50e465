/* See vocab.h. */
#include "vocab.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Token types, as model files number them. */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6 };

struct qn_test_token {
    char text[16];
    uint8_t length, type;
};

static const char *const special[QN_VOCAB_FIRST_BYTE] = {"<unk>",         "<s>",        "</s>",   "<|user|>",
                                                         "<|assistant|>", "<|system|>", "<|end|>"};

static const char chat_template[] = "{%- for message in messages -%}\n"
                                    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}\n"
                                    "{%- endfor -%}\n"
                                    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}\n";

static void add(struct qn_test_vocab *vocab, const char *text, size_t length, uint8_t type)
{
    assert(vocab->n < vocab->cap && length < sizeof vocab->token->text);
    struct qn_test_token *token = &vocab->token[vocab->n++];
    memcpy(token->text, text, length);
    token->length = (uint8_t)length;
    token->type = type;
}

bool qn_test_vocab_init(const struct quern_callbacks *cb, struct qn_test_vocab *vocab, size_t cap)
{
    assert(cap >= QN_VOCAB_FIRST);
    *vocab = (struct qn_test_vocab){.cap = cap, .token = qn_zalloc(cb, cap, sizeof *vocab->token)};
    if (!vocab->token)
        return false;
    for (int id = 0; id < QN_VOCAB_FIRST_BYTE; id++)
        add(vocab, special[id], strlen(special[id]), id == QN_VOCAB_UNK ? TYPE_UNKNOWN : TYPE_CONTROL);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        add(vocab, text, (size_t)snprintf(text, sizeof text, "<0x%02X>", byte), TYPE_BYTE);
    }
    return true;
}

void qn_test_vocab_finish(const struct quern_callbacks *cb, struct qn_test_vocab *vocab)
{
    qn_free(cb, vocab->token);
    *vocab = (struct qn_test_vocab){0};
}

void qn_test_vocab_add(struct qn_test_vocab *vocab, const char *text, size_t length)
{
    add(vocab, text, length, TYPE_NORMAL);
}

struct qn_str qn_test_vocab_text(const struct qn_test_vocab *vocab, size_t id)
{
    return (struct qn_str){vocab->token[id].text, vocab->token[id].length};
}

bool qn_test_vocab_put(const struct quern_callbacks *cb, const struct qn_test_vocab *vocab,
                       struct qn_gguf_writer *writer)
{
    struct qn_str *text = qn_alloc(cb, vocab->n, sizeof *text);
    float *score = qn_alloc(cb, vocab->n, sizeof *score);
    int32_t *type = qn_alloc(cb, vocab->n, sizeof *type);
    bool ok = text && score && type;
    for (size_t id = 0; id < vocab->n && ok; id++) {
        text[id] = qn_test_vocab_text(vocab, id);
        score[id] = -(float)id;
        type[id] = vocab->token[id].type;
    }
    if (ok) {
        qn_gguf_put_str(writer, "tokenizer.ggml.model", "llama");
        qn_gguf_put_strs(writer, "tokenizer.ggml.tokens", text, vocab->n);
        qn_gguf_put_array(writer, "tokenizer.ggml.scores", QN_GGUF_F32, score, vocab->n);
        qn_gguf_put_array(writer, "tokenizer.ggml.token_type", QN_GGUF_I32, type, vocab->n);
        qn_gguf_put_u32(writer, "tokenizer.ggml.unknown_token_id", QN_VOCAB_UNK);
        qn_gguf_put_u32(writer, "tokenizer.ggml.bos_token_id", QN_VOCAB_BOS);
        qn_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", QN_VOCAB_EOS);
        qn_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", true);
        qn_gguf_put_bool(writer, "tokenizer.ggml.add_space_prefix", false);
        qn_gguf_put_str(writer, "tokenizer.chat_template", chat_template);
    }
    qn_free(cb, type);
    qn_free(cb, score);
    qn_free(cb, text);
    return ok;
}
