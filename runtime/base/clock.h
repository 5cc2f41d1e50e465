/* Time for measuring and for timeouts. */
#ifndef QN_BASE_CLOCK_H
#define QN_BASE_CLOCK_H

#include <stdint.h>

/* Monotonic nanoseconds since an arbitrary start. The one clock of all traces. */
uint64_t qn_now_ns(void);
/* Nanoseconds since 1970, as files are dated. */
int64_t qn_date_ns(void);
void qn_sleep_ns(uint64_t ns);

#endif
