/* Steps whose token is not known yet: the device selects it, and finds it where it has left it. */
#ifndef QN_SESSION_AHEAD_H
#define QN_SESSION_AHEAD_H

#include "session/session.h"

/* All with the model's lock held. */

/* The step that was started for this token, which follows all that the sequence has; it is the caller's to
 * finish. NULL: there is none, and none is under way any more. */
struct qn_flight *qn_ahead_take(struct quern_session *s, uint32_t seq, int32_t token);
/* Where a step of one token is followed by others: has it leave its candidate where the next one can take its
 * token. Before it is started. */
void qn_ahead_prepare(struct quern_session *s, struct qn_flight *flight);
/* Starts the step of the token that a step under way, of this sequence, will select. Does nothing where the
 * device cannot or there is no room; what fails here will fail again where it matters. */
void qn_ahead_start(struct quern_session *s, uint32_t seq, const struct qn_flight *flight);
/* Waits until no step is under way and gives its result up. */
void qn_ahead_drop(struct quern_session *s);
/* The same, and frees all. */
void qn_ahead_finish(struct quern_session *s);

#endif
