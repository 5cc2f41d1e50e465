/* Angles of rotary positions, as drivers work them out when a segment is prepared. */
#ifndef QN_DRIVERS_ROPE_H
#define QN_DRIVERS_ROPE_H

#include <quern/driver.h>

/* Angle of pair i at position 1, before its factor (struct quern_rope_attr has the formula). */
double qn_rope_step(const struct quern_rope_attr *attr, uint32_t i);

#endif
