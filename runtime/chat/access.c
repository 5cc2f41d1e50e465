/* Attributes, items and slices of values. */
#include "chat/eval.h"

#include <string.h>

/* Names that are methods in Python and change their object: Jinja's sandbox hides them, items of that name
 * too where they are asked for as attributes. */
static bool is_hidden(struct qn_val object, const struct qn_text *name)
{
    static const char *const of_dict[] = {"clear", "fromkeys", "pop", "popitem", "setdefault", "update"};
    size_t n = name->len;
    if (n > 4 && memcmp(name->data, "__", 2) == 0 && memcmp(name->data + n - 2, "__", 2) == 0)
        return true;
    for (size_t i = 0; object.kind == QN_DICT && i < QN_LEN(of_dict); i++)
        if (qn_text_is(name, of_dict[i]))
            return true;
    return false;
}

bool qn_get_only_attr(struct qn_run *run, struct qn_val object, const struct qn_text *name,
                      struct qn_val *out)
{
    *out = (struct qn_val){.kind = QN_MISSING};
    if (object.kind == QN_NAMESPACE)
        return qn_dict_get(run, object.dict, qn_str(name), out);
    if (object.kind == QN_LOOP)
        return qn_loop_attr(run, object, name, out);
    if (object.kind == QN_GROUP && (qn_text_is(name, "grouper") || qn_text_is(name, "list"))) {
        *out = object.seq->at[name->data[0] == 'l'];
        return true;
    }
    if (object.kind == QN_MACRO && qn_text_is(name, "name") && object.macro->node->name) {
        *out = qn_str(object.macro->node->name);
        return true;
    }
    const struct qn_function *function = qn_method_find(object, name);
    if (!function)
        return true;
    struct qn_method_of *method = qn_run_alloc(run, 1, sizeof *method);
    if (!method)
        return false;
    *method = (struct qn_method_of){function, object};
    *out = (struct qn_val){.kind = QN_METHOD, .method = method};
    return true;
}

/* Only an item; MISSING where there is none. */
static bool only_item(struct qn_run *run, struct qn_val object, struct qn_val key, struct qn_val *out)
{
    *out = (struct qn_val){.kind = QN_MISSING};
    if (object.kind == QN_DICT)
        return !qn_hashable(key) || qn_dict_get(run, object.dict, key, out);
    bool indexed =
        object.kind == QN_STR || object.kind == QN_LIST || qn_is_tuple(object) || object.kind == QN_RANGE;
    if (!indexed || !qn_is_int(key))
        return true;
    int64_t n = object.kind == QN_STR ? (int64_t)object.s->chars : (int64_t)object.seq->n;
    int64_t i = qn_as_int(key);
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n)
        return true;
    if (object.kind != QN_STR) {
        *out = object.seq->at[i];
        return true;
    }
    size_t at;
    if (!qn_text_offset(run, object.s, (size_t)i, &at))
        return false;
    const struct qn_text *part = qn_text_part(run, object.s, at, at + qn_char_at(object.s, at).len);
    *out = qn_str(part);
    return part != NULL;
}

bool qn_get_item(struct qn_run *run, struct qn_val object, struct qn_val key, struct qn_val *out)
{
    if (!qn_need_defined(run, object) || !only_item(run, object, key, out))
        return false;
    if (out->kind == QN_MISSING && key.kind == QN_STR && !is_hidden(object, key.s) &&
        !qn_get_only_attr(run, object, key.s, out))
        return false;
    if (out->kind != QN_MISSING)
        return true;
    const struct qn_text *name = key.kind == QN_STR ? key.s : qn_to_text(run, key);
    *out = qn_undefined(name);
    return name != NULL;
}

bool qn_get_attr(struct qn_run *run, struct qn_val object, const struct qn_text *name, struct qn_val *out)
{
    if (!qn_need_defined(run, object))
        return false;
    *out = (struct qn_val){.kind = QN_MISSING};
    if (!is_hidden(object, name)) {
        if (!qn_get_only_attr(run, object, name, out) ||
            (out->kind == QN_MISSING && !only_item(run, object, qn_str(name), out)))
            return false;
    }
    if (out->kind == QN_MISSING)
        *out = qn_undefined(name);
    return true;
}

/* ---- slices ---- */

/* Python's rules for one bound: counted from the end where negative, held within the object. */
static int64_t clamp_bound(int64_t i, int64_t n, bool backwards)
{
    if (i < 0) {
        i = i < -n ? -1 : i + n;
        return i < 0 ? (backwards ? -1 : 0) : i;
    }
    return i < n ? i : backwards ? n - 1 : n;
}

static bool slice_text(struct qn_run *run, const struct qn_text *text, int64_t start, int64_t count,
                       int64_t step, struct qn_val *out)
{
    size_t from, to;
    if (step == 1 || count == 0) {
        const struct qn_text *part = NULL;
        if (count == 0)
            part = qn_text_part(run, text, text->len, text->len);
        else if (qn_text_offset(run, text, (size_t)start, &from) &&
                 qn_text_offset(run, text, (size_t)(start + count), &to))
            part = qn_text_part(run, text, from, to);
        *out = qn_str(part);
        return part != NULL;
    }
    uint32_t *offsets = qn_run_alloc(run, text->chars + 1, sizeof *offsets);
    if (!offsets || !qn_spend(run, text->len / 8))
        return false;
    size_t n = 0;
    for (size_t at = 0; at < text->len; at++)
        if (((uint8_t)text->data[at] & 0xC0) != 0x80)
            offsets[n++] = (uint32_t)at;
    offsets[n] = (uint32_t)text->len;
    struct qn_builder b = {.run = run};
    for (int64_t i = 0; i < count; i++) {
        int64_t at = start + i * step;
        if (!qn_put_part(&b, text, offsets[at], offsets[at + 1]))
            return false;
    }
    return qn_finish(&b, out);
}

static bool slice_seq(struct qn_run *run, struct qn_val object, int64_t start, int64_t stop, int64_t step,
                      int64_t count, struct qn_val *out)
{
    struct qn_seq *seq = qn_seq_new(run, (size_t)count);
    if (!seq)
        return false;
    for (int64_t i = 0; i < count; i++)
        if (!qn_seq_add(run, seq, object.seq->at[start + i * step]))
            return false;
    if (object.kind == QN_RANGE) {
        /* modulo 2^64: what lies beyond the elements is only printed */
        uint64_t base = (uint64_t)object.seq->start, stride = (uint64_t)object.seq->step;
        seq->start = (int64_t)(base + (uint64_t)start * stride);
        seq->step = (int64_t)(stride * (uint64_t)step);
        seq->stop = (int64_t)(base + (uint64_t)stop * stride);
    }
    *out = qn_seq(object.kind == QN_GROUP ? QN_TUPLE : object.kind, seq);
    return true;
}

bool qn_get_slice(struct qn_run *run, struct qn_val object, const struct qn_val bound[3], struct qn_val *out)
{
    bool sliced =
        object.kind == QN_STR || object.kind == QN_LIST || qn_is_tuple(object) || object.kind == QN_RANGE;
    if (!qn_need_defined(run, object))
        return false;
    if (!sliced)
        return qn_raise(run, "'%s' object cannot be sliced", qn_type_name(object));
    for (int i = 0; i < 3; i++)
        if (!qn_is_int(bound[i]) && bound[i].kind != QN_NONE)
            return qn_raise(run, "slice indices must be integers or None, not %s", qn_type_name(bound[i]));
    int64_t n = object.kind == QN_STR ? (int64_t)object.s->chars : (int64_t)object.seq->n;
    int64_t step = bound[2].kind == QN_NONE ? 1 : qn_as_int(bound[2]);
    if (step == 0)
        return qn_raise(run, "slice step cannot be zero");
    /* beyond the length every step is the same */
    step = step > n + 1 ? n + 1 : step < -(n + 1) ? -(n + 1) : step;
    bool back = step < 0;
    int64_t start = bound[0].kind == QN_NONE ? (back ? n - 1 : 0) : clamp_bound(qn_as_int(bound[0]), n, back);
    int64_t stop = bound[1].kind == QN_NONE ? (back ? -1 : n) : clamp_bound(qn_as_int(bound[1]), n, back);
    int64_t count = back ? (start - stop + -step - 1) / -step : (stop - start + step - 1) / step;
    count = (back ? start <= stop : stop <= start) ? 0 : count;
    return object.kind == QN_STR ? slice_text(run, object.s, start, count, step, out)
                                 : slice_seq(run, object, start, stop, step, count, out);
}

/* ---- paths ---- */

bool qn_get_path(struct qn_run *run, struct qn_val object, struct qn_val path, struct qn_val *out)
{
    if (path.kind != QN_STR)
        return qn_get_item(run, object, path, out);
    const struct qn_text *text = path.s;
    for (size_t at = 0; at <= text->len; at++) {
        size_t end = at;
        bool digits = true;
        for (; end < text->len && text->data[end] != '.'; end++)
            digits &= text->data[end] >= '0' && text->data[end] <= '9';
        const struct qn_text *part = qn_text_part(run, text, at, end);
        if (!part)
            return false;
        struct qn_val key = qn_str(part);
        if (digits && end > at) {
            int64_t index;
            if (!qn_int_parse(part->data, part->len, 10, &index))
                return qn_raise(run, "an integer beyond 64 bits");
            key = qn_int(index);
        }
        if (!qn_get_item(run, object, key, &object))
            return false;
        at = end;
    }
    *out = object;
    return true;
}
