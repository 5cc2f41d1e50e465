/* What stands behind the public handles of files, vocabularies and decoders, so that a model can hold a file
 * and a vocabulary by value. */
#ifndef QN_SESSION_HANDLES_H
#define QN_SESSION_HANDLES_H

#include "text/text.h"
#include <quern/session.h>

struct quern_file {
    struct quern_callbacks cb;
    struct qn_gguf *gguf;
};

struct quern_vocab {
    struct quern_callbacks cb;
    struct qn_gguf *gguf; /* NULL where somebody else holds it */
    struct qn_vocab *vocab;
};

struct quern_decoder {
    struct quern_callbacks cb;
    struct qn_decoder state;
    bool specials;
    char *text;
    size_t cap;
};

/* Opens the GGUF file that a source names: a path, or a range of a descriptor. */
enum quern_status qn_source_open(const struct quern_callbacks *cb, struct qn_gguf **out,
                                 struct quern_source source, const struct qn_gguf_params *params,
                                 struct quern_error *err);

/* The handle owns `gguf` from here on. cb has been resolved and is copied. */
void qn_file_init(struct quern_file *file, const struct quern_callbacks *cb, struct qn_gguf *gguf);
void qn_file_finish(struct quern_file *file);

/* Reads the vocabulary of an open file, which stays the caller's and must outlive the handle. On failure
 * *vocab is zero. `pre`: splitting rule in place of the file's, or NULL. */
enum quern_status qn_vocab_handle_init(struct quern_vocab *vocab, const struct quern_callbacks *cb,
                                       const struct qn_gguf *gguf, const char *pre, struct quern_error *err);
void qn_vocab_handle_finish(struct quern_vocab *vocab);

/* Makes the decoder continue after `tokens`, whose text has been shown: what follows keeps its leading space.
 */
void qn_decoder_continue(struct quern_decoder *decoder, const int32_t *tokens, size_t n);

/* The model that a session runs. Never NULL. */
struct quern_model *qn_session_model(const struct quern_session *session);
/* What the session reaches its host through. */
const struct quern_callbacks *qn_session_callbacks(const struct quern_session *session);

#endif
