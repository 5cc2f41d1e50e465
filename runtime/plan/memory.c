/* Memory of activations: lifetimes -> offsets in one arena. */
#include "plan/plan.h"

#include <stdlib.h>

static int larger_first(const void *a, const void *b)
{
    const struct qn_lifetime *x = *(struct qn_lifetime *const *)a, *y = *(struct qn_lifetime *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y; /* the same order on every system */
}

static int lower_first(const void *a, const void *b)
{
    const struct qn_lifetime *x = *(struct qn_lifetime *const *)a, *y = *(struct qn_lifetime *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static uint64_t round_up(uint64_t bytes, uint64_t align)
{
    return (bytes + align - 1) & ~(align - 1);
}

uint64_t qn_memory_plan(const struct quern_callbacks *cb, struct qn_lifetime *pieces, size_t n,
                        uint64_t align)
{
    if (n == 0)
        return 0;
    struct qn_lifetime **order = qn_alloc(cb, n, sizeof(struct qn_lifetime *));
    struct qn_lifetime **alive = qn_alloc(cb, n, sizeof(struct qn_lifetime *));
    uint64_t total = UINT64_MAX;
    if (order && alive) {
        for (size_t i = 0; i < n; i++)
            order[i] = &pieces[i];
        qsort(order, n, sizeof(struct qn_lifetime *), larger_first);
        total = 0;
        for (size_t i = 0; i < n; i++) {
            struct qn_lifetime *piece = order[i];
            size_t n_alive = 0;
            for (size_t j = 0; j < i; j++)
                if (order[j]->first <= piece->last && piece->first <= order[j]->last)
                    alive[n_alive++] = order[j];
            qsort(alive, n_alive, sizeof(struct qn_lifetime *), lower_first);
            piece->offset = 0;
            for (size_t j = 0; j < n_alive; j++) {
                if (piece->offset + piece->bytes <= alive[j]->offset)
                    break;
                uint64_t end = round_up(alive[j]->offset + alive[j]->bytes, align);
                if (end > piece->offset)
                    piece->offset = end;
            }
            if (piece->offset + piece->bytes > total)
                total = piece->offset + piece->bytes;
        }
        total = round_up(total, align);
    }
    qn_free(cb, order);
    qn_free(cb, alive);
    return total;
}
