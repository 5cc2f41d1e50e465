/* Fuzz target of the files of laid out weights: what the reader takes is what the writer writes, and every
 * tensor lies within it. An input is also read with a checksum and sizes that fit, so that the rest of the
 * form is reached. */
#include "session/kept.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 12 /* tensors */ };

static void check(const struct qn_kept_form *form, const uint8_t *file, size_t size)
{
    const uint64_t begin = qn_kept_begin(form->n);
    uint64_t sum = 0;
    if (form->n > MOST)
        return;
    struct qn_kept_tensor *tensors = calloc(form->n + 1, sizeof *tensors);
    uint8_t *again = malloc((size_t)begin);
    if (form->weights != file + begin || form->bytes != size - begin || !tensors || !again)
        abort();
    for (uint32_t i = 0; i < form->n; i++) {
        tensors[i] = qn_kept_at(form, i);
        sum ^= qn_kept_sum_all(form->weights + tensors[i].offset, tensors[i].bytes);
    }
    qn_kept_write_form(&form->model, tensors, form->n, form->bytes, again);
    if (memcmp(again, file, QN_KEPT_HEAD + (size_t)form->n * QN_KEPT_ENTRY) != 0)
        abort();
    free(again);
    free(tensors);
    volatile uint64_t sink = sum;
    (void)sink;
}

/* The input's table, in a file with as many bytes of weights as the rest of the input has. */
static void check_fit(const uint8_t *data, size_t size)
{
    const uint32_t n = data[0];
    const size_t table = (size_t)n * sizeof(struct qn_kept_tensor);
    struct qn_kept_form form;
    if (size < 1 + table)
        return;
    const size_t left = size - 1 - table, begin = (size_t)qn_kept_begin(n);
    struct qn_kept_tensor *tensors = malloc(table + 1);
    uint8_t *file = malloc(begin + left);
    if (tensors && file) {
        memcpy(tensors, data + 1, table);
        qn_kept_write_form(&(struct qn_kept_model){.bytes = size}, tensors, n, left, file);
        memcpy(file + begin, data + 1 + table, left);
        if (!qn_kept_read(file, begin + left, &form))
            check(&form, file, begin + left);
    }
    free(tensors);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qn_kept_form form;
    if (!qn_kept_read(data, size, &form))
        check(&form, data, size);
    if (size > 0)
        check_fit(data, size);
    return 0;
}
