/* Shape rules: from a node's inputs and attributes to its outputs, or to a sentence that says what does not
 * fit. */
#ifndef QN_GRAPH_SHAPES_H
#define QN_GRAPH_SHAPES_H

#include "graph/graph.h"

struct qn_shape {
    const struct quern_graph *graph;
    const struct quern_node *node;
    struct quern_value out[QUERN_MAX_OUT]; /* dim and format are set */
    uint32_t n_out;
    char fault[160];
};

bool qn_shape_infer(struct qn_shape *shape);

#endif
