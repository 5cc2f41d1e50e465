/* Several tokens in flight. While a device computes a token, the host has nothing to give it: it waits for
 * the token, passes its text on, fills the next step and submits it, and the device waits for that. So where
 * the device selects the token itself, the next step is given to it before: it finds the token where the step
 * before has left it, and works on while the host reads.
 *
 * A step ahead is a guess that the caller will feed the selected token. Where it does not, the step has
 * written keys and values behind the end of the sequence, where the next one overwrites them. */
#include "session/ahead.h"

#include "session/step.h"

/* Room for the results of both flights on the device. */
static bool fit_slots(struct quern_session *s, const struct qn_plan_device *device, uint64_t slot_bytes)
{
    struct qn_ahead *ahead = &s->ahead;
    struct quern_error err;
    if (ahead->slots && ahead->device.handle == device->handle)
        return true;
    if (ahead->slots)
        ahead->device.driver->buffer_destroy(ahead->device.handle, ahead->slots);
    ahead->device = *device;
    ahead->bytes = QN_LEN(s->flights) * slot_bytes;
    if (device->driver->buffer_create(device->handle, qn_host_heap(&device->caps), ahead->bytes,
                                      &ahead->slots, &err))
        ahead->slots = NULL;
    return ahead->slots != NULL;
}

void qn_ahead_prepare(struct quern_session *s, struct qn_flight *flight)
{
    const struct qn_plan *plan = s->variant->plans[0][0]; /* of one token; made by the first step without */
    if (!plan || s->trace || plan->n_segments > 1 || plan->results[QN_RESULT_BEST].value == QUERN_NONE)
        return;
    const struct qn_plan_device *device = &plan->devices[plan->segments[0].device];
    uint64_t bytes = qn_value_bytes(&plan->graph->values[plan->results[QN_RESULT_BEST].value], 1, 1);
    if (device->caps.flags & QUERN_CAPS_AHEAD && fit_slots(s, device, bytes))
        flight->result = (struct qn_plan_place){s->ahead.slots, (uint64_t)(flight - s->flights) * bytes};
}

void qn_ahead_start(struct quern_session *s, uint32_t seq, const struct qn_flight *flight)
{
    struct quern_error err;
    uint32_t failed;
    if (!flight->result.buffer || s->seqs[seq].kv_len + s->seqs[seq].flying >= s->n_ctx)
        return;
    struct qn_flight *next = qn_step_begin(s, 1);
    qn_ahead_prepare(s, next);
    if (!next->result.buffer)
        return;
    next->token = flight->result;
    next->token.offset += 4; /* logit, token */
    qn_step_push(s, next, seq, 0, true);
    if (qn_step_start(s, next, &failed, &err) == QUERN_OK) {
        s->ahead.flight = next;
        s->ahead.seq = seq;
        s->ahead.stale = false;
    }
}

struct qn_flight *qn_ahead_take(struct quern_session *s, uint32_t seq, int32_t token)
{
    struct qn_ahead *ahead = &s->ahead;
    struct qn_flight *flight = ahead->flight;
    bool fits = flight && !ahead->stale && ahead->seq == seq && s->best[0].token == token;
    if (!fits) {
        qn_ahead_drop(s);
        return NULL;
    }
    ahead->flight = NULL;
    return flight;
}

void qn_ahead_drop(struct quern_session *s)
{
    struct quern_error err;
    /* the devices of another generation are not ours to wait for */
    if (s->ahead.flight && s->generation == s->model->generation)
        (void)qn_plan_wait(&s->ahead.flight->ticket, &err);
    s->ahead.flight = NULL;
    qn_step_abandon(s);
}

void qn_ahead_finish(struct quern_session *s)
{
    struct qn_ahead *ahead = &s->ahead;
    qn_ahead_drop(s);
    if (ahead->slots)
        ahead->device.driver->buffer_destroy(ahead->device.handle, ahead->slots);
    ahead->slots = NULL;
}
