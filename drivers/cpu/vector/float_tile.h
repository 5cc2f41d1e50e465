/* Products of rows of floats with float activations: F32, F16 and BF16, and any format after exact decoding.
 *
 * A lane is a row: 16 rows side by side (formats/rows16.h) are multiplied with one activation spread over all
 * lanes after another, in the order of k. PIECE_LEN products are summed by themselves, and pieces are added
 * in order. For few tokens weights become floats in registers; rows of a file are put side by side first, a
 * piece at a time. For more tokens they become a tile of floats, which is read from the cache for all of
 * them. Every element sees the same operations in the same order for any number of tokens and rows, and in
 * every layout of the weights. Includes nothing: a vocabulary (vec_*.h) comes first. */
#ifndef QN_CPU_VECTOR_FLOAT_TILE_H
#define QN_CPU_VECTOR_FLOAT_TILE_H

#include "drivers/cpu/kernels.h"
#include "drivers/cpu/vector/q8_tile.h"

/* Sums of a block are 24 vectors of 32 registers, or 12 of 16, beside weights and an activation. Those of few
 * tokens leave half of the registers to activations and to weights that are being decoded. */
enum {
    PIECE_LEN = 256, /* even, and whole blocks of every format; 12 tokens and 32 rows fit the first cache */
    GROUP_VECTORS = QN_ROWS16 / LANES,
    BLOCK_GROUPS = LANES == 16 ? 2 : 1,
    BLOCK_TOKENS = (REGISTERS == 32 ? 24 : 12) / (BLOCK_GROUPS * GROUP_VECTORS),
    TILE_GROUPS = 8, /* from the second cache */
    FLOAT_FEW = REGISTERS == 32 ? 4 : 2,
    FEW_GROUPS = 4, /* that few tokens take at once at most: sums of one wait for each other */
    BLOCK_VECTORS = FEW_GROUPS * GROUP_VECTORS,
};

enum qn_float_kind { QN_KIND_F32, QN_KIND_F16, QN_KIND_BF16 };

struct qn_float_tile {
    float w[TILE_GROUPS][PIECE_LEN][QN_ROWS16];
    float x[BLOCK_TOKENS][PIECE_LEN];
    float rows[QN_ROWS16][PIECE_LEN]; /* decoded, or in their own format side by side */
    float y[BLOCK_TOKENS][QN_ROWS16];
};
_Static_assert(sizeof(struct qn_float_tile) + 64 <= QN_MATMUL_SCRATCH, "a tile fits the scratch");

/* Groups of 16 rows side by side: n weights of each, and where their sums go. */
struct qn_float_piece {
    const char *w[QN_MAX_STREAMS];
    /* Weights to ask for meanwhile, as many as are read; the first is NULL: none. */
    const char *next[QN_MAX_STREAMS];
    float *y[QN_MAX_STREAMS];
    size_t y_stride;
    size_t n;
    bool first; /* of all pieces: y is set, not added to */
};

/* ---------------------------------------------------------------- blocks */

/* Bytes of n weights of 16 rows. */
QN_INLINE size_t qn_float_bytes(enum qn_float_kind kind, size_t n)
{
    return n * QN_ROWS16 * (kind == QN_KIND_F32 ? 4 : 2);
}

/* Two weights of LANES rows, from words that have them in halves. */
QN_INLINE void qn_float_pair(enum qn_float_kind kind, vi words, vf out[2])
{
    out[0] = kind == QN_KIND_F16 ? vf_of_halves(words) : vf_of_bits(vi_sll(words, 16));
    out[1] = kind == QN_KIND_F16 ? vf_of_halves(vi_srl(words, 16))
                                 : vf_of_bits(vi_and(words, vi_set((int)0xffff0000)));
}

/* The weight of LANES rows that is left over. */
QN_INLINE vf qn_float_last(enum qn_float_kind kind, const char *at)
{
    return kind == QN_KIND_F16 ? vf_load_half(at) : vf_load_bhalf(at);
}

QN_INLINE vf qn_float_spread(const char *x)
{
    return vf_set(*(const float *)(const void *)x);
}

/* acc += the product of n weights of groups with some tokens. Where `groups`, `tokens` and a large x_stride
 * are constants, sums and addresses stay in registers. */
QN_INLINE void qn_float_add(enum qn_float_kind kind, int groups, int tokens, const char *const w[],
                            const char *const next[], size_t n, const char *x, size_t x_stride,
                            vf acc[][BLOCK_VECTORS])
{
    const int vectors = groups * GROUP_VECTORS;
    const size_t step = kind == QN_KIND_F32 ? 1 : 2;
    size_t i = 0;
    for (; i + step <= n; i += step) {
        const size_t at = qn_float_bytes(kind, i);
        if (next[0])
            QN_UNROLL for (int g = 0; g < groups; g++) v_ask_for(next[g] + at);
        if (kind == QN_KIND_F32) {
            vf weight[BLOCK_VECTORS];
            QN_UNROLL for (int v = 0; v < vectors; v++) weight[v] =
                vf_load((const float *)(const void *)(w[v / GROUP_VECTORS] + at) + v % GROUP_VECTORS * LANES);
            QN_UNROLL for (int t = 0; t < tokens; t++)
            {
                const vf have = qn_float_spread(x + (size_t)t * x_stride + i * 4);
                QN_UNROLL for (int v = 0; v < vectors; v++) acc[t][v] = vf_fma(weight[v], have, acc[t][v]);
            }
        } else {
            vf have[2][BLOCK_TOKENS];
            QN_UNROLL for (int t = 0; t < tokens; t++) QN_UNROLL for (size_t s = 0; s < 2; s++) have[s][t] =
                qn_float_spread(x + (size_t)t * x_stride + (i + s) * 4);
            QN_UNROLL for (int v = 0; v < vectors; v++)
            {
                vf weight[2];
                qn_float_pair(kind, vi_load(w[v / GROUP_VECTORS] + at + v % GROUP_VECTORS * LANES * 4),
                              weight);
                QN_UNROLL for (size_t s = 0; s < 2; s++) QN_UNROLL for (int t = 0; t < tokens; t++)
                    acc[t][v] = vf_fma(weight[s], have[s][t], acc[t][v]);
            }
        }
    }
    if (kind != QN_KIND_F32 && i < n) {
        QN_UNROLL for (int v = 0; v < vectors; v++)
        {
            const vf weight = qn_float_last(kind, w[v / GROUP_VECTORS] + qn_float_bytes(kind, i) +
                                                      v % GROUP_VECTORS * LANES * 2);
            QN_UNROLL for (int t = 0; t < tokens; t++) acc[t][v] =
                vf_fma(weight, qn_float_spread(x + (size_t)t * x_stride + i * 4), acc[t][v]);
        }
    }
}

/* y = or += the product of a piece with some tokens. */
QN_INLINE void qn_float_block(enum qn_float_kind kind, int groups, int tokens,
                              const struct qn_float_piece *piece, const char *x, size_t x_stride)
{
    const int vectors = groups * GROUP_VECTORS;
    vf acc[BLOCK_TOKENS][BLOCK_VECTORS];
    QN_UNROLL for (int t = 0; t < tokens; t++) QN_UNROLL for (int v = 0; v < vectors; v++) acc[t][v] =
        vf_zero();
    for (int t = 0; t < tokens && !piece->first; t++)
        for (int g = 0; g < groups; g++)
            v_ask_for(piece->y[g] + (size_t)t * piece->y_stride);
    qn_float_add(kind, groups, tokens, piece->w, piece->next, piece->n, x, x_stride, acc);
    /* All are loaded before any is stored: rows that are pages apart look alike to a processor. */
    QN_UNROLL for (int set = 0; set < 2; set++) QN_UNROLL for (int t = 0; t < tokens; t++)
    {
        QN_UNROLL for (int v = 0; v < vectors; v++)
        {
            float *y = piece->y[v / GROUP_VECTORS] + (size_t)t * piece->y_stride + v % GROUP_VECTORS * LANES;
            if (set)
                vf_store(y, acc[t][v]);
            else if (!piece->first)
                acc[t][v] = vf_add(vf_load(y), acc[t][v]);
        }
    }
}

/* ---------------------------------------------------------------- pieces */

/* n weights of 16 rows of a file, side by side. */
QN_INLINE void qn_float_pack(size_t element, const char *rows, size_t row_bytes, size_t n, char *out)
{
    const size_t bytes = n * element;
    size_t at = 0;
    for (; at + 16 <= bytes; at += 16)
        for (size_t lane = 0; lane < QN_ROWS16; lane += LANES) {
            vi words[4];
            vi_piece((const uint8_t *)rows + lane * row_bytes + at, row_bytes, words);
            QN_UNROLL for (size_t j = 0; j < 4; j++)
                vi_store(out + QN_ROWS16 * (at + 4 * j) + lane * 4, words[j]);
        }
    for (size_t size = 4; at < bytes; at += size) {
        size = bytes - at < size ? bytes - at : size;
        for (size_t r = 0; r < QN_ROWS16; r++)
            memcpy(out + QN_ROWS16 * at + r * size, rows + r * row_bytes + at, size);
    }
}

/* n weights of 16 rows side by side, as floats. */
QN_INLINE void qn_float_decode(enum qn_float_kind kind, const char *w, size_t n, float out[][QN_ROWS16])
{
    size_t i = 0;
    for (; i + 2 <= n; i += 2)
        QN_UNROLL for (size_t lane = 0; lane < QN_ROWS16; lane += LANES)
        {
            vf two[2];
            qn_float_pair(kind, vi_load(w + qn_float_bytes(kind, i) + lane * 4), two);
            vf_store(out[i] + lane, two[0]);
            vf_store(out[i + 1] + lane, two[1]);
        }
    for (size_t lane = 0; i < n && lane < QN_ROWS16; lane += LANES)
        vf_store(out[i] + lane, qn_float_last(kind, w + qn_float_bytes(kind, i) + lane * 2));
}

/* ---------------------------------------------------------------- formats */

/* What there is for plain floats of a kind; functions of its own, for pieces of work that are worth a call.
 * Nothing: a format that is decoded exactly, row by row. */
struct qn_float_traits {
    /* n weights of 16 rows of a file, side by side */
    void (*pack)(const char *rows, size_t row_bytes, size_t n, char *out);
    /* NULL: weights side by side are floats already */
    void (*decode)(const char *w, size_t n, float out[][QN_ROWS16]);
    /* The product of a piece of some places with up to FLOAT_FEW tokens. */
    void (*few)(const struct qn_float_piece *piece, uint32_t places, const char *x, size_t x_stride,
                uint32_t n_tokens);
};

/* What stays the same in a call. */
struct qn_float_call {
    const struct qn_float_traits *traits;
    const struct qn_format *blocks; /* of the weights */
    uint32_t layout;
    const struct qn_matmul_call *of;
    struct qn_float_tile *tile;
};

/* Where the piece from weight `first` on is: of 16 rows side by side, or of the first of 16 rows of a file.
 */
static const char *qn_float_at(const struct qn_float_call *call, uint32_t layout, size_t row, size_t first)
{
    const size_t offset = first / call->blocks->block_len * call->blocks->block_bytes;
    return (const char *)call->of->w + row * call->of->row_bytes +
           (layout == QUERN_LAYOUT_FILE ? 1 : QN_ROWS16) * offset;
}

static size_t qn_float_len(const struct qn_float_call *call, size_t first)
{
    return call->of->k - first < PIECE_LEN ? call->of->k - first : PIECE_LEN;
}

/* ---------------------------------------------------------------- few tokens */

/* As many of the places at once as leave their sums in registers. */
QN_INLINE void qn_float_places(enum qn_float_kind kind, int tokens, const struct qn_float_piece *piece,
                               uint32_t places, const char *x, size_t x_stride)
{
    const int fit = REGISTERS / 2 / (tokens * GROUP_VECTORS), most = fit < FEW_GROUPS ? fit : FEW_GROUPS;
    struct qn_float_piece part = *piece;
    uint32_t p = 0;
    for (; p < places; p += places - p >= (uint32_t)most ? (uint32_t)most : 1) {
        for (uint32_t g = 0; g < (uint32_t)most && p + g < places; g++) {
            part.w[g] = piece->w[p + g];
            part.next[g] = piece->next[0] ? piece->next[p + g] : NULL;
            part.y[g] = piece->y[p + g];
        }
        if (places - p >= (uint32_t)most)
            qn_float_block(kind, most, tokens, &part, x, x_stride);
        else
            qn_float_block(kind, 1, tokens, &part, x, x_stride);
    }
}

QN_INLINE void qn_float_few(enum qn_float_kind kind, const struct qn_float_piece *piece, uint32_t places,
                            const char *x, size_t x_stride, uint32_t n_tokens)
{
    struct qn_float_piece part = *piece;
    while (n_tokens > 0) {
        uint32_t n;
        if (FLOAT_FEW >= 4 && n_tokens >= 4) {
            n = 4;
            qn_float_places(kind, FLOAT_FEW, &part, places, x, x_stride);
        } else if (n_tokens >= 2) {
            n = 2;
            qn_float_places(kind, 2, &part, places, x, x_stride);
        } else {
            n = 1;
            qn_float_places(kind, 1, &part, places, x, x_stride);
        }
        part.next[0] = NULL;
        for (uint32_t p = 0; p < places; p++)
            part.y[p] += n * part.y_stride;
        x += n * x_stride;
        n_tokens -= n;
    }
}

/* n groups from each of some places, which are n groups apart, the first at row `from`. */
static void qn_float_streams(const struct qn_float_call *call, size_t from, uint32_t n, uint32_t places)
{
    const struct qn_matmul_call *of = call->of;
    const bool in_file = call->layout == QUERN_LAYOUT_FILE;
    struct qn_float_piece piece = {.y_stride = of->y_stride};
    for (uint32_t i = 0; i < n; i++)
        for (size_t first = 0; first < of->k; first += PIECE_LEN) {
            piece.n = qn_float_len(call, first);
            piece.first = first == 0;
            for (uint32_t p = 0; p < places; p++) {
                const size_t row = from + ((size_t)p * n + i) * QN_ROWS16;
                const char *at = qn_float_at(call, call->layout, row, first);
                piece.w[p] = at;
                piece.next[p] = at + of->reading.ahead_bytes;
                if (in_file) { /* rows that come later are asked for as one stream: as 16 they come slower */
                    piece.w[p] = (const char *)call->tile->w[p];
                    piece.next[p] = qn_float_at(call, QUERN_LAYOUT_ROWS16, row + QN_ROWS16, first);
                    call->traits->pack(at, of->row_bytes, piece.n, (char *)call->tile->w[p]);
                }
                piece.y[p] = of->y + row;
            }
            call->traits->few(&piece, places, (const char *)of->x + first * sizeof(float), of->x_stride,
                              of->n_tokens);
        }
}

/* Few tokens with whole groups. Rows of a file are 16 streams already. */
static void qn_float_groups(const struct qn_float_call *call, uint32_t groups)
{
    const uint32_t places = call->layout == QUERN_LAYOUT_FILE ? 1 : call->of->reading.streams;
    const uint32_t each = groups / places;
    qn_float_streams(call, 0, each, places);
    qn_float_streams(call, (size_t)each * places * QN_ROWS16, groups % places, 1);
}

/* ---------------------------------------------------------------- tiles */

/* A piece of up to 16 rows, as floats side by side: in the tile, or where they are. */
static const char *qn_float_fill(const struct qn_float_call *call, uint32_t group, size_t row,
                                 uint32_t n_rows, size_t first, size_t n)
{
    const struct qn_float_traits *traits = call->traits;
    struct qn_float_tile *tile = call->tile;
    const char *at = qn_float_at(call, call->layout, row, first);
    float(*to)[QN_ROWS16] = tile->w[group];
    if (!traits->pack || n_rows < QN_ROWS16) {
        memset(tile->rows, 0, sizeof tile->rows);
        for (uint32_t r = 0; r < n_rows; r++)
            call->blocks->dequantise(at + r * call->of->row_bytes, tile->rows[r], n);
        qn_float_pack(sizeof(float), (const char *)tile->rows, sizeof tile->rows[0], n, (char *)to);
        return (const char *)to;
    }
    if (call->layout == QUERN_LAYOUT_FILE) {
        char *packed = (char *)(traits->decode ? tile->rows : (void *)to);
        traits->pack(at, call->of->row_bytes, n, packed);
        at = packed;
    }
    if (!traits->decode)
        return at;
    traits->decode(at, n, to);
    return (const char *)to;
}

/* Tokens in a tile, with the groups that are there. */
QN_INLINE void qn_float_tokens(int tokens, const struct qn_float_call *call, const char *const w[],
                               uint32_t groups, uint32_t last_rows, uint32_t token, size_t row, size_t first)
{
    struct qn_float_tile *tile = call->tile;
    const size_t n = qn_float_len(call, first), x_stride = sizeof tile->x[0];
    struct qn_float_piece piece = {.y_stride = call->of->y_stride, .n = n, .first = first == 0};
    float *y = call->of->y + token * call->of->y_stride + row;
    QN_UNROLL for (int t = 0; t < tokens; t++)
        memcpy(tile->x[t],
               (const char *)call->of->x + (token + (size_t)t) * call->of->x_stride + first * sizeof(float),
               n * sizeof(float));
    const uint32_t whole = last_rows < QN_ROWS16 ? groups - 1 : groups;
    uint32_t g = 0;
    for (; g + BLOCK_GROUPS <= whole; g += BLOCK_GROUPS) {
        QN_UNROLL for (int i = 0; i < BLOCK_GROUPS; i++)
        {
            piece.w[i] = w[g + (uint32_t)i];
            piece.y[i] = y + (g + (uint32_t)i) * QN_ROWS16;
        }
        const size_t lines = n / 16 * (size_t)tokens, nb = whole / BLOCK_GROUPS, b = g / BLOCK_GROUPS;
        if (0)
            for (size_t i = lines * b / nb; i < lines * (b + 1) / nb; i++)
                v_ask_for((const char *)call->of->x +
                          (token + (uint32_t)tokens + i % (size_t)tokens) * call->of->x_stride +
                          first * sizeof(float) + i / (size_t)tokens * 64);
        qn_float_block(QN_KIND_F32, BLOCK_GROUPS, tokens, &piece, (const char *)tile->x, x_stride);
    }
    for (; g < groups; g++) {
        float *to = y + g * QN_ROWS16;
        piece.w[0] = w[g];
        piece.y[0] = to;
        if (g == whole) { /* a group that is not whole */
            piece.y[0] = tile->y[0];
            piece.y_stride = QN_ROWS16;
            for (int t = 0; t < tokens && first > 0; t++)
                memcpy(tile->y[t], to + (size_t)t * call->of->y_stride, last_rows * sizeof *y);
        }
        qn_float_block(QN_KIND_F32, 1, tokens, &piece, (const char *)tile->x, x_stride);
        for (int t = 0; t < tokens && g == whole; t++)
            memcpy(to + (size_t)t * call->of->y_stride, tile->y[t], last_rows * sizeof *y);
    }
}

/* Rows from `row` on, at most those of a tile, with all tokens. */
static void qn_float_tile_rows(const struct qn_float_call *call, size_t row, uint32_t n_rows)
{
    const uint32_t groups = (n_rows + QN_ROWS16 - 1) / QN_ROWS16, last = n_rows - (groups - 1) * QN_ROWS16;
    const char *w[TILE_GROUPS];
    for (size_t first = 0; first < call->of->k; first += PIECE_LEN) {
        for (uint32_t g = 0; g < groups; g++)
            w[g] = qn_float_fill(call, g, row + g * QN_ROWS16, g + 1 < groups ? QN_ROWS16 : last, first,
                                 qn_float_len(call, first));
        uint32_t t = 0;
        for (; t + BLOCK_TOKENS <= call->of->n_tokens; t += BLOCK_TOKENS)
            qn_float_tokens(BLOCK_TOKENS, call, w, groups, last, t, row, first);
        for (; t + 4 <= call->of->n_tokens; t += 4)
            qn_float_tokens(4, call, w, groups, last, t, row, first);
        for (; t < call->of->n_tokens; t++)
            qn_float_tokens(1, call, w, groups, last, t, row, first);
    }
}

static void qn_float_tiles(const struct qn_float_call *call, size_t row, size_t n_rows)
{
    for (size_t at = row; at < row + n_rows; at += TILE_GROUPS * QN_ROWS16) {
        const size_t left = row + n_rows - at;
        qn_float_tile_rows(call, at,
                           (uint32_t)(left < TILE_GROUPS * QN_ROWS16 ? left : TILE_GROUPS * QN_ROWS16));
    }
}

/* ---------------------------------------------------------------- all rows */

static void qn_float_matmul(const struct qn_float_traits *traits, enum quern_format format, uint32_t layout,
                            const struct qn_matmul_call *of)
{
    struct qn_float_call call = {traits, qn_format_get(format), layout, of,
                                 (void *)(((uintptr_t)of->scratch + 63) & ~(uintptr_t)63)};
    const uint32_t whole = of->n_rows / QN_ROWS16 * QN_ROWS16;
    if (traits->pack && of->n_tokens <= FLOAT_FEW)
        qn_float_groups(&call, whole / QN_ROWS16);
    else
        qn_float_tiles(&call, 0, whole);
    call.layout = QUERN_LAYOUT_FILE; /* the rest of a matrix is as in a file */
    qn_float_tiles(&call, whole, of->n_rows - whole);
}

#endif
