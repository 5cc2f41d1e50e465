/* A walk: random operations on two sessions, mostly greedy generation, with all that may come between its
 * tokens. What came of each operation can be compared with another walk of the same seed. */
#ifndef QN_TEST_WALK_H
#define QN_TEST_WALK_H

#include <quern/quern.h>

enum { QN_WALK_SESSIONS = 2 };

struct qn_walk_params {
    struct quern_model *model[QN_WALK_SESSIONS]; /* the same one or two of a kind */
    bool greedy; /* by quern_session_feed_greedy, not quern_session_feed_best */
    uint32_t seed;
    uint32_t n_ctx[QN_WALK_SESSIONS];
    uint32_t n;
};

/* What an operation left. */
struct qn_walk_step {
    uint32_t op, session;
    int32_t status;
    int32_t token;   /* the best */
    uint32_t logit;  /* its bits */
    uint32_t length; /* of both sequences */
};

/* steps: [n]. Ends the program where a session cannot be made. */
void qn_walk(const struct qn_walk_params *params, struct qn_walk_step *steps);
/* Whether both are the same. Says on stderr where they first differ. */
bool qn_walks_same(const struct qn_walk_step *a, const struct qn_walk_step *b, uint32_t n);

#endif
