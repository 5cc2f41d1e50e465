/* The choice behind --device auto, apart from how its figures are found. */
#ifndef QN_DEVICE_AUTO_H
#define QN_DEVICE_AUTO_H

#include "plan/plan.h"

/* What stands in a list in front of the id of a device that is for one phase. */
extern const char *const qn_phase_prefix[QN_PHASES];

/* What a profile says of a device in a phase. */
enum qn_wish { QN_WISH_MEASURE, QN_WISH_PREFER, QN_WISH_AVOID };

struct qn_candidate {
    char id[64];
    enum qn_wish wish[QN_PHASES];
    double rate[QN_PHASES]; /* millions of weights times tokens per second; 0: not known */
};

/* The device for each phase: the one device, or the pair of two, that takes the least time for a prompt and
 * an answer. Candidate 0 is the processor, which does what no other should. */
void qn_auto_choose(const struct qn_candidate *candidates, uint32_t n, uint32_t chosen[QN_PHASES]);

#endif
