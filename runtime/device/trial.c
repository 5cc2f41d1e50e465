#include "device/trial.h"

#include "base/clock.h"
#include "formats/formats.h"
#include "plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- a model ---- */

/* Pages have at most 64 KiB. */
enum { MAX_WEIGHTS = 32, WEIGHT_ALIGN = 4096, PAGE = 64 << 10, REPEAT = 4 << 20 };

struct toy {
    const struct quern_callbacks *cb;
    struct qn_graph graph;
    uint32_t n_weights;
    struct quern_binding weight[MAX_WEIGHTS]; /* offset and bytes of each in `data` */
    enum quern_format format[MAX_WEIGHTS];
    uint64_t bytes;
    uint8_t *data;   /* at a page, and has its last page to itself */
    uint8_t *memory; /* that it lies in */
    uint32_t n_vocab;
};

static void toy_finish(struct toy *toy)
{
    qn_graph_finish(toy->cb, &toy->graph);
    qn_free(toy->cb, toy->memory);
}

static uint32_t add_weight(struct toy *toy, struct qn_builder *b, enum quern_format format, int64_t d0,
                           int64_t d1, int64_t d2)
{
    const int64_t dim[4] = {d0, d1, d2, 1};
    uint32_t n = toy->n_weights++;
    uint64_t bytes = qn_format_row_bytes(format, (uint64_t)d0) * (uint64_t)(d1 * d2);
    toy->weight[n] = (struct quern_binding){.offset = toy->bytes, .bytes = bytes};
    toy->format[n] = format;
    toy->bytes += (bytes + WEIGHT_ALIGN - 1) / WEIGHT_ALIGN * WEIGHT_ALIGN;
    return qn_add_weight(b, format, dim, n, 0);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Random numbers of about unit variance over the square root of `width`. Blocks that Quern does not write are
 * random bits with scales of that size in front. */
static void fill(enum quern_format id, uint8_t *data, uint64_t bytes, float width, uint64_t *state)
{
    const struct qn_format *format = qn_format_get(id);
    float block[256], size = 1.7f / sqrtf(width);
    uint16_t scale = qn_f32_to_f16(size / 256), half = qn_f32_to_f16(size / 16);
    uint64_t once = REPEAT / format->block_bytes * format->block_bytes;
    for (uint64_t at = 0; at < bytes && at < once; at += format->block_bytes) {
        for (uint32_t i = 0; i < format->block_len; i++)
            block[i] = size * ((float)(next_random(state) >> 40) / (1 << 23) - 1);
        if (format->quantise) {
            format->quantise(block, data + at, format->block_len);
            continue;
        }
        for (uint32_t i = 0; i < format->block_bytes; i++)
            data[at + i] = (uint8_t)(next_random(state) >> 32);
        memcpy(data + at, &scale, sizeof scale); /* Q4_K: d, dmin */
        memcpy(data + at + 2, &half, sizeof half);
    }
    for (uint64_t at = once; at < bytes; at += once) /* of large ones it is the size that counts */
        memcpy(data + at, data, bytes - at < once ? bytes - at : once);
}

static enum quern_status fill_all(struct toy *toy, float width, struct quern_error *err)
{
    uint64_t state = 88172645463325252u;
    toy->memory = qn_zalloc(toy->cb, (size_t)toy->bytes + 2 * PAGE, 1);
    if (!toy->memory)
        return qn_fail_memory(err, "the weights of a trial");
    toy->data = toy->memory + (PAGE - (uintptr_t)toy->memory % PAGE) % PAGE;
    for (uint32_t w = 0; w < toy->n_weights; w++)
        fill(toy->format[w], toy->data + toy->weight[w].offset, toy->weight[w].bytes, width, &state);
    return QUERN_OK;
}

enum { N_EMBD = 256, N_HEAD = 4, N_HEAD_KV = 2, HEAD = 64, N_FF = 512, N_EXPERT = 4, N_VOCAB = 320 };

static uint32_t attention(struct toy *toy, struct qn_builder *b, uint32_t x)
{
    const struct quern_rope_attr rope = {.kind = QUERN_ROPE_HALVES,
                                         .head_dim = HEAD,
                                         .n_dims = HEAD,
                                         .base = 10000,
                                         .freq_scale = 1,
                                         .mscale = 1};
    const struct quern_kv_layer kv = {.n_head_kv = N_HEAD_KV, .head_dim_k = HEAD, .head_dim_v = HEAD};
    uint32_t layer = qn_add_kv(b, &kv);
    uint32_t norm =
        qn_norm(b, x, add_weight(toy, b, QUERN_F32, N_EMBD, 1, 1), QUERN_NONE, QUERN_NORM_RMS, 1e-5f, N_EMBD);
    uint32_t q = qn_matmul(b, norm, add_weight(toy, b, QUERN_Q4_K, N_EMBD, N_HEAD * HEAD, 1), QUERN_NONE);
    uint32_t k = qn_matmul(b, norm, add_weight(toy, b, QUERN_Q8_0, N_EMBD, N_HEAD_KV * HEAD, 1), QUERN_NONE);
    uint32_t v = qn_matmul(b, norm, add_weight(toy, b, QUERN_F16, N_EMBD, N_HEAD_KV * HEAD, 1), QUERN_NONE);
    q = qn_rope(b, q, QUERN_NONE, &rope);
    k = qn_rope(b, k, QUERN_NONE, &rope);
    qn_kv_store(b, k, v, layer);
    const struct quern_attention_attr attr = {.kv_layer = layer, .n_head = N_HEAD, .scale = 0.125f};
    uint32_t o = qn_attention(b, q, QUERN_NONE, &attr);
    return qn_add(b, x, qn_matmul(b, o, add_weight(toy, b, QUERN_Q4_0, N_HEAD * HEAD, N_EMBD, 1), QUERN_NONE),
                  1);
}

static uint32_t dense(struct toy *toy, struct qn_builder *b, uint32_t x)
{
    uint32_t norm =
        qn_norm(b, x, add_weight(toy, b, QUERN_F32, N_EMBD, 1, 1), QUERN_NONE, QUERN_NORM_RMS, 1e-5f, N_EMBD);
    uint32_t gate = qn_matmul(b, norm, add_weight(toy, b, QUERN_Q4_0, N_EMBD, N_FF, 1), QUERN_NONE);
    uint32_t up = qn_matmul(b, norm, add_weight(toy, b, QUERN_Q4_0, N_EMBD, N_FF, 1), QUERN_NONE);
    uint32_t y = qn_activation(b, QUERN_ACT_SILU, gate, up, false);
    return qn_add(b, x, qn_matmul(b, y, add_weight(toy, b, QUERN_Q4_K, N_FF, N_EMBD, 1), QUERN_NONE), 1);
}

static uint32_t experts(struct toy *toy, struct qn_builder *b, uint32_t x)
{
    const struct quern_moe_route_attr attr = {
        .n_expert = N_EXPERT, .n_used = 2, .gating = QUERN_GATING_SOFTMAX, .normalise = 1, .scale = 1};
    uint32_t weights;
    uint32_t norm =
        qn_norm(b, x, add_weight(toy, b, QUERN_F32, N_EMBD, 1, 1), QUERN_NONE, QUERN_NORM_RMS, 1e-5f, N_EMBD);
    uint32_t logits = qn_matmul(b, norm, add_weight(toy, b, QUERN_F32, N_EMBD, N_EXPERT, 1), QUERN_NONE);
    uint32_t ids = qn_moe_route(b, logits, QUERN_NONE, &attr, &weights);
    uint32_t gate = qn_moe_matmul(b, norm, add_weight(toy, b, QUERN_Q4_0, N_EMBD, N_FF, N_EXPERT), QUERN_NONE,
                                  ids, false);
    uint32_t up = qn_moe_matmul(b, norm, add_weight(toy, b, QUERN_Q4_0, N_EMBD, N_FF, N_EXPERT), QUERN_NONE,
                                ids, false);
    uint32_t y = qn_activation(b, QUERN_ACT_SILU, gate, up, false);
    y = qn_moe_matmul(b, y, add_weight(toy, b, QUERN_Q8_0, N_FF, N_EMBD, N_EXPERT), QUERN_NONE, ids, true);
    return qn_add(b, x, qn_moe_combine(b, y, weights, QUERN_NONE, QUERN_NONE), 1);
}

/* One layer of each kind: attention, a dense block, a mixture of experts; fused as models are. */
static enum quern_status make_model(struct toy *toy, struct quern_error *err)
{
    struct qn_builder b = {.cb = toy->cb, .graph = &toy->graph, .layer = QUERN_NONE, .err = err};
    toy->n_vocab = N_VOCAB;
    uint32_t x = qn_embed(&b, add_weight(toy, &b, QUERN_Q8_0, N_EMBD, N_VOCAB, 1), 16);
    b.layer = 0;
    x = experts(toy, &b, dense(toy, &b, attention(toy, &b, x)));
    b.layer = QUERN_NONE;
    x = qn_norm(&b, qn_rows(&b, x), add_weight(toy, &b, QUERN_F32, N_EMBD, 1, 1), QUERN_NONE, QUERN_NORM_RMS,
                1e-5f, N_EMBD);
    qn_output(&b, qn_matmul(&b, x, add_weight(toy, &b, QUERN_F16, N_EMBD, N_VOCAB, 1), QUERN_NONE));
    enum quern_status status = b.status ? b.status : qn_graph_fuse(toy->cb, &toy->graph, err);
    return status ? status : fill_all(toy, N_EMBD, err);
}

/* Two products of Q4_0 weights, whose arithmetic and traffic are all that counts. */
static enum quern_status make_load(struct toy *toy, int64_t wide, int64_t wider, struct quern_error *err)
{
    struct qn_builder b = {.cb = toy->cb, .graph = &toy->graph, .layer = QUERN_NONE, .err = err};
    toy->n_vocab = 8;
    uint32_t x = qn_embed(&b, add_weight(toy, &b, QUERN_F32, wide, 8, 1), 1);
    x = qn_matmul(&b, x, add_weight(toy, &b, QUERN_Q4_0, wide, wider, 1), QUERN_NONE);
    x = qn_matmul(&b, x, add_weight(toy, &b, QUERN_Q4_0, wider, wide, 1), QUERN_NONE);
    qn_output(&b, qn_rows(&b, x));
    return b.status ? b.status : fill_all(toy, (float)wide, err);
}

/* ---- on a device ---- */

/* The model on one device. */
struct rig {
    const struct quern_callbacks *cb;
    const struct qn_device *device;
    const struct toy *toy;
    bool exact, import;
    uint8_t place[64]; /* all on device 0 */
    struct qn_plan_device at;
    struct quern_binding weights[MAX_WEIGHTS];
    struct quern_buffer *data, *pool;
    struct qn_kv_layout kv;
};

static void rig_finish(struct rig *rig)
{
    const struct quern_driver *driver = rig->device->driver;
    struct quern_device *handle = rig->device->handle;
    struct quern_buffer *const buffers[] = {rig->data, rig->pool, rig->at.arena, rig->at.output};
    for (size_t i = 0; i < QN_LEN(buffers); i++)
        if (buffers[i])
            driver->buffer_destroy(handle, buffers[i]);
    qn_kv_layout_finish(rig->cb, &rig->kv);
}

static enum quern_status create(struct rig *rig, uint32_t heap, uint64_t bytes, struct quern_buffer **buffer,
                                struct quern_error *err)
{
    int32_t status = rig->device->driver->buffer_create(rig->device->handle, heap, bytes, buffer, err);
    if (status)
        *buffer = NULL;
    return (enum quern_status)status;
}

/* Brings the weights to the device, or has it reach them where they are. */
static enum quern_status upload(struct rig *rig, struct quern_error *err)
{
    if (rig->import) {
        int32_t imported = rig->device->driver->buffer_import(rig->device->handle, rig->toy->data,
                                                              rig->toy->bytes, &rig->data, err);
        if (imported)
            rig->data = NULL;
        return (enum quern_status)imported;
    }
    enum quern_status status = create(rig, 0, rig->toy->bytes, &rig->data, err);
    if (!status)
        status = qn_transfer_write(&rig->at, rig->data, 0, rig->toy->data, rig->toy->bytes, err);
    if (!status)
        status = qn_transfer_wait(&rig->at, err);
    qn_transfer_finish(&rig->at);
    return status;
}

static enum quern_status rig_init(struct rig *rig, const struct quern_callbacks *cb,
                                  const struct qn_device *device, const struct toy *toy, bool exact,
                                  bool import, struct quern_error *err)
{
    *rig = (struct rig){.cb = cb, .device = device, .toy = toy, .exact = exact, .import = import};
    rig->at =
        (struct qn_plan_device){.driver = device->driver, .handle = device->handle, .caps = device->caps};
    const struct quern_graph *graph = &toy->graph.view;
    if (graph->n_nodes > QN_LEN(rig->place))
        return qn_fail(err, QUERN_ERR_PARAM, "the model of a trial has %u nodes", graph->n_nodes);
    uint8_t mask[QN_LEN(rig->place)] = {0};
    device->driver->supports(device->handle, graph, mask);
    for (uint32_t i = 0; i < graph->n_nodes; i++)
        if (!mask[i])
            return qn_fail(err, QUERN_ERR_UNSUPPORTED, "it cannot run %s",
                           qn_op_get(quern_graph_node(graph, i)->op)->name);
    enum quern_status status = upload(rig, err);
    for (uint32_t w = 0; w < toy->n_weights; w++) {
        rig->weights[w] = toy->weight[w];
        rig->weights[w].buffer = rig->data;
    }
    rig->at.weights = rig->weights;
    if (!status)
        status = qn_kv_layout_make(cb, &rig->kv,
                                   &(struct qn_kv_layout_params){.graph = graph,
                                                                 .place = {rig->place, rig->place},
                                                                 .devices = &rig->at,
                                                                 .n_devices = 1,
                                                                 .k_format = QUERN_F16,
                                                                 .v_format = QUERN_F16,
                                                                 .size = {1, QN_PAGE_TOKENS}},
                                   err);
    if (!status && rig->kv.n_homes > 0)
        status = create(rig, 0, rig->kv.home[0].page_bytes * rig->kv.pages_per_pool[0], &rig->pool, err);
    return status;
}

/* A plan for up to n tokens, prepared. */
static enum quern_status make_plan(struct rig *rig, uint32_t n, struct qn_plan **plan,
                                   struct quern_error *err)
{
    const struct qn_plan_params params = {.graph = &rig->toy->graph,
                                          .devices = &rig->at,
                                          .n_devices = 1,
                                          .place = rig->place,
                                          .kv = rig->kv.layer[0],
                                          .max_tokens = qn_bucket(n),
                                          .max_outputs = 1,
                                          .exact = rig->exact};
    enum quern_status status = qn_plan_create(rig->cb, plan, &params, err);
    if (!status)
        status =
            qn_fit_buffer(&rig->at, 0, (*plan)->arena_bytes[0], &rig->at.arena, &rig->at.arena_bytes, err);
    if (!status)
        status = qn_fit_buffer(&rig->at, qn_host_heap(&rig->at.caps), qn_plan_fetched_bytes(*plan, 0),
                               &rig->at.output, &rig->at.output_bytes, err);
    if (!status)
        status = qn_plan_prepare(rig->cb, *plan, &params, err);
    if (status)
        qn_plan_destroy(rig->cb, plan);
    return status;
}

/* A step of one sequence that has one page. */
struct step {
    struct quern_step head;
    int32_t token[QN_TRIAL_BATCH];
    uint32_t position[QN_TRIAL_BATCH], sequence[QN_TRIAL_BATCH], slot[QN_TRIAL_BATCH];
    uint32_t output[1], kv_len[1], page_table[1];
};

static enum quern_status run(struct rig *rig, struct qn_plan *plan, uint32_t first, uint32_t n,
                             struct quern_error *err)
{
    struct step step = {.head = {.struct_size = sizeof step.head,
                                 .block_bytes = sizeof step,
                                 .n_tokens = n,
                                 .n_outputs = 1,
                                 .n_seqs = 1,
                                 .n_groups = rig->kv.n_groups,
                                 .page_tokens = QN_PAGE_TOKENS,
                                 .max_tokens = QN_TRIAL_BATCH,
                                 .max_seqs = 1,
                                 .max_pages = 1,
                                 .token = offsetof(struct step, token),
                                 .position = offsetof(struct step, position),
                                 .sequence = offsetof(struct step, sequence),
                                 .slot = offsetof(struct step, slot),
                                 .output = offsetof(struct step, output),
                                 .kv_len = offsetof(struct step, kv_len),
                                 .page_table = offsetof(struct step, page_table)},
                        .output = {n - 1},
                        .kv_len = {first + n}};
    for (uint32_t i = 0; i < n; i++) {
        step.token[i] = (int32_t)((first + i) * 31 % rig->toy->n_vocab);
        step.position[i] = step.slot[i] = first + i;
    }
    const struct quern_kv_pools pool = {.n_pools = 1, .pool = &rig->pool};
    const struct quern_kv_pools *const pools[QN_MAX_DEVICES] = {&pool};
    const struct qn_plan_run run = {.step = &step.head, .pools = pools, .n_homes = rig->kv.n_homes};
    struct qn_plan_ticket ticket;
    enum quern_status status = qn_plan_start(plan, &run, &ticket, err);
    return status ? status : qn_plan_wait(&ticket, err);
}

/* ---- results ---- */

enum { CHECK_BATCH = 17, CHECK_RUNS = 2 };

/* Logits after a batch, and after one token more. */
static enum quern_status evaluate(const struct quern_callbacks *cb, const struct qn_device *device,
                                  const struct toy *toy, bool exact, float logits[CHECK_RUNS][N_VOCAB],
                                  struct quern_error *err)
{
    static const uint32_t n_tokens[CHECK_RUNS] = {CHECK_BATCH, 1};
    struct rig rig;
    uint32_t first = 0;
    enum quern_status status = rig_init(&rig, cb, device, toy, exact, false, err);
    for (int i = 0; i < CHECK_RUNS && !status; i++) {
        struct qn_plan *plan = NULL;
        status = make_plan(&rig, n_tokens[i], &plan, err);
        if (!status)
            status = run(&rig, plan, first, n_tokens[i], err);
        const float *output = status ? NULL : qn_plan_result(plan, QN_RESULT_ROWS);
        if (output)
            memcpy(logits[i], output, sizeof logits[i]);
        else if (!status)
            status = qn_fail(err, QUERN_ERR_DEVICE, "its results cannot be read by the host");
        qn_plan_destroy(cb, &plan);
        first += n_tokens[i];
    }
    rig_finish(&rig);
    return status;
}

/* sum (a - b)^2 / sum b^2, which activations rounded to 8 bits bring to about 1e-4. */
static double difference(const float *a, const float *b, int n)
{
    double error = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return error / norm;
}

#define MOST_DIFFERENCE 5e-3

enum quern_status qn_trial_check(const struct quern_callbacks *cb, const struct qn_device *device,
                                 const struct qn_device *reference, struct quern_error *err)
{
    enum { STEADY_RUNS = 3 };
    float logits[CHECK_RUNS][N_VOCAB] = {{0}}, expected[CHECK_RUNS][N_VOCAB], before[CHECK_RUNS][N_VOCAB];
    struct toy toy = {.cb = cb};
    qn_graph_init(&toy.graph);
    enum quern_status status = make_model(&toy, err);
    if (!status)
        status = evaluate(cb, reference, &toy, true, expected, err);
    for (int i = 0; i < STEADY_RUNS && !status; i++) {
        status = evaluate(cb, device, &toy, false, logits, err);
        if (!status && i > 0 && memcmp(logits, before, sizeof logits) != 0)
            status = qn_fail(err, QUERN_ERR_NUMERIC, "it computes other results from run to run");
        memcpy(before, logits, sizeof before);
    }
    for (int i = 0; i < CHECK_RUNS && !status; i++) {
        double wrong = difference(logits[i], expected[i], N_VOCAB);
        if (!(wrong < MOST_DIFFERENCE)) /* also where it is no number */
            status = qn_fail(err, QUERN_ERR_NUMERIC,
                             "it computes wrong results (error %.2g, allowed %.2g) with %s", wrong,
                             MOST_DIFFERENCE, i == 0 ? "several tokens" : "one token");
    }
    toy_finish(&toy);
    return status;
}

/* Whether it does without the feature. */
static bool is_cured(const struct quern_callbacks *cb, const struct quern_driver *driver,
                     const struct quern_host *host, uint32_t index, struct quern_setting *settings,
                     uint32_t n_settings, const struct qn_device *reference, const char *feature)
{
    struct qn_device device = {.host = *host};
    struct quern_error err;
    settings[n_settings] = (struct quern_setting){feature, "0"};
    bool cured = !qn_device_open_plain(&device, driver, index, settings, n_settings + 1, &err) &&
                 !qn_trial_check(cb, &device, reference, &err);
    qn_device_close(&device);
    return cured;
}

enum quern_status qn_trial_blame(const struct quern_callbacks *cb, const struct quern_driver *driver,
                                 const struct quern_host *host, uint32_t index,
                                 const struct quern_setting *settings, uint32_t n_settings,
                                 const struct qn_device *reference, char without[96], struct quern_error *err)
{
    static const char prefix[] = "features.";
    struct quern_tunables table = {.struct_size = sizeof table};
    struct quern_setting *all = qn_alloc(cb, n_settings + 1, sizeof *all);
    if (!all)
        return qn_fail_memory(err, "settings of a device");
    if (n_settings > 0)
        memcpy(all, settings, n_settings * sizeof *all);
    if (QUERN_DRIVER_HAS(driver, tunables))
        driver->tunables(&table);
    bool cured = false;
    for (uint32_t i = table.n; i-- > 0 && !cured;) { /* the last ones build on others */
        const char *name = quern_tunable_at(&table, i)->name;
        cured = strncmp(name, prefix, sizeof prefix - 1) == 0 && strlen(name) < 96 &&
                is_cured(cb, driver, host, index, all, n_settings, reference, name);
        if (cured)
            snprintf(without, 96, "%s", name);
    }
    qn_free(cb, all);
    return cured ? QUERN_OK : qn_fail(err, QUERN_ERR_NUMERIC, "no single feature is to blame");
}

/* ---- rates ---- */

/* What is measured: steps of n tokens through two products of wide * wider weights each, for about that long.
 */
struct load {
    uint32_t n;
    int64_t wide, wider;
    uint64_t ns;
    bool import; /* the weights stay in the host's memory */
};

/* Millions of weights times tokens per second: the best of several runs. */
static enum quern_status rate(struct rig *rig, const struct load *load, double *out, struct quern_error *err)
{
    double n_weights = 2.0 * (double)load->wide * (double)load->wider;
    uint32_t n = load->n;
    struct qn_plan *plan = NULL;
    uint64_t best = UINT64_MAX, spent = 0;
    enum quern_status status = make_plan(rig, n, &plan, err);
    for (int i = 0; i < 50 && !status && spent < load->ns; i++) {
        uint64_t begin = qn_now_ns();
        status = run(rig, plan, 0, n, err);
        uint64_t ns = qn_now_ns() - begin;
        bool compiles = i == 0 && ns < 1000000000; /* of a slow device, one run will do */
        spent += compiles ? 0 : ns;
        best = !compiles && ns < best ? ns : best;
    }
    qn_plan_destroy(rig->cb, &plan);
    *out = n * n_weights * 1e3 / (double)(best > 0 ? best : 1);
    return status;
}

static enum quern_status measure(const struct quern_callbacks *cb, const struct qn_device *device,
                                 const struct load *load, double *out, struct quern_error *err)
{
    struct toy toy = {.cb = cb};
    struct rig rig;
    qn_graph_init(&toy.graph);
    enum quern_status status = make_load(&toy, load->wide, load->wider, err);
    if (!status) {
        status = rig_init(&rig, cb, device, &toy, false, load->import, err);
        if (!status)
            status = rate(&rig, load, out, err);
        rig_finish(&rig);
    }
    toy_finish(&toy);
    return status;
}

enum quern_status qn_trial_measure(const struct quern_callbacks *cb, const struct qn_device *device,
                                   struct qn_rates *rates, struct quern_error *err)
{
    /* 72 MiB, more than processors keep in their caches; few enough that arithmetic bounds 32 tokens */
    const struct load decode = {1, 4096, 16384, 300000000, false};
    const struct load prefill = {QN_TRIAL_BATCH, 2048, 2048, 300000000, false};
    enum quern_status status = measure(cb, device, &decode, &rates->decode, err);
    if (!status)
        status = measure(cb, device, &prefill, &rates->prefill, err);
    return status;
}

enum quern_status qn_trial_import(const struct quern_callbacks *cb, const struct qn_device *device,
                                  double *share, struct quern_error *err)
{
    const uint32_t unsure = QUERN_HEAP_IMPORT | QUERN_HEAP_MEASURE;
    *share = 0;
    if (!device->driver->buffer_import || (device->caps.heap[0].flags & unsure) != unsure)
        return QUERN_OK;
    const struct load own = {1, 4096, 8192, 100000000, false}, imported = {1, 4096, 8192, 100000000, true};
    double rate_own = 1, rate_imported = 1;
    enum quern_status status = measure(cb, device, &imported, &rate_imported, err);
    if (status == QUERN_ERR_UNSUPPORTED) /* there is nothing to choose */
        return QUERN_OK;
    if (!status)
        status = measure(cb, device, &own, &rate_own, err);
    *share = rate_imported / rate_own;
    return status;
}
