/* Placement: node -> device. */
#include "plan/plan.h"

#include <string.h>

enum quern_status qn_place(const struct quern_callbacks *cb, const struct quern_graph *graph,
                           const struct qn_plan_device *devices, uint32_t n_devices, uint8_t *place,
                           struct quern_error *err)
{
    uint32_t n = graph->n_nodes;
    uint8_t *mask = qn_zalloc(cb, (size_t)n, n_devices);
    if (!mask)
        return qn_fail_memory(err, "placement");
    enum quern_status status = QUERN_OK;
    uint32_t all = n_devices; /* first device that supports every node */
    for (uint32_t d = n_devices; d-- > 0;) {
        if (!devices[d].handle)
            continue;
        devices[d].driver->supports(devices[d].handle, graph, mask + (size_t)d * n);
        if (!memchr(mask + (size_t)d * n, 0, n))
            all = d;
    }
    for (uint32_t i = 0; i < n && !status; i++) {
        uint32_t d = all;
        if (all == n_devices)
            for (d = 0; d < n_devices && !mask[(size_t)d * n + i]; d++) {}
        if (d == n_devices)
            status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "no device can run node %u (%s)", i,
                             qn_op_get(quern_graph_node(graph, i)->op)->name);
        place[i] = (uint8_t)d;
    }
    qn_free(cb, mask);
    return status;
}
