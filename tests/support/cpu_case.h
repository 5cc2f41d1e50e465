/* Cases of one operation on the CPU driver, with random contents: what its tests have in common. */
#ifndef QN_TEST_SUPPORT_CPU_CASE_H
#define QN_TEST_SUPPORT_CPU_CASE_H

#include "support/ways.h"

enum { QN_CPU_ISAS = 2 };
extern const char *const qn_cpu_isas[QN_CPU_ISAS]; /* the setting "isa": plain C, and all instruction sets */

/* The same numbers in every run of a program. */
uint32_t qn_rng(void);
float qn_uniform(float low, float high);
/* n floats between -1 and 1; the caller frees. */
float *qn_random_floats(size_t n);

/* Fails where got is off by more than the tolerance times the scale of the sums behind it. */
void qn_assert_near(double got, double want, double scale, double tolerance, const char *what, size_t at);
const struct quern_callbacks *qn_plain_callbacks(void);

void qn_cpu_case_init(struct qn_case *c, enum quern_op op, uint32_t n_tokens, const char *isa);
/* A weight: floats are encoded where the format can be, else scales are made sane. decoded: its elements, or
 * NULL. */
uint32_t qn_random_weight(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, int64_t d2,
                          double *decoded);
uint32_t qn_random_rows(struct qn_case *c, int64_t d0, int64_t d1);
uint32_t qn_random_vector(struct qn_case *c, int64_t n);
/* A case that has run gives the same bits with weights in another layout; where the device has no kernel for
 * it, it says so. So it does while they are being laid out. */
void qn_check_layouts(struct qn_case *c);

#endif
