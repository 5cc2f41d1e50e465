/* Splitting a text into the pieces that BPE merges within: one rule per model family, by
 * `tokenizer.ggml.pre`. A rule is a row of stages; each stage cuts the pieces of the one before it. */
#ifndef QN_TEXT_PRE_H
#define QN_TEXT_PRE_H

#include "base/host.h"

enum { QN_PRE_STAGES = 6 };

enum qn_pre_flags {
    QN_PRE_WHOLE = 1,   /* a piece that is a token as a whole is that token, whatever the merges say */
    QN_PRE_ADD_BOS = 2, /* unless the file says otherwise */
    QN_PRE_RAW =
        4, /* the vocabulary holds UTF-8 with U+2581 for a space and <0xXX> for bytes, not byte letters */
};

struct qn_pre {
    const char *name; /* as in the table; NULL: none */
    unsigned flags;   /* enum qn_pre_flags */
    const struct qn_pre_stage *stages;
    void *code[QN_PRE_STAGES]; /* compiled expressions, NULL where a scanner does it */
};

/* `cb` must stay where it is as long as the rule lives. Unknown: QUERN_ERR_UNSUPPORTED with the list of
 * names. */
enum quern_status qn_pre_create(const struct quern_callbacks *cb, struct qn_pre *pre, const char *name,
                                size_t len, struct quern_error *err);
/* The names that qn_pre_create() takes, in the order of the table; NULL behind the last. */
const char *qn_pre_name(size_t index);
void qn_pre_finish(struct qn_pre *pre);

/* Working memory, and the result: piece i ends at end[i]; the first begins at 0. Start from zero. */
struct qn_splitter {
    size_t *end;
    size_t n, cap;
    size_t *other;
    size_t cap_other;
    char *clean; /* the text with U+FFFD for what is not UTF-8 */
    size_t cap_clean;
};

enum quern_status qn_pre_split(const struct quern_callbacks *cb, const struct qn_pre *pre,
                               struct qn_splitter *splitter, const char *text, size_t len,
                               struct quern_error *err);
void qn_splitter_finish(const struct quern_callbacks *cb, struct qn_splitter *splitter);

#endif
