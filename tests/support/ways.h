/* Running one node in several ways, which must all give the same bits, without a run that allocates. */
#ifndef QN_TEST_WAYS_H
#define QN_TEST_WAYS_H

#include "conformance/one_node.h"

/* Callbacks that count allocations; cases of these tests are made with them, and devices for `qn_case.device`
 * are to be opened with them. Others may be set. */
extern const struct quern_callbacks qn_case_callbacks;

/* qn_case_init with these callbacks; on a device that is shared by cases, the first run of one may allocate.
 */
void qn_case_start(struct qn_case *c, const struct quern_driver *driver, enum quern_op op, uint32_t n_tokens);
/* How many there were, for n_allocations. */
uint64_t qn_case_allocations(void);

/* Runs it with 1, 2, 3 and 4 threads and token by token; results are those of the first. Fails the test where
 * they differ. */
void qn_case_run(struct qn_case *c);

#endif
