/* Opening a model, its plans, and life without a device that failed. */
#include "session/model.h"
#include "session/lay_out.h"
#include "session/weights.h"

#include "device/auto.h"
#include "device/bringup.h"

#include <quern/quern.h>

#include <stdio.h>
#include <string.h>

/* ---- plans ---- */

static void drop_plans(struct quern_model *model)
{
    for (struct qn_variant *v = model->variants; v; v = v->next)
        for (int i = 0; i < QN_N_BUCKETS; i++)
            for (int j = 0; j < 2; j++)
                qn_plan_destroy(&model->cb, &v->plans[i][j]);
}

/* Marks what drivers do for the first time: until the plan has run once, or will not. */
static void begin_marks(struct quern_model *model, const struct qn_plan *plan, const char *what)
{
    for (uint32_t s = 0; s < plan->n_segments; s++)
        qn_mark_begin(model->devices[plan->segments[s].device].mark, what);
}

void qn_model_end_marks(struct quern_model *model, bool passed)
{
    for (uint32_t d = 0; d < model->n_devices; d++)
        qn_mark_end(model->devices[d].mark, passed);
}

/* Ends the plans; the layouts stay for sessions that have not followed yet. */
static void retire_variants(struct quern_model *model)
{
    drop_plans(model);
    while (model->variants) {
        struct qn_variant *variant = model->variants;
        model->variants = variant->next;
        variant->next = model->retired;
        model->retired = variant;
    }
}

static void free_variants(struct quern_model *model)
{
    retire_variants(model);
    while (model->retired) {
        struct qn_variant *next = model->retired->next;
        qn_kv_layout_finish(&model->cb, &model->retired->kv);
        qn_free(&model->cb, model->retired);
        model->retired = next;
    }
}

static struct qn_plan_params params_of(struct quern_model *model, struct qn_variant *variant, uint32_t bucket,
                                       bool many_outputs)
{
    uint32_t most = model->max_outputs < bucket ? model->max_outputs : bucket;
    return (struct qn_plan_params){.graph = &model->graph,
                                   .devices = model->plan_devices,
                                   .n_devices = model->n_devices,
                                   .place = model->place[qn_phase_of(bucket)],
                                   .kv = variant->kv.layer[qn_phase_of(bucket)],
                                   .max_tokens = bucket,
                                   .max_outputs = many_outputs ? most : 1,
                                   .n_ctx = model->facts.n_ctx,
                                   .exact = model->exact};
}

/* Whether the devices have room for the activations of a plan. */
static bool fits(const struct quern_model *model, const struct qn_plan *plan)
{
    for (uint32_t d = 0; d < model->n_devices; d++) {
        const struct quern_caps *caps = &model->plan_devices[d].caps;
        if (plan->arena_bytes[d] > caps->max_buffer_bytes)
            return false;
        for (uint32_t v = 0; v < model->graph.view.n_values && caps->max_value_bytes > 0; v++)
            if (plan->bindings[d][v].bytes > caps->max_value_bytes)
                return false;
    }
    return true;
}

/* Finds the largest bucket that fits; where none does, that of one token, whose plan will say so. */
static enum quern_status limit_tokens(struct quern_model *model, struct qn_variant *variant,
                                      struct quern_error *err)
{
    bool enough = false;
    for (variant->max_tokens = 2 * QN_MAX_BUCKET; variant->max_tokens > 1 && !enough;) {
        variant->max_tokens /= 2;
        struct qn_plan_params params = params_of(model, variant, variant->max_tokens, true);
        struct qn_plan *plan;
        enum quern_status status = qn_plan_create(&model->cb, &plan, &params, err);
        if (status)
            return status;
        enough = fits(model, plan);
        qn_plan_destroy(&model->cb, &plan);
    }
    return QUERN_OK;
}

enum quern_status qn_model_variant(struct quern_model *model, enum quern_format k_format,
                                   enum quern_format v_format, struct qn_kv_size size,
                                   struct qn_variant **out, struct quern_error *err)
{
    for (*out = model->variants; *out; *out = (*out)->next)
        if ((*out)->k_format == k_format && (*out)->v_format == v_format &&
            qn_kv_layout_holds(&(*out)->kv, size))
            return QUERN_OK;
    struct qn_variant *variant = qn_zalloc(&model->cb, 1, sizeof *variant);
    if (!variant)
        return qn_fail_memory(err, "plans");
    variant->k_format = k_format;
    variant->v_format = v_format;
    const struct qn_kv_layout_params params = {.graph = &model->graph.view,
                                               .place = {model->place[0], model->place[1]},
                                               .devices = model->plan_devices,
                                               .n_devices = model->n_devices,
                                               .k_format = k_format,
                                               .v_format = v_format,
                                               .size = size};
    enum quern_status status = qn_kv_layout_make(&model->cb, &variant->kv, &params, err);
    if (!status && (status = limit_tokens(model, variant, err)))
        qn_kv_layout_finish(&model->cb, &variant->kv);
    if (status) {
        qn_free(&model->cb, variant);
        return status;
    }
    variant->next = model->variants;
    model->variants = variant;
    *out = variant;
    return QUERN_OK;
}

/* Makes sure that a buffer of a device has that size; what it held is lost. */
static enum quern_status fit_buffer(struct quern_model *model, uint32_t d, uint32_t heap, uint64_t want,
                                    struct quern_buffer **buffer, uint64_t *bytes, struct quern_error *err)
{
    struct quern_error detail = {0};
    enum quern_status status = qn_fit_buffer(&model->plan_devices[d], heap, want, buffer, bytes, &detail);
    return status ? qn_fail(err, status, "device %s: %s", model->devices[d].id, detail.text) : QUERN_OK;
}

/* Makes sure that a device has its weights, an arena of that size, and room for output that the host must
 * fetch. A larger arena ends the plans that were bound to the old one. */
static enum quern_status equip_device(struct quern_model *model, uint32_t d, uint64_t arena_bytes,
                                      uint64_t output_bytes, struct quern_error *err)
{
    struct qn_plan_device *device = &model->plan_devices[d];
    enum quern_status status = device->weights ? QUERN_OK : qn_weights_load(model, d, err);
    if (status)
        return status;
    if (arena_bytes > device->arena_bytes)
        drop_plans(model);
    status = fit_buffer(model, d, 0, arena_bytes, &device->arena, &device->arena_bytes, err);
    if (!status)
        status = fit_buffer(model, d, qn_host_heap(&device->caps), output_bytes, &device->output,
                            &device->output_bytes, err);
    return status;
}

static uint32_t bucket_index(uint32_t bucket)
{
    uint32_t index = 0;
    while (1u << index < bucket)
        index++;
    return index;
}

enum quern_status qn_model_plan(struct quern_model *model, struct qn_variant *variant, uint32_t n_tokens,
                                uint32_t n_outputs, struct qn_plan **out, uint32_t *failed,
                                struct quern_error *err)
{
    *failed = QUERN_NONE;
    uint32_t bucket = qn_bucket(n_tokens);
    struct qn_plan **slot = &variant->plans[bucket_index(bucket)][n_outputs > 1];
    if (*slot) {
        *out = *slot;
        return QUERN_OK;
    }
    struct qn_plan_params params = params_of(model, variant, bucket, n_outputs > 1);
    struct qn_plan *plan;
    enum quern_status status = qn_plan_create(&model->cb, &plan, &params, err);
    for (uint32_t s = 0; s < (status ? 0 : plan->n_segments) && !status; s++) {
        uint32_t d = plan->segments[s].device;
        status = equip_device(model, d, plan->arena_bytes[d], qn_plan_fetched_bytes(plan, d), err);
        if (status && status != QUERN_ERR_CANCELLED)
            *failed = d;
    }
    if (!status) {
        begin_marks(model, plan, "preparing or first running a plan on");
        status = qn_plan_prepare(&model->cb, plan, &params, err);
        if (status)
            qn_model_end_marks(model, false);
        if (status && plan->failed)
            *failed = (uint32_t)(plan->failed - model->plan_devices);
    }
    if (status)
        qn_plan_destroy(&model->cb, &plan);
    *slot = *out = plan;
    return status;
}

void qn_model_set_place(struct quern_model *model, const uint8_t *const place[QN_PHASES])
{
    retire_variants(model);
    model->generation++;
    for (int phase = 0; phase < QN_PHASES; phase++)
        memcpy(model->place[phase], place[phase], model->graph.view.n_nodes);
}

/* Places the nodes on the devices other than `without` (QUERN_NONE: on all). On failure nothing has changed.
 */
static enum quern_status place_nodes(struct quern_model *model, uint32_t without, struct quern_error *err)
{
    struct qn_plan_device devices[QN_MAX_DEVICES];
    memcpy(devices, model->plan_devices, sizeof devices);
    if (without != QUERN_NONE)
        devices[without].handle = NULL;
    const uint32_t n_nodes = model->graph.view.n_nodes;
    uint8_t *place = qn_zalloc(&model->cb, (size_t)n_nodes, QN_PHASES);
    if (!place)
        return qn_fail_memory(err, "placement");
    uint8_t *const of[QN_PHASES] = {place, place + n_nodes};
    enum quern_status status = QUERN_OK;
    for (int phase = 0; phase < QN_PHASES && !status; phase++)
        status = qn_place(&model->cb, &model->graph.view, devices, model->n_devices, (enum qn_phase)phase,
                          of[phase], err);
    if (!status)
        qn_model_set_place(model, (const uint8_t *const[QN_PHASES]){of[0], of[1]});
    qn_free(&model->cb, place);
    return status;
}

bool qn_model_drop_device(struct quern_model *model, uint32_t device, enum quern_status status,
                          const char *reason)
{
    bool others = false;
    for (uint32_t d = 0; d < model->n_devices; d++)
        others |= d != device && model->plan_devices[d].handle;
    if (!others)
        return false;
    struct quern_error err = {0};
    if (place_nodes(model, device, &err)) {
        qn_log(&model->cb, QUERN_LOG_ERROR, "device %s failed (%s: %s), and there is no plan without it: %s",
               model->devices[device].id, quern_status_name(status), reason, err.text);
        return false;
    }
    qn_log(&model->cb, QUERN_LOG_WARNING, "device %s is dropped (%s): %s", model->devices[device].id,
           quern_status_name(status), reason);
    model->plan_devices[device].handle = NULL; /* after its plans were released */
    return true;
}

/* ---- opening and closing ---- */

/* Bytes of the prefix in front of an id, for a device that stands in elsewhere; 0: none. */
static size_t read_phase(const char *id, size_t len, uint32_t *stands_in)
{
    for (int phase = 0; phase < QN_PHASES; phase++) {
        size_t n = strlen(qn_phase_prefix[phase]);
        *stands_in = ((1u << QN_PHASES) - 1) & ~(1u << phase);
        if (len > n && memcmp(id, qn_phase_prefix[phase], n) == 0)
            return n;
    }
    *stands_in = 0;
    return 0;
}

/* Opens the devices of a list of ids with commas. One that fails is logged and left out, as long as another
 * is there; *last is how the last one failed. */
static enum quern_status open_list(struct quern_model *model, const struct qn_drivers *drivers,
                                   const char *ids, struct quern_error *last, struct quern_error *err)
{
    for (const char *id = ids;; id++) {
        size_t len = strcspn(id, ",");
        uint32_t stands_in;
        const size_t prefix = read_phase(id, len, &stands_in);
        if (model->n_devices == QN_MAX_DEVICES)
            return qn_fail(err, QUERN_ERR_PARAM, "more than %d devices in \"%s\"", QN_MAX_DEVICES, ids);
        struct qn_device *device = &model->devices[model->n_devices];
        struct quern_error detail = {0};
        enum quern_status status;
        if (len == 4 && memcmp(id, "auto", 4) == 0) {
            char chosen[QN_AUTO_SIZE];
            qn_device_auto(&model->cb, drivers, chosen);
            status = open_list(model, drivers, chosen, last, err);
            if (status)
                return status;
        } else if ((status = qn_device_open(&model->cb, drivers, id + prefix, len - prefix, device,
                                            &detail)) == QUERN_OK) {
            model->plan_devices[model->n_devices++] = (struct qn_plan_device){.driver = device->driver,
                                                                              .handle = device->handle,
                                                                              .stands_in = stands_in,
                                                                              .caps = device->caps};
        } else if (status == QUERN_ERR_PARAM || status == QUERN_ERR_CANCELLED) { /* the caller's doing */
            return qn_fail(err, status, "%s", detail.text);
        } else {
            qn_fail(last, status, "%s", detail.text);
            qn_log(&model->cb, QUERN_LOG_WARNING, "dropped at start: %s", detail.text);
        }
        id += len;
        if (*id == '\0')
            return QUERN_OK;
    }
}

static enum quern_status open_devices(struct quern_model *model, const struct quern_model_params *params,
                                      struct quern_error *err)
{
    struct quern_setting settings[32];
    uint32_t n_settings = 0;
    char threads[16];
    if (params->n_threads > 0) {
        snprintf(threads, sizeof threads, "%u", params->n_threads);
        settings[n_settings++] = (struct quern_setting){"threads", threads};
    }
    for (uint32_t i = 0; i < params->n_settings && n_settings < QN_LEN(settings); i++)
        settings[n_settings++] = params->settings[i];
    struct quern_profiles *built_in = NULL;
    struct quern_error last = {0};
    enum quern_status status = QUERN_OK;
    if (!params->profiles)
        status =
            quern_profiles_open(&built_in,
                                quern_profiles_params(.callbacks = &model->cb, .drivers = params->drivers,
                                                      .n_drivers = params->n_drivers),
                                err);
    const struct qn_drivers drivers = {.extra = params->drivers,
                                       .n_extra = params->n_drivers,
                                       .cache = model->cache,
                                       .settings = settings,
                                       .n_settings = n_settings,
                                       .helper = params->helper,
                                       .helper_ms = params->helper_ms,
                                       .profiles = params->profiles ? params->profiles : built_in};
    if (!status)
        status = open_list(model, &drivers, params->device ? params->device : "auto", &last, err);
    if (!status && model->n_devices == 0)
        status = qn_fail(err, last.status, "%s", last.text);
    quern_profiles_close(&built_in);
    return status;
}

static void close_devices(struct quern_model *model)
{
    for (uint32_t d = 0; d < model->n_devices; d++) {
        struct qn_device *device = &model->devices[d];
        struct qn_plan_device *plan = &model->plan_devices[d];
        if (plan->arena)
            device->driver->buffer_destroy(device->handle, plan->arena);
        if (plan->output)
            device->driver->buffer_destroy(device->handle, plan->output);
        qn_transfer_finish(plan);
        qn_weights_unload(model, d);
        qn_device_close(device);
    }
}

/* Rows of logits that one step may have: all of a batch for small vocabularies, about 64 MiB for large ones.
 */
static uint32_t choose_max_outputs(uint32_t n_vocab)
{
    uint32_t n = (64u << 20) / 4 / n_vocab;
    return n > QN_MAX_BUCKET ? QN_MAX_BUCKET : n < 16 ? 16 : n;
}

static enum quern_status build(struct quern_model *model, const struct quern_model_params *params,
                               struct quern_error *err)
{
    const struct qn_gguf *gguf = model->file.gguf;
    enum quern_status status =
        qn_arch_build(&model->cb, gguf, params->n_ctx, true, &model->graph, &model->facts, err);
    if (!status)
        status = qn_vocab_handle_init(&model->vocab, &model->cb, gguf, params->pre, err);
    if (status)
        return status;
    if (quern_vocab_size(&model->vocab) > model->facts.n_vocab)
        return qn_fail(err, QUERN_ERR_FILE,
                       "%s: tokenizer.ggml.tokens has %u entries, token_embd.weight only %u rows",
                       qn_gguf_name(gguf), quern_vocab_size(&model->vocab), model->facts.n_vocab);
    model->max_outputs = choose_max_outputs(model->facts.n_vocab);
    for (int phase = 0; phase < QN_PHASES; phase++) {
        model->place[phase] = qn_zalloc(&model->cb, model->graph.view.n_nodes, 1);
        if (!model->place[phase])
            return qn_fail_memory(err, "placement");
    }
    status = open_devices(model, params, err);
    if (!status)
        status = place_nodes(model, QUERN_NONE, err);
    return status;
}

static enum quern_status name_kept(struct quern_model *model, const char *path, struct quern_error *err)
{
    static const char end[] = ".layouts";
    const size_t size = strlen(path) + sizeof end;
    model->keep_path = qn_alloc(&model->cb, size, 1);
    if (!model->keep_path)
        return qn_fail_memory(err, "a file name");
    snprintf(model->keep_path, size, "%s%s", path, end);
    return QUERN_OK;
}

/* So that a model that opens has its weights where they are needed. */
static enum quern_status load_weights(struct quern_model *model, enum qn_phase phase, struct quern_error *err)
{
    struct quern_error detail = {0};
    enum quern_status status;
    uint32_t device;
    do {
        device = model->place[phase][0];
        status = equip_device(model, device, 0, 0, &detail);
    } while (status && status != QUERN_ERR_CANCELLED &&
             qn_model_drop_device(model, device, status, detail.text));
    return status ? qn_fail(err, status, "%s", detail.text) : QUERN_OK;
}

enum quern_status quern_model_open(struct quern_model **out, struct quern_source source,
                                   const struct quern_model_params *params, struct quern_error *err)
{
    *out = NULL;
    const struct quern_model_params defaults = *quern_model_params();
    if (!params)
        params = &defaults;
    struct quern_callbacks cb = qn_callbacks_resolve(params->callbacks);
    qn_progress(&cb, "load", 0, 1);
    struct qn_gguf *gguf = NULL;
    struct qn_gguf_params gguf_params = {.use_mmap = !params->no_mmap};
    enum quern_status status = qn_source_open(&cb, &gguf, source, &gguf_params, err);
    if (status)
        return status;
    struct quern_model *model = qn_zalloc(&cb, 1, sizeof *model);
    if (!model || !qn_mutex_init(&model->lock)) {
        qn_gguf_close(&cb, &gguf);
        qn_free(&cb, model);
        return qn_fail_memory(err, "a model");
    }
    model->cb = cb;
    model->exact = params->exact;
    model->repack_first = params->repack_first;
    model->repack = !params->no_repack && !params->no_mmap && !params->exact;
    qn_graph_init(&model->graph);
    qn_file_init(&model->file, &cb, gguf);
    if (params->keep_layouts && source.path)
        status = name_kept(model, source.path, err);
    if (!status && params->cache_dir && params->cache_dir[0])
        status = quern_cache_open(&model->cache, params->cache_dir, params->cache_limit, &cb, err);
    if (!status)
        status = build(model, params, err);
    for (int phase = 0; phase < QN_PHASES && !status; phase++)
        status = load_weights(model, (enum qn_phase)phase, err);
    if (status)
        quern_model_destroy(&model);
    else
        qn_lay_out_start(model);
    *out = model;
    return status;
}

void quern_model_destroy(struct quern_model **out)
{
    struct quern_model *model = *out;
    if (!model)
        return;
    struct quern_callbacks cb = model->cb;
    qn_lay_out_stop(model);
    qn_lay_out_keep(model);
    for (uint32_t d = 0; d < model->n_devices; d++) /* dropped devices still have memory to give back */
        model->plan_devices[d].handle = model->devices[d].handle;
    free_variants(model);
    close_devices(model);
    quern_cache_close(&model->cache);
    for (int phase = 0; phase < QN_PHASES; phase++)
        qn_free(&cb, model->place[phase]);
    qn_free(&cb, model->keep_path);
    qn_graph_finish(&cb, &model->graph);
    qn_vocab_handle_finish(&model->vocab);
    qn_file_finish(&model->file);
    qn_mutex_finish(&model->lock);
    qn_free(&cb, model);
    *out = NULL;
}

/* ---- facts ---- */

void quern_model_info(const struct quern_model *model, struct quern_model_info *info)
{
    struct quern_file_info file;
    quern_file_info(&model->file, &file);
    *info = (struct quern_model_info){.file_bytes = file.bytes,
                                      .n_weights = file.n_weights,
                                      .n_vocab = model->facts.n_vocab,
                                      .n_embd = model->facts.n_embd,
                                      .n_layer = model->facts.n_layer,
                                      .n_ctx_train = model->facts.n_ctx_train,
                                      .n_ctx = model->facts.n_ctx,
                                      .n_expert = model->facts.n_expert,
                                      .n_nodes = model->graph.view.n_nodes};
    memcpy(info->architecture, file.architecture, sizeof info->architecture);
    memcpy(info->name, file.name, sizeof info->name);
    memcpy(info->type, file.type, sizeof info->type);
}

const struct quern_file *quern_model_file(const struct quern_model *model)
{
    return &model->file;
}

const struct quern_vocab *quern_model_vocab(const struct quern_model *model)
{
    return &model->vocab;
}

/* The index-th device in use, n_devices out of range; *count is how many there are. Any thread may ask while
 * another one drops a device. */
static uint32_t find_device(const struct quern_model *model, uint32_t index, uint32_t *count)
{
    struct qn_mutex *lock = (struct qn_mutex *)(uintptr_t)&model->lock;
    uint32_t found = model->n_devices;
    *count = 0;
    qn_mutex_lock(lock);
    for (uint32_t d = 0; d < model->n_devices; d++)
        if (model->plan_devices[d].handle && (*count)++ == index)
            found = d;
    qn_mutex_unlock(lock);
    return found;
}

uint32_t quern_model_device_count(const struct quern_model *model)
{
    uint32_t count;
    find_device(model, 0, &count);
    return count;
}

const struct quern_device_desc *quern_model_device(const struct quern_model *model, uint32_t index)
{
    uint32_t count, d = find_device(model, index, &count);
    return d < model->n_devices ? &model->devices[d].desc : NULL;
}

uint32_t quern_model_device_work(const struct quern_model *model, uint32_t index)
{
    static const uint32_t bits[QN_PHASES] = {
        [QN_PHASE_DECODE] = QUERN_WORK_DECODE, [QN_PHASE_PREFILL] = QUERN_WORK_PREFILL};
    struct qn_mutex *lock = (struct qn_mutex *)(uintptr_t)&model->lock;
    uint32_t count, work = 0, d = find_device(model, index, &count);
    qn_mutex_lock(lock);
    for (int phase = 0; phase < QN_PHASES && d < model->n_devices; phase++)
        if (memchr(model->place[phase], (int)d, model->graph.view.n_nodes))
            work |= bits[phase];
    qn_mutex_unlock(lock);
    return work;
}

uint32_t quern_model_phases(const struct quern_model *model, uint32_t index, struct quern_phase *phases,
                            uint32_t cap)
{
    struct qn_mutex *lock = (struct qn_mutex *)(uintptr_t)&model->lock;
    uint32_t count, n = 0, d = find_device(model, index, &count);
    if (d == model->n_devices)
        return 0;
    const struct quern_driver *driver = model->devices[d].driver;
    qn_mutex_lock(lock);
    if (QUERN_DRIVER_HAS(driver, phases))
        n = driver->phases(model->devices[d].handle, phases, cap);
    qn_mutex_unlock(lock);
    return n;
}

size_t quern_architecture_count(void)
{
    return qn_arch_count();
}

const char *quern_architecture_name(size_t index)
{
    const struct qn_arch *arch = qn_arch_at(index);
    return arch ? arch->name : NULL;
}

const char *quern_version(void)
{
    return QN_VERSION;
}
