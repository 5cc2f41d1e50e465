/* Runs a prepared segment: checks the step against it and walks its stages. Allocates nothing. */
#include "drivers/cpu/device.h"

#include "base/clock.h"

enum {
    SHARE_NS = 6000,       /* work below this is done by the calling thread alone */
    CHUNK_NS = 3000,       /* a chunk is worth at least this much */
    CHUNKS_PER_THREAD = 4, /* the last ones at least: a thread which comes late finds something left */
};

struct call {
    const struct qn_stage *stage;
    const struct qn_run *run;
};

static void run_chunk(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const struct call *call = arg;
    call->stage->run(call->stage->op, call->run, begin, end, &call->run->device->workers[worker]);
}

static void run_stage(const struct qn_stage *stage, const struct qn_run *run)
{
    struct quern_device *device = run->device;
    struct qn_work work = stage->size(stage->op, run);
    struct call call = {stage, run};
    uint32_t threads = qn_pool_threads(device->pool);
    uint64_t cost = work.cost > 0 ? work.cost : 1;
    if (work.items == 0)
        return;
    if (threads == 1 || cost * work.items < SHARE_NS) {
        run_chunk(&call, 0, work.items, 0);
        return;
    }
    uint64_t grain = work.items / (threads * CHUNKS_PER_THREAD);
    if (grain < CHUNK_NS / cost)
        grain = CHUNK_NS / cost;
    if (grain < 1)
        grain = 1;
    qn_pool_run(device->pool, work.items, (uint32_t)grain, run_chunk, &call);
}

static bool all_below(const uint32_t *list, uint32_t n, uint32_t limit)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] >= limit)
            return false;
    return true;
}

/* The step comes from the runtime, but a wrong number in it would be a wrong address here. */
static int32_t check_step(const struct quern_prepared *prepared, const struct quern_step *step,
                          struct quern_error *err)
{
    if (step->n_tokens < 1 || step->n_tokens > prepared->max_tokens || step->n_tokens > step->max_tokens)
        return qn_fail(err, QUERN_ERR_PARAM, "a step of %u tokens for a segment of 1 to %u", step->n_tokens,
                       prepared->max_tokens);
    if (step->n_outputs > prepared->max_outputs)
        return qn_fail(err, QUERN_ERR_PARAM, "a step of %u outputs for a segment of at most %u",
                       step->n_outputs, prepared->max_outputs);
    if (step->n_seqs > step->max_seqs || step->n_groups > QUERN_MAX_KV_GROUPS)
        return qn_fail(err, QUERN_ERR_PARAM, "a step with %u sequences of %u and %u groups", step->n_seqs,
                       step->max_seqs, step->n_groups);
    if (!all_below(quern_step_u32(step, step->sequence), step->n_tokens, step->n_seqs))
        return qn_fail(err, QUERN_ERR_PARAM, "a token of the step belongs to no sequence of it");
    if (!all_below(quern_step_u32(step, step->output), step->n_outputs, step->n_tokens))
        return qn_fail(err, QUERN_ERR_PARAM, "an output of the step is no token of it");
    const uint32_t *position = quern_step_u32(step, step->position);
    for (uint32_t t = 0; t < step->n_tokens && step->page_tokens > 0; t++)
        if (position[t] / step->page_tokens >= step->max_pages)
            return qn_fail(err, QUERN_ERR_PARAM, "position %u is beyond the %u pages of a sequence",
                           position[t], step->max_pages);
    return QUERN_OK;
}

/* Vocabulary, KV groups and pools: what the operations ask of the step. */
static int32_t check_op(const struct qn_op *op, const struct qn_run *run, struct quern_error *err)
{
    const struct quern_step *step = run->step;
    if (op->node.op == QUERN_OP_EMBED) {
        const int32_t *token = quern_step_tokens(step);
        for (uint32_t t = 0; t < step->n_tokens; t++)
            if (token[t] < 0 || token[t] >= op->in[0].dim[1])
                return qn_fail(err, QUERN_ERR_PARAM, "token id %d is outside the vocabulary of %lld",
                               token[t], (long long)op->in[0].dim[1]);
    }
    if (op->node.op == QUERN_OP_KV_STORE || op->node.op == QUERN_OP_ATTENTION) {
        const struct quern_kv_binding *at = &op->kv.at;
        if (at->group >= step->n_groups || at->home >= run->n_homes || at->page_tokens != step->page_tokens)
            return qn_fail(err, QUERN_ERR_PARAM,
                           "the step has %u KV groups, %u homes and pages of %u tokens; the segment uses "
                           "group %u, home %u and %u",
                           step->n_groups, run->n_homes, step->page_tokens, at->group, at->home,
                           at->page_tokens);
    }
    return QUERN_OK;
}

char *qn_kv_page(const struct qn_op *op, const struct qn_run *run, uint32_t page)
{
    const struct quern_kv_binding *at = &op->kv.at;
    const struct quern_kv_pools *pools = &run->kv[at->home];
    uint32_t pool = page / at->pages_per_pool;
    uint64_t offset = (uint64_t)(page % at->pages_per_pool) * at->page_bytes;
    if (page == QUERN_NONE || pool >= pools->n_pools || offset + at->page_bytes > pools->pool[pool]->bytes) {
        atomic_store_explicit(run->lost_page, true, memory_order_relaxed);
        return NULL;
    }
    return pools->pool[pool]->data + offset;
}

int32_t qn_cpu_run(struct quern_device *device, struct quern_prepared *prepared,
                   const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    _Atomic bool lost_page = false;
    struct qn_run run = {.device = device,
                         .kernels = &device->kernels,
                         .step = args->step,
                         .kv = args->kv,
                         .n_homes = args->n_homes,
                         .lost_page = &lost_page};
    int32_t status = check_step(prepared, args->step, err);
    for (uint32_t i = 0; i < prepared->n_ops && !status; i++)
        status = check_op(&prepared->ops[i], &run, err);
    if (status)
        return status;
    prepared->n_times = args->trace ? prepared->n_ops : 0;
    uint32_t s = 0;
    for (uint32_t i = 0; i < prepared->n_ops; i++) {
        struct quern_node_time *time = &prepared->times[i];
        if (args->trace)
            *time = (struct quern_node_time){.node = prepared->node_ids[i], .begin_ns = qn_now_ns()};
        for (; s < prepared->n_stages && prepared->stages[s].node == i; s++)
            run_stage(&prepared->stages[s], &run);
        if (args->trace)
            time->end_ns = qn_now_ns();
    }
    if (atomic_load(&lost_page))
        return qn_fail(err, QUERN_ERR_PARAM, "the step names a KV page that is not in the pools");
    *point = ++device->point;
    return QUERN_OK;
}
