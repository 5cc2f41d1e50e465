/* One step: filling the step block, running the plan, keeping what came out. */
#ifndef QN_SESSION_STEP_H
#define QN_SESSION_STEP_H

#include "session/session.h"

/* Memory of the step block for a session's largest step. */
size_t qn_step_bytes(uint32_t max_tokens, uint32_t max_seqs, uint32_t max_pages);

/* An empty step. n_best: candidates that are wanted of an output in place of logits, 0: logits. */
struct qn_flight *qn_step_begin(struct quern_session *s, uint32_t n_best);
/* Adds the next token of a sequence. The step has room: below n_batch tokens, and below max_outputs where
 * wanted. */
void qn_step_push(struct quern_session *s, struct qn_flight *flight, uint32_t seq, int32_t token,
                  bool wanted);

/* With the model's lock held: gives the step to the devices. On failure nothing has changed, and *failed is
 * the device, or QUERN_NONE. */
enum quern_status qn_step_start(struct quern_session *s, struct qn_flight *flight, uint32_t *failed,
                                struct quern_error *err);
/* With the model's lock held: waits for a step and appends its rows of logits to the session's, or takes its
 * candidates. The tokens are then part of kv_len; len is the caller's to advance. On failure the step has not
 * been, nor have those that were started after it. */
enum quern_status qn_step_finish(struct quern_session *s, struct qn_flight *flight, uint32_t *failed,
                                 struct quern_error *err);
/* No step is under way any more. */
void qn_step_abandon(struct quern_session *s);

/* Gives back the pages that hold nothing of the first n tokens. */
void qn_sequence_cut(struct quern_session *s, struct qn_sequence *seq, uint32_t n);

#endif
