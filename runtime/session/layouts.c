#include "session/layouts.h"

#include "formats/rows16.h"

#include <string.h>

/* Whether a value consists of whole groups of 16 rows of its tensor, or of those up to the end of a matrix.
 */
static bool has_whole_groups(const struct quern_value *value, const struct qn_gguf_tensor *tensor)
{
    const uint64_t row_bytes = qn_format_row_bytes(tensor->format, tensor->dim[0]);
    const uint64_t n_rows = tensor->dim[1], rows = (uint64_t)value->dim[1];
    if ((uint64_t)value->dim[0] != tensor->dim[0] || value->weight_offset % row_bytes != 0)
        return false;
    const uint64_t begin = value->weight_offset / row_bytes % n_rows, end = begin + rows;
    if (value->dim[2] > 1 || value->dim[3] > 1)
        return begin == 0 && rows == n_rows;
    return begin % QN_ROWS16 == 0 && end <= n_rows && (end % QN_ROWS16 == 0 || end == n_rows);
}

/* Whether an operation multiplies with the weight at that place of its inputs. */
static bool multiplies(const struct quern_node *node, int place)
{
    return (node->op == QUERN_OP_MATMUL && place >= 1 && place <= 3) ||
           (node->op == QUERN_OP_MOE_MATMUL && place >= 1 && place <= 2);
}

static bool computes(const struct quern_model *model, uint32_t device, uint32_t node)
{
    return model->place[QN_PHASE_DECODE][node] == device || model->place[QN_PHASE_PREFILL][node] == device;
}

void qn_choose_layouts(const struct quern_model *model, uint32_t device, uint8_t *layout)
{
    enum { WANTED = 1, REFUSED = 2 };
    const struct quern_graph *graph = &model->graph.view;
    const struct quern_caps *caps = &model->plan_devices[device].caps;
    const size_t n_tensors = qn_gguf_n_tensors(model->file.gguf);
    memset(layout, 0, n_tensors);
    for (uint32_t n = 0; n < graph->n_nodes; n++) {
        const struct quern_node *node = quern_graph_node(graph, n);
        for (int i = 0; i < QUERN_MAX_IN; i++) {
            const struct quern_value *value =
                node->in[i] == QUERN_NONE ? NULL : quern_graph_value(graph, node->in[i]);
            if (!value || value->kind != QUERN_VALUE_WEIGHT)
                continue;
            const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(model->file.gguf, value->weight);
            bool wants = caps->rows16_formats >> tensor->format & 1 && tensor->dim[1] >= QN_ROWS16;
            bool table = node->op == QUERN_OP_EMBED && i == 0;
            if (!wants || !(multiplies(node, i) || table) || !has_whole_groups(value, tensor))
                layout[value->weight] |= REFUSED;
            else if (multiplies(node, i) && computes(model, device, n))
                layout[value->weight] |= WANTED;
        }
    }
    for (size_t t = 0; t < n_tensors; t++)
        layout[t] = layout[t] == WANTED ? QUERN_LAYOUT_ROWS16 : QUERN_LAYOUT_FILE;
}
