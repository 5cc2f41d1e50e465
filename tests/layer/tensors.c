/* Loads of tensors for a device that lacks them but can call a function for each element of a cooperative
 * matrix: each load (OpCooperativeMatrixLoadTensorNV) becomes such a call (OpCooperativeMatrixPerElementOpNV)
 * of a function that finds the element's address as the specification of GL_NV_cooperative_matrix2 says, and
 * loads or decodes it. Of that specification it knows: layouts that are cut once and clamp to the constant
 * zero, views that only permute. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From the SPIR-V specification. */
enum {
    OP_UNDEF = 1,
    OP_NAME = 5,
    OP_EXTENSION = 10,
    OP_CAPABILITY = 17,
    OP_TYPE_BOOL = 20,
    OP_TYPE_INT = 21,
    OP_TYPE_POINTER = 32,
    OP_TYPE_FUNCTION = 33,
    OP_CONSTANT_TRUE = 41,
    OP_CONSTANT = 43,
    OP_CONSTANT_NULL = 46,
    OP_SPEC_CONSTANT_OP = 52,
    OP_FUNCTION = 54,
    OP_FUNCTION_PARAMETER = 55,
    OP_FUNCTION_END = 56,
    OP_FUNCTION_CALL = 57,
    OP_VARIABLE = 59,
    OP_LOAD = 61,
    OP_STORE = 62,
    OP_ACCESS_CHAIN = 65,
    OP_COMPOSITE_CONSTRUCT = 80,
    OP_IADD = 128,
    OP_IMUL = 132,
    OP_UDIV = 134,
    OP_UMOD = 137,
    OP_LOGICAL_AND = 167,
    OP_ULESS = 176,
    OP_PHI = 245,
    OP_SELECTION_MERGE = 247,
    OP_LABEL = 248,
    OP_BRANCH = 249,
    OP_BRANCH_CONDITIONAL = 250,
    OP_RETURN_VALUE = 254,
    OP_TYPE_COOPERATIVE_MATRIX = 4456,
    OP_LOAD_TENSOR = 5367,
    OP_PER_ELEMENT = 5369,
    OP_TYPE_TENSOR_LAYOUT = 5370,
    OP_TYPE_TENSOR_VIEW = 5371,
    OP_CREATE_LAYOUT = 5372,
    OP_SET_DIMENSION = 5373,
    OP_SET_STRIDE = 5374,
    OP_SLICE = 5375,
    OP_CREATE_VIEW = 5377,
    OP_SET_BLOCK_SIZE = 5384,
    CAPABILITY_TENSOR_LOADS = 5433,
    CAPABILITY_BLOCK_LOADS = 5434,
    CAPABILITY_TENSORS = 5439,
    OPERAND_VIEW = 1,
    OPERAND_DECODE = 2,
    CLAMP_CONSTANT = 1,
    HEADER_WORDS = 5,
    MAX_DIM = 5,
    MAX_ARGS = 5 * MAX_DIM + 8,
};

struct words {
    uint32_t *w;
    size_t n, cap;
};

/* Ids of values, per dimension; 0 where the layout has what it begins with. */
struct layout {
    uint32_t block[MAX_DIM], size[MAX_DIM], stride[MAX_DIM], offset[MAX_DIM], span[MAX_DIM];
};

/* What is known of an id. */
struct def {
    const uint32_t *at;   /* the instruction that defines it */
    struct layout layout; /* of layouts, and of variables that hold one */
    uint32_t view;        /* of variables that hold a view: its type */
    bool removed;
};

struct rewriter {
    struct def *defs;
    uint32_t n_ids, bound; /* ids of the module; the next new one */
    struct words out, functions, types;
    uint32_t uint_type, bool_type, zero, one;
    uint32_t function_type[MAX_ARGS]; /* by number of arguments */
};

static void fail(const char *what)
{
    fprintf(stderr, "VK_LAYER_QUERN_test: a load of a tensor that is not played: %s\n", what);
    abort();
}

static void put(struct words *to, const uint32_t *words, size_t n)
{
    if (to->n + n > to->cap) {
        to->cap = 2 * (to->n + n);
        to->w = realloc(to->w, to->cap * sizeof *to->w);
        if (!to->w)
            abort();
    }
    if (n > 0)
        memcpy(to->w + to->n, words, n * sizeof *words);
    to->n += n;
}

/* One instruction: its operands. */
static void emit(struct words *to, uint32_t op, const uint32_t *operands, size_t n)
{
    const uint32_t head = (uint32_t)(n + 1) << 16 | op;
    put(to, &head, 1);
    put(to, operands, n);
}

#define EMIT(to, op, ...) \
    emit(to, op, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

/* One that has a result of a type; its id. */
#define VALUE(r, to, op, type, ...) \
    value_(r, to, op, type, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)
static uint32_t value_(struct rewriter *r, struct words *to, uint32_t op, uint32_t type,
                       const uint32_t *operands, size_t n)
{
    uint32_t all[MAX_ARGS + 4] = {type, r->bound};
    memcpy(all + 2, operands, n * sizeof *operands);
    emit(to, op, all, n + 2);
    return r->bound++;
}

static struct def *def_of(struct rewriter *r, uint32_t id)
{
    return &r->defs[id < r->n_ids ? id : 0];
}

static uint32_t constant_of(struct rewriter *r, uint32_t id)
{
    const uint32_t *at = def_of(r, id)->at;
    if (!at || (*at & 0xffff) != OP_CONSTANT)
        fail("a number that is no constant");
    return at[3];
}

/* ---------------------------------------------------------------- the function of a load */

struct load {
    uint32_t dim;
    uint32_t component; /* type of an element */
    uint32_t columns;   /* of the matrix */
    struct layout layout;
    const uint32_t *view;   /* its type's permutation, ids; NULL: none */
    uint32_t decode;        /* function; 0: none */
    const uint32_t *access; /* OpAccessChain of the pointer */
};

static uint32_t arithmetic(struct rewriter *r, uint32_t op, uint32_t a, uint32_t b)
{
    return VALUE(r, &r->functions, op, r->uint_type, a, b);
}

/* The coordinates that an index has among the sizes, in the order of `dims`, the last the innermost. */
static void split(struct rewriter *r, uint32_t index, const uint32_t *sizes, const uint32_t *dims, uint32_t n,
                  uint32_t *coord)
{
    for (uint32_t i = n; i-- > 0;) {
        coord[dims[i]] = arithmetic(r, OP_UMOD, index, sizes[dims[i]]);
        index = arithmetic(r, OP_UDIV, index, sizes[dims[i]]);
    }
}

/* (row, column) of the matrix to coordinates within the span. */
static void find_coordinates(struct rewriter *r, const struct load *load, uint32_t row, uint32_t column,
                             const struct layout *l, uint32_t *coord)
{
    static const uint32_t in_order[MAX_DIM] = {0, 1, 2, 3, 4};
    uint32_t index = arithmetic(r, OP_IADD, arithmetic(r, OP_IMUL, row, load->columns), column);
    if (load->view) {
        uint32_t order[MAX_DIM];
        for (uint32_t d = 0; d < load->dim; d++)
            order[d] = constant_of(r, load->view[d]);
        split(r, index, l->span, order, load->dim, coord);
        index = coord[0];
        for (uint32_t d = 1; d < load->dim; d++)
            index = arithmetic(r, OP_IADD, arithmetic(r, OP_IMUL, index, l->span[d]), coord[d]);
    }
    split(r, index, l->span, in_order, load->dim, coord);
}

/* The element whose coordinates in the tensor are given. */
static uint32_t element(struct rewriter *r, const struct load *load, const struct layout *l,
                        const uint32_t *coord, uint32_t first)
{
    uint32_t block[MAX_DIM], within[MAX_DIM];
    for (uint32_t d = 0; d < load->dim; d++) {
        block[d] = arithmetic(r, OP_UDIV, coord[d], l->block[d]);
        within[d] = arithmetic(r, OP_UMOD, coord[d], l->block[d]);
    }
    if (load->decode) {
        const uint32_t *type =
            def_of(r, def_of(r, load->decode)->at[4])->at; /* result, pointer, two arrays */
        uint32_t pointer = VALUE(r, &r->functions, OP_UNDEF, type[3]);
        uint32_t blocks = value_(r, &r->functions, OP_COMPOSITE_CONSTRUCT, type[4], block, load->dim);
        uint32_t places = value_(r, &r->functions, OP_COMPOSITE_CONSTRUCT, type[5], within, load->dim);
        return VALUE(r, &r->functions, OP_FUNCTION_CALL, load->component, load->decode, pointer, blocks,
                     places);
    }
    uint32_t index = first;
    for (uint32_t d = 0; d < load->dim; d++)
        index = arithmetic(r, OP_IADD, index, arithmetic(r, OP_IMUL, block[d], l->stride[d]));
    uint32_t pointer =
        VALUE(r, &r->functions, OP_ACCESS_CHAIN, load->access[1], load->access[3], load->access[4], index);
    return VALUE(r, &r->functions, OP_LOAD, load->component, pointer);
}

/* A function of row, column, the element as it was, and the numbers of the layout; its id. */
static uint32_t write_function(struct rewriter *r, const struct load *load, uint32_t type, uint32_t n_args)
{
    uint32_t id = r->bound++, arg[MAX_ARGS], coord[MAX_DIM];
    EMIT(&r->functions, OP_FUNCTION, load->component, id, 0, type);
    for (uint32_t i = 0; i < n_args; i++) {
        arg[i] = r->bound++;
        EMIT(&r->functions, OP_FUNCTION_PARAMETER, i == 2 ? load->component : r->uint_type, arg[i]);
    }
    struct layout l;
    struct load mine = *load;
    uint32_t *next = arg + 3;
    mine.columns = *next++;
    uint32_t first = *next++;
    for (uint32_t d = 0; d < load->dim; d++) {
        l.block[d] = *next++;
        l.size[d] = *next++;
        l.stride[d] = *next++;
        l.offset[d] = *next++;
        l.span[d] = *next++;
    }
    uint32_t begin = r->bound++, inside = r->bound++, end = r->bound++, within = 0;
    EMIT(&r->functions, OP_LABEL, begin);
    find_coordinates(r, &mine, arg[0], arg[1], &l, coord);
    for (uint32_t d = 0; d < load->dim; d++) {
        coord[d] = arithmetic(r, OP_IADD, coord[d], l.offset[d]);
        uint32_t one = VALUE(r, &r->functions, OP_ULESS, r->bool_type, coord[d], l.size[d]);
        within = within ? VALUE(r, &r->functions, OP_LOGICAL_AND, r->bool_type, within, one) : one;
    }
    uint32_t null = r->bound++;
    EMIT(&r->types, OP_CONSTANT_NULL, load->component, null);
    EMIT(&r->functions, OP_SELECTION_MERGE, end, 0);
    EMIT(&r->functions, OP_BRANCH_CONDITIONAL, within, inside, end);
    EMIT(&r->functions, OP_LABEL, inside);
    uint32_t there = element(r, &mine, &l, coord, first);
    EMIT(&r->functions, OP_BRANCH, end);
    EMIT(&r->functions, OP_LABEL, end);
    uint32_t all = VALUE(r, &r->functions, OP_PHI, load->component, null, begin, there, inside);
    EMIT(&r->functions, OP_RETURN_VALUE, all);
    emit(&r->functions, OP_FUNCTION_END, NULL, 0);
    return id;
}

/* ---------------------------------------------------------------- the module */

static uint32_t or_else(uint32_t id, uint32_t other)
{
    return id ? id : other;
}

/* The type of functions of row, column, an element and n numbers; elements are all of one type. */
static uint32_t function_type(struct rewriter *r, uint32_t component, uint32_t n)
{
    uint32_t type[MAX_ARGS + 4] = {r->bound, component, r->uint_type, r->uint_type, component};
    if (r->function_type[n])
        return r->function_type[n];
    for (uint32_t i = 0; i < n; i++)
        type[5 + i] = r->uint_type;
    emit(&r->types, OP_TYPE_FUNCTION, type, 5 + n);
    return r->function_type[n] = r->bound++;
}

/* result type, result, pointer, object, layout, memory operands, tensor operands */
static void rewrite_load(struct rewriter *r, const uint32_t *w)
{
    const uint32_t *matrix = def_of(r, w[1])->at, *layout = def_of(r, def_of(r, w[5])->at[1])->at;
    uint32_t operands = w[7];
    struct load load = {.dim = constant_of(r, layout[2]),
                        .component = matrix[2],
                        .columns = matrix[5],
                        .layout = def_of(r, w[5])->layout,
                        .access = def_of(r, w[3])->at};
    if (w[6] != 0 || constant_of(r, layout[3]) != CLAMP_CONSTANT || !load.access ||
        (*load.access & 0xffff) != OP_ACCESS_CHAIN || *load.access >> 16 != 6)
        fail("its operands");
    if (operands & OPERAND_VIEW)
        load.view = def_of(r, def_of(r, w[8])->view)->at + 4;
    if (operands & OPERAND_DECODE)
        load.decode = w[operands & OPERAND_VIEW ? 9 : 8];
    uint32_t args[MAX_ARGS] = {load.columns, load.access[5]}, n = 2;
    for (uint32_t d = 0; d < load.dim; d++) {
        args[n++] = or_else(load.layout.block[d], r->one);
        args[n++] = load.layout.size[d];
        /* what has blocks or no stride of its own is decoded: where its pointers lead is not looked at */
        args[n++] = or_else(load.layout.stride[d], r->one);
        args[n++] = or_else(load.layout.offset[d], r->zero);
        args[n++] = load.layout.span[d];
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!args[i] || (!load.decode && !load.layout.stride[0]))
            fail("a layout without sizes");
        args[i] = VALUE(r, &r->out, OP_IADD, r->uint_type, args[i], r->zero); /* of either sign */
    }
    uint32_t function = write_function(r, &load, function_type(r, load.component, n), 3 + n);
    uint32_t call[MAX_ARGS + 4] = {w[1], w[2], w[4], function};
    memcpy(call + 4, args, n * sizeof *args);
    emit(&r->out, OP_PER_ELEMENT, call, 4 + n);
}

/* Instructions on layouts and views, which are then gone. */
static void read_layout(struct rewriter *r, uint32_t op, const uint32_t *w, uint32_t n)
{
    struct def *def = def_of(r, w[2]);
    def->at = w;
    def->removed = true;
    if (op == OP_CREATE_VIEW)
        def->view = w[1];
    if (op == OP_CREATE_LAYOUT || op == OP_CREATE_VIEW)
        return;
    struct layout *l = &def->layout;
    *l = def_of(r, w[3])->layout;
    for (uint32_t i = 4, d = 0; i < n; i += op == OP_SLICE ? 2 : 1, d++) {
        if (op == OP_SET_BLOCK_SIZE)
            l->block[d] = w[i];
        else if (op == OP_SET_DIMENSION)
            l->size[d] = l->span[d] = w[i];
        else if (op == OP_SET_STRIDE)
            l->stride[d] = w[i];
        else if (op != OP_SLICE || l->offset[d])
            fail("a layout that is cut twice, or has what is not known here");
        else
            l->offset[d] = w[i], l->span[d] = w[i + 1];
    }
}

/* Loads and stores of variables that hold layouts or views. False: it is none. */
static bool move_layout(struct rewriter *r, uint32_t op, const uint32_t *w)
{
    struct def *from = def_of(r, op == OP_LOAD ? w[3] : w[2]), *to = def_of(r, op == OP_LOAD ? w[2] : w[1]);
    if (!from->removed)
        return false;
    to->layout = from->layout;
    to->view = from->view;
    if (op == OP_LOAD) {
        to->at = w;
        to->removed = true;
    }
    return true;
}

static bool is_type(uint32_t op)
{
    return (op >= OP_TYPE_BOOL && op <= OP_TYPE_FUNCTION) || op == OP_TYPE_COOPERATIVE_MATRIX ||
           op == OP_TYPE_TENSOR_LAYOUT || op == OP_TYPE_TENSOR_VIEW;
}

static bool is_definition(uint32_t op)
{
    return is_type(op) || (op >= OP_CONSTANT_TRUE && op <= OP_SPEC_CONSTANT_OP) || op == OP_FUNCTION ||
           op == OP_VARIABLE || op == OP_ACCESS_CHAIN;
}

/* The id that an instruction defines is at a place that depends on whether it is a type. */
static struct def *definition(struct rewriter *r, uint32_t op, const uint32_t *w)
{
    return def_of(r, is_type(op) ? w[1] : w[2]);
}

/* Notes a definition; what is made of types that go goes too. */
static void note(struct rewriter *r, uint32_t op, const uint32_t *w)
{
    struct def *def = definition(r, op, w);
    def->at = w;
    if (op == OP_TYPE_INT && w[2] == 32 && w[3] == 0)
        r->uint_type = w[1];
    if (op == OP_TYPE_BOOL)
        r->bool_type = w[1];
    def->removed = op == OP_TYPE_TENSOR_LAYOUT || op == OP_TYPE_TENSOR_VIEW ||
                   (op == OP_TYPE_POINTER && def_of(r, w[3])->removed) ||
                   (op == OP_VARIABLE && def_of(r, w[1])->removed);
}

static bool is_dropped(const uint32_t *w, uint32_t op)
{
    static const char extension[] = "SPV_NV_tensor_addressing";
    return (op == OP_CAPABILITY && (w[1] == CAPABILITY_TENSOR_LOADS || w[1] == CAPABILITY_BLOCK_LOADS ||
                                    w[1] == CAPABILITY_TENSORS)) ||
           (op == OP_EXTENSION && strcmp((const char *)(w + 1), extension) == 0) || op == OP_NAME;
}

static void rewrite(struct rewriter *r, const uint32_t *w, uint32_t n)
{
    uint32_t op = *w & 0xffff;
    if (is_dropped(w, op) || (is_definition(op) && definition(r, op, w)->removed))
        return;
    if ((op == OP_LOAD || op == OP_STORE) && move_layout(r, op, w))
        return;
    if (op >= OP_CREATE_LAYOUT && op <= OP_SET_BLOCK_SIZE)
        read_layout(r, op, w, n);
    else if (op == OP_LOAD_TENSOR)
        rewrite_load(r, w);
    else
        put(&r->out, w, n);
}

/* Constants that the new functions need; they come before all functions. */
static void begin_functions(struct rewriter *r)
{
    r->zero = r->bound++;
    r->one = r->bound++;
    EMIT(&r->types, OP_CONSTANT, r->uint_type, r->zero, 0);
    EMIT(&r->types, OP_CONSTANT, r->uint_type, r->one, 1);
}

uint32_t *qt_play_tensors(const uint32_t *code, size_t n, size_t *n_out)
{
    struct rewriter r = {.n_ids = code[3], .bound = code[3]};
    size_t functions_at = 0;
    bool loads = false;
    r.defs = calloc(r.n_ids, sizeof *r.defs);
    if (!r.defs)
        abort();
    for (size_t at = HEADER_WORDS; at < n && code[at] >> 16; at += code[at] >> 16) {
        uint32_t op = code[at] & 0xffff;
        loads = loads || op == OP_LOAD_TENSOR;
        if (is_definition(op))
            note(&r, op, code + at);
    }
    if (!loads) {
        free(r.defs);
        return NULL;
    }
    put(&r.out, code, HEADER_WORDS);
    for (size_t at = HEADER_WORDS; at < n && code[at] >> 16; at += code[at] >> 16) {
        if ((code[at] & 0xffff) == OP_FUNCTION && functions_at == 0) {
            functions_at = r.out.n;
            begin_functions(&r);
        }
        rewrite(&r, code + at, code[at] >> 16);
    }
    struct words all = {0};
    put(&all, r.out.w, functions_at);
    put(&all, r.types.w, r.types.n);
    put(&all, r.out.w + functions_at, r.out.n - functions_at);
    put(&all, r.functions.w, r.functions.n);
    all.w[3] = r.bound;
    free(r.out.w);
    free(r.types.w);
    free(r.functions.w);
    free(r.defs);
    *n_out = all.n;
    return all.w;
}
