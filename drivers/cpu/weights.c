/* Weights laid out for the kernels, by all threads. */
#include "base/clock.h"
#include "drivers/cpu/device.h"
#include "formats/rows16.h"

struct packing {
    enum quern_format format;
    size_t k, n_rows, row_bytes;
    const char *from;
    char *to;
};

/* Groups of 16 rows; the last one takes the rows that are left over. */
static void pack_groups(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const struct packing *packing = arg;
    size_t first = (size_t)begin * QN_ROWS16, last = (size_t)end * QN_ROWS16;
    if (last > packing->n_rows)
        last = packing->n_rows;
    qn_rows16_pack(packing->format, packing->k, last - first, packing->from + first * packing->row_bytes,
                   packing->to + first * packing->row_bytes);
}

int32_t qn_cpu_weights_prepare(struct quern_device *device, const struct quern_weight_rows *rows,
                               struct quern_error *err)
{
    const struct qn_format *format = qn_format_get((enum quern_format)rows->format);
    const uint64_t n = rows->n, n_rows = rows->n_rows;
    if (rows->layout != QUERN_LAYOUT_ROWS16 || !qn_rows16_has((enum quern_format)rows->format))
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "weights of format %u have no layout %u here",
                       rows->format, rows->layout);
    const uint64_t row_bytes = qn_format_row_bytes((enum quern_format)rows->format, n);
    const struct quern_buffer *buffer = rows->buffer;
    if (n == 0 || n % format->block_len != 0 || n_rows == 0 || n_rows > UINT32_MAX ||
        rows->offset > buffer->bytes || n_rows > (buffer->bytes - rows->offset) / row_bytes)
        return qn_fail(err, QUERN_ERR_PARAM, "%llu rows of %llu weights do not fit at %llu of %llu bytes",
                       (unsigned long long)n_rows, (unsigned long long)n, (unsigned long long)rows->offset,
                       (unsigned long long)buffer->bytes);
    if (!rows->rows) {
        rows->buffer->laid_out = rows->offset + n_rows * row_bytes;
        return QUERN_OK;
    }
    struct packing packing = {
        (enum quern_format)rows->format, (size_t)n, (size_t)n_rows, (size_t)row_bytes, rows->rows,
        buffer->data + rows->offset};
    const uint64_t begin = qn_now_ns();
    qn_pool_run(device->pool, (uint32_t)((n_rows + QN_ROWS16 - 1) / QN_ROWS16), 1, pack_groups, &packing);
    device->laying_out.n++;
    device->laying_out.ns += qn_now_ns() - begin;
    rows->buffer->laid_out = rows->offset + n_rows * row_bytes;
    return QUERN_OK;
}
