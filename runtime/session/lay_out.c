#include "session/lay_out.h"

#include "session/layouts.h"

#include "base/clock.h"
#include "formats/formats.h"

static const uint64_t PIECE_BYTES = 4u << 20;      /* that are laid out before the file's are let go */
static const uint64_t TENSOR_ALIGN = 64;           /* of tensors in the buffer: a cache line */
static const uint64_t IDLE_NS = 10u * 1000 * 1000; /* without a step: then the thread goes on */
static const uint64_t STEP_SHARE = 8;              /* of a step's time, that is added to it */
static const uint32_t FEW_TOKENS = 8;              /* steps that wait for weights rather than compute */

/* Lays out a few rows of the next tensor, or tells the device that all of it is there. */
static enum quern_status prepare_rows(struct quern_model *model, uint32_t d, uint64_t at, uint64_t n_rows,
                                      const void *from, struct quern_error *err)
{
    const struct qn_plan_device *device = &model->plan_devices[d];
    const struct qn_weights *weights = &model->weights[d];
    const uint32_t t = weights->lay_out.tensors[weights->lay_out.next].tensor;
    const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(model->file.gguf, t);
    const struct quern_binding *to = &weights->tensors[t];
    const struct quern_weight_rows rows = {.struct_size = sizeof rows,
                                           .layout = to->layout,
                                           .format = tensor->format,
                                           .n = tensor->dim[0],
                                           .n_rows = n_rows,
                                           .rows = from,
                                           .buffer = to->buffer,
                                           .offset = to->offset + at};
    return device->driver->weights_prepare(device->handle, &rows, err);
}

/* Sets *bytes to how many were laid out. */
static enum quern_status lay_out_piece(struct quern_model *model, uint32_t d, uint64_t *bytes,
                                       struct quern_error *err)
{
    const struct qn_lay_out *left = &model->weights[d].lay_out;
    const struct qn_gguf_tensor *tensor =
        qn_gguf_tensor_at(model->file.gguf, left->tensors[left->next].tensor);
    const uint64_t row_bytes = qn_format_row_bytes(tensor->format, tensor->dim[0]);
    const uint64_t to_end = tensor->dim[1] - left->at / row_bytes % tensor->dim[1];
    uint64_t n_rows = PIECE_BYTES / row_bytes / 16 * 16;
    if (n_rows < 16)
        n_rows = 16;
    if (n_rows > to_end)
        n_rows = to_end;
    enum quern_status status = prepare_rows(model, d, left->at, n_rows, tensor->data + left->at, err);
    *bytes = n_rows * row_bytes;
    if (!status)
        qn_view_drop(qn_gguf_part(model->file.gguf, tensor->part), tensor->offset + left->at, *bytes);
    return status;
}

/* Adds up what an earlier start has laid out; at a tensor's end, where it is what it was, the device reads it
 * from there. */
static enum quern_status check_piece(struct quern_model *model, uint32_t d, uint64_t *bytes,
                                     struct quern_error *err)
{
    struct qn_lay_out *left = &model->weights[d].lay_out;
    const struct qn_kept_form *form = &model->weights[d].kept.form;
    const struct qn_kept_tensor at = qn_kept_at(form, left->next);
    const uint64_t to_end = at.bytes - left->at;
    *bytes = to_end < QN_KEPT_PIECE ? to_end : QN_KEPT_PIECE;
    left->sum = qn_kept_sum(left->sum, form->weights + at.offset + left->at, (size_t)*bytes);
    if (*bytes < to_end)
        return QUERN_OK;
    if (left->sum != at.sum)
        return qn_kept_remove(model, d, err);
    left->sum = 0;
    const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(model->file.gguf, at.tensor);
    return prepare_rows(model, d, 0, tensor->bytes / qn_format_row_bytes(tensor->format, tensor->dim[0]),
                        NULL, err);
}

/* Does a little of what is left. */
static enum quern_status do_piece(struct quern_model *model, uint32_t d, struct quern_error *err)
{
    struct qn_weights *weights = &model->weights[d];
    struct qn_lay_out *left = &weights->lay_out;
    const uint64_t begin = qn_now_ns();
    uint64_t bytes;
    enum quern_status status = (weights->kept.path ? check_piece : lay_out_piece)(model, d, &bytes, err);
    if (status)
        return status;
    left->at += bytes;
    left->done += bytes;
    left->ns += qn_now_ns() - begin;
    if (left->at == weights->tensors[left->tensors[left->next].tensor].bytes) {
        left->at = 0;
        left->next++;
    }
    return QUERN_OK;
}

static bool is_left(const struct quern_model *model, uint32_t d)
{
    const struct qn_lay_out *left = &model->weights[d].lay_out;
    return model->plan_devices[d].handle && left->next < left->n;
}

/* The device whose weights come next; n_devices: everything is laid out. */
static uint32_t next_device(const struct quern_model *model)
{
    uint32_t d = 0;
    while (d < model->n_devices && !is_left(model, d))
        d++;
    return d;
}

void qn_lay_out_finish(struct quern_model *model, uint32_t d)
{
    struct qn_weights *weights = &model->weights[d];
    model->plan_devices[d].origins = NULL;
    qn_free(&model->cb, weights->origins);
    qn_free(&model->cb, weights->lay_out.tensors);
    weights->origins = NULL;
    weights->lay_out = (struct qn_lay_out){0};
}

/* After a piece: when it was the last. */
static void note_end(struct quern_model *model, uint32_t d)
{
    const struct qn_lay_out *left = &model->weights[d].lay_out;
    if (left->next < left->n)
        return;
    qn_log(&model->cb, QUERN_LOG_INFO, "weights laid out for the device: %llu MiB%s in %.2f s",
           (unsigned long long)(left->done >> 20), model->weights[d].kept.path ? " checked" : "",
           (double)left->ns * 1e-9);
    model->plan_devices[d].origins = NULL; /* of plans that are made from now on */
}

/* A piece while the model is in use. Where it fails, the rest is read from the file for good. */
static void do_piece_behind(struct quern_model *model, uint32_t d)
{
    struct quern_error err = {0};
    struct qn_lay_out *left = &model->weights[d].lay_out;
    if (do_piece(model, d, &err)) {
        qn_log(&model->cb, QUERN_LOG_WARNING, "device %s: %llu MiB of weights are read from the file: %s",
               model->devices[d].id, (unsigned long long)((left->total - left->done) >> 20), err.text);
        left->n = left->next;
        left->keep = false;
        return;
    }
    note_end(model, d);
}

/* ---- at the start ---- */

/* Lists the tensors that are to be laid out, with their places in a buffer. */
static enum quern_status list_tensors(struct quern_model *model, uint32_t d, const uint8_t *layout,
                                      const uint32_t *tensors, size_t n, struct quern_error *err)
{
    struct qn_lay_out *left = &model->weights[d].lay_out;
    left->tensors = qn_alloc(&model->cb, n ? n : 1, sizeof *left->tensors);
    if (!left->tensors)
        return qn_fail_memory(err, "the list of weights");
    for (size_t i = 0; i < n; i++)
        if (layout[tensors[i]] != QUERN_LAYOUT_FILE) {
            const uint64_t size = qn_gguf_tensor_at(model->file.gguf, tensors[i])->bytes;
            left->tensors[left->n++] = (struct qn_kept_tensor){
                .tensor = tensors[i], .layout = layout[tensors[i]], .offset = left->room, .bytes = size};
            left->total += size;
            left->room += (size + TENSOR_ALIGN - 1) & ~(TENSOR_ALIGN - 1);
        }
    return QUERN_OK;
}

/* Makes a buffer for them; false: without room for it they stay in the file. */
static bool make_room(struct quern_model *model, uint32_t d)
{
    const struct qn_plan_device *device = &model->plan_devices[d];
    const uint64_t memory = device->caps.heap[0].bytes;
    struct qn_weights *weights = &model->weights[d];
    const uint64_t bytes = weights->lay_out.room;
    struct quern_buffer *buffer;
    struct quern_error detail = {0};
    if (memory > 0 && bytes > memory / 4 * 3) {
        qn_log(&model->cb, QUERN_LOG_INFO,
               "weights are read from the file: laid out they take %llu of %llu MiB",
               (unsigned long long)(bytes >> 20), (unsigned long long)(memory >> 20));
        return false;
    }
    if (device->driver->buffer_create(device->handle, 0, bytes, &buffer, &detail)) {
        qn_log(&model->cb, QUERN_LOG_INFO, "weights are read from the file: %s", detail.text);
        return false;
    }
    weights->buffers[weights->n_buffers++] = buffer;
    weights->copied += bytes;
    weights->lay_out.keep = model->keep_path;
    return true;
}

/* Whether what was kept is what it was; without origins nothing is read before that is known. */
static enum quern_status check_all(struct quern_model *model, uint32_t d, struct quern_error *err)
{
    const struct qn_kept_form *form = &model->weights[d].kept.form;
    for (uint32_t i = 0; i < form->n; i++) {
        const struct qn_kept_tensor at = qn_kept_at(form, i);
        if (qn_kept_sum_all(form->weights + at.offset, at.bytes) != at.sum)
            return qn_kept_remove(model, d, err);
    }
    return QUERN_OK;
}

/* Makes a buffer of what an earlier start has laid out; false: it is to be done. */
static bool use_kept(struct quern_model *model, uint32_t d, bool behind)
{
    const struct qn_plan_device *device = &model->plan_devices[d];
    struct qn_weights *weights = &model->weights[d];
    struct quern_buffer *buffer;
    struct quern_error detail = {0};
    if (!qn_kept_open(model, d))
        return false;
    void *data = (void *)(uintptr_t)weights->kept.form.weights;
    const uint64_t bytes = weights->kept.form.bytes;
    if ((!behind && check_all(model, d, &detail)) ||
        device->driver->buffer_import(device->handle, data, bytes, &buffer, &detail)) {
        qn_log(&model->cb, QUERN_LOG_WARNING, "%s", detail.text);
        qn_kept_close(model, d);
        return false;
    }
    qn_view_prefetch(&weights->kept.view, 0, weights->kept.view.size);
    weights->buffers[weights->n_buffers++] = buffer;
    weights->mapped += bytes;
    return true;
}

/* Binds the listed tensors to the buffer that was made for them; what they were bound to becomes their
 * origin, where the driver reads it until they are laid out. */
static enum quern_status bind_tensors(struct quern_model *model, uint32_t d, bool behind,
                                      struct quern_error *err)
{
    struct qn_weights *weights = &model->weights[d];
    const struct qn_lay_out *left = &weights->lay_out;
    if (behind) {
        weights->origins =
            qn_zalloc(&model->cb, qn_gguf_n_tensors(model->file.gguf), sizeof *weights->origins);
        if (!weights->origins)
            return qn_fail_memory(err, "the list of weights");
    }
    for (uint32_t i = 0; i < left->n; i++) {
        const struct qn_kept_tensor *at = &left->tensors[i];
        struct quern_binding *binding = &weights->tensors[at->tensor];
        if (behind)
            weights->origins[at->tensor] = *binding;
        binding->buffer = weights->buffers[weights->n_buffers - 1];
        binding->offset = at->offset;
        binding->layout = at->layout;
    }
    model->plan_devices[d].origins = weights->origins;
    return QUERN_OK;
}

static void keep(struct quern_model *model, uint32_t d)
{
    struct qn_lay_out *left = &model->weights[d].lay_out;
    if (left->keep && left->next == left->n)
        qn_kept_write(model, d);
    left->keep = left->keep && left->next < left->n;
}

static enum quern_status do_all(struct quern_model *model, uint32_t d, struct quern_error *err)
{
    struct qn_lay_out *left = &model->weights[d].lay_out;
    while (left->next < left->n) {
        enum quern_status status = do_piece(model, d, err);
        if (status)
            return status;
        qn_progress(&model->cb, "load", left->done, left->total);
        if (qn_cancelled(&model->cb))
            return qn_fail(err, QUERN_ERR_CANCELLED, "cancelled");
    }
    note_end(model, d);
    keep(model, d);
    return QUERN_OK;
}

/* The list is made. */
static enum quern_status place_tensors(struct quern_model *model, uint32_t d, bool behind,
                                       struct quern_error *err)
{
    bool kept = model->weights[d].lay_out.n > 0 && use_kept(model, d, behind);
    if (!kept && (model->weights[d].lay_out.n == 0 || !make_room(model, d))) {
        qn_lay_out_finish(model, d);
        return QUERN_OK;
    }
    enum quern_status status = bind_tensors(model, d, behind, err);
    if (!status && !behind && kept)
        qn_lay_out_finish(model, d);
    else if (!status && !behind)
        status = do_all(model, d, err);
    return status;
}

enum quern_status qn_lay_out(struct quern_model *model, uint32_t d, const uint32_t *tensors, size_t n,
                             struct quern_error *err)
{
    const bool behind = model->plan_devices[d].caps.flags & QUERN_CAPS_ORIGINS && !model->repack_first;
    uint8_t *layout = qn_zalloc(&model->cb, qn_gguf_n_tensors(model->file.gguf) + 1, 1);
    if (!layout)
        return qn_fail_memory(err, "the list of weights");
    qn_choose_layouts(model, d, layout);
    enum quern_status status = list_tensors(model, d, layout, tensors, n, err);
    if (!status)
        status = place_tensors(model, d, behind, err);
    qn_free(&model->cb, layout);
    return status;
}

/* ---- behind the steps ---- */

void qn_lay_out_before_step(struct quern_model *model, uint32_t n_tokens)
{
    const uint64_t begin = qn_now_ns(), most = model->step_ns / STEP_SHARE;
    uint32_t d = next_device(model);
    if (n_tokens > FEW_TOKENS || most == 0 || d == model->n_devices)
        return;
    do {
        do_piece_behind(model, d);
        d = next_device(model);
    } while (d < model->n_devices && qn_now_ns() - begin < most);
}

void qn_lay_out_after_step(struct quern_model *model, uint32_t n_tokens, uint64_t ns)
{
    model->n_steps++;
    if (n_tokens <= FEW_TOKENS)
        model->step_ns = ns;
}

/* While sessions leave the model alone: piece after piece. *seen: the steps that there had been before.
 * False: nothing is left. */
static bool do_while_idle(struct quern_model *model, uint64_t *seen)
{
    bool idle, more;
    do {
        qn_mutex_lock(&model->lock);
        idle = model->n_steps == *seen && atomic_load(&model->n_waiting) == 0;
        *seen = model->n_steps;
        uint32_t d = next_device(model);
        if (idle && d < model->n_devices)
            do_piece_behind(model, d);
        more = next_device(model) < model->n_devices;
        qn_mutex_unlock(&model->lock);
    } while (idle && more && !atomic_load(&model->laying.stop));
    return more;
}

/* What is laid out and not kept yet; without the lock, since nobody changes it any more. */
static void keep_all(struct quern_model *model)
{
    for (uint32_t d = 0; d < model->n_devices; d++)
        keep(model, d);
}

static void work(void *arg)
{
    struct quern_model *model = arg;
    struct qn_laying *laying = &model->laying;
    uint64_t seen = 0;
    bool more = true;
    qn_mutex_lock(&laying->lock);
    while (more && !atomic_load(&laying->stop)) {
        bool woken = qn_cond_wait_for(&laying->wake, &laying->lock, IDLE_NS);
        qn_mutex_unlock(&laying->lock);
        if (!woken)
            more = do_while_idle(model, &seen);
        qn_mutex_lock(&laying->lock);
    }
    qn_mutex_unlock(&laying->lock);
    if (!more)
        keep_all(model);
}

void qn_lay_out_start(struct quern_model *model)
{
    struct qn_laying *laying = &model->laying;
    if (next_device(model) == model->n_devices || !qn_mutex_init(&laying->lock))
        return;
    if (!qn_cond_init(&laying->wake)) {
        qn_mutex_finish(&laying->lock);
        return;
    }
    laying->started = qn_thread_start(&laying->thread, work, model);
    if (!laying->started) {
        qn_cond_finish(&laying->wake);
        qn_mutex_finish(&laying->lock);
    }
}

void qn_lay_out_stop(struct quern_model *model)
{
    struct qn_laying *laying = &model->laying;
    if (!laying->started)
        return;
    qn_mutex_lock(&laying->lock);
    atomic_store(&laying->stop, true);
    qn_cond_signal(&laying->wake);
    qn_mutex_unlock(&laying->lock);
    qn_thread_join(&laying->thread);
    qn_cond_finish(&laying->wake);
    qn_mutex_finish(&laying->lock);
    laying->started = false;
}

void qn_lay_out_keep(struct quern_model *model)
{
    for (uint32_t d = 0; d < model->n_devices; d++)
        while (model->weights[d].lay_out.keep && is_left(model, d) && !qn_cancelled(&model->cb))
            do_piece_behind(model, d);
    if (!qn_cancelled(&model->cb))
        keep_all(model);
}
