/* The form of the file of laid out weights. */
#include "base/little.h"
#include "session/kept.h"

#include <string.h>
#include <xxhash.h>

static const char magic[] = "QNLAYOUT";
enum { MAGIC = sizeof magic - 1, SUMMED = 48 /* bytes of the head */ };

static uint64_t sum_of(const uint8_t *head, uint32_t n)
{
    return XXH3_64bits_withSeed(head + QN_KEPT_HEAD, (size_t)n * QN_KEPT_ENTRY, XXH3_64bits(head, SUMMED));
}

uint64_t qn_kept_begin(uint32_t n)
{
    return (QN_KEPT_HEAD + (uint64_t)n * QN_KEPT_ENTRY + QN_KEPT_ALIGN - 1) / QN_KEPT_ALIGN * QN_KEPT_ALIGN;
}

void qn_kept_write_form(const struct qn_kept_model *model, const struct qn_kept_tensor *tensors, uint32_t n,
                        uint64_t bytes, uint8_t *out)
{
    memset(out, 0, (size_t)qn_kept_begin(n));
    memcpy(out, magic, MAGIC);
    qn_put_little(out + 8, QN_KEPT_VERSION, 4);
    qn_put_little(out + 12, n, 4);
    qn_put_little(out + 16, model->bytes, 8);
    qn_put_little(out + 24, (uint64_t)model->written_ns, 8);
    qn_put_little(out + 32, model->hash, 8);
    qn_put_little(out + 40, bytes, 8);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *entry = out + QN_KEPT_HEAD + (size_t)i * QN_KEPT_ENTRY;
        qn_put_little(entry, tensors[i].tensor, 4);
        qn_put_little(entry + 4, tensors[i].layout, 4);
        qn_put_little(entry + 8, tensors[i].offset, 8);
        qn_put_little(entry + 16, tensors[i].bytes, 8);
        qn_put_little(entry + 24, tensors[i].sum, 8);
    }
    qn_put_little(out + SUMMED, sum_of(out, n), 8);
}

struct qn_kept_tensor qn_kept_at(const struct qn_kept_form *form, uint32_t i)
{
    const uint8_t *entry = form->table + (size_t)i * QN_KEPT_ENTRY;
    return (struct qn_kept_tensor){.tensor = (uint32_t)qn_get_little(entry, 4),
                                   .layout = (uint32_t)qn_get_little(entry + 4, 4),
                                   .offset = qn_get_little(entry + 8, 8),
                                   .bytes = qn_get_little(entry + 16, 8),
                                   .sum = qn_get_little(entry + 24, 8)};
}

/* Whether tensor follows tensor within the weights. */
static bool lie_within(const struct qn_kept_form *form)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < form->n; i++) {
        const struct qn_kept_tensor at = qn_kept_at(form, i);
        if (at.offset % QN_ALIGN != 0 || at.offset < end || at.offset > form->bytes ||
            at.bytes > form->bytes - at.offset)
            return false;
        end = at.offset + at.bytes;
    }
    return true;
}

const char *qn_kept_read(const void *file, uint64_t size, struct qn_kept_form *form)
{
    const uint8_t *head = file;
    if (size < QN_KEPT_HEAD || memcmp(head, magic, MAGIC) != 0)
        return "it holds no laid out weights";
    if (qn_get_little(head + 8, 4) != QN_KEPT_VERSION)
        return "it is of another version";
    const uint32_t n = (uint32_t)qn_get_little(head + 12, 4);
    const uint64_t begin = qn_kept_begin(n), bytes = qn_get_little(head + 40, 8);
    if (begin > size || bytes != size - begin)
        return "its sizes do not fit the file's";
    if (qn_get_little(head + SUMMED, 8) != sum_of(head, n))
        return "its checksum is wrong";
    *form = (struct qn_kept_form){.model = {.bytes = qn_get_little(head + 16, 8),
                                            .written_ns = (int64_t)qn_get_little(head + 24, 8),
                                            .hash = qn_get_little(head + 32, 8)},
                                  .n = n,
                                  .table = head + QN_KEPT_HEAD,
                                  .weights = head + begin,
                                  .bytes = bytes};
    return lie_within(form) ? NULL : "its tensors do not follow each other";
}

uint64_t qn_kept_sum(uint64_t sum, const void *piece, size_t bytes)
{
    return XXH3_64bits_withSeed(piece, bytes, sum);
}

uint64_t qn_kept_sum_all(const void *data, uint64_t bytes)
{
    uint64_t sum = 0;
    for (uint64_t at = 0; at < bytes; at += QN_KEPT_PIECE)
        sum = qn_kept_sum(sum, (const uint8_t *)data + at,
                          (size_t)(bytes - at < QN_KEPT_PIECE ? bytes - at : QN_KEPT_PIECE));
    return sum;
}
