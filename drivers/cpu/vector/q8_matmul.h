/* Products of quantised rows with 8-bit activations: rows for few tokens, or by tiles for more. */
#ifndef QN_CPU_VECTOR_Q8_MATMUL_H
#define QN_CPU_VECTOR_Q8_MATMUL_H

#include "drivers/cpu/vector/q8_sink.h"

/* What there is for a format: functions of its own, since everything in them is a constant, for pieces of
 * work that are worth a call. */
struct qn_q8_format {
    const struct qn_q8_traits *traits;
    /* n_blocks blocks of LANES rows into vector v of a tile */
    void (*fill[QUERN_LAYOUT_END])(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_tile *tile, int v);
    /* Their product with few tokens, added to acc[FEW_TOKENS][QN_ROWS16]. */
    void (*few[QUERN_LAYOUT_END])(struct qn_q8_rows rows, size_t n_blocks, const struct qn_q8_tokens *at,
                                  uint32_t n_tokens, struct qn_q8_tile *tile, float *acc);
    /* A tile's product with some tokens, see qn_q8_tokens(). */
    void (*tokens)(struct qn_q8_tile *tile, size_t n_blocks, int vectors, struct qn_q8_tokens at,
                   uint32_t n_tokens, float *y, size_t y_stride, uint32_t n_rows, bool first);
};

/* What stays the same in a call. */
struct qn_q8_call {
    const struct qn_q8_format *format;
    uint32_t layout;
    const uint8_t *w;
    size_t row_bytes, k;
    const char *x;
    size_t x_stride;
    uint32_t n_tokens;
    float *y;
    size_t y_stride;
    struct qn_q8_tile *tile;
    struct qn_reading reading;
};

/* ---------------------------------------------------------------- few tokens */

/* The function behind `few`, for a number of tokens that is a constant; the last ones may be the same. */
QN_INLINE void qn_q8_few(const struct qn_q8_traits *traits,
                         void (*decode)(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to),
                         int tokens, struct qn_q8_rows rows, size_t n_blocks, const struct qn_q8_tokens *at,
                         uint32_t n_tokens, struct qn_q8_tile *tile, float *acc)
{
    struct qn_q8_few few = {.next = at->next};
    struct qn_q8_sink to = {.traits = traits, .tile = tile, .tokens = tokens, .few = &few};
    QN_UNROLL for (int t = 0; t < tokens; t++)
    {
        const char *row = at->row + ((uint32_t)t < n_tokens ? (uint32_t)t : n_tokens - 1) * at->stride;
        few.q[t] = row + at->q;
        few.d[t] = row + at->d;
        few.total[t] = row + at->sum;
        few.acc[t] = vf_load(acc + t * QN_ROWS16);
    }
    decode(rows, n_blocks, &to);
    QN_UNROLL for (int t = 0; t < tokens; t++) vf_store(acc + t * QN_ROWS16, few.acc[t]);
}

/* Rows are taken in bundles of 16, and these from several places at once: a thread that reads a single stream
 * of addresses does not get all that the memory gives. It asks for what comes later block by block, while it
 * computes: asked for all at once, a bundle's piece fills the queue of reads and stops the computing. */

/* n bundles from each of some places, which are n bundles apart, the first at row `from`. */
static void qn_q8_streams(const struct qn_q8_call *call, uint32_t from, uint32_t n, uint32_t streams)
{
    const struct qn_q8_traits *traits = call->format->traits;
    const size_t unit_bytes = TILE_LEN / traits->block_len * traits->block_bytes;
    /* Rows of a file are 16 streams already; what lies behind them is asked for as one more. */
    const size_t ahead =
        call->layout == QUERN_LAYOUT_FILE ? QN_ROWS16 * call->row_bytes : call->reading.ahead_bytes;
    for (uint32_t i = 0; i < n; i++) {
        struct qn_q8_tokens at = {.row = call->x, .stride = call->x_stride};
        _Alignas(64) float acc[QN_MAX_STREAMS][FEW_TOKENS][QN_ROWS16] = {{{0}}};
        for (size_t first = 0; first < call->k; first += TILE_LEN) {
            const size_t len = call->k - first < TILE_LEN ? call->k - first : TILE_LEN;
            const size_t offset = first / TILE_LEN * unit_bytes;
            qn_q8_move(&at, traits, call->k, first);
            for (uint32_t s = 0; s < streams; s++) {
                const size_t row = from + ((size_t)s * n + i) * QN_ROWS16;
                for (size_t lane = 0; lane < QN_ROWS16; lane += LANES) {
                    at.next =
                        call->w + row * call->row_bytes + QN_ROWS16 * offset + lane * unit_bytes + ahead;
                    call->format->few[call->layout](
                        qn_q8_rows_at(call->layout, call->w, call->row_bytes, row + lane, offset),
                        len / traits->block_len, &at, call->n_tokens, call->tile, acc[s][0] + lane);
                }
            }
        }
        for (uint32_t s = 0; s < streams; s++)
            for (uint32_t t = 0; t < call->n_tokens; t++)
                memcpy(call->y + t * call->y_stride + from + ((size_t)s * n + i) * QN_ROWS16, acc[s][t],
                       sizeof acc[s][t]);
    }
}

/* Few tokens with as many rows as make whole bundles; returns how many that are. */
static uint32_t qn_q8_bundles(const struct qn_q8_call *call, uint32_t n_rows)
{
    const uint32_t bundles = n_rows / QN_ROWS16, streams = call->reading.streams;
    uint32_t done = 0;
    if (call->layout != QUERN_LAYOUT_FILE && bundles >= streams) {
        qn_q8_streams(call, 0, bundles / streams, streams);
        done = bundles / streams * streams;
    }
    if (bundles > done)
        qn_q8_streams(call, done * QN_ROWS16, bundles - done, 1);
    return bundles * QN_ROWS16;
}

/* ---------------------------------------------------------------- tiles */

/* Copies one tile's piece of fewer rows than a tile has; the rest stays zero. */
static inline const uint8_t *qn_q8_pad_rows(struct qn_q8_tile *tile, const uint8_t *rows, size_t row_bytes,
                                            uint32_t n_rows, size_t bytes)
{
    for (uint32_t r = 0; r < n_rows; r++)
        memcpy(tile->raw[r], rows + r * row_bytes, bytes);
    return tile->raw[0];
}

/* One tile's rows, from row `from` on, for all tokens. Fewer than a tile has only QUERN_LAYOUT_FILE. */
static void qn_q8_tile_rows(const struct qn_q8_call *call, uint32_t from, uint32_t n_rows, int vectors)
{
    const struct qn_q8_traits *traits = call->format->traits;
    const bool padded = n_rows < (uint32_t)vectors * LANES;
    const size_t tile_bytes = TILE_LEN / traits->block_len * traits->block_bytes;
    const size_t scales = TILE_LEN / 4 / (size_t)traits->groups; /* of a whole tile */
    struct qn_q8_tile *tile = call->tile;
    struct qn_q8_tokens at = {.row = call->x, .stride = call->x_stride};
    at.each = ((size_t)vectors * LANES * tile_bytes / scales + 63) / 64 * 64;
    if (padded)
        memset(tile->raw, 0, sizeof tile->raw);
    for (size_t first = 0; first < call->k; first += TILE_LEN) {
        const size_t len = call->k - first < TILE_LEN ? call->k - first : TILE_LEN;
        const size_t n_blocks = len / traits->block_len, offset = first / TILE_LEN * tile_bytes;
        const uint8_t *raw = NULL;
        if (padded)
            raw = qn_q8_pad_rows(tile, call->w + from * call->row_bytes + offset, call->row_bytes, n_rows,
                                 n_blocks * traits->block_bytes);
        for (int v = 0; v < vectors; v++) {
            const size_t lanes = (size_t)v * LANES;
            call->format->fill[call->layout](
                padded ? qn_q8_rows_at(call->layout, raw, TILE_BLOCK_BYTES, lanes, 0)
                       : qn_q8_rows_at(call->layout, call->w, call->row_bytes, from + lanes, offset),
                n_blocks, tile, v);
        }
        /* The next rows lie behind these: read as one stream into the second cache, where 16 streams of rows
         * would stop at a third of the bandwidth. */
        at.next = padded ? NULL
                         : call->w + (from + (size_t)vectors * LANES) * call->row_bytes +
                               first / TILE_LEN * scales * at.each;
        qn_q8_move(&at, traits, call->k, first);
        call->format->tokens(tile, len / ((size_t)traits->groups * 4), vectors, at, call->n_tokens,
                             call->y + from, call->y_stride, n_rows, first == 0);
    }
}

/* Rows from `from` on, a tile at a time. The last tile overlaps the one before it, where there is one. */
static void qn_q8_tiles(const struct qn_q8_call *call, uint32_t from, uint32_t n_rows)
{
    while (from < n_rows) {
        const uint32_t left = n_rows - from;
        const bool narrow = TILE_VECTORS > 1 && left <= LANES;
        const uint32_t want = narrow ? LANES : TILE_ROWS, have = n_rows < want ? n_rows : want;
        const uint32_t at = left < have ? n_rows - have : from;
        if (narrow)
            qn_q8_tile_rows(call, at, have, 1);
        else
            qn_q8_tile_rows(call, at, have, TILE_VECTORS);
        from = at + have;
    }
}

/* ---------------------------------------------------------------- all rows */

static void qn_q8_matmul(const struct qn_q8_format *format, uint32_t layout, const struct qn_matmul_call *of)
{
    struct qn_q8_call call = {format,
                              layout,
                              of->w,
                              of->row_bytes,
                              of->k,
                              of->x,
                              of->x_stride,
                              of->n_tokens,
                              of->y,
                              of->y_stride,
                              (void *)(((uintptr_t)of->scratch + 63) & ~(uintptr_t)63),
                              of->reading};
    const uint32_t n_rows = of->n_rows;
    const uint32_t grouped = layout == QUERN_LAYOUT_FILE ? n_rows : n_rows / QN_ROWS16 * QN_ROWS16;
    uint32_t done = call.n_tokens <= FEW_TOKENS ? qn_q8_bundles(&call, grouped) : 0;
    qn_q8_tiles(&call, done, grouped);
    if (grouped < n_rows) { /* the rest of the matrix is as in a file */
        call.layout = QUERN_LAYOUT_FILE;
        call.w += grouped * call.row_bytes;
        call.y += grouped;
        qn_q8_tiles(&call, 0, n_rows - grouped);
    }
}

#endif
