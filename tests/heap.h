/* An allocator for tests: counts what is allocated and fails the n-th call when asked to. Not for several
 * threads. */
#ifndef QN_TEST_HEAP_H
#define QN_TEST_HEAP_H

#include "base/host.h"

struct qn_test_heap {
    struct quern_callbacks cb; /* hand this on; resolved */
    size_t n_calls;            /* allocations tried so far */
    size_t fail_at;            /* this one fails (from 1); 0: none */
    size_t n_live;
    size_t live, peak; /* bytes */
    int n_warnings;
    char warning[256]; /* the last one */
    struct quern_callbacks system;
};

static inline void *qn_test_heap_alloc(void *user, size_t size, size_t align)
{
    struct qn_test_heap *heap = user;
    if (++heap->n_calls == heap->fail_at)
        return NULL;
    /* the size is kept in front, in a block of its own alignment */
    char *block = heap->system.alloc(heap->system.user, size + align, align);
    if (!block)
        return NULL;
    *(size_t *)block = size;
    heap->n_live++;
    heap->live += size;
    heap->peak = heap->live > heap->peak ? heap->live : heap->peak;
    return block + align;
}

static inline void qn_test_heap_free(void *user, void *ptr)
{
    struct qn_test_heap *heap = user;
    char *block = (char *)ptr - QN_ALIGN;
    heap->n_live--;
    heap->live -= *(size_t *)block;
    heap->system.free(heap->system.user, block);
}

static inline void qn_test_heap_log(void *user, enum quern_log_level level, const char *text)
{
    struct qn_test_heap *heap = user;
    if (level == QUERN_LOG_WARNING) {
        heap->n_warnings++;
        snprintf(heap->warning, sizeof heap->warning, "%s", text);
    }
}

static inline void qn_test_heap_init(struct qn_test_heap *heap)
{
    memset(heap, 0, sizeof *heap);
    heap->system = qn_callbacks_resolve(NULL);
    heap->cb.user = heap;
    heap->cb.alloc = qn_test_heap_alloc;
    heap->cb.free = qn_test_heap_free;
    heap->cb.log = qn_test_heap_log;
}

#endif
