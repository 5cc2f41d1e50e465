/* Marks of what processes are doing with drivers that may take them down: small files beside the cache, which
 * go when the work is done, and stay when the process dies. */
#ifndef QN_DEVICE_MARKS_H
#define QN_DEVICE_MARKS_H

#include "base/claim.h"
#include "cache/cache.h"

/* Marks work on what `subject` stands for (a hash). Nothing without a cache, and where it fails: then the
 * work is done unmarked. */
void qn_marks_take(const struct quern_callbacks *cb, const struct quern_cache *cache, uint64_t subject,
                   const char *what, struct qn_claim *claim);
/* How many processes left a mark on the subject and died; the marks are removed. `last`: what one of them
 * did. */
uint32_t qn_marks_collect(const struct quern_callbacks *cb, const struct quern_cache *cache, uint64_t subject,
                          char *last, size_t size);
/* Removes all marks of processes that are dead. */
void qn_marks_clear(const struct quern_callbacks *cb, const struct quern_cache *cache);

#endif
