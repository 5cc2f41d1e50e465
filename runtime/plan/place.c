/* Placement: node -> device. */
#include "plan/plan.h"

#include <string.h>

/* The devices that are in use, in the order in which they are asked. Returns how many. */
static uint32_t order_devices(const struct qn_plan_device *devices, uint32_t n_devices, enum qn_phase phase,
                              uint32_t order[QN_MAX_DEVICES])
{
    uint32_t n = 0;
    for (uint32_t stands_in = 0; stands_in < 2; stands_in++)
        for (uint32_t d = 0; d < n_devices; d++)
            if (devices[d].handle && (devices[d].stands_in >> phase & 1) == stands_in)
                order[n++] = d;
    return n;
}

enum quern_status qn_place(const struct quern_callbacks *cb, const struct quern_graph *graph,
                           const struct qn_plan_device *devices, uint32_t n_devices, enum qn_phase phase,
                           uint8_t *place, struct quern_error *err)
{
    uint32_t n = graph->n_nodes, order[QN_MAX_DEVICES];
    uint32_t n_ordered = order_devices(devices, n_devices, phase, order);
    uint8_t *mask = qn_zalloc(cb, (size_t)n, n_devices);
    if (!mask)
        return qn_fail_memory(err, "placement");
    enum quern_status status = QUERN_OK;
    uint32_t all = n_ordered; /* first device that supports every node */
    for (uint32_t o = n_ordered; o-- > 0;) {
        const struct qn_plan_device *device = &devices[order[o]];
        device->driver->supports(device->handle, graph, mask + (size_t)o * n);
        if (!memchr(mask + (size_t)o * n, 0, n))
            all = o;
    }
    for (uint32_t i = 0; i < n && !status; i++) {
        uint32_t o = all;
        if (all == n_ordered)
            for (o = 0; o < n_ordered && !mask[(size_t)o * n + i]; o++) {}
        if (o == n_ordered)
            status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "no device can run node %u (%s)", i,
                             qn_op_get(quern_graph_node(graph, i)->op)->name);
        else
            place[i] = (uint8_t)order[o];
    }
    qn_free(cb, mask);
    return status;
}
