/* Finding, mapping and writing the laid out weights of a model. */
#include "session/kept.h"

#include "cache/cache.h"
#include "session/model.h"

#include <string.h>
#include <xxhash.h>

static const char KIND[] = "layouts"; /* in the cache */

/* By sizes, dates, and what each part holds before its tensors. */
static struct qn_kept_model identify(const struct qn_gguf *gguf)
{
    struct qn_kept_model model = {.bytes = qn_gguf_file_bytes(gguf)};
    for (uint32_t p = 0; p < qn_gguf_n_parts(gguf); p++) {
        const struct qn_view *view = qn_gguf_part(gguf, p);
        uint64_t head = view->size;
        for (size_t t = 0; t < qn_gguf_n_tensors(gguf); t++) {
            const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(gguf, t);
            if (tensor->part == p && tensor->offset < head)
                head = tensor->offset;
        }
        const uint64_t facts[] = {model.hash, view->size, (uint64_t)view->written_ns};
        model.hash = XXH3_64bits_withSeed(view->data, (size_t)head, XXH3_64bits(facts, sizeof facts));
        if (view->written_ns > model.written_ns)
            model.written_ns = view->written_ns;
    }
    return model;
}

static bool same_model(const struct qn_kept_model *a, const struct qn_kept_model *b)
{
    return a->bytes == b->bytes && a->written_ns == b->written_ns && a->hash == b->hash;
}

/* Whether the file has the tensors that are to be laid out, each in its layout and place. */
static bool same_tensors(const struct quern_model *model, uint32_t d, const struct qn_kept_form *form)
{
    const struct qn_lay_out *left = &model->weights[d].lay_out;
    bool same = form->n == left->n && form->bytes == left->room;
    for (uint32_t i = 0; i < left->n && same; i++) {
        const struct qn_kept_tensor at = qn_kept_at(form, i);
        same = at.tensor == left->tensors[i].tensor && at.layout == left->tensors[i].layout &&
               at.offset == left->tensors[i].offset &&
               at.bytes == qn_gguf_tensor_at(model->file.gguf, at.tensor)->bytes;
    }
    return same;
}

/* ---- mapping ---- */

static const char *find_fault(const struct quern_model *model, uint32_t d, const struct qn_kept_model *now,
                              struct qn_kept *kept)
{
    const char *wrong = qn_kept_read(kept->view.data, kept->view.size, &kept->form);
    if (!wrong && !same_model(&kept->form.model, now))
        wrong = "the model has changed";
    if (!wrong && !same_tensors(model, d, &kept->form))
        wrong = "the device wants other weights laid out";
    if (!wrong && !kept->view.map_base)
        wrong = "it cannot be mapped";
    return wrong;
}

/* Takes the path, which is freed where the file is of no use. */
static bool open_path(struct quern_model *model, uint32_t d, const struct qn_kept_model *now, char *path)
{
    struct qn_kept *kept = &model->weights[d].kept;
    struct quern_error err = {0};
    bool there = path && qn_file_stat(&model->cb, path, NULL, NULL);
    const char *wrong = NULL;
    if (there && qn_view_path(&model->cb, &kept->view, path, true, &err))
        wrong = err.text;
    else if (there)
        wrong = find_fault(model, d, now, kept);
    kept->path = path;
    if (wrong)
        qn_log(&model->cb, QUERN_LOG_WARNING, "%s is not used: %s", path, wrong);
    if (wrong || !there)
        qn_kept_close(model, d);
    return kept->path;
}

bool qn_kept_open(struct quern_model *model, uint32_t d)
{
    if (!model->keep_path)
        return false;
    qn_parts_remove(&model->cb, model->keep_path);
    const struct qn_kept_model now = identify(model->file.gguf);
    char *beside = qn_strndup(&model->cb, model->keep_path, strlen(model->keep_path));
    if (open_path(model, d, &now, beside))
        return true;
    char *path = qn_cache_path(model->cache, KIND, &now, sizeof now);
    if (!open_path(model, d, &now, path))
        return false;
    (void)qn_file_touch(&model->cb, path);
    return true;
}

enum quern_status qn_kept_remove(struct quern_model *model, uint32_t d, struct quern_error *err)
{
    const char *path = model->weights[d].kept.path;
    (void)qn_file_remove(&model->cb, path);
    return qn_fail(err, QUERN_ERR_FILE, "%s is thrown away: a checksum is wrong", path);
}

void qn_kept_close(struct quern_model *model, uint32_t d)
{
    struct qn_kept *kept = &model->weights[d].kept;
    qn_view_finish(&model->cb, &kept->view);
    qn_free(&model->cb, kept->path);
    *kept = (struct qn_kept){0};
}

/* ---- writing ---- */

/* A file that is written: its form, and for each tensor its bytes and the gap after them. */
struct writing {
    uint8_t *form;
    struct qn_kept_tensor *tensors;
    struct qn_piece *pieces;
    uint32_t n_pieces;
    uint64_t bytes;
    struct qn_kept_model model;
};

static bool make_room(const struct quern_callbacks *cb, uint32_t n, struct writing *writing)
{
    writing->form = qn_alloc(cb, (size_t)qn_kept_begin(n), 1);
    writing->tensors = qn_zalloc(cb, n, sizeof *writing->tensors);
    writing->pieces = qn_zalloc(cb, 2 * (size_t)n + 1, sizeof *writing->pieces);
    return writing->form && writing->tensors && writing->pieces;
}

/* What lies in the gaps of the device's memory is none of the file's business: they become zeros. */
static void fill(const struct quern_model *model, uint32_t d, struct writing *writing)
{
    const struct qn_weights *weights = &model->weights[d];
    const struct qn_lay_out *left = &weights->lay_out;
    const struct qn_plan_device *device = &model->plan_devices[d];
    struct quern_buffer *buffer = weights->tensors[left->tensors[0].tensor].buffer;
    const char *data = device->driver->buffer_map(model->devices[d].handle, buffer);
    writing->model = identify(model->file.gguf);
    writing->pieces[writing->n_pieces++] = (struct qn_piece){writing->form, qn_kept_begin(left->n)};
    for (uint32_t i = 0; i < left->n; i++) {
        struct qn_kept_tensor *to = &writing->tensors[i];
        const uint64_t bytes = weights->tensors[left->tensors[i].tensor].bytes;
        *to = left->tensors[i];
        to->bytes = bytes;
        to->sum = qn_kept_sum_all(data + to->offset, bytes);
        const uint64_t end = i + 1 < left->n ? left->tensors[i + 1].offset : left->room;
        writing->pieces[writing->n_pieces++] = (struct qn_piece){data + to->offset, bytes};
        writing->pieces[writing->n_pieces++] = (struct qn_piece){NULL, end - to->offset - bytes};
    }
    qn_kept_write_form(&writing->model, writing->tensors, left->n, left->room, writing->form);
    writing->bytes = qn_kept_begin(left->n) + left->room;
}

/* Beside the model, else into the cache. */
static void write_somewhere(struct quern_model *model, const struct writing *writing)
{
    struct quern_error beside = {0}, within = {0};
    if (!qn_write_pieces(&model->cb, model->keep_path, writing->pieces, writing->n_pieces, &beside)) {
        qn_log(&model->cb, QUERN_LOG_INFO, "laid out weights are kept in %s", model->keep_path);
    } else if (qn_cache_write_pieces(model->cache, KIND, &writing->model, sizeof writing->model,
                                     writing->pieces, writing->n_pieces, &within)) {
        qn_log(&model->cb, QUERN_LOG_WARNING, "laid out weights are not kept: %s; %s", beside.text,
               within.text);
    } else {
        qn_log(&model->cb, QUERN_LOG_INFO, "laid out weights are kept in the cache: %s", beside.text);
    }
}

void qn_kept_write(struct quern_model *model, uint32_t d)
{
    struct writing writing = {0};
    if (make_room(&model->cb, model->weights[d].lay_out.n, &writing)) {
        fill(model, d, &writing);
        write_somewhere(model, &writing);
    }
    qn_free(&model->cb, writing.form);
    qn_free(&model->cb, writing.tensors);
    qn_free(&model->cb, writing.pieces);
}
