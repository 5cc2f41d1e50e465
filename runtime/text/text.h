/* Text to tokens and back. A vocabulary is immutable once made: any number of threads may use it.
 * Which algorithm a model uses (SPM, BPE, WPM) is decided here and seen nowhere else. */
#ifndef QN_TEXT_H
#define QN_TEXT_H

#include "gguf/gguf.h"
#include <quern/chat.h>

struct qn_vocab;

struct qn_vocab_params {
    /* Pre-tokenizer to use in place of `tokenizer.ggml.pre`; NULL: the file's. */
    const char *pre;
};

/* Reads `tokenizer.*`. An unknown model or pre-tokenizer is QUERN_ERR_UNSUPPORTED and lists what there is. */
enum quern_status qn_vocab_create(const struct quern_callbacks *cb, struct qn_vocab **out,
                                  const struct qn_gguf *gguf, const struct qn_vocab_params *params,
                                  struct quern_error *err);
void qn_vocab_destroy(const struct quern_callbacks *cb, struct qn_vocab **vocab);

uint32_t qn_vocab_size(const struct qn_vocab *vocab);
const char *qn_vocab_model(const struct qn_vocab *vocab); /* "spm", "bpe" or "wpm" */
const char *qn_vocab_pre(const struct qn_vocab *vocab);   /* name of the splitting rule, "" where none */

/* Ids of special roles, -1 where the vocabulary has none. */
struct qn_vocab_special {
    int32_t bos, eos, eot, unk, sep, pad, cls, mask;
    bool add_bos, add_eos; /* what the model expects around a prompt (WPM: CLS and SEP) */
};
const struct qn_vocab_special *qn_vocab_special(const struct qn_vocab *vocab);
/* Ends a generation: EOS, EOT and their kin (<|im_end|>, <end_of_turn>, ...). */
bool qn_vocab_is_end(const struct qn_vocab *vocab, int32_t id);
/* Control tokens are not part of the text. */
bool qn_vocab_is_control(const struct qn_vocab *vocab, int32_t id);
/* The token as the file has it (bytes in the file). id must be below size. */
struct qn_str qn_vocab_text(const struct qn_vocab *vocab, int32_t id);
/* The chat template of this name, "" for the one without; NULL data: there is none. */
struct qn_str qn_vocab_template(const struct qn_vocab *vocab, const char *name);
/* Id of the token whose text in the file is exactly this, or -1. */
int32_t qn_vocab_find(const struct qn_vocab *vocab, const char *text, size_t len);

/* Growing list of ids; start from zero, free with qn_ids_finish. */
struct qn_ids {
    int32_t *id;
    size_t n, cap;
};
void qn_ids_finish(const struct quern_callbacks *cb, struct qn_ids *ids);

enum qn_encode_flags {
    QN_ENCODE_ADD_SPECIAL = 1,   /* BOS/EOS (CLS/SEP) as the model expects them */
    QN_ENCODE_PARSE_SPECIAL = 2, /* control tokens written out in the text become those tokens */
    QN_ENCODE_ADD_BEGIN = 4,     /* BOS (CLS) as the model expects it, unless the text begins with it */
};

/* Appends the tokens of `len` bytes of text. Bytes that are not UTF-8 are encoded, never dropped silently and
 * never a crash: each offending byte counts as U+FFFD for splitting and keeps its own bytes where the
 * vocabulary can express them. */
enum quern_status qn_encode(const struct quern_callbacks *cb, const struct qn_vocab *vocab, const char *text,
                            size_t len, unsigned flags, struct qn_ids *ids, struct quern_error *err);
/* The same where parts of the text are input: control tokens written out there, wholly or in part, stay text.
 * Nothing else changes: the text is split and merged across the ends of these parts. They are in order and do
 * not overlap. */
enum quern_status qn_encode_input(const struct quern_callbacks *cb, const struct qn_vocab *vocab,
                                  const char *text, size_t len, unsigned flags,
                                  const struct quern_range *input, size_t n_input, struct qn_ids *ids,
                                  struct quern_error *err);

/* Tokens to text, as they come: bytes of an unfinished UTF-8 character wait for the next token. */
struct qn_decoder {
    const struct qn_vocab *vocab;
    bool specials;   /* also write control tokens */
    bool started;    /* something was written: a leading space is text now */
    uint8_t held[4]; /* the unfinished character */
    uint8_t n_held;
};
void qn_decoder_init(struct qn_decoder *decoder, const struct qn_vocab *vocab, bool specials);
/* Writes at most `cap` bytes of the text that `id` completes to `out` and returns how many there are; call
 * again with more room when that is more than cap (nothing is consumed then). Output is valid UTF-8 when the
 * model's is; bytes that can never become valid are passed on as they are. */
size_t qn_decode(struct qn_decoder *decoder, int32_t id, char *out, size_t cap);
/* What is still held back (at the end of a text). At most 4 bytes. */
size_t qn_decode_flush(struct qn_decoder *decoder, char *out, size_t cap);

#endif
