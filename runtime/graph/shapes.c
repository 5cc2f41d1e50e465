#include "graph/shapes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OP(ID, NAME, REQUIRED, ALIAS) static bool shape_##NAME(struct qn_shape *s);
#include "graph/ops.inc"
#undef OP

#define OP(ID, NAME, REQUIRED, ALIAS) \
    [QUERN_OP_##ID] = {.name = #NAME, .n_required = (REQUIRED), .may_alias = (ALIAS)},
static const struct qn_op_info op_infos[QUERN_OP_END] = {
#include "graph/ops.inc"
};
#undef OP

#define OP(ID, NAME, REQUIRED, ALIAS) [QUERN_OP_##ID] = shape_##NAME,
static bool (*const shape_rules[QUERN_OP_END])(struct qn_shape *s) = {
#include "graph/ops.inc"
};
#undef OP

const struct qn_op_info *qn_op_get(uint32_t op)
{
    return op < QUERN_OP_END ? &op_infos[op] : NULL;
}

static bool fault(struct qn_shape *s, const char *fmt, ...) QUERN_PRINTF(2, 3);
static bool fault(struct qn_shape *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(s->fault, sizeof s->fault, fmt, args);
    va_end(args);
    return false;
}

bool qn_shape_infer(struct qn_shape *s)
{
    const struct quern_node *node = s->node;
    for (unsigned i = 0; i < QUERN_MAX_IN; i++) {
        if (node->in[i] == QUERN_NONE && i < op_infos[node->op].n_required)
            return fault(s, "input %u is missing", i);
        if (node->in[i] != QUERN_NONE && node->in[i] >= s->graph->n_values)
            return fault(s, "input %u names no value", i);
    }
    return shape_rules[node->op](s);
}

/* ---- words for the rules ---- */

static const struct quern_value *in(const struct qn_shape *s, unsigned i)
{
    return s->node->in[i] == QUERN_NONE ? NULL : quern_graph_value(s->graph, s->node->in[i]);
}

static void out(struct qn_shape *s, enum quern_format format, int64_t d0, int64_t d1, int64_t d2)
{
    s->out[s->n_out++] = (struct quern_value){.format = format, .dim = {d0, d1, d2, 1}};
}

static bool same_shape(const struct quern_value *a, const struct quern_value *b)
{
    return memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

/* Optional input i, when present, must be [d0, d1, ...]. */
static bool expect(struct qn_shape *s, unsigned i, const char *what, int64_t d0, int64_t d1)
{
    const struct quern_value *v = in(s, i);
    if (!v || (v->dim[0] == d0 && v->dim[1] == d1 && v->dim[2] == 1))
        return true;
    return fault(s, "%s is [%lld, %lld], expected [%lld, %lld]", what, (long long)v->dim[0],
                 (long long)v->dim[1], (long long)d0, (long long)d1);
}

/* ---- the rules, in the order of ops.inc ---- */

static bool shape_embed(struct qn_shape *s)
{
    out(s, QUERN_F32, in(s, 0)->dim[0], QUERN_DIM_TOKENS, 1);
    return true;
}

static bool shape_norm(struct qn_shape *s)
{
    const struct quern_value *x = in(s, 0);
    int64_t group = s->node->attr.norm.group;
    if (group <= 0 || x->dim[0] % group != 0)
        return fault(s, "rows of %lld cannot be normalised in groups of %lld", (long long)x->dim[0],
                     (long long)group);
    if (!expect(s, 1, "weight", group, 1) || !expect(s, 2, "bias", group, 1))
        return false;
    out(s, QUERN_F32, x->dim[0], x->dim[1], x->dim[2]);
    const struct quern_value *addend = in(s, 3);
    if (addend) {
        if (!same_shape(addend, x))
            return fault(s, "addend and input differ in shape");
        out(s, QUERN_F32, x->dim[0], x->dim[1], x->dim[2]);
    }
    return true;
}

static bool shape_matmul(struct qn_shape *s)
{
    const struct quern_value *x = in(s, 0);
    const struct quern_matmul_attr *attr = &s->node->attr.matmul;
    if (attr->n_weights < 1 || attr->n_weights > 3 || (attr->glu && attr->n_weights != 2))
        return fault(s, "%u weights", attr->n_weights);
    for (unsigned i = 0; i < attr->n_weights; i++) {
        const struct quern_value *w = in(s, 1 + i);
        if (!w)
            return fault(s, "weight %u is missing", i);
        if (w->dim[0] != x->dim[0])
            return fault(s, "weight rows have %lld elements, the input has %lld", (long long)w->dim[0],
                         (long long)x->dim[0]);
        if (!expect(s, 4 + i, "bias", w->dim[1], 1))
            return false;
        if (i == 0 || !attr->glu)
            out(s, QUERN_F32, w->dim[1], x->dim[1], 1);
        else if (!same_shape(w, in(s, 1)))
            return fault(s, "gate and up differ in shape");
    }
    const struct quern_value *residual = in(s, 7);
    if (residual && (s->n_out != 1 || !same_shape(residual, &s->out[0])))
        return fault(s, "residual does not fit");
    return true;
}

static bool shape_rope(struct qn_shape *s)
{
    const struct quern_value *x = in(s, 0);
    const struct quern_rope_attr *attr = &s->node->attr.rope;
    if (attr->head_dim == 0 || x->dim[0] % attr->head_dim != 0)
        return fault(s, "rows of %lld are not heads of %u", (long long)x->dim[0], attr->head_dim);
    if (attr->n_dims == 0 || attr->n_dims > attr->head_dim || attr->n_dims % 2 != 0)
        return fault(s, "%u rotated dimensions in heads of %u", attr->n_dims, attr->head_dim);
    if (!expect(s, 1, "frequency factors", attr->n_dims / 2, 1))
        return false;
    out(s, QUERN_F32, x->dim[0], x->dim[1], x->dim[2]);
    return true;
}

static bool shape_kv_store(struct qn_shape *s)
{
    if (s->node->attr.kv_store.kv_layer >= s->graph->n_kv)
        return fault(s, "no KV layer %u", s->node->attr.kv_store.kv_layer);
    const struct quern_kv_layer *kv = quern_graph_kv(s->graph, s->node->attr.kv_store.kv_layer);
    return expect(s, 0, "k", (int64_t)kv->n_head_kv * kv->head_dim_k, QUERN_DIM_TOKENS) &&
           expect(s, 1, "v", (int64_t)kv->n_head_kv * kv->head_dim_v, QUERN_DIM_TOKENS);
}

static bool shape_attention(struct qn_shape *s)
{
    const struct quern_attention_attr *attr = &s->node->attr.attention;
    if (attr->kv_layer >= s->graph->n_kv)
        return fault(s, "no KV layer %u", attr->kv_layer);
    const struct quern_kv_layer *kv = quern_graph_kv(s->graph, attr->kv_layer);
    if (kv->n_head_kv == 0 || attr->n_head % kv->n_head_kv != 0)
        return fault(s, "%u heads cannot share %u KV heads", attr->n_head, kv->n_head_kv);
    if (!expect(s, 0, "q", (int64_t)attr->n_head * kv->head_dim_k, QUERN_DIM_TOKENS) ||
        !expect(s, 1, "sinks", attr->n_head, 1))
        return false;
    out(s, QUERN_F32, (int64_t)attr->n_head * kv->head_dim_v, QUERN_DIM_TOKENS, 1);
    return true;
}

static bool shape_activation(struct qn_shape *s)
{
    const struct quern_value *gate = in(s, 0), *up = in(s, 1);
    bool split = s->node->attr.activation.split != 0;
    if (split && (up || gate->dim[0] % 2 != 0))
        return fault(s, "a row of %lld cannot be split in gate and up", (long long)gate->dim[0]);
    if (up && !same_shape(gate, up))
        return fault(s, "gate and up differ in shape");
    out(s, QUERN_F32, split ? gate->dim[0] / 2 : gate->dim[0], gate->dim[1], gate->dim[2]);
    return true;
}

static bool shape_add(struct qn_shape *s)
{
    const struct quern_value *a = in(s, 0);
    if (!same_shape(a, in(s, 1)))
        return fault(s, "the summands are %lld and %lld wide", (long long)a->dim[0],
                     (long long)in(s, 1)->dim[0]);
    out(s, QUERN_F32, a->dim[0], a->dim[1], a->dim[2]);
    return true;
}

static bool shape_rows(struct qn_shape *s)
{
    if (in(s, 0)->dim[1] != QUERN_DIM_TOKENS)
        return fault(s, "rows are chosen among tokens");
    out(s, QUERN_F32, in(s, 0)->dim[0], QUERN_DIM_OUTPUTS, 1);
    return true;
}

static bool shape_moe_route(struct qn_shape *s)
{
    const struct quern_moe_route_attr *attr = &s->node->attr.moe_route;
    if (attr->n_used == 0 || attr->n_used > attr->n_expert)
        return fault(s, "%u of %u experts", attr->n_used, attr->n_expert);
    if (!expect(s, 0, "logits", attr->n_expert, QUERN_DIM_TOKENS) || !expect(s, 1, "bias", attr->n_expert, 1))
        return false;
    out(s, QUERN_I32, attr->n_used, QUERN_DIM_TOKENS, 1);
    out(s, QUERN_F32, attr->n_used, QUERN_DIM_TOKENS, 1);
    return true;
}

static bool shape_moe_matmul(struct qn_shape *s)
{
    const struct quern_value *x = in(s, 0), *w = in(s, 1), *ids = in(s, 5);
    const struct quern_moe_matmul_attr *attr = &s->node->attr.moe_matmul;
    if (!ids || ids->format != QUERN_I32)
        return fault(s, "expert ids are missing");
    if (attr->n_weights != (attr->glu ? 2u : 1u))
        return fault(s, "%u weights", attr->n_weights);
    for (unsigned i = 0; i < attr->n_weights; i++) {
        const struct quern_value *wi = in(s, 1 + i);
        if (!wi || !same_shape(wi, w))
            return fault(s, "gate and up differ in shape");
        if (!expect(s, 3 + i, "bias", w->dim[1], w->dim[2]))
            return false;
    }
    if (w->dim[0] != x->dim[0])
        return fault(s, "weight rows have %lld elements, the input has %lld", (long long)w->dim[0],
                     (long long)x->dim[0]);
    if (attr->per_slot ? x->dim[1] != ids->dim[0] || x->dim[2] != QUERN_DIM_TOKENS
                       : x->dim[1] != QUERN_DIM_TOKENS)
        return fault(s, "input has no row for each chosen expert");
    out(s, QUERN_F32, w->dim[1], ids->dim[0], QUERN_DIM_TOKENS);
    return true;
}

static bool shape_moe_combine(struct qn_shape *s)
{
    const struct quern_value *y = in(s, 0);
    if (!expect(s, 1, "weights", y->dim[1], QUERN_DIM_TOKENS) ||
        !expect(s, 2, "shared", y->dim[0], QUERN_DIM_TOKENS) ||
        !expect(s, 3, "shared gate", 1, QUERN_DIM_TOKENS) ||
        !expect(s, 4, "residual", y->dim[0], QUERN_DIM_TOKENS))
        return false;
    out(s, QUERN_F32, y->dim[0], QUERN_DIM_TOKENS, 1);
    return true;
}

static bool shape_select(struct qn_shape *s)
{
    uint32_t k = s->node->attr.select.k;
    const struct quern_value *x = in(s, 0);
    if (x->dim[1] != QUERN_DIM_OUTPUTS || x->dim[2] != 1)
        return fault(s, "the input has no row for each output");
    if (k == 0 || k > QUERN_MAX_SELECT || k > x->dim[0])
        return fault(s, "%u of %lld to select", k, (long long)x->dim[0]);
    out(s, QUERN_I32, 2 * (int64_t)k, QUERN_DIM_OUTPUTS, 1);
    return true;
}
