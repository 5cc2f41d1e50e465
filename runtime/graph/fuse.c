/* Fusion: the same mathematics in fewer nodes. Each rule looks at one node and at the nodes that made its
 * inputs; what it absorbs is marked dead, and the survivors are packed at the end. */
#include "graph/graph.h"

#include <string.h>

struct fuse {
    struct qn_graph *graph;
    uint32_t *producer; /* value -> node, QUERN_NONE for weights */
    uint32_t *uses;     /* value -> number of inputs that name it */
    uint8_t *dead;      /* per node */
};

static void count_uses(struct fuse *f)
{
    const struct quern_graph *g = &f->graph->view;
    for (uint32_t v = 0; v < g->n_values; v++) {
        f->producer[v] = QUERN_NONE;
        f->uses[v] = f->graph->values[v].kind == QUERN_VALUE_OUTPUT; /* the host reads it */
    }
    for (uint32_t n = 0; n < g->n_nodes; n++) {
        if (f->dead[n])
            continue;
        const struct quern_node *node = &f->graph->nodes[n];
        for (unsigned i = 0; i < QUERN_MAX_IN; i++)
            if (node->in[i] != QUERN_NONE)
                f->uses[node->in[i]]++;
        for (unsigned i = 0; i < QUERN_MAX_OUT; i++)
            if (node->out[i] != QUERN_NONE)
                f->producer[node->out[i]] = n;
    }
}

/* The node that made the value, when it is a live one of this kind and nobody else reads the value. */
static struct quern_node *sole_producer(const struct fuse *f, uint32_t value, enum quern_op op,
                                        uint32_t *index)
{
    *index = QUERN_NONE;
    if (value == QUERN_NONE || f->producer[value] == QUERN_NONE || f->uses[value] != 1)
        return NULL;
    *index = f->producer[value];
    struct quern_node *node = &f->graph->nodes[*index];
    return !f->dead[*index] && node->op == (uint32_t)op ? node : NULL;
}

static bool is_plain_matmul(const struct quern_node *node)
{
    const struct quern_matmul_attr *a = &node->attr.matmul;
    return node->op == QUERN_OP_MATMUL && a->n_weights == 1 && a->act == QUERN_ACT_NONE && a->scale == 1.0f &&
           a->softcap == 0.0f && node->in[7] == QUERN_NONE;
}

static bool same_dims(const struct fuse *f, uint32_t a, uint32_t b)
{
    return memcmp(f->graph->values[a].dim, f->graph->values[b].dim, sizeof f->graph->values[a].dim) == 0;
}

/* act(x W_g) * (x W_u) -> one matmul with glu, in the activation's place. */
static void fuse_glu(struct fuse *f, uint32_t n)
{
    struct quern_node *act = &f->graph->nodes[n];
    if (act->op != QUERN_OP_ACTIVATION || act->attr.activation.split || act->in[1] == QUERN_NONE)
        return;
    uint32_t gi, ui;
    struct quern_node *gate = sole_producer(f, act->in[0], QUERN_OP_MATMUL, &gi);
    struct quern_node *up = sole_producer(f, act->in[1], QUERN_OP_MATMUL, &ui);
    if (!gate || !up || !is_plain_matmul(gate) || !is_plain_matmul(up) || gate->in[0] != up->in[0] ||
        !same_dims(f, gate->in[1], up->in[1]))
        return;
    struct quern_node fused = *gate;
    fused.attr.matmul.n_weights = 2;
    fused.attr.matmul.glu = 1;
    fused.attr.matmul.act = act->attr.activation.act;
    fused.in[2] = up->in[1];
    fused.in[5] = up->in[4];
    memcpy(fused.out, act->out, sizeof fused.out);
    *act = fused;
    f->dead[gi] = f->dead[ui] = 1;
}

/* The same for experts. */
static void fuse_moe_glu(struct fuse *f, uint32_t n)
{
    struct quern_node *act = &f->graph->nodes[n];
    if (act->op != QUERN_OP_ACTIVATION || act->attr.activation.split || act->in[1] == QUERN_NONE)
        return;
    uint32_t gi, ui;
    struct quern_node *gate = sole_producer(f, act->in[0], QUERN_OP_MOE_MATMUL, &gi);
    struct quern_node *up = sole_producer(f, act->in[1], QUERN_OP_MOE_MATMUL, &ui);
    if (!gate || !up || gate->in[0] != up->in[0] || gate->in[5] != up->in[5] || gate->in[6] != up->in[6] ||
        gate->attr.moe_matmul.n_weights != 1 || up->attr.moe_matmul.n_weights != 1 ||
        gate->attr.moe_matmul.per_slot != up->attr.moe_matmul.per_slot ||
        !same_dims(f, gate->in[1], up->in[1]))
        return;
    struct quern_node fused = *gate;
    fused.attr.moe_matmul.n_weights = 2;
    fused.attr.moe_matmul.glu = 1;
    fused.attr.moe_matmul.act = act->attr.activation.act;
    fused.in[2] = up->in[1];
    fused.in[4] = up->in[3];
    memcpy(fused.out, act->out, sizeof fused.out);
    *act = fused;
    f->dead[gi] = f->dead[ui] = 1;
}

/* a + s y with y from a matmul (or the combination of experts) -> its epilogue, in the add's place. */
static void fuse_residual(struct fuse *f, uint32_t n)
{
    struct quern_node *add = &f->graph->nodes[n];
    if (add->op != QUERN_OP_ADD)
        return;
    uint32_t pi;
    struct quern_node fused;
    const struct quern_node *y = sole_producer(f, add->in[1], QUERN_OP_MATMUL, &pi);
    if (y && y->in[7] == QUERN_NONE && (y->attr.matmul.n_weights == 1 || y->attr.matmul.glu)) {
        fused = *y;
        fused.in[7] = add->in[0];
        fused.attr.matmul.residual_scale = add->attr.add.scale;
    } else {
        y = sole_producer(f, add->in[1], QUERN_OP_MOE_COMBINE, &pi);
        if (!y || y->in[4] != QUERN_NONE || add->attr.add.scale != 1.0f)
            return;
        fused = *y;
        fused.in[4] = add->in[0];
    }
    memcpy(fused.out, add->out, sizeof fused.out);
    *add = fused;
    f->dead[pi] = 1;
}

/* norm(a + y) where the sum is first read by the norm -> the norm adds. */
static void fuse_add_norm(struct fuse *f, uint32_t n)
{
    struct quern_node *norm = &f->graph->nodes[n];
    if (norm->op != QUERN_OP_NORM || norm->in[3] != QUERN_NONE || f->producer[norm->in[0]] == QUERN_NONE)
        return;
    uint32_t sum = norm->in[0], ai = f->producer[sum];
    const struct quern_node *add = &f->graph->nodes[ai];
    if (f->dead[ai] || add->op != QUERN_OP_ADD || add->attr.add.scale != 1.0f)
        return;
    for (uint32_t between = ai + 1; between < n; between++)
        for (unsigned i = 0; i < QUERN_MAX_IN && !f->dead[between]; i++)
            if (f->graph->nodes[between].in[i] == sum)
                return;
    norm->in[0] = add->in[0];
    norm->in[3] = add->in[1];
    norm->out[1] = sum;
    f->dead[ai] = 1;
}

/* Plain matmuls of one input -> one matmul with up to three weights, in the first one's place. */
static void fuse_siblings(struct fuse *f, uint32_t n)
{
    struct quern_node *first = &f->graph->nodes[n];
    if (!is_plain_matmul(first))
        return;
    for (uint32_t m = n + 1; m < f->graph->view.n_nodes && first->attr.matmul.n_weights < 3; m++) {
        const struct quern_node *other = &f->graph->nodes[m];
        if (f->dead[m] || !is_plain_matmul(other) || other->in[0] != first->in[0])
            continue;
        uint32_t at = first->attr.matmul.n_weights++;
        first->in[1 + at] = other->in[1];
        first->in[4 + at] = other->in[4];
        first->out[at] = other->out[0];
        f->dead[m] = 1;
    }
}

/* Drops dead nodes, and values that nobody names any more. */
static void pack(struct fuse *f, uint32_t *renumber)
{
    struct quern_graph *g = &f->graph->view;
    uint32_t n_nodes = 0, n_values = 0;
    count_uses(f);
    for (uint32_t v = 0; v < g->n_values; v++) {
        renumber[v] = QUERN_NONE;
        if (f->uses[v] > 0 || f->producer[v] != QUERN_NONE) {
            renumber[v] = n_values;
            f->graph->values[n_values++] = f->graph->values[v];
        }
    }
    for (uint32_t n = 0; n < g->n_nodes; n++) {
        if (f->dead[n])
            continue;
        struct quern_node node = f->graph->nodes[n];
        for (unsigned i = 0; i < QUERN_MAX_IN; i++)
            node.in[i] = node.in[i] == QUERN_NONE ? QUERN_NONE : renumber[node.in[i]];
        for (unsigned i = 0; i < QUERN_MAX_OUT; i++)
            node.out[i] = node.out[i] == QUERN_NONE ? QUERN_NONE : renumber[node.out[i]];
        f->graph->nodes[n_nodes++] = node;
    }
    g->n_nodes = n_nodes;
    g->n_values = n_values;
}

enum quern_status qn_graph_fuse(const struct quern_callbacks *cb, struct qn_graph *graph,
                                struct quern_error *err)
{
    static void (*const rules[])(struct fuse * f, uint32_t n) = {
        fuse_glu, fuse_moe_glu, fuse_residual, fuse_add_norm, fuse_siblings,
    };
    struct quern_graph *g = &graph->view;
    if (g->n_nodes == 0)
        return QUERN_OK;
    struct fuse f = {.graph = graph};
    f.producer = qn_alloc(cb, g->n_values, sizeof *f.producer);
    f.uses = qn_alloc(cb, g->n_values, sizeof *f.uses);
    f.dead = qn_zalloc(cb, g->n_nodes, 1);
    uint32_t *renumber = qn_alloc(cb, g->n_values, sizeof *renumber);
    bool good = f.producer && f.uses && f.dead && renumber;
    for (size_t r = 0; good && r < QN_LEN(rules); r++) {
        count_uses(&f);
        for (uint32_t n = 0; n < g->n_nodes; n++)
            if (!f.dead[n])
                rules[r](&f, n);
    }
    if (good)
        pack(&f, renumber);
    qn_free(cb, f.producer);
    qn_free(cb, f.uses);
    qn_free(cb, f.dead);
    qn_free(cb, renumber);
    return good ? QUERN_OK : qn_fail_memory(err, "the graph");
}
