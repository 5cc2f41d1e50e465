/* Fuzz target of the records about drivers: what is read is written, and read again as the same. */
#include "device/records.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct qn_text *a, const struct qn_text *b)
{
    if (a->n != b->n || memcmp(a->data, b->data, a->n) != 0)
        abort();
}

static void listing(const struct quern_callbacks *cb, const char *data, size_t size)
{
    struct qn_listing first, again;
    struct qn_text a = {.cb = cb}, b = {.cb = cb};
    struct quern_error err;
    if (qn_listing_read(cb, data, size, "x", &first, &err))
        return;
    qn_listing_write(&a, &first);
    if (qn_listing_read(cb, a.data, a.n, "x", &again, &err))
        abort();
    qn_listing_write(&b, &again);
    same(&a, &b);
    qn_text_finish(&a);
    qn_text_finish(&b);
    qn_listing_finish(cb, &first);
    qn_listing_finish(cb, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qn_bad_parts bad;
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    const char *text = (const char *)data;
    struct qn_text a = {.cb = &cb}, b = {.cb = &cb};
    struct quern_error err;
    struct qn_verdict verdict;
    struct qn_rating rating;
    listing(&cb, text, size);
    if (!qn_bad_parts_read(text, size, "x", &bad, &err)) {
        qn_bad_parts_write(&a, &bad);
        if (qn_bad_parts_read(a.data, a.n, "x", &bad, &err))
            abort();
    } else if (!qn_verdict_read(text, size, "x", &verdict, &err)) {
        qn_verdict_write(&a, &verdict);
        if (qn_verdict_read(a.data, a.n, "x", &verdict, &err))
            abort();
        qn_verdict_write(&b, &verdict);
        same(&a, &b);
    } else if (!qn_rating_read(text, size, "x", &rating, &err)) {
        qn_rating_write(&a, &rating);
        if (qn_rating_read(a.data, a.n, "x", &rating, &err))
            abort();
    }
    qn_text_finish(&a);
    qn_text_finish(&b);
    return 0;
}
