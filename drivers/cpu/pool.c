/* The pool's protocol. `state` says in one word whether a loop is open, which one it is, and how many
 * workers are in it: generation << 32 | open << 31 | active. A worker joins an open loop by raising `active`,
 * takes chunks from `next` until none is left, and leaves. The caller closes the loop when the chunks have
 * run out, waits until `active` is zero, and may then reuse the description of the loop. */
#include "drivers/cpu/pool.h"

#include "base/clock.h"
#include "base/thread.h"

#include <stdatomic.h>

enum {
    SPIN_NS = 40000, /* how long a waiting thread looks before it sleeps */
    OPEN_BIT = 31,
};
#define OPEN        ((uint64_t)1 << OPEN_BIT)
#define ACTIVE_MASK (OPEN - 1)

struct worker {
    struct qn_thread thread;
    struct qn_pool *pool;
    uint32_t index;
};

struct qn_pool {
    /* The loop: written by the caller while no worker is active. */
    qn_pool_fn fn;
    void *arg;
    uint32_t count, grain;
    uint32_t n_threads, n_started;
    uint64_t generation;
    bool bound; /* workers are, to these: */
    struct qn_cpu_set cpus;

    _Alignas(QN_ALIGN) _Atomic uint64_t state;
    _Alignas(QN_ALIGN) _Atomic uint64_t next;
    _Alignas(QN_ALIGN) _Atomic uint32_t sleepers; /* workers that need a broadcast */
    _Atomic bool caller_sleeps;
    _Atomic bool stop;

    struct qn_mutex mutex;
    struct qn_cond work; /* a loop has opened, or stop */
    struct qn_cond idle; /* the last worker has left */
    struct worker worker[];
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Something to do: a loop that the worker has not been in, or the end. */
static bool has_news(struct qn_pool *pool, uint64_t seen)
{
    uint64_t state = atomic_load(&pool->state);
    return ((state & OPEN) && state >> 32 != seen) || atomic_load(&pool->stop);
}

/* Loops end within microseconds of each other while a model runs, so looking for a while beats sleeping. */
static bool spin_for_news(struct qn_pool *pool, uint64_t seen)
{
    uint64_t end = 0;
    for (;;) {
        for (int i = 0; i < 64; i++) {
            if (has_news(pool, seen))
                return true;
            relax();
        }
        uint64_t now = qn_now_ns();
        if (end == 0)
            end = now + SPIN_NS;
        else if (now >= end)
            return false;
    }
}

static void wait_for_news(struct qn_pool *pool, uint64_t seen)
{
    if (spin_for_news(pool, seen))
        return;
    qn_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!has_news(pool, seen))
        qn_cond_wait(&pool->work, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    qn_mutex_unlock(&pool->mutex);
}

/* Chunks begin large, so that a thread reads long stretches of memory, and shrink towards the grain, so that
 * all end together. */
static void take_chunks(struct qn_pool *pool, uint32_t worker)
{
    uint64_t begin = atomic_load_explicit(&pool->next, memory_order_relaxed);
    while (begin < pool->count) {
        uint64_t left = pool->count - begin, size = left / (2 * pool->n_threads);
        if (size < pool->grain)
            size = pool->grain < left ? pool->grain : left;
        if (!atomic_compare_exchange_weak_explicit(&pool->next, &begin, begin + size, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        pool->fn(pool->arg, (uint32_t)begin, (uint32_t)(begin + size), worker);
        begin = atomic_load_explicit(&pool->next, memory_order_relaxed);
    }
}

/* True when the worker is in; *seen is the loop that it has joined. */
static bool join_loop(struct qn_pool *pool, uint64_t *seen)
{
    uint64_t state = atomic_load(&pool->state);
    while ((state & OPEN) && state >> 32 != *seen) {
        if (atomic_compare_exchange_weak(&pool->state, &state, state + 1)) {
            *seen = state >> 32;
            return true;
        }
    }
    return false;
}

static void leave_loop(struct qn_pool *pool)
{
    uint64_t state = atomic_fetch_sub(&pool->state, 1) - 1;
    if (!(state & OPEN) && (state & ACTIVE_MASK) == 0 && atomic_load(&pool->caller_sleeps)) {
        qn_mutex_lock(&pool->mutex);
        qn_cond_signal(&pool->idle);
        qn_mutex_unlock(&pool->mutex);
    }
}

static void work(void *arg)
{
    struct worker *worker = arg;
    struct qn_pool *pool = worker->pool;
    uint64_t seen = 0;
    if (pool->bound)
        qn_cpu_bind(&pool->cpus);
    while (!atomic_load(&pool->stop)) {
        if (join_loop(pool, &seen)) {
            take_chunks(pool, worker->index);
            leave_loop(pool);
        } else {
            wait_for_news(pool, seen);
        }
    }
}

static bool is_idle(struct qn_pool *pool)
{
    return (atomic_load(&pool->state) & ACTIVE_MASK) == 0;
}

static void wait_until_idle(struct qn_pool *pool)
{
    uint64_t end = 0;
    for (;;) {
        for (int i = 0; i < 64; i++) {
            if (is_idle(pool))
                return;
            relax();
        }
        uint64_t now = qn_now_ns();
        if (end == 0)
            end = now + SPIN_NS;
        else if (now >= end)
            break;
    }
    qn_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, true);
    while (!is_idle(pool))
        qn_cond_wait(&pool->idle, &pool->mutex);
    atomic_store(&pool->caller_sleeps, false);
    qn_mutex_unlock(&pool->mutex);
}

void qn_pool_run(struct qn_pool *pool, uint32_t count, uint32_t grain, qn_pool_fn fn, void *arg)
{
    if (count <= grain || pool->n_started == 0) {
        if (count > 0)
            fn(arg, 0, count, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->count = count;
    pool->grain = grain;
    pool->generation = (pool->generation + 1) & UINT32_MAX;
    if (pool->generation == 0)
        pool->generation = 1; /* 0: what a new worker has seen */
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store(&pool->state, pool->generation << 32 | OPEN);
    if (atomic_load(&pool->sleepers) > 0) {
        qn_mutex_lock(&pool->mutex);
        qn_cond_broadcast(&pool->work);
        qn_mutex_unlock(&pool->mutex);
    }
    take_chunks(pool, 0);
    atomic_fetch_and(&pool->state, ~OPEN);
    wait_until_idle(pool);
}

uint32_t qn_pool_threads(const struct qn_pool *pool)
{
    return pool->n_threads;
}

enum quern_status qn_pool_create(const struct quern_callbacks *cb, struct qn_pool **out, uint32_t n_threads,
                                 const struct qn_cpu_set *cpus, struct quern_error *err)
{
    *out = NULL;
    struct qn_pool *pool = qn_zalloc(cb, 1, sizeof *pool + n_threads * sizeof pool->worker[0]);
    if (!pool)
        return qn_fail_memory(err, "the worker threads");
    if (!qn_mutex_init(&pool->mutex)) {
        qn_free(cb, pool);
        return qn_fail(err, QUERN_ERR_DEVICE, "cannot make a mutex for the worker threads");
    }
    if (!qn_cond_init(&pool->work)) {
        qn_mutex_finish(&pool->mutex);
        qn_free(cb, pool);
        return qn_fail(err, QUERN_ERR_DEVICE, "cannot make a condition for the worker threads");
    }
    if (!qn_cond_init(&pool->idle)) {
        qn_cond_finish(&pool->work);
        qn_mutex_finish(&pool->mutex);
        qn_free(cb, pool);
        return qn_fail(err, QUERN_ERR_DEVICE, "cannot make a condition for the worker threads");
    }
    pool->n_threads = n_threads;
    if (cpus) {
        pool->bound = true;
        pool->cpus = *cpus;
    }
    for (uint32_t i = 1; i < n_threads; i++) {
        struct worker *worker = &pool->worker[i];
        worker->pool = pool;
        worker->index = i;
        if (!qn_thread_start(&worker->thread, work, worker)) {
            qn_pool_destroy(cb, &pool);
            return qn_fail(err, QUERN_ERR_DEVICE, "cannot start worker thread %u of %u", i, n_threads - 1);
        }
        pool->n_started++;
    }
    *out = pool;
    return QUERN_OK;
}

void qn_pool_destroy(const struct quern_callbacks *cb, struct qn_pool **pool_ptr)
{
    struct qn_pool *pool = *pool_ptr;
    if (!pool)
        return;
    qn_mutex_lock(&pool->mutex);
    atomic_store(&pool->stop, true);
    qn_cond_broadcast(&pool->work);
    qn_mutex_unlock(&pool->mutex);
    for (uint32_t i = 1; i <= pool->n_started; i++)
        qn_thread_join(&pool->worker[i].thread);
    qn_cond_finish(&pool->idle);
    qn_cond_finish(&pool->work);
    qn_mutex_finish(&pool->mutex);
    qn_free(cb, pool);
    *pool_ptr = NULL;
}
