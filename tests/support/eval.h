/* Evaluates a graph the plain way: one sequence, contiguous keys and values in float32, every weight decoded
 * up front, sums in double precision, each operation written straight from its formula in quern/driver.h. The
 * reference for tests of graphs and drivers: it shares no code with either, and is not fast. */
#ifndef QN_TEST_EVAL_H
#define QN_TEST_EVAL_H

#include "gguf/gguf.h"
#include "graph/graph.h"

struct qn_eval;

/* For at most max_tokens tokens altogether. File and graph outlive it. NULL when memory is out. */
struct qn_eval *qn_eval_create(const struct qn_gguf *gguf, const struct qn_graph *graph, uint32_t max_tokens);
void qn_eval_destroy(struct qn_eval *eval);
/* Evaluates n tokens after those of earlier calls. Returns the graph's output, a row for each of them, valid
 * until the next call; NULL when there is no room for them or a token is outside of the table. */
const float *qn_eval_run(struct qn_eval *eval, const int32_t *tokens, uint32_t n);
/* Elements of a value of the graph in the last step, laid out as quern/driver.h says (expert ids as floats).
 */
const float *qn_eval_value(const struct qn_eval *eval, uint32_t value);
/* Forgets all tokens. */
void qn_eval_reset(struct qn_eval *eval);

#endif
