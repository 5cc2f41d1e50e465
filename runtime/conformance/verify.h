/* Whether a device computes a case as the reference does: near the CPU driver in plain C and exact, twice the
 * same bits, the same bits in steps of fewer tokens where the same kernel serves. */
#ifndef QN_CONFORMANCE_VERIFY_H
#define QN_CONFORMANCE_VERIFY_H

#include "conformance/cases.h"

struct qn_verifier {
    const struct quern_callbacks *cb;     /* resolved */
    const struct quern_driver *driver;    /* of the device */
    const struct quern_driver *reference; /* the CPU's */
    struct quern_device *device;          /* open */
    uint32_t repeats;                     /* further runs that must give the same bits; 0: 1 */
    bool measured;                        /* see struct qn_case */
    uint64_t (*n_allocations)(void);      /* see struct qn_case */
    bool quick;                           /* in one way only: no chunks, no other buckets */
};

/* What came out. */
struct qn_finding {
    bool good;
    bool refused;   /* more rounds than loops go on this device, which says so */
    bool unsteady;  /* not good: other bits from run to run */
    double error;   /* largest relative one */
    char text[384]; /* what is wrong; or why it is refused */
};

/* Makes the case from the seed and runs it. A failure of the device is a finding; other failures are the
 * status. */
enum quern_status qn_verify_case(const struct qn_verifier *verifier, const struct qn_op_case *at,
                                 uint64_t seed, struct qn_finding *finding, struct quern_error *err);

/* Of these operations a device may compute some with rounded activations. */
bool qn_op_may_round(enum quern_op op);

#endif
