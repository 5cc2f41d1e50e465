/* Made-up vocabularies, for test models: unknown, begin, end and the control tokens of a chat template, the
 * 256 byte tokens, then whatever is added. */
#ifndef QN_TEST_VOCAB_H
#define QN_TEST_VOCAB_H

#include "gguf/gguf.h"

enum { QN_VOCAB_UNK = 0, QN_VOCAB_BOS = 1, QN_VOCAB_EOS = 2, QN_VOCAB_FIRST_BYTE = 7, QN_VOCAB_FIRST = 263 };

struct qn_test_vocab {
    size_t n, cap;
    struct qn_test_token *token;
};

/* Room for cap tokens, the first 263 of them there. False: memory ran out. */
bool qn_test_vocab_init(const struct quern_callbacks *cb, struct qn_test_vocab *vocab, size_t cap);
void qn_test_vocab_finish(const struct quern_callbacks *cb, struct qn_test_vocab *vocab);

/* Adds a token, at most 15 bytes, which SentencePiece's merging prefers to those added later. */
void qn_test_vocab_add(struct qn_test_vocab *vocab, const char *text, size_t length);
struct qn_str qn_test_vocab_text(const struct qn_test_vocab *vocab, size_t id);

/* All keys of the tokenizer. False: memory ran out. */
bool qn_test_vocab_put(const struct quern_callbacks *cb, const struct qn_test_vocab *vocab,
                       struct qn_gguf_writer *writer);

#endif
