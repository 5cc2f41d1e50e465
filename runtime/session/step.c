#include "session/step.h"

#include "formats/formats.h"

#include <string.h>

/* ---- the block ---- */

static uint32_t *block_u32(struct quern_step *step, uint32_t offset)
{
    return (uint32_t *)(void *)((char *)step + offset);
}

size_t qn_step_bytes(uint32_t max_tokens, uint32_t max_seqs, uint32_t max_pages)
{
    size_t words = (size_t)max_tokens * (4 + QUERN_MAX_KV_GROUPS) + max_seqs +
                   (size_t)QUERN_MAX_KV_GROUPS * max_seqs * max_pages;
    return sizeof(struct quern_step) + words * 4;
}

/* Header for this session: the arrays lie at the same places in all its steps. */
static void lay_out(const struct quern_session *s, struct quern_step *step)
{
    uint32_t n = s->n_batch, at = sizeof *step;
    *step = (struct quern_step){.struct_size = sizeof *step,
                                .n_groups = s->variant->kv.n_groups,
                                .page_tokens = QN_PAGE_TOKENS,
                                .max_tokens = n,
                                .max_seqs = s->n_seqs,
                                .max_pages = s->max_pages};
    uint32_t *const offsets[] = {&step->token, &step->position, &step->sequence, &step->output};
    for (size_t i = 0; i < QN_LEN(offsets); i++, at += n * 4)
        *offsets[i] = at;
    step->slot = at;
    at += step->n_groups * n * 4;
    step->kv_len = at;
    at += s->n_seqs * 4;
    step->page_table = at;
    at += step->n_groups * s->n_seqs * s->max_pages * 4;
    step->block_bytes = at;
}

/* Of the first token that is pending. */
static uint32_t next_position(const struct qn_sequence *seq)
{
    return seq->kv_len + seq->flying;
}

struct qn_flight *qn_step_begin(struct quern_session *s, uint32_t n_best)
{
    struct qn_flight *flight = &s->flights[s->next_flight];
    s->next_flight ^= 1;
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        s->seqs[i].pending = 0;
        s->seqs[i].in_step = false;
    }
    lay_out(s, flight->step);
    flight->step->select = n_best;
    flight->token = flight->result = (struct qn_plan_place){0};
    return flight;
}

void qn_step_push(struct quern_session *s, struct qn_flight *flight, uint32_t seq_index, int32_t token,
                  bool wanted)
{
    struct quern_step *step = flight->step;
    struct qn_sequence *seq = &s->seqs[seq_index];
    if (!seq->in_step) {
        seq->in_step = true;
        seq->row = step->n_seqs;
        flight->seqs[step->n_seqs++] = seq_index;
    }
    uint32_t t = step->n_tokens++;
    block_u32(step, step->token)[t] = (uint32_t)token;
    block_u32(step, step->position)[t] = next_position(seq) + seq->pending++;
    block_u32(step, step->sequence)[t] = seq->row;
    if (wanted)
        block_u32(step, step->output)[step->n_outputs++] = t;
}

/* ---- pages ---- */

/* A page of our own for each place that the step writes: new ones, and copies of those that others share. */
static enum quern_status take_pages(struct quern_session *s, struct qn_sequence *seq, uint32_t *failed,
                                    struct quern_error *err)
{
    uint32_t from = next_position(seq);
    uint32_t first = from / QN_PAGE_TOKENS, last = (from + seq->pending - 1) / QN_PAGE_TOKENS;
    for (uint32_t g = 0; g < s->variant->kv.n_groups; g++)
        for (uint32_t p = first; p <= last; p++) {
            uint32_t old = seq->pages[g][p], fresh;
            if (old != QUERN_NONE && s->kv.group[g].refs[old] == 1)
                continue;
            enum quern_status status = qn_kv_take(&s->kv, g, &fresh, failed, err);
            if (!status && old != QUERN_NONE) {
                status = qn_kv_copy(&s->kv, g, fresh, old, failed, err);
                if (status)
                    qn_kv_release(&s->kv, g, fresh);
            }
            if (status)
                return status;
            if (old != QUERN_NONE)
                qn_kv_release(&s->kv, g, old);
            seq->pages[g][p] = fresh;
        }
    return QUERN_OK;
}

/* Brings what a phase misses of a sequence from where the other phase has it. A page comes whole: the other
 * phase holds more of it, and what sequences share is the same. */
static enum quern_status bring_pages(struct quern_session *s, struct qn_sequence *seq, enum qn_phase phase,
                                     uint32_t *failed, struct quern_error *err)
{
    if (s->variant->kv.n_moves == 0 || seq->held[phase] >= seq->kv_len)
        return QUERN_OK;
    for (uint32_t g = 0; g < s->variant->kv.n_groups; g++)
        for (uint32_t p = seq->held[phase] / QN_PAGE_TOKENS; p <= (seq->kv_len - 1) / QN_PAGE_TOKENS; p++) {
            if (seq->pages[g][p] == QUERN_NONE) /* passed by a window */
                continue;
            enum quern_status status =
                qn_kv_move(&s->kv, s->model->plan_devices, g, seq->pages[g][p], phase, failed, err);
            if (status)
                return status;
        }
    seq->held[phase] = seq->kv_len;
    return QUERN_OK;
}

void qn_sequence_cut(struct quern_session *s, struct qn_sequence *seq, uint32_t n)
{
    if (s->ahead.flight && seq == &s->seqs[s->ahead.seq])
        s->ahead.stale = true;
    uint32_t keep = (n + QN_PAGE_TOKENS - 1) / QN_PAGE_TOKENS;
    for (int phase = 0; phase < QN_PHASES; phase++)
        if (seq->held[phase] > n)
            seq->held[phase] = n;
    for (uint32_t g = 0; g < QUERN_MAX_KV_GROUPS; g++)
        for (uint32_t p = keep; p < s->max_pages; p++)
            if (seq->pages[g][p] != QUERN_NONE) {
                qn_kv_release(&s->kv, g, seq->pages[g][p]);
                seq->pages[g][p] = QUERN_NONE;
            }
}

/* Pages that no later token can see: sliding windows leave them behind. */
static void free_passed_pages(struct quern_session *s, struct qn_sequence *seq)
{
    for (uint32_t g = 0; g < s->variant->kv.n_groups; g++) {
        uint32_t window = s->variant->kv.window[g];
        if (window == 0 || seq->kv_len + 1 <= window)
            continue;
        uint32_t passed =
            (seq->kv_len + 1 - window) / QN_PAGE_TOKENS; /* pages wholly before the next token's window */
        for (uint32_t p = passed; p-- > 0 && seq->pages[g][p] != QUERN_NONE;) {
            qn_kv_release(&s->kv, g, seq->pages[g][p]);
            seq->pages[g][p] = QUERN_NONE;
        }
    }
}

static void fill_tables(struct quern_session *s, struct qn_flight *flight)
{
    struct quern_step *step = flight->step;
    for (uint32_t row = 0; row < step->n_seqs; row++) {
        const struct qn_sequence *seq = &s->seqs[flight->seqs[row]];
        uint32_t len = next_position(seq) + seq->pending;
        uint32_t n_pages = (len + QN_PAGE_TOKENS - 1) / QN_PAGE_TOKENS;
        block_u32(step, step->kv_len)[row] = len;
        for (uint32_t g = 0; g < step->n_groups; g++) {
            size_t at = ((size_t)g * step->max_seqs + row) * step->max_pages;
            memcpy(block_u32(step, step->page_table) + at, seq->pages[g], n_pages * sizeof(uint32_t));
        }
    }
    const uint32_t *position = quern_step_u32(step, step->position);
    const uint32_t *row = quern_step_u32(step, step->sequence);
    for (uint32_t g = 0; g < step->n_groups; g++) {
        uint32_t *slot = block_u32(step, step->slot) + (size_t)g * step->max_tokens;
        for (uint32_t t = 0; t < step->n_tokens; t++) {
            const struct qn_sequence *seq = &s->seqs[flight->seqs[row[t]]];
            slot[t] =
                seq->pages[g][position[t] / QN_PAGE_TOKENS] * QN_PAGE_TOKENS + position[t] % QN_PAGE_TOKENS;
        }
    }
}

/* ---- what comes out ---- */

static bool is_finite(uint32_t bits)
{
    return (bits & 0x7f800000u) != 0x7f800000u;
}

/* Index of the first row with a value that is not finite; n when all are. */
static uint32_t first_bad_row(const uint32_t *rows, uint32_t n, uint32_t width)
{
    for (uint32_t r = 0; r < n; r++) {
        uint32_t bad = 0;
        for (uint32_t i = 0; i < width; i++)
            bad |= !is_finite(rows[(size_t)r * width + i]);
        if (bad)
            return r;
    }
    return n;
}

static enum quern_status fail_numeric(const struct quern_step *step, uint32_t row, struct quern_error *err)
{
    uint32_t token = quern_step_u32(step, step->output)[row];
    return qn_fail(
        err, QUERN_ERR_NUMERIC,
        "the logits at position %u are not finite numbers: damaged weights, or values out of range",
        quern_step_u32(step, step->position)[token]);
}

static enum quern_status keep_logits(struct quern_session *s, const struct quern_step *step,
                                     const uint32_t *rows, struct quern_error *err)
{
    uint32_t n = step->n_outputs, width = s->model->facts.n_vocab;
    uint32_t bad = first_bad_row(rows, n, width);
    if (bad < n)
        return fail_numeric(step, bad, err);
    memcpy(s->logits + s->n_logits * width, rows, (size_t)n * width * sizeof *rows);
    s->n_logits += n;
    return QUERN_OK;
}

/* Of the one output: what is not finite would be the best. */
static enum quern_status keep_best(struct quern_session *s, const struct quern_step *step,
                                   const uint32_t *pairs, struct quern_error *err)
{
    if (!is_finite(pairs[0]))
        return fail_numeric(step, 0, err);
    for (uint32_t i = 0; i < step->select; i++) {
        if (pairs[2 * i + 1] >= s->model->facts.n_vocab)
            return qn_fail(err, QUERN_ERR_DEVICE, "the best logits are of token %u, there are %u",
                           pairs[2 * i + 1], s->model->facts.n_vocab);
        s->best[i].token = (int32_t)pairs[2 * i + 1];
        memcpy(&s->best[i].logit, &pairs[2 * i], 4);
    }
    s->n_best = step->select;
    return QUERN_OK;
}

static uint32_t device_index(const struct quern_session *s, const struct qn_plan_device *device)
{
    return (uint32_t)(device - s->model->plan_devices);
}

/* Where the host reads the result; NULL: it cannot. */
static const void *result_of(const struct qn_flight *flight, enum qn_result which)
{
    const struct qn_plan_device *device = flight->ticket.device;
    if (!flight->result.buffer)
        return qn_plan_result(flight->plan, which);
    const char *from = device->driver->buffer_map(device->handle, flight->result.buffer);
    return from ? from + flight->result.offset : NULL;
}

static enum quern_status keep_result(struct quern_session *s, const struct qn_flight *flight,
                                     uint32_t *failed, struct quern_error *err)
{
    const struct quern_step *step = flight->step;
    if (step->n_outputs == 0)
        return QUERN_OK;
    enum qn_result which = qn_step_result(step);
    const uint32_t *result = result_of(flight, which);
    if (!result) {
        *failed = device_index(s, flight->ticket.device);
        return qn_fail(err, QUERN_ERR_DEVICE, "the logits cannot be read by the host");
    }
    return which == QN_RESULT_BEST ? keep_best(s, step, result, err) : keep_logits(s, step, result, err);
}

/* Bytes of one token's K and V in a layer. */
static uint64_t kv_token_bytes(const struct qn_variant *variant, const struct quern_kv_layer *layer)
{
    return layer->n_head_kv * (qn_format_row_bytes(variant->k_format, layer->head_dim_k) +
                               qn_format_row_bytes(variant->v_format, layer->head_dim_v));
}

static void add_span(struct quern_session *s, const struct qn_flight *flight, uint32_t device,
                     const struct quern_node_time *time)
{
    const struct quern_step *step = flight->step;
    const struct quern_graph *g = &flight->plan->graph->view;
    const struct quern_node *node = quern_graph_node(g, time->node);
    uint64_t n_kv = 0, kv_bytes = 0;
    uint32_t layer = qn_node_kv_layer(node);
    if (layer != QUERN_NONE) {
        kv_bytes = kv_token_bytes(s->variant, quern_graph_kv(g, layer));
        for (uint32_t row = 0; row < step->n_seqs; row++)
            n_kv += quern_step_u32(step, step->kv_len)[row];
    }
    struct qn_node_work work = qn_node_work(g, time->node, step->n_tokens, step->n_outputs, n_kv, kv_bytes);
    uint32_t format = QUERN_FORMAT_END;
    for (unsigned i = 0; i < 2; i++)
        if (node->in[i] != QUERN_NONE && quern_graph_value(g, node->in[i])->kind == QUERN_VALUE_WEIGHT)
            format = quern_graph_value(g, node->in[i])->format;
    qn_trace_add(s->trace, &(struct quern_span){.begin_ns = time->begin_ns,
                                                .end_ns = time->end_ns,
                                                .device = device,
                                                .op = node->op,
                                                .layer = node->layer,
                                                .node = time->node,
                                                .n_tokens = step->n_tokens,
                                                .format = format,
                                                .step = s->trace->n_steps,
                                                .bytes = work.bytes,
                                                .ops = work.ops});
}

static void collect_spans(struct quern_session *s, const struct qn_flight *flight)
{
    const struct qn_plan *plan = flight->plan;
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        const struct qn_plan_segment *segment = &plan->segments[i];
        const struct qn_plan_device *device = &plan->devices[segment->device];
        if (!device->driver->times)
            continue;
        uint32_t n = device->driver->times(device->handle, segment->prepared, s->times, segment->n);
        for (uint32_t j = 0; j < n && j < segment->n; j++)
            add_span(s, flight, segment->device, &s->times[j]);
    }
    s->trace->n_steps++;
}

/* ---- running ---- */

enum quern_status qn_step_start(struct quern_session *s, struct qn_flight *flight, uint32_t *failed,
                                struct quern_error *err)
{
    const struct quern_step *step = flight->step;
    *failed = QUERN_NONE;
    enum quern_status status =
        qn_model_plan(s->model, s->variant, step->n_tokens, step->n_outputs, &flight->plan, failed, err);
    for (uint32_t row = 0; row < step->n_seqs && !status; row++) {
        struct qn_sequence *seq = &s->seqs[flight->seqs[row]];
        status = bring_pages(s, seq, qn_phase_of(step->n_tokens), failed, err);
        if (!status)
            status = take_pages(s, seq, failed, err);
    }
    if (status) {
        qn_model_end_marks(s->model, false);
        return status;
    }
    fill_tables(s, flight);
    const struct quern_kv_pools *pools[QN_MAX_DEVICES];
    for (uint32_t d = 0; d < QN_MAX_DEVICES; d++)
        pools[d] = s->kv.pools[d];
    const struct qn_plan_run run = {.step = step,
                                    .pools = pools,
                                    .n_homes = s->kv.n_homes,
                                    .trace = s->trace != NULL,
                                    .token = flight->token,
                                    .result = flight->result};
    status = qn_plan_start(flight->plan, &run, &flight->ticket, err);
    if (status) {
        qn_model_end_marks(s->model, false);
        if (flight->plan->failed)
            *failed = device_index(s, flight->plan->failed);
        return status;
    }
    for (uint32_t row = 0; row < step->n_seqs; row++) {
        struct qn_sequence *seq = &s->seqs[flight->seqs[row]];
        seq->flying += seq->pending;
        seq->pending = 0;
    }
    return QUERN_OK;
}

void qn_step_abandon(struct quern_session *s)
{
    for (uint32_t i = 0; i < s->n_seqs; i++)
        s->seqs[i].flying = 0;
}

enum quern_status qn_step_finish(struct quern_session *s, struct qn_flight *flight, uint32_t *failed,
                                 struct quern_error *err)
{
    const struct quern_step *step = flight->step;
    *failed = QUERN_NONE;
    enum quern_status status = qn_plan_wait(&flight->ticket, err);
    qn_model_end_marks(s->model, !status);
    if (status)
        *failed = device_index(s, flight->ticket.device);
    if (!status && s->trace)
        collect_spans(s, flight);
    if (!status)
        status = keep_result(s, flight, failed, err);
    if (status) {
        qn_step_abandon(s);
        return status;
    }
    for (uint32_t row = 0; row < step->n_seqs; row++) {
        struct qn_sequence *seq = &s->seqs[flight->seqs[row]];
        uint32_t len = quern_step_u32(step, step->kv_len)[row];
        seq->flying -= len - seq->kv_len;
        seq->kv_len = seq->held[qn_phase_of(step->n_tokens)] = len;
        free_passed_pages(s, seq);
    }
    return QUERN_OK;
}
