/* What the tests of sessions and of faults have in common: opening reference models, a fixed text, and
 * running it. */
#ifndef QN_TEST_JOINTS_H
#define QN_TEST_JOINTS_H

#include "session/session.h"
#include <quern/quern.h>

enum { QN_TEXT_PROMPT = 48, QN_TEXT_DECODE = 8, QN_TEXT_ROWS = QN_TEXT_PROMPT + QN_TEXT_DECODE };

/* Opens tests/golden/<folder>/<name>.gguf; NULL, with the reason on stderr, when that fails. */
struct quern_model *qn_open_golden(const char *folder, const char *name,
                                   const struct quern_model_params *params);
/* n ids below 280, the same for the same salt. */
void qn_text(int32_t *ids, size_t n, uint32_t salt);

/* Rows of logits of a text: QN_TEXT_PROMPT tokens in one call, the others one by one. For qn_rows_free(). */
struct qn_rows {
    float *data; /* [n][width] */
    size_t n, width;
};
/* Feeds the text of that salt to a sequence, keeping every row. The rows so far stay on failure. */
enum quern_status qn_text_run(struct quern_session *s, uint32_t seq, uint32_t salt, struct qn_rows *rows,
                              struct quern_error *err);
/* The same on a session of its own. */
enum quern_status qn_text_alone(struct quern_model *model, const struct quern_session_params *params,
                                uint32_t salt, struct qn_rows *rows, struct quern_error *err);
void qn_rows_free(struct qn_rows *rows);
/* Whether both have the same rows, bit for bit. Says on stderr where they first differ. */
bool qn_rows_same(const struct qn_rows *a, const struct qn_rows *b);
/* Whether the last row of logits of a session is row `row`, bit for bit. */
bool qn_last_row_is(const struct quern_session *s, const struct qn_rows *rows, size_t row);
/* The same placement for both phases. */
void qn_place_both(struct quern_model *model, const uint8_t *place);
/* Pages of the KV cache that sequences hold, in all groups or in one. */
uint32_t qn_pages_in_use(const struct quern_session *s);
uint32_t qn_group_pages_in_use(const struct quern_session *s, uint32_t group);

#endif
