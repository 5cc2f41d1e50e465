#include "support/joints.h"

#include "support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct quern_model *qn_open_golden(const char *folder, const char *name,
                                   const struct quern_model_params *params)
{
    char file[128], path[1200];
    snprintf(file, sizeof file, "%s.gguf", name);
    qn_golden_path(path, sizeof path, folder, file);
    struct quern_model *model;
    struct quern_error err = {0};
    if (quern_model_open(&model, quern_source_path(path), params, &err))
        fprintf(stderr, "%s: %s\n", name, err.text);
    return model;
}

void qn_text(int32_t *ids, size_t n, uint32_t salt)
{
    uint32_t state = salt * 2654435761u + 12345;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = (int32_t)((state >> 8) % 280);
    }
}

enum quern_status qn_text_run(struct quern_session *s, uint32_t seq, uint32_t salt, struct qn_rows *rows,
                              struct quern_error *err)
{
    size_t width = s->model->facts.n_vocab;
    int32_t ids[QN_TEXT_ROWS];
    struct quern_item items[QN_TEXT_PROMPT];
    qn_text(ids, QN_TEXT_ROWS, salt);
    *rows = (struct qn_rows){.data = malloc(QN_TEXT_ROWS * width * sizeof(float)), .width = width};
    if (!rows->data)
        abort(); /* the test's own memory */
    for (size_t i = 0; i < QN_TEXT_PROMPT; i++)
        items[i] = (struct quern_item){.token = ids[i], .seq = seq, .logits = true};
    enum quern_status status = quern_session_eval(s, items, QN_TEXT_PROMPT, err);
    for (size_t i = 0; i < (status ? 0 : QN_TEXT_PROMPT); i++)
        memcpy(rows->data + rows->n++ * width, quern_session_logits(s, i), width * sizeof(float));
    for (size_t i = QN_TEXT_PROMPT; i < QN_TEXT_ROWS && !status; i++) {
        status = quern_session_feed(s, seq, &ids[i], 1, err);
        if (!status)
            memcpy(rows->data + rows->n++ * width, quern_session_logits(s, 0), width * sizeof(float));
    }
    return status;
}

enum quern_status qn_text_alone(struct quern_model *model, const struct quern_session_params *params,
                                uint32_t salt, struct qn_rows *rows, struct quern_error *err)
{
    struct quern_session *s;
    *rows = (struct qn_rows){0};
    enum quern_status status = quern_session_create(&s, model, params, err);
    if (!status)
        status = qn_text_run(s, 0, salt, rows, err);
    quern_session_destroy(&s);
    return status;
}

void qn_rows_free(struct qn_rows *rows)
{
    free(rows->data);
    *rows = (struct qn_rows){0};
}

bool qn_rows_same(const struct qn_rows *a, const struct qn_rows *b)
{
    if (a->n != b->n || a->width != b->width || a->n == 0) {
        fprintf(stderr, "%zu rows of %zu, expected %zu of %zu\n", a->n, a->width, b->n, b->width);
        return false;
    }
    for (size_t i = 0; i < a->n; i++)
        if (memcmp(a->data + i * a->width, b->data + i * b->width, a->width * sizeof(float)) != 0) {
            fprintf(stderr, "row %zu differs\n", i);
            return false;
        }
    return true;
}

bool qn_last_row_is(const struct quern_session *s, const struct qn_rows *rows, size_t row)
{
    size_t n = quern_session_n_logits(s);
    return n > 0 && row < rows->n &&
           memcmp(quern_session_logits(s, n - 1), rows->data + row * rows->width,
                  rows->width * sizeof(float)) == 0;
}

uint32_t qn_group_pages_in_use(const struct quern_session *s, uint32_t group)
{
    return s->kv.group[group].n_pages - s->kv.group[group].n_free;
}

void qn_place_both(struct quern_model *model, const uint8_t *place)
{
    qn_model_set_place(model, (const uint8_t *const[QN_PHASES]){place, place});
}

uint32_t qn_pages_in_use(const struct quern_session *s)
{
    uint32_t n = 0;
    for (uint32_t g = 0; g < QUERN_MAX_KV_GROUPS; g++)
        n += qn_group_pages_in_use(s, g);
    return n;
}
