/* Products: MATMUL and MOE_MATMUL. */
#include "drivers/vulkan/plan.h"

#include <string.h>

enum {
    MATVEC_WORKGROUP = 64,  /* of matvec.comp */
    MATVEC_COLUMNS_MAX = 8, /* of a workgroup */
    MATVEC_SHARES = 8,      /* workgroups that there should be */
    MATVEC_SUMS_MAX = 8,    /* of an invocation: 4 KiB of shared memory, with two weights */
    SPLIT_UNIT = 256,       /* parts of rows are multiples of it, as in product.glsl */
    SPLIT_CONSTANT = 8,
    BUSY_INVOCATIONS = 32768,
    MOE_SORT_WORKGROUP = 128,
    MAX_PRODUCTS = 3,    /* of a dispatch */
    SCOPE_WORKGROUP = 2, /* as in SPIR-V */
    SCOPE_SUBGROUP = 3,
};

/* A dispatch: a product, or n of one X with weights of one format. */
struct product {
    bool moe;
    uint32_t n;
    uint32_t weight[MAX_PRODUCTS], bias[MAX_PRODUCTS]; /* of each product, or both of one with two weights */
    uint32_t out[MAX_PRODUCTS];
    uint32_t n_weights, act;
    uint32_t x, extra; /* extra: residual, or expert ids */
    uint32_t n_used, per_slot;
    float scale, softcap, residual_scale;
};

/* Whether there is a kernel of that product for its weights, and rounding its activations is allowed. */
static bool may_round(const struct qn_vk_plan *p, const struct product *product, enum qn_vk_kernel kernel)
{
    kernel += qn_vk_value(p, product->weight[0])->format;
    return !p->segment->exact && qn_vk_can_have(&p->device->shaders, kernel, NULL);
}

/* Kernels for many columns, in the order of preference. */
enum kind {
    FLOATS = QN_VK_TILE_FLOATS,
    DOT8 = QN_VK_TILE_8_BITS,
    COOPMAT = QN_VK_TILE_COOPMAT,
    COOPMAT2 = QN_VK_TILE_COOPMAT2,
    KINDS
};

static const enum qn_vk_kernel tile_kernels[KINDS][2] = {
    [FLOATS] = {QN_VK_MATMUL, QN_VK_MOE_MATMUL},
    [DOT8] = {QN_VK_MATMUL8, QN_VK_MOE_MATMUL8},
    [COOPMAT] = {QN_VK_MATMUL_COOPMAT, QN_VK_MOE_MATMUL_COOPMAT},
    [COOPMAT2] = {QN_VK_MATMUL_COOPMAT2, QN_VK_MOE_MATMUL_COOPMAT2},
};

static const enum qn_vk_form tile_forms[KINDS] = {
    [FLOATS] = QN_VK_FLOATS,
    [DOT8] = QN_VK_8_BITS,
    [COOPMAT] = QN_VK_HALVES,
    [COOPMAT2] = QN_VK_HALVES,
};

/* Many columns: a workgroup has a tile of the result. See matmul.comp for what the sizes are. */
struct tile {
    enum kind kind;
    uint32_t m, tm;         /* rows: tm times as many as lanes, or as a cooperative matrix has */
    uint32_t n, tn, strips; /* columns: in each strip tn times 1, or as many as a cooperative matrix has */
    uint32_t depth;         /* of k at once, quads */
    uint32_t workgroup;
    bool subgroups; /* full ones */
};

static uint32_t tile_rows(const struct tile *tile, uint32_t n_weights)
{
    return tile->m * tile->tm / n_weights;
}

static uint32_t tile_columns(const struct tile *tile)
{
    return tile->strips * tile->n * tile->tn;
}

/* Rounds of the loops of matmul.comp, at most. Those that load a tile may each have one of weights_of or
 * column_of in them; a loop is left in a round of its own. */
static uint64_t tile_rounds(const struct tile *tile, uint64_t k)
{
    uint64_t loads = qn_vk_ceil_div((uint64_t)tile_rows(tile, 1) * tile->depth, tile->workgroup) +
                     qn_vk_ceil_div((uint64_t)tile_columns(tile) * tile->depth, tile->workgroup);
    uint64_t each = tile->kind == COOPMAT2 ? 1 : 1 + 2 * (loads + 2) + tile->depth + 1;
    return qn_vk_ceil_div(k, 4 * tile->depth) * each + 1;
}

/* The same of matvec.comp. */
static uint64_t matvec_rounds(uint64_t k, uint32_t n_weights, uint32_t columns, uint32_t lanes, bool rounded)
{
    return n_weights *
           (rounded ? qn_vk_ceil_div(k, 32 * lanes) : qn_vk_ceil_div(k, 4 * lanes) * (uint64_t)(2 + columns));
}

/* Shared memory of such a tile, as matmul.comp declares it. */
static uint64_t lanes_bytes(const struct tile *tile)
{
    return qn_vk_tile_bytes(tile_rows(tile, 1), tile_columns(tile), 4 * (uint64_t)tile->depth,
                            tile->kind == DOT8);
}

/* In floats, or in 8 bits, whose quads are words: 64 rows, or 32 where few invocations lie side by side; or
 * as the settings say. */
static struct tile lanes_tile(const struct quern_device *device, enum kind kind, uint32_t format)
{
    const struct qn_vk_facts *facts = &device->facts;
    const struct qn_vk_settings *settings = &device->settings;
    bool subgroups = facts->full_subgroup >= 8 && facts->full_subgroup <= 64;
    uint32_t lanes = subgroups ? facts->full_subgroup : 32;
    uint32_t rows = lanes == 8 ? 32 : lanes < 64 ? 64 : 128;
    uint32_t strips = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_STRIPS, format, 4);
    while (strips * lanes > facts->properties.limits.maxComputeWorkGroupInvocations)
        strips /= 2;
    rows = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_ROWS, format, rows);
    uint32_t columns = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_COLUMNS, format, 16 * strips);
    uint32_t depth = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_DEPTH, format, kind == DOT8 ? 64 : 16);
    struct tile tile = {.kind = kind,
                        .m = lanes,
                        .tm = rows > lanes ? rows / lanes : 1,
                        .n = 1,
                        .tn = columns / strips,
                        .strips = strips,
                        .depth = depth / 4,
                        .workgroup = strips * lanes,
                        .subgroups = subgroups};
    while (tile.tm > 1 && lanes_bytes(&tile) > facts->properties.limits.maxComputeSharedMemorySize)
        tile.tm /= 2;
    return tile;
}

/* How many matrices of that size make up what the settings say, or the usual; at least one. */
static uint32_t matrices(const struct quern_device *device, enum qn_vk_choice choice, uint32_t format,
                         uint32_t usual, uint32_t size)
{
    uint32_t wanted = qn_vk_chosen(&device->settings, choice, format, usual);
    return wanted > size ? wanted / size : 1;
}

/* In cooperative matrices of subgroups: 64 by 64, in 30 KiB of shared memory, or as the settings say, as far
 * as that goes on this device. */
static struct tile coopmat_tile(const struct quern_device *device, uint32_t format)
{
    const struct qn_vk_facts *facts = &device->facts;
    const VkPhysicalDeviceLimits *limits = &facts->properties.limits;
    uint32_t m = facts->coopmat & 255, n = facts->coopmat >> 8 & 255, k = facts->coopmat >> 16;
    uint32_t strips =
        qn_vk_chosen(&device->settings, QN_VK_CHOOSE_COOPMAT_STRIPS, format, QN_VK_COOPMAT_SUBGROUPS);
    while (strips * facts->full_subgroup > limits->maxComputeWorkGroupInvocations)
        strips /= 2;
    struct tile tile = {.kind = COOPMAT,
                        .m = m,
                        .tm = matrices(device, QN_VK_CHOOSE_COOPMAT_ROWS, format, 64, m),
                        .n = n,
                        .tn = matrices(device, QN_VK_CHOOSE_COOPMAT_COLUMNS, format, 16 * strips, n * strips),
                        .strips = strips,
                        .depth = k * matrices(device, QN_VK_CHOOSE_COOPMAT_DEPTH, format, 32, k) / 4,
                        .workgroup = strips * facts->full_subgroup,
                        .subgroups = true};
    while (tile.tm > 1 &&
           qn_vk_coopmat_bytes(tile_rows(&tile, 1), tile_columns(&tile), 4 * (uint64_t)tile.depth, strips,
                               n) > limits->maxComputeSharedMemorySize)
        tile.tm /= 2;
    return tile;
}

/* In one cooperative matrix: 128 by 128 of a workgroup, 32 by 32 of a subgroup, as the settings say, or what
 * is allowed. */
enum { WORKGROUP_MATRIX = 128, SUBGROUP_MATRIX = 32 };

static struct tile coopmat2_tile(const struct quern_device *device, uint32_t format)
{
    const struct qn_vk_facts *facts = &device->facts;
    const struct qn_vk_flexible *flexible = &facts->flexible;
    uint32_t usual = flexible->workgroup ? WORKGROUP_MATRIX : SUBGROUP_MATRIX;
    usual = usual < flexible->most ? usual : flexible->most;
    uint32_t rows = qn_vk_chosen(&device->settings, QN_VK_CHOOSE_COOPMAT2_ROWS, format, usual);
    uint32_t columns = qn_vk_chosen(&device->settings, QN_VK_CHOOSE_COOPMAT2_COLUMNS, format, usual);
    rows = rows < flexible->most ? rows : flexible->most;
    columns = columns < flexible->most ? columns : flexible->most;
    return (struct tile){
        .kind = COOPMAT2,
        .m = flexible->m,
        .tm = rows / flexible->m,
        .n = flexible->n,
        .tn = columns / flexible->n,
        .strips = 1,
        .depth = qn_vk_chosen(&device->settings, QN_VK_CHOOSE_COOPMAT2_DEPTH, format, usual / 2) / 4,
        .workgroup = flexible->workgroup ? flexible->invocations : facts->full_subgroup,
        .subgroups = !flexible->workgroup};
}

/* Whether the device can have such a matrix, or two of half as many rows, and the places of its columns. */
static bool coopmat2_fits(const struct qn_vk_plan *p, uint32_t format)
{
    const struct qn_vk_facts *facts = &p->device->facts;
    const struct qn_vk_flexible *flexible = &facts->flexible;
    const VkPhysicalDeviceLimits *limits = &facts->properties.limits;
    if (!qn_vk_want_coopmat(p) || !qn_vk_has_coopmat2(facts))
        return false;
    const struct tile tile = coopmat2_tile(p->device, format);
    return tile.tm > 0 && tile.tm % 2 == 0 && tile.tn > 0 && tile.depth > 0 &&
           4 * tile.depth % flexible->k == 0 &&
           (flexible->workgroup ? flexible->invocations <= limits->maxComputeWorkGroupInvocations
                                : facts->full_subgroup > 0) &&
           flexible->reserved + tile_columns(&tile) * 8 <= limits->maxComputeSharedMemorySize;
}

static bool has_dot8(const struct qn_vk_plan *p)
{
    return p->device->facts.features >> QN_VK_INT_DOT & 1;
}

/* Whether such tiles can be had for the product, and are wanted where nobody chose them. In tiles floats are
 * faster than dot products that are put together, unlike where each weight is read once. */
static bool can_tile(const struct qn_vk_plan *p, const struct product *product, enum kind kind)
{
    if (kind == FLOATS)
        return true;
    return may_round(p, product, tile_kernels[kind][product->moe]) &&
           (kind == DOT8      ? has_dot8(p)
            : kind == COOPMAT ? qn_vk_use_coopmat(p)
                              : coopmat2_fits(p, qn_vk_value(p, product->weight[0])->format));
}

static bool want_tile(const struct qn_vk_plan *p, enum kind kind)
{
    return kind != DOT8 || p->device->facts.fast_dot || p->device->settings.dot8;
}

/* The best tile of those whose kernels are there; of no more columns than are needed. */
static struct tile choose_tile(const struct qn_vk_plan *p, const struct product *product, uint32_t n_columns)
{
    uint32_t format = qn_vk_value(p, product->weight[0])->format;
    enum kind kind = qn_vk_chosen(&p->device->settings, QN_VK_CHOOSE_MATMUL_VARIANT, format, KINDS);
    if (kind == KINDS || !can_tile(p, product, kind)) {
        kind = COOPMAT2;
        while (!can_tile(p, product, kind) || !want_tile(p, kind))
            kind--;
    }
    struct tile tile = kind == COOPMAT2  ? coopmat2_tile(p->device, format)
                       : kind == COOPMAT ? coopmat_tile(p->device, format)
                                         : lanes_tile(p->device, kind, format);
    uint32_t least = tile.kind == FLOATS || tile.kind == DOT8 ? 4 : 1;
    while (tile.tn > least && tile_columns(&tile) / 2 >= n_columns)
        tile.tn /= 2;
    return tile;
}

/* Tiles of the slots of a step, at most: the last of each expert may have less than its columns. */
static uint64_t most_tiles(const struct qn_vk_plan *p, const struct product *product, uint64_t n_expert,
                           uint32_t tile_columns)
{
    uint64_t n_slots = (uint64_t)qn_vk_rows(p, qn_vk_value(p, product->extra)) * product->n_used;
    return n_slots / tile_columns + (n_slots < n_expert ? n_slots : n_expert);
}

/* Tiles side by side along the columns, at most. */
static uint64_t across_columns(const struct qn_vk_plan *p, const struct product *product,
                               const struct tile *tile, uint64_t n_expert)
{
    return product->moe ? most_tiles(p, product, n_expert, tile_columns(tile))
                        : qn_vk_ceil_div(qn_vk_rows(p, qn_vk_value(p, product->x)), tile_columns(tile));
}

/* Puts the slots of the step in order of their experts: the buffer that tells which. */
static struct qn_vk_bound plan_sort(struct qn_vk_plan *p, const struct product *product, uint32_t n_expert,
                                    uint32_t tile_columns, uint32_t groups, uint32_t split)
{
    uint64_t n_slots = (uint64_t)qn_vk_rows(p, qn_vk_value(p, product->extra)) * product->n_used;
    uint32_t list_at = (uint32_t)(4 + 3 * most_tiles(p, product, n_expert, tile_columns));
    struct qn_vk_bound order = qn_vk_scratch(p, (list_at + n_slots) * 4, true);
    struct qn_vk_dispatch *d = qn_vk_add(p, QN_VK_MOE_SORT, 1, 1);
    qn_vk_need_rounds(
        p, 2 * (qn_vk_ceil_div(n_slots, MOE_SORT_WORKGROUP) + 1) *
               (1 + qn_vk_ceil_div(n_expert, MOE_SORT_WORKGROUP) * (uint64_t)(MOE_SORT_WORKGROUP + 2)));
    qn_vk_bind_rows(p, d, 1, product->extra, false);
    d->bound[2] = order;
    const uint32_t words[] = {n_expert, product->n_used, tile_columns, groups, list_at, split};
    memcpy(d->words, words, sizeof words);
    order.written = false;
    return order;
}

/* Where a product finds its weights and biases in what is bound. */
struct places {
    uint32_t at[MAX_PRODUCTS], bias[MAX_PRODUCTS];
};

/* The part of the weight from `first` on, and what it is multiplied by. */
static void bind_weights(struct qn_vk_plan *p, struct qn_vk_dispatch *d, const struct product *product,
                         uint64_t first, uint64_t bytes, struct places *places)
{
    if (product->n > 1)
        qn_vk_bind_together(p, d, 1, product->weight, product->n, 1, places->at);
    for (uint32_t i = 0; i < product->n_weights && product->n == 1; i++)
        places->at[i] = qn_vk_bind_weight(p, d, 1 + i, product->weight[i], first, bytes);
    qn_vk_bind_rows(p, d, 3, product->x, false);
    if (product->moe)
        qn_vk_bind_rows(p, d, 6, product->extra, false);
    d->bound[8].kind = QN_VK_BOUND_GRIDS;
}

/* What becomes of the sums (lib/result.glsl), and where that goes. */
static void bind_results(struct qn_vk_plan *p, struct qn_vk_dispatch *d, const struct product *product,
                         struct places *places)
{
    if (product->n > 1)
        qn_vk_bind_together(p, d, 4, product->bias, product->n, 4, places->bias);
    for (uint32_t i = 0; i < product->n_weights && product->n == 1; i++)
        places->bias[i] = qn_vk_bind_vector(p, d, 4 + i, product->bias[i]);
    qn_vk_bind_rows(p, d, 6, product->extra, false);
    qn_vk_bind_rows(p, d, 7, product->out[0], true);
    for (uint32_t i = 1; i < MAX_PRODUCTS; i++)
        qn_vk_bind_rows(p, d, 8 + i, product->out[i < product->n ? i : 0], true);
}

/* Rows of weight number i; 0: there is no such product. */
static uint32_t rows_of(const struct qn_vk_plan *p, const struct product *product, uint32_t i)
{
    return i < product->n ? (uint32_t)qn_vk_value(p, product->weight[i])->dim[1] : 0;
}

static void tell_kernel(const struct qn_vk_plan *p, struct qn_vk_dispatch *d, const struct product *product,
                        const struct places *places, uint64_t first, uint64_t count)
{
    const struct quern_value *w = qn_vk_value(p, product->weight[0]);
    const uint32_t words[] = {(uint32_t)w->dim[0],
                              (uint32_t)qn_format_row_bytes(w->format, (uint64_t)w->dim[0]),
                              rows_of(p, product, 0),
                              rows_of(p, product, 1),
                              rows_of(p, product, 2),
                              places->at[0],
                              places->at[1],
                              places->at[2],
                              places->bias[0],
                              places->bias[1],
                              places->bias[2],
                              (uint32_t)first,
                              (uint32_t)count,
                              product->n_weights,
                              product->act,
                              qn_vk_per_output(qn_vk_value(p, product->x)),
                              product->n_used,
                              product->per_slot,
                              product->extra != QUERN_NONE && !product->moe,
                              qn_vk_word(product->scale),
                              qn_vk_word(product->softcap),
                              qn_vk_word(product->residual_scale)};
    memcpy(d->words, words, sizeof words);
}

static enum qn_vk_kernel dot8_kernel(const struct product *product)
{
    return product->moe ? QN_VK_MOE_MATVEC8 : QN_VK_MATVEC8;
}

/* The activation in that form: as a norm left it, or made once for all products of the node. */
static struct qn_vk_bound round_activation(struct qn_vk_plan *p, const struct product *product,
                                           enum qn_vk_form form)
{
    if (p->kept.id == product->x && p->kept.form == form)
        return p->kept.at;
    if (p->own.id == product->x && p->own.form == form)
        return p->own.at;
    const struct quern_value *x = qn_vk_value(p, product->x);
    uint32_t k = (uint32_t)qn_vk_value(p, product->weight[0])->dim[0];
    uint32_t per_token = (uint32_t)(qn_vk_row(x) / k);
    uint64_t columns = (uint64_t)qn_vk_rows(p, x) * per_token;
    struct qn_vk_dispatch *d =
        form == QN_VK_HALVES ? qn_vk_add(p, QN_VK_HALVE, columns, 1)
                             : qn_vk_add(p, QN_VK_QUANTISE, qn_vk_ceil_div(k / 32, QN_VK_GROUP), columns);
    qn_vk_bind_rows(p, d, 1, product->x, false);
    d->bound[2] = qn_vk_scratch(p, columns * qn_vk_form_words(form, k) * 4, true);
    const uint32_t push[] = {k, per_token, qn_vk_per_output(x)};
    memcpy(d->words, push, sizeof push);
    p->own = (struct qn_vk_rounded){product->x, form, d->bound[2]};
    p->own.at.written = false;
    return p->own.at;
}

/* Workgroups that the products have, of `rows` rows each; n_rows: of the first product. */
static uint32_t count_groups(const struct qn_vk_plan *p, const struct product *product, uint64_t n_rows,
                             uint32_t rows)
{
    uint32_t n = qn_vk_ceil_div(n_rows, rows);
    for (uint32_t i = 1; i < product->n; i++)
        n += qn_vk_ceil_div((uint64_t)qn_vk_value(p, product->weight[i])->dim[1], rows);
    return n;
}

/* A GPU reads rows along their length; what a processor runs in its vector lanes reads X once for all of them
 * if they are rows. */
static uint32_t matvec_lanes(const struct qn_vk_plan *p, uint32_t format)
{
    return qn_vk_chosen(&p->device->settings, QN_VK_CHOOSE_MATVEC_LANES, format,
                        p->device->facts.type == QUERN_DEVICE_SOFTWARE ? 1 : 16);
}

static struct qn_vk_dispatch *add_matvec(struct qn_vk_plan *p, const struct product *product, uint64_t n_rows,
                                         bool rounded, uint32_t split)
{
    const struct quern_value *x = qn_vk_value(p, product->x);
    uint32_t format = qn_vk_value(p, product->weight[0])->format;
    uint64_t k = (uint64_t)qn_vk_value(p, product->weight[0])->dim[0];
    const struct qn_vk_settings *settings = &p->device->settings;
    uint32_t most = qn_vk_chosen(settings, QN_VK_CHOOSE_MATVEC_COLUMNS, format, MATVEC_COLUMNS_MAX);
    uint32_t columns = 1; /* a workgroup has as many as the step, up to a number */
    while (!product->moe && columns < most && columns < qn_vk_rows(p, x))
        columns *= 2;
    enum qn_vk_kernel kernel = product->moe ? QN_VK_MOE_MATVEC : QN_VK_MATVEC;
    if (rounded)
        kernel = dot8_kernel(product);
    uint32_t lanes = matvec_lanes(p, format);
    while (columns > 1 && !qn_vk_rounds_fit(p, matvec_rounds(k, product->n_weights, columns, lanes, rounded)))
        columns /= 2;
    while (lanes < 16 && !qn_vk_rounds_fit(p, matvec_rounds(k, product->n_weights, columns, lanes, rounded)))
        lanes *= 2;
    qn_vk_need_rounds(p, matvec_rounds(k, product->n_weights, columns, lanes, rounded));
    uint64_t groups = product->moe ? (uint64_t)qn_vk_rows(p, x) * product->n_used
                                   : qn_vk_ceil_div(qn_vk_rows(p, x), columns);
    /* Rows that share what they read of X: as many as registers and the threads' shares allow. */
    uint32_t each = lanes > 1 || columns > 1 || !rounded ? 1 : qn_format_get(format)->block_len > 32 ? 2 : 4;
    each = qn_vk_chosen(settings, QN_VK_CHOOSE_MATVEC_ROWS, format, each);
    if (columns * each > MATVEC_SUMS_MAX)
        each = MATVEC_SUMS_MAX / columns;
    while (each > 1 && count_groups(p, product, n_rows, MATVEC_WORKGROUP * each) < MATVEC_SHARES)
        each /= 2;
    struct qn_vk_dispatch *d =
        qn_vk_add(p, kernel + format, count_groups(p, product, n_rows, MATVEC_WORKGROUP / lanes * each),
                  groups * split);
    d->constants[0] = columns;
    d->constants[1] = lanes;
    d->constants[2] = each;
    return d;
}

static void set_tile_constants(const struct qn_vk_facts *facts, const struct tile *tile, bool gated,
                               uint32_t constants[QN_VK_MAX_CONSTANTS])
{
    if (tile->kind == COOPMAT2) {
        const uint32_t of_matrix[] = {tile->workgroup,
                                      tile_rows(tile, 1),
                                      tile_columns(tile),
                                      4 * tile->depth,
                                      facts->flexible.workgroup ? SCOPE_WORKGROUP : SCOPE_SUBGROUP,
                                      0,
                                      gated};
        memcpy(constants, of_matrix, sizeof of_matrix);
    } else {
        const uint32_t of_lanes[] = {tile->workgroup, tile->workgroup / tile->strips,
                                     tile->tm,        tile->tn,
                                     tile->depth,     tile->subgroups,
                                     gated,           facts->coopmat};
        memcpy(constants, of_lanes, sizeof of_lanes);
    }
}

static struct qn_vk_dispatch *add_matmul(struct qn_vk_plan *p, const struct product *product,
                                         const struct tile *tile, uint64_t n_rows, uint64_t n_expert,
                                         uint32_t split)
{
    uint32_t format = qn_vk_value(p, product->weight[0])->format;
    struct qn_vk_dispatch *d =
        qn_vk_add(p, tile_kernels[tile->kind][product->moe] + format,
                  count_groups(p, product, n_rows, tile_rows(tile, product->n_weights)),
                  across_columns(p, product, tile, n_expert) * split);
    set_tile_constants(&p->device->facts, tile, product->n_weights == 2, d->constants);
    d->full_subgroups = tile->subgroups;
    return d;
}

/* Which kernel is to compute a product. */
struct way {
    bool many; /* columns: in such tiles */
    enum qn_vk_form form;
    struct tile tile;
};

/* Few columns: whether the input is read in 8 bits. */
static bool wants_8_bits(const struct qn_vk_plan *p, const struct product *product)
{
    uint32_t format = qn_vk_value(p, product->weight[0])->format;
    return has_dot8(p) && qn_vk_chosen(&p->device->settings, QN_VK_CHOOSE_MATVEC_ACTIVATION, format,
                                       QN_VK_8_BITS) == QN_VK_8_BITS;
}

static struct way choose_way(const struct qn_vk_plan *p, const struct product *product)
{
    uint32_t n_columns = qn_vk_rows(p, qn_vk_value(p, product->x));
    uint64_t k = (uint64_t)qn_vk_value(p, product->weight[0])->dim[0];
    struct way way = {.tile = choose_tile(p, product, n_columns)};
    way.many = n_columns > MATVEC_COLUMNS_MAX && qn_vk_rounds_fit(p, tile_rounds(&way.tile, k));
    if (!way.many)
        way.form = wants_8_bits(p, product) && may_round(p, product, dot8_kernel(product)) ? QN_VK_8_BITS
                                                                                           : QN_VK_FLOATS;
    else
        way.form = tile_forms[way.tile.kind];
    return way;
}

/* ---- split along k ---- */

/* Elements of all results of the node for a token. */
static uint64_t node_row(const struct qn_vk_plan *p)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < QUERN_MAX_OUT && p->node->out[i] != QUERN_NONE; i++)
        n += qn_vk_row(qn_vk_value(p, p->node->out[i]));
    return n;
}

/* Invocations of the node's products, if they are not split. Few columns count as one, so that a step has the
 * same bits in segments for more of them. */
static uint64_t n_invocations(const struct qn_vk_plan *p, const struct product *product,
                              const struct way *way, uint64_t n_expert)
{
    uint64_t n = node_row(p);
    if (!way->many)
        return n * matvec_lanes(p, qn_vk_value(p, product->weight[0])->format);
    n = product->moe ? rows_of(p, product, 0) : n;
    return qn_vk_ceil_div(n, tile_rows(&way->tile, product->n_weights)) *
           across_columns(p, product, &way->tile, n_expert) * way->tile.workgroup;
}

/* Columns of the result in a step, at most. */
static uint64_t result_columns(const struct qn_vk_plan *p, const struct product *product)
{
    uint64_t n = qn_vk_rows(p, qn_vk_value(p, product->x));
    return product->moe ? n * product->n_used : n;
}

static uint64_t result_rows(const struct qn_vk_plan *p, const struct product *product)
{
    return (uint64_t)rows_of(p, product, 0) + rows_of(p, product, 1) + rows_of(p, product, 2);
}

/* Bytes of the sums of one part. */
static uint64_t sums_bytes(const struct qn_vk_plan *p, const struct product *product)
{
    return 4 * product->n_weights * result_rows(p, product) * result_columns(p, product);
}

/* Parts of k that have workgroups of their own: as the settings say, while the device can hold them all, and
 * a kernel reaches their sums. None of them is empty. */
static uint32_t choose_split(const struct qn_vk_plan *p, const struct product *product, const struct way *way,
                             uint64_t n_expert)
{
    const struct quern_value *w = qn_vk_value(p, product->weight[0]);
    const struct qn_vk_settings *settings = &p->device->settings;
    uint64_t n = qn_vk_chosen(settings, way->many ? QN_VK_CHOOSE_MATMUL_SPLIT : QN_VK_CHOOSE_MATVEC_SPLIT,
                              w->format, 1);
    uint64_t busy = qn_vk_set(settings, QN_VK_SET_BUSY);
    if (n == 1 || (way->many && SPLIT_UNIT % (4 * way->tile.depth) != 0))
        return 1;
    uint64_t fit = (busy == QN_VK_UNSET ? BUSY_INVOCATIONS : busy) / n_invocations(p, product, way, n_expert);
    uint64_t reach = p->device->facts.properties.limits.maxStorageBufferRange / sums_bytes(p, product);
    n = n < fit ? n : fit;
    n = n < reach ? n : reach;
    if (n <= 1)
        return 1;
    uint32_t units = qn_vk_ceil_div((uint64_t)w->dim[0], SPLIT_UNIT);
    return qn_vk_ceil_div(units, qn_vk_ceil_div(units, n));
}

/* Makes the result of the sums that the parts have left. */
static void add_combine(struct qn_vk_plan *p, const struct product *product, uint32_t split,
                        struct qn_vk_bound sums)
{
    struct places places = {{0}, {QUERN_NONE, QUERN_NONE, QUERN_NONE}};
    struct qn_vk_dispatch *d =
        qn_vk_add(p, QN_VK_MATMUL_COMBINE, qn_vk_ceil_div(result_rows(p, product), QN_VK_GROUP),
                  result_columns(p, product));
    d->constants[SPLIT_CONSTANT] = split;
    bind_results(p, d, product, &places);
    sums.written = false;
    d->bound[3] = sums;
    tell_kernel(p, d, product, &places, 0, 0);
}

/* ---- products ---- */

/* Binds the part of the weight from `first` on; its sums are results, or go where those of other parts of k
 * do. */
static void bind_product(struct qn_vk_plan *p, struct qn_vk_dispatch *d, const struct product *product,
                         uint64_t unit, uint64_t first, uint64_t count, uint32_t split,
                         struct qn_vk_bound sums)
{
    struct places places = {{0}, {QUERN_NONE, QUERN_NONE, QUERN_NONE}};
    d->constants[SPLIT_CONSTANT] = split;
    bind_weights(p, d, product, first * unit, count * unit, &places);
    if (split > 1)
        d->bound[7] = d->bound[9] = d->bound[10] = sums;
    else
        bind_results(p, d, product, &places);
    tell_kernel(p, d, product, &places, first, count);
}

/* A weight larger than a kernel can reach is taken in parts: of rows, or of whole experts. */
static void plan_product(struct qn_vk_plan *p, const struct product *product)
{
    const struct quern_value *w = qn_vk_value(p, product->weight[0]);
    uint64_t row_bytes = qn_format_row_bytes(w->format, (uint64_t)w->dim[0]), n = (uint64_t)w->dim[1];
    uint64_t unit = product->moe ? row_bytes * n : row_bytes,
             n_units = product->moe ? (uint64_t)w->dim[2] : n, count;
    uint32_t second = product->n_weights > 1 ? product->weight[1] : QUERN_NONE;
    struct way way = choose_way(p, product);
    uint32_t split = choose_split(p, product, &way, n_units);
    struct qn_vk_bound order = {.kind = QN_VK_BOUND_STEP}, rounded = order, sums = order;
    if (way.form != QN_VK_FLOATS)
        rounded = round_activation(p, product, way.form);
    if (way.many && product->moe)
        order = plan_sort(p, product, (uint32_t)n_units, tile_columns(&way.tile),
                          qn_vk_ceil_div(n, tile_rows(&way.tile, product->n_weights)), split);
    if (split > 1)
        sums = qn_vk_scratch(p, split * sums_bytes(p, product), true);
    for (uint64_t first = 0; first < n_units && !p->status; first += count) {
        count = qn_vk_take_units(p, product->weight[0], second, unit, first, n_units);
        uint64_t n_rows = product->moe ? n : count;
        struct qn_vk_dispatch *d = way.many ? add_matmul(p, product, &way.tile, n_rows, n_units, split)
                                            : add_matvec(p, product, n_rows, way.form == QN_VK_8_BITS, split);
        bind_product(p, d, product, unit, first, count, split, sums);
        if (way.form != QN_VK_FLOATS)
            d->bound[3] = rounded;
        if (way.many && product->moe) {
            d->bound[6] = order;
            d->indirect = 6;
        }
    }
    if (split > 1)
        add_combine(p, product, split, sums);
}

/* Puts output j of the MATMUL into the dispatch, where that is empty or can have it as well. */
static bool take_product(const struct qn_vk_plan *p, struct product *product, uint32_t j)
{
    const uint32_t *weight = &p->node->in[1], *bias = &p->node->in[4];
    uint32_t n = product->n;
    product->weight[n] = weight[j];
    product->bias[n] = bias[j];
    product->out[n] = p->node->out[j];
    if (n > 0 &&
        (qn_vk_value(p, weight[j])->format != qn_vk_value(p, product->weight[0])->format ||
         !qn_vk_lie_together(p, product->weight, n + 1) || !qn_vk_lie_together(p, product->bias, n + 1)))
        return false;
    product->n++;
    return true;
}

void qn_vk_plan_matmul(struct qn_vk_plan *p)
{
    const struct quern_matmul_attr *attr = &p->node->attr.matmul;
    uint32_t n_products = attr->glu ? 1 : attr->n_weights, planned = 0;
    for (uint32_t i = 0; i < n_products; i++) {
        struct product product = {.n_weights = attr->glu ? 2 : 1,
                                  .act = attr->act,
                                  .x = p->node->in[0],
                                  .extra = p->node->in[7],
                                  .scale = attr->scale,
                                  .softcap = attr->softcap,
                                  .residual_scale = attr->residual_scale};
        if (attr->glu) {
            product.weight[1] = p->node->in[2];
            product.bias[1] = p->node->in[5];
        }
        for (uint32_t j = i; j < n_products; j++)
            if (!(planned >> j & 1) && take_product(p, &product, j))
                planned |= 1u << j;
        if (product.n > 0)
            plan_product(p, &product);
    }
}

void qn_vk_plan_moe_matmul(struct qn_vk_plan *p)
{
    const struct quern_moe_matmul_attr *attr = &p->node->attr.moe_matmul;
    plan_product(p, &(struct product){.moe = true,
                                      .n = 1,
                                      .weight = {p->node->in[1], p->node->in[2]},
                                      .bias = {p->node->in[3], attr->glu ? p->node->in[4] : QUERN_NONE},
                                      .n_weights = attr->n_weights,
                                      .act = attr->act,
                                      .x = p->node->in[0],
                                      .extra = p->node->in[5],
                                      .out = {p->node->out[0]},
                                      .n_used = (uint32_t)qn_vk_row(qn_vk_value(p, p->node->in[5])),
                                      .per_slot = attr->per_slot,
                                      .scale = 1});
}

enum qn_vk_form qn_vk_reads(const struct qn_vk_plan *p, const struct quern_node *node, uint32_t id)
{
    bool moe = node->op == QUERN_OP_MOE_MATMUL;
    uint32_t n = moe ? node->attr.moe_matmul.n_weights : node->attr.matmul.n_weights;
    if ((!moe && node->op != QUERN_OP_MATMUL) || node->in[0] != id)
        return QN_VK_FLOATS;
    enum qn_vk_form all = QN_VK_FLOATS;
    for (uint32_t i = 0; i < n; i++) {
        const struct product product = {.moe = moe, .weight = {node->in[1 + i]}, .x = id};
        enum qn_vk_form form = choose_way(p, &product).form;
        if (qn_vk_row(qn_vk_value(p, id)) != (uint64_t)qn_vk_value(p, node->in[1 + i])->dim[0] ||
            (i > 0 && form != all))
            return QN_VK_FLOATS;
        all = form;
    }
    return all;
}

static bool product_supported(const struct quern_graph *graph, const struct quern_node *node,
                              uint32_t n_weights, uint32_t first_bias, uint32_t n_bias,
                              enum qn_vk_kernel kernel)
{
    bool ok = true;
    for (uint32_t i = 0; i < n_weights; i++)
        ok = ok && qn_vk_has_kernel(graph, node->in[1 + i], kernel);
    for (uint32_t i = 0; i < n_bias; i++)
        ok = ok && qn_vk_is_float(graph, node->in[first_bias + i]);
    return ok;
}

static bool same_format(const struct quern_graph *graph, const struct quern_node *node)
{
    return quern_graph_value(graph, node->in[1])->format == quern_graph_value(graph, node->in[2])->format;
}

bool qn_vk_matmul_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_matmul_attr *attr = &node->attr.matmul;
    return (!attr->glu || same_format(graph, node)) &&
           product_supported(graph, node, attr->n_weights, 4, 3, QN_VK_MATVEC);
}

bool qn_vk_moe_matmul_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_moe_matmul_attr *attr = &node->attr.moe_matmul;
    return node->in[6] == QUERN_NONE && /* tables of slots */
           (!attr->glu || same_format(graph, node)) &&
           product_supported(graph, node, attr->n_weights, 3, 2, QN_VK_MOE_MATVEC);
}
