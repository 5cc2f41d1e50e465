/* Worker threads of one CPU device: a parallel loop, and sleep between loops. The thread that calls
 * qn_pool_run() works too, as worker 0; it never waits for a worker that has not yet woken up, so a busy
 * machine costs speed and nothing else. */
#ifndef QN_CPU_POOL_H
#define QN_CPU_POOL_H

#include "base/cores.h"
#include "base/host.h"

struct qn_pool;

/* Does the items from `begin` to before `end`; `worker` counts from 0 and is below the number of threads. */
typedef void (*qn_pool_fn)(void *arg, uint32_t begin, uint32_t end, uint32_t worker);

/* Starts n_threads - 1 workers, which run on `cpus` alone; NULL: where the system puts them. The caller's
 * thread is its own. On failure *pool is NULL. */
enum quern_status qn_pool_create(const struct quern_callbacks *cb, struct qn_pool **pool, uint32_t n_threads,
                                 const struct qn_cpu_set *cpus, struct quern_error *err);
/* Stops and frees; *pool becomes NULL, and may be NULL. */
void qn_pool_destroy(const struct quern_callbacks *cb, struct qn_pool **pool);
uint32_t qn_pool_threads(const struct qn_pool *pool);

/* Calls fn for all of the `count` items in chunks of at least `grain` (not 0), and returns when they are
 * done. Which worker does which chunk is left to chance. Called from one thread at a time; allocates nothing.
 */
void qn_pool_run(struct qn_pool *pool, uint32_t count, uint32_t grain, qn_pool_fn fn, void *arg);

#endif
