#include "ways.h"

#include "base/host.h"
#include "test.h"

#include <stdatomic.h>

static _Atomic uint64_t n_allocations; /* of all devices of the test */

static void *count_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    atomic_fetch_add(&n_allocations, 1);
    struct quern_callbacks plain = qn_callbacks_resolve(NULL);
    return plain.alloc(NULL, size, align);
}

static void count_free(void *user, void *ptr)
{
    (void)user;
    struct quern_callbacks plain = qn_callbacks_resolve(NULL);
    plain.free(NULL, ptr);
}

uint64_t qn_case_allocations(void)
{
    return atomic_load(&n_allocations);
}

const struct quern_callbacks qn_case_callbacks = {.alloc = count_alloc, .free = count_free};

void qn_case_start(struct qn_case *c, const struct quern_driver *driver, enum quern_op op, uint32_t n_tokens)
{
    qn_case_init(c, &qn_case_callbacks, driver, op, n_tokens);
    c->n_allocations = qn_case_allocations;
}

void qn_case_run(struct qn_case *c)
{
    static const char *const threads[] = {"1", "2", "3", "4", "1", "3"};
    struct qn_left first, left;
    struct quern_error err = {.text = ""};
    if (qn_case_run_way(c, "1", c->n_tokens, &first, &err) != QUERN_OK)
        fail_msg("cannot run: %s", err.text);
    for (int way = 1; way < 6; way++) {
        const char *order = way >= 4 ? ", token by token" : "";
        if (qn_case_run_way(c, threads[way], way >= 4 ? 1 : c->n_tokens, &left, &err) != QUERN_OK)
            fail_msg("cannot run with %s threads%s: %s", threads[way], order, err.text);
        const char *what = qn_left_differ(c, &first, &left);
        if (what)
            fail_msg("%s threads%s give other bits in %s", threads[way], order, what);
        qn_left_finish(c, &left);
    }
    qn_case_keep(c, &first);
    qn_left_finish(c, &first);
}
