/* How far a result may be from the reference, and how far it is. */
#ifndef QN_CONFORMANCE_ERRORS_H
#define QN_CONFORMANCE_ERRORS_H

#include "conformance/cases.h"

/* What an error of each element of result `which` is measured by: of a product the norms of its row and
 * column (and with two products, of both), of others what goes into them. want: the reference's. The caller
 * frees it with the case's callbacks; NULL: memory is out. */
double *qn_error_scale(const struct qn_op_case *at, struct qn_case *c, uint32_t which, const float *want);

/* Largest relative error allowed. Not exact: activations in 8 bits, or in half floats. */
double qn_error_allowed(const struct qn_op_case *at);

struct qn_error_of {
    double relative, rms; /* largest by the element's scale; of all by the results' */
    size_t at;            /* where it is largest */
    bool finite;          /* all are */
};
struct qn_error_of qn_error_compare(const float *got, const float *want, const double *scale, size_t n);

#endif
