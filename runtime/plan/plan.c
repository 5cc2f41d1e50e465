/* The one orchestrator: cuts the placed graph into segments, lays out their memory, has them prepared, runs
 * them. */
#include "plan/plan.h"

#include <string.h>

uint32_t qn_bucket(uint32_t n_tokens)
{
    uint32_t bucket = 1;
    while (bucket < n_tokens && bucket < QN_MAX_BUCKET)
        bucket *= 2;
    return bucket;
}

enum qn_phase qn_phase_of(uint32_t n_tokens)
{
    return n_tokens > 16 ? QN_PHASE_PREFILL : QN_PHASE_DECODE;
}

/* ---- segments and copies ---- */

static enum quern_status cut_segments(const struct quern_callbacks *cb, struct qn_plan *plan,
                                      const uint8_t *place, struct quern_error *err)
{
    uint32_t n_nodes = plan->graph->view.n_nodes, n = 0;
    for (uint32_t i = 0; i < n_nodes; i++)
        n += i == 0 || place[i] != place[i - 1];
    plan->segments = qn_zalloc(cb, n, sizeof *plan->segments);
    plan->nodes = qn_alloc(cb, n_nodes, sizeof *plan->nodes);
    if (!plan->segments || !plan->nodes)
        return qn_fail_memory(err, "a plan");
    for (uint32_t i = 0; i < n_nodes; i++) {
        plan->nodes[i] = i;
        if (i == 0 || place[i] != place[i - 1])
            plan->segments[plan->n_segments++] = (struct qn_plan_segment){.device = place[i], .first = i};
        plan->segments[plan->n_segments - 1].n++;
    }
    return QUERN_OK;
}

/* When a value is made and last read on one device, in node numbers; first = QUERN_NONE: not there. */
struct span {
    uint32_t first, last;
};

static void extend(struct span *span, uint32_t at)
{
    if (span->first == QUERN_NONE)
        span->first = at;
    if (span->last < at)
        span->last = at;
}

/* Finds when each activation lives on each device: spans[device * n_values + value]; notes the copies between
 * devices. With `count_only` the copies are only counted. */
static void trace_values(struct qn_plan *plan, struct span *spans, uint32_t *made_on, bool count_only)
{
    const struct quern_graph *g = &plan->graph->view;
    for (size_t i = 0; i < (size_t)plan->n_devices * g->n_values; i++)
        spans[i] = (struct span){.first = QUERN_NONE};
    plan->n_copies = 0;
    for (uint32_t s = 0; s < plan->n_segments; s++) {
        struct qn_plan_segment *segment = &plan->segments[s];
        struct span *here = spans + (size_t)segment->device * g->n_values;
        segment->first_copy = plan->n_copies;
        for (uint32_t n = segment->first; n < segment->first + segment->n; n++) {
            const struct quern_node *node = quern_graph_node(g, n);
            for (unsigned i = 0; i < QUERN_MAX_IN; i++) {
                uint32_t v = node->in[i];
                if (v == QUERN_NONE || plan->graph->values[v].kind == QUERN_VALUE_WEIGHT)
                    continue;
                if (here[v].first == QUERN_NONE) { /* made elsewhere: comes over before the segment starts */
                    uint32_t from = made_on[v];
                    extend(&spans[(size_t)from * g->n_values + v], segment->first);
                    extend(&here[v], segment->first);
                    if (!count_only)
                        plan->copies[plan->n_copies] = (struct qn_plan_copy){.value = v, .from = from};
                    plan->n_copies++;
                }
                extend(&here[v], n);
            }
            for (unsigned i = 0; i < QUERN_MAX_OUT; i++)
                if (node->out[i] != QUERN_NONE) {
                    extend(&here[node->out[i]], n);
                    made_on[node->out[i]] = segment->device;
                    if (plan->graph->values[node->out[i]].kind == QUERN_VALUE_OUTPUT) {
                        extend(&here[node->out[i]], g->n_nodes);
                        plan->results[node->op == QUERN_OP_SELECT ? QN_RESULT_BEST : QN_RESULT_ROWS] =
                            (struct qn_plan_result){.value = node->out[i], .device = segment->device};
                    }
                }
        }
        segment->n_copies = plan->n_copies - segment->first_copy;
    }
}

/* ---- memory ---- */

/* One device's activations: piece of each value (values that share memory share a piece). */
static enum quern_status lay_out(const struct quern_callbacks *cb, struct qn_plan *plan, uint32_t device,
                                 const struct span *spans, struct quern_error *err)
{
    const struct quern_graph *g = &plan->graph->view;
    struct qn_lifetime *pieces = qn_zalloc(cb, g->n_values, sizeof *pieces);
    uint32_t *piece_of = qn_alloc(cb, g->n_values, sizeof *piece_of);
    enum quern_status status = pieces && piece_of ? QUERN_OK : qn_fail_memory(err, "a plan");
    uint32_t n_pieces = 0;
    for (uint32_t v = 0; v < g->n_values && !status; v++) {
        piece_of[v] = QUERN_NONE;
        if (spans[v].first == QUERN_NONE)
            continue;
        uint64_t bytes = qn_value_bytes(&plan->graph->values[v], plan->max_tokens, plan->max_outputs);
        if (bytes > UINT64_MAX / 2)
            status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "activation %u is too large", v);
        piece_of[v] = n_pieces;
        pieces[n_pieces++] =
            (struct qn_lifetime){.first = spans[v].first, .last = spans[v].last, .bytes = bytes};
    }
    /* in-place: the output takes over the memory of an input that nobody reads later */
    for (uint32_t n = 0; n < g->n_nodes && !status; n++) {
        const struct quern_node *node = quern_graph_node(g, n);
        uint32_t from = node->in[0], to = node->out[0];
        if (!qn_op_get(node->op)->may_alias || from == QUERN_NONE || to == QUERN_NONE ||
            piece_of[from] == QUERN_NONE || piece_of[to] == QUERN_NONE || spans[to].first != n)
            continue;
        struct qn_lifetime *a = &pieces[piece_of[from]], *b = &pieces[piece_of[to]];
        if (a->last != n || a->bytes != b->bytes)
            continue;
        a->last = b->last;
        b->bytes = 0; /* its piece is now the input's */
        piece_of[to] = piece_of[from];
    }
    if (!status) {
        plan->arena_bytes[device] =
            qn_memory_plan(cb, pieces, n_pieces, plan->devices[device].caps.offset_align);
        if (plan->arena_bytes[device] == UINT64_MAX)
            status = qn_fail_memory(err, "a plan");
    }
    for (uint32_t v = 0; v < g->n_values && !status; v++)
        if (piece_of[v] != QUERN_NONE) {
            plan->bindings[device][v].offset = pieces[piece_of[v]].offset;
            plan->bindings[device][v].bytes =
                qn_value_bytes(&plan->graph->values[v], plan->max_tokens, plan->max_outputs);
        }
    qn_free(cb, pieces);
    qn_free(cb, piece_of);
    return status;
}

/* Time for the largest step on a device slower than any that is of use: 100 million operations and 20 MB a
 * second (emulated processors, weights on an SD card), besides what any work may take. */
static uint64_t longest_step_ns(const struct qn_plan_params *params)
{
    const struct quern_graph *g = &params->graph->view;
    struct qn_node_work all = {0, 0};
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        struct qn_node_work work =
            qn_node_work(g, i, params->max_tokens, params->max_outputs, params->n_ctx, 0);
        all.ops += work.ops;
        all.bytes += work.bytes;
    }
    return QN_HANG_NS + all.ops * 10 + all.bytes * 50;
}

/* What has to go through the host. */
static enum quern_status plan_transfers(const struct quern_callbacks *cb, struct qn_plan *plan,
                                        struct quern_error *err)
{
    uint64_t largest = 0;
    for (uint32_t c = 0; c < plan->n_copies; c++) {
        const struct quern_value *value = &plan->graph->values[plan->copies[c].value];
        uint64_t bytes = qn_value_bytes(value, plan->max_tokens, plan->max_outputs);
        largest = bytes > largest ? bytes : largest;
    }
    if (largest > 0 && !(plan->bridge = qn_alloc(cb, largest, 1)))
        return qn_fail_memory(err, "a plan");
    for (int i = 0; i < QN_RESULTS; i++) {
        struct qn_plan_result *result = &plan->results[i];
        if (result->value != QUERN_NONE && qn_host_heap(&plan->devices[result->device].caps) != 0)
            result->bytes =
                qn_value_bytes(&plan->graph->values[result->value], plan->max_tokens, plan->max_outputs);
    }
    return QUERN_OK;
}

enum quern_status qn_plan_create(const struct quern_callbacks *cb, struct qn_plan **out,
                                 const struct qn_plan_params *params, struct quern_error *err)
{
    *out = NULL;
    const struct quern_graph *g = &params->graph->view;
    struct qn_plan *plan = qn_zalloc(cb, 1, sizeof *plan);
    if (!plan)
        return qn_fail_memory(err, "a plan");
    plan->graph = params->graph;
    plan->devices = params->devices;
    plan->n_devices = params->n_devices;
    plan->max_tokens = params->max_tokens;
    plan->max_outputs = params->max_outputs;
    plan->hang_ns = longest_step_ns(params);
    for (int i = 0; i < QN_RESULTS; i++)
        plan->results[i].value = QUERN_NONE;
    struct span *spans = qn_alloc(cb, (size_t)plan->n_devices * g->n_values, sizeof *spans);
    uint32_t *made_on = qn_zalloc(cb, g->n_values, sizeof *made_on);
    enum quern_status status = spans && made_on ? QUERN_OK : qn_fail_memory(err, "a plan");
    for (uint32_t d = 0; d < plan->n_devices && !status; d++) {
        plan->bindings[d] = qn_zalloc(cb, g->n_values, sizeof *plan->bindings[d]);
        if (!plan->bindings[d])
            status = qn_fail_memory(err, "a plan");
    }
    if (!status)
        status = cut_segments(cb, plan, params->place, err);
    if (!status) {
        trace_values(plan, spans, made_on, true);
        plan->copies = qn_zalloc(cb, plan->n_copies + 1, sizeof *plan->copies);
        if (plan->copies)
            trace_values(plan, spans, made_on, false);
        else
            status = qn_fail_memory(err, "a plan");
    }
    for (uint32_t d = 0; d < plan->n_devices && !status; d++)
        status = lay_out(cb, plan, d, spans + (size_t)d * g->n_values, err);
    qn_free(cb, spans);
    qn_free(cb, made_on);
    if (!status)
        status = plan_transfers(cb, plan, err);
    if (status)
        qn_plan_destroy(cb, &plan);
    *out = plan;
    return status;
}

/* ---- preparing ---- */

/* Where the rows of a weight's tensor lie that the value is. */
static struct quern_binding bind_weight(const struct quern_binding *tensors, const struct quern_value *value)
{
    struct quern_binding binding = tensors[value->weight];
    binding.offset += value->weight_offset;
    binding.bytes = qn_value_bytes(value, 1, 1);
    return binding;
}

/* Binds activations to the device's arena, and weights to where the device has them. A device without weights
 * has no part in the plan. */
static enum quern_status bind_device(struct qn_plan *plan, uint32_t d, struct quern_error *err)
{
    const struct quern_graph *g = &plan->graph->view;
    struct qn_plan_device *device = &plan->devices[d];
    if (plan->arena_bytes[d] > device->arena_bytes)
        return qn_fail(err, QUERN_ERR_PARAM, "the arena is smaller than the plan");
    if (!device->weights)
        return QUERN_OK;
    for (uint32_t v = 0; v < g->n_values; v++) {
        struct quern_binding *binding = &plan->bindings[d][v];
        const struct quern_value *value = &plan->graph->values[v];
        if (value->kind == QUERN_VALUE_WEIGHT) {
            *binding = bind_weight(device->weights, value);
        } else if (binding->bytes > 0) {
            binding->buffer = device->arena;
        }
    }
    return QUERN_OK;
}

/* Where weights of a device lie that are still being laid out, per value, to be freed; NULL: everywhere as
 * bound. */
static enum quern_status find_origins(const struct quern_callbacks *cb, const struct qn_plan *plan,
                                      const struct qn_plan_device *device, struct quern_binding **origins,
                                      struct quern_error *err)
{
    const uint32_t n = plan->graph->view.n_values;
    *origins = NULL;
    if (!device->origins)
        return QUERN_OK;
    *origins = qn_zalloc(cb, n, sizeof **origins);
    if (!*origins)
        return qn_fail_memory(err, "a plan");
    for (uint32_t v = 0; v < n; v++)
        if (plan->graph->values[v].kind == QUERN_VALUE_WEIGHT)
            (*origins)[v] = bind_weight(device->origins, &plan->graph->values[v]);
    return QUERN_OK;
}

static enum quern_status prepare_segment(const struct quern_callbacks *cb, struct qn_plan *plan,
                                         const struct qn_plan_params *params, struct qn_plan_segment *segment,
                                         struct quern_error *err)
{
    struct qn_plan_device *device = &plan->devices[segment->device];
    struct quern_binding *origins;
    enum quern_status status = find_origins(cb, plan, device, &origins, err);
    if (status)
        return status;
    const struct quern_segment request = {.struct_size = sizeof request,
                                          .n_nodes = segment->n,
                                          .graph = &plan->graph->view,
                                          .nodes = plan->nodes + segment->first,
                                          .bindings = plan->bindings[segment->device],
                                          .kv = params->kv,
                                          .max_tokens = plan->max_tokens,
                                          .max_outputs = plan->max_outputs,
                                          .exact = params->exact,
                                          .origins = origins};
    struct quern_error detail = {0};
    status = device->driver->prepare(device->handle, &request, &segment->prepared, &detail);
    qn_free(cb, origins);
    if (status) {
        segment->prepared = NULL;
        plan->failed = device;
        return qn_fail(err, status, "%s", detail.text);
    }
    return QUERN_OK;
}

enum quern_status qn_plan_prepare(const struct quern_callbacks *cb, struct qn_plan *plan,
                                  const struct qn_plan_params *params, struct quern_error *err)
{
    plan->failed = NULL;
    for (uint32_t d = 0; d < plan->n_devices; d++)
        if (plan->devices[d].handle) {
            enum quern_status status = bind_device(plan, d, err);
            if (status)
                return status;
        }
    enum quern_status status = QUERN_OK;
    for (uint32_t s = 0; s < plan->n_segments && !status; s++)
        status = prepare_segment(cb, plan, params, &plan->segments[s], err);
    return status;
}

void qn_plan_destroy(const struct quern_callbacks *cb, struct qn_plan **out)
{
    struct qn_plan *plan = *out;
    if (!plan)
        return;
    for (uint32_t s = 0; s < plan->n_segments; s++) {
        struct qn_plan_segment *segment = &plan->segments[s];
        struct qn_plan_device *device = &plan->devices[segment->device];
        if (segment->prepared)
            device->driver->release(device->handle, segment->prepared);
    }
    for (uint32_t d = 0; d < plan->n_devices; d++)
        qn_free(cb, plan->bindings[d]);
    qn_free(cb, plan->segments);
    qn_free(cb, plan->copies);
    qn_free(cb, plan->nodes);
    qn_free(cb, plan->bridge);
    qn_free(cb, plan);
    *out = NULL;
}

/* ---- running ---- */

enum quern_status qn_plan_wait(const struct qn_plan_ticket *ticket, struct quern_error *err)
{
    struct quern_error detail = {0};
    int32_t status =
        ticket->device->driver->wait(ticket->device->handle, ticket->point, ticket->hang_ns, &detail);
    return status ? qn_fail(err, status, "%s", detail.text) : QUERN_OK;
}

static enum quern_status wait_for(struct qn_plan *plan, const struct qn_plan_ticket *ticket,
                                  struct quern_error *err)
{
    enum quern_status status = qn_plan_wait(ticket, err);
    if (status)
        plan->failed = ticket->device;
    return status;
}

/* Brings the values that a segment reads from the device that made them. The source has finished. */
static enum quern_status bring_values(struct qn_plan *plan, const struct qn_plan_segment *segment,
                                      const struct quern_step *step, struct quern_error *err)
{
    struct qn_plan_device *to = &plan->devices[segment->device];
    for (uint32_t c = segment->first_copy; c < segment->first_copy + segment->n_copies; c++) {
        uint32_t v = plan->copies[c].value;
        struct qn_plan_device *from = &plan->devices[plan->copies[c].from];
        uint64_t bytes = qn_value_bytes(&plan->graph->values[v], step->n_tokens, step->n_outputs);
        struct quern_error detail = {0};
        enum quern_status status = qn_transfer(
            from, from->arena, plan->bindings[plan->copies[c].from][v].offset, to, to->arena,
            plan->bindings[segment->device][v].offset, plan->bridge, bytes, &plan->failed, &detail);
        if (status)
            return qn_fail(err, status, "%s", detail.text);
    }
    return QUERN_OK;
}

enum qn_result qn_step_result(const struct quern_step *step)
{
    return step->select > 0 ? QN_RESULT_BEST : QN_RESULT_ROWS;
}

/* Has the result copied to where the host reads it: *ticket is then that copy's. */
static enum quern_status fetch(struct qn_plan *plan, const struct qn_plan_run *run,
                               struct qn_plan_ticket *ticket, struct quern_error *err)
{
    const struct qn_plan_result *result = &plan->results[qn_step_result(run->step)];
    struct qn_plan_device *device = &plan->devices[result->device];
    struct qn_plan_place to = run->result;
    if (!to.buffer && result->bytes > 0)
        to.buffer = device->output;
    uint64_t bytes = to.buffer ? qn_value_bytes(&plan->graph->values[result->value], run->step->n_tokens,
                                                run->step->n_outputs)
                               : 0;
    if (bytes == 0)
        return QUERN_OK;
    if (device != ticket->device) { /* its part is over, the last one's is not */
        enum quern_status status = wait_for(plan, ticket, err);
        if (status)
            return status;
    }
    struct quern_error detail = {0};
    int32_t status = device->driver->copy(device->handle, to.buffer, to.offset, device->arena,
                                          plan->bindings[result->device][result->value].offset, bytes,
                                          &ticket->point, &detail);
    ticket->device = device;
    if (status) {
        plan->failed = device;
        return qn_fail(err, status, "%s", detail.text);
    }
    return QUERN_OK;
}

enum quern_status qn_plan_start(struct qn_plan *plan, const struct qn_plan_run *run,
                                struct qn_plan_ticket *ticket, struct quern_error *err)
{
    plan->failed = NULL;
    *ticket = (struct qn_plan_ticket){.hang_ns = plan->hang_ns};
    for (uint32_t s = 0; s < plan->n_segments; s++) {
        struct qn_plan_segment *segment = &plan->segments[s];
        struct qn_plan_device *device = &plan->devices[segment->device];
        if (s > 0) { /* neighbours are on different devices: the one before is finished first */
            enum quern_status status = wait_for(plan, ticket, err);
            if (!status)
                status = bring_values(plan, segment, run->step, err);
            if (status)
                return status;
        }
        struct quern_run_args args = {.struct_size = sizeof args,
                                      .n_homes = run->n_homes,
                                      .step = run->step,
                                      .kv = run->pools[segment->device],
                                      .trace = run->trace,
                                      .token = run->token.buffer,
                                      .token_offset = run->token.offset};
        struct quern_error detail = {0};
        int32_t status =
            device->driver->run(device->handle, segment->prepared, &args, &ticket->point, &detail);
        ticket->device = device;
        if (status) {
            plan->failed = device;
            return qn_fail(err, status, "%s", detail.text);
        }
    }
    return fetch(plan, run, ticket, err);
}

uint64_t qn_plan_fetched_bytes(const struct qn_plan *plan, uint32_t device)
{
    uint64_t most = 0;
    for (int i = 0; i < QN_RESULTS; i++)
        if (plan->results[i].device == device && plan->results[i].bytes > most)
            most = plan->results[i].bytes;
    return most;
}

const void *qn_plan_result(const struct qn_plan *plan, enum qn_result which)
{
    const struct qn_plan_result *result = &plan->results[which];
    const struct qn_plan_device *device = &plan->devices[result->device];
    bool fetched = result->bytes > 0;
    const char *from = device->driver->buffer_map(device->handle, fetched ? device->output : device->arena);
    uint64_t offset = fetched ? 0 : plan->bindings[result->device][result->value].offset;
    return from ? from + offset : NULL;
}
