/* Filters of sequences. */
#include "chat/eval.h"

#include <string.h>

/* ---- helpers ---- */

static bool given(struct qn_val arg)
{
    return arg.kind != QN_MISSING && arg.kind != QN_NONE;
}

static bool is_set(struct qn_val arg)
{
    return arg.kind != QN_MISSING && qn_truth(arg);
}

/* What a generator yields. */
static struct qn_val generator(struct qn_seq *seq)
{
    seq->type = "generator";
    return qn_seq(QN_ITER, seq);
}

/* How elements are compared: by an attribute, letters alike. */
struct key {
    struct qn_val attribute; /* NONE: by themselves */
    struct qn_val missing;   /* in place of what is undefined, MISSING: nothing */
    bool ignore_case;
};

static bool key_of(struct qn_run *run, const struct key *key, struct qn_val item, struct qn_val *out)
{
    *out = item;
    if (given(key->attribute) && !qn_get_path(run, item, key->attribute, out))
        return false;
    if (out->kind == QN_UNDEFINED && given(key->missing))
        *out = key->missing;
    return !key->ignore_case || out->kind != QN_STR || qn_text_case(run, out->s, QN_LOWER, out);
}

/* A shallow copy that may be changed. */
static bool copy_items(struct qn_run *run, struct qn_val v, struct qn_seq **out)
{
    struct qn_seq *items, *copy;
    if (!qn_iterate(run, v, &items) || !(copy = qn_seq_new(run, items->n)))
        return false;
    if (!qn_spend(run, items->n))
        return false;
    if (items->n > 0)
        memcpy(copy->at, items->at, items->n * sizeof *copy->at);
    copy->n = items->n;
    *out = copy;
    return true;
}

/* ---- single elements ---- */

QN_BUILT_IN(filter_first)
{
    struct qn_seq *items;
    struct qn_val v = self;
    if (v.kind == QN_ITER) {
        bool any = v.seq->next < v.seq->n;
        *out = any ? v.seq->at[v.seq->next] : qn_undefined(NULL);
        v.seq->next += any;
        return true;
    }
    if (!qn_iterate(run, v, &items))
        return false;
    *out = items->n > 0 ? items->at[0] : qn_undefined(NULL);
    return true;
}

QN_BUILT_IN(filter_last)
{
    struct qn_seq *items;
    if (self.kind == QN_ITER)
        return qn_raise(run, "'%s' object is not reversible", qn_type_name(self));
    if (!qn_iterate(run, self, &items))
        return false;
    *out = items->n > 0 ? items->at[items->n - 1] : qn_undefined(NULL);
    return true;
}

static bool extreme(struct qn_run *run, struct qn_val self, const struct qn_val *arg, int wanted,
                    struct qn_val *out)
{
    const struct key key = {.attribute = arg[1], .ignore_case = !is_set(arg[0])};
    struct qn_seq *items;
    struct qn_val best, one;
    if (!qn_iterate(run, self, &items))
        return false;
    *out = qn_undefined(NULL);
    for (size_t i = 0; i < items->n; i++) {
        int order = wanted;
        if (!key_of(run, &key, items->at[i], &one) || (i > 0 && !qn_order(run, one, best, &order)))
            return false;
        if (order == wanted) {
            best = one;
            *out = items->at[i];
        }
    }
    return true;
}

QN_BUILT_IN(filter_min)
{
    return extreme(run, self, arg, -1, out);
}

QN_BUILT_IN(filter_max)
{
    return extreme(run, self, arg, 1, out);
}

QN_BUILT_IN(filter_sum)
{
    const struct key key = {.attribute = arg[0]};
    struct qn_seq *items;
    struct qn_val one;
    *out = arg[1].kind == QN_MISSING ? qn_int(0) : arg[1];
    if (!qn_iterate(run, self, &items))
        return false;
    if (out->kind == QN_STR)
        return qn_raise(run, "sum of strings: use join");
    for (size_t i = 0; i < items->n; i++)
        if (!key_of(run, &key, items->at[i], &one) || !qn_binary(run, QN_OP_ADD, *out, one, out))
            return false;
    return true;
}

QN_BUILT_IN(filter_join)
{
    const struct key key = {.attribute = arg[1]};
    const struct qn_text *glue = arg[0].kind == QN_MISSING ? NULL : qn_to_text(run, arg[0]);
    struct qn_builder b = {.run = run};
    struct qn_seq *items;
    struct qn_val one;
    if ((!glue && arg[0].kind != QN_MISSING) || !qn_iterate(run, self, &items))
        return false;
    for (size_t i = 0; i < items->n; i++)
        if ((i > 0 && glue && !qn_put_text(&b, glue)) || !key_of(run, &key, items->at[i], &one) ||
            !qn_put_str(&b, one))
            return false;
    return qn_finish(&b, out);
}

/* ---- order ---- */

QN_BUILT_IN(filter_list)
{
    *out = qn_seq(QN_LIST, NULL);
    return copy_items(run, self, &out->seq);
}

QN_BUILT_IN(filter_items)
{
    const struct qn_text name = {.data = "items", .len = 5, .chars = 5};
    const struct qn_args none = {.n = 0};
    if (self.kind == QN_UNDEFINED) {
        struct qn_seq *empty = qn_seq_new(run, 0);
        *out = empty ? generator(empty) : QN_VAL_NONE;
        return empty != NULL;
    }
    if (self.kind != QN_DICT)
        return qn_raise(run, "items of '%s', which is no mapping", qn_type_name(self));
    if (!qn_apply(run, qn_method_find(self, &name), self, &none, out))
        return false;
    *out = generator(out->seq);
    return true;
}

QN_BUILT_IN(filter_reverse)
{
    static const struct qn_val backwards[3] = {{QN_NONE}, {QN_NONE}, {.kind = QN_INT, .i = -1}};
    struct qn_seq *items;
    if (self.kind == QN_STR)
        return qn_get_slice(run, self, backwards, out);
    if (!copy_items(run, self, &items))
        return false;
    for (size_t i = 0; i < items->n / 2; i++) {
        struct qn_val swap = items->at[i];
        items->at[i] = items->at[items->n - 1 - i];
        items->at[items->n - 1 - i] = swap;
    }
    items->type = "list_reverseiterator";
    *out = qn_seq(self.kind == QN_ITER ? QN_LIST : QN_ITER, items);
    return true;
}

static bool sort_items(struct qn_run *run, struct qn_seq *items, const struct key *key, bool reverse)
{
    struct qn_val *keys = qn_run_alloc(run, items->n, sizeof *keys);
    if (!keys)
        return false;
    for (size_t i = 0; i < items->n; i++)
        if (!key_of(run, key, items->at[i], &keys[i]))
            return false;
    return qn_seq_sort(run, items, keys, reverse);
}

/* The keys of an element by "one,two", as a list. */
static bool keys_of(struct qn_run *run, struct qn_seq *attributes, bool ignore_case, struct qn_val item,
                    struct qn_val *out)
{
    struct qn_seq *list = qn_seq_new(run, attributes->n);
    for (size_t i = 0; list && i < attributes->n; i++) {
        struct qn_val one;
        if (!key_of(run, &(struct key){.attribute = attributes->at[i], .ignore_case = ignore_case}, item,
                    &one) ||
            !qn_seq_add(run, list, one))
            return false;
    }
    *out = qn_seq(QN_LIST, list);
    return list != NULL;
}

QN_BUILT_IN(filter_sort)
{
    const struct qn_text comma = {.data = ",", .len = 1, .chars = 1};
    struct qn_seq *items, *attributes = qn_seq_new(run, 1);
    if (!attributes || !copy_items(run, self, &items))
        return false;
    struct qn_val split;
    if (arg[2].kind == QN_STR) {
        if (!qn_text_split(run, arg[2].s, &comma, -1, false, &split))
            return false;
        attributes = split.seq;
    } else if (!qn_seq_add(run, attributes, arg[2])) {
        return false;
    }
    struct qn_val *keys = qn_run_alloc(run, items->n, sizeof *keys);
    if (!keys)
        return false;
    for (size_t i = 0; i < items->n; i++)
        if (!keys_of(run, attributes, !is_set(arg[1]), items->at[i], &keys[i]))
            return false;
    *out = qn_seq(QN_LIST, items);
    return qn_seq_sort(run, items, keys, is_set(arg[0]));
}

QN_BUILT_IN(filter_dictsort)
{
    const struct qn_text name = {.data = "items", .len = 5, .chars = 5}, *by = NULL;
    const struct qn_args none = {.n = 0};
    struct qn_val pairs;
    if (!qn_need_defined(run, self) || (arg[1].kind != QN_MISSING && !qn_arg_text(run, arg[1], &by)))
        return false;
    if (by && !qn_text_is(by, "key") && !qn_text_is(by, "value"))
        return qn_raise(run, "dictsort is by key or by value");
    if (self.kind != QN_DICT)
        return qn_raise(run, "dictsort of '%s', which is no mapping", qn_type_name(self));
    if (!qn_apply(run, qn_method_find(self, &name), self, &none, &pairs))
        return false;
    const struct key key = {.attribute = qn_int(by && qn_text_is(by, "value")),
                            .ignore_case = !is_set(arg[0])};
    *out = qn_seq(QN_LIST, pairs.seq);
    return sort_items(run, pairs.seq, &key, is_set(arg[2]));
}

QN_BUILT_IN(filter_unique)
{
    const struct key key = {.attribute = arg[1], .ignore_case = !is_set(arg[0])};
    struct qn_seq *items, *kept = qn_seq_new(run, 0);
    struct qn_dict *seen = qn_dict_new(run);
    struct qn_val one;
    if (!kept || !seen || !qn_iterate(run, self, &items))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        size_t before = seen->n;
        if (!key_of(run, &key, items->at[i], &one) || !qn_dict_put(run, seen, one, QN_VAL_NONE) ||
            (seen->n > before && !qn_seq_add(run, kept, items->at[i])))
            return false;
    }
    *out = generator(kept);
    return true;
}

/* ---- groups ---- */

QN_BUILT_IN(filter_groupby)
{
    struct key key = {.attribute = arg[0], .missing = arg[1], .ignore_case = !is_set(arg[2])};
    struct qn_seq *items, *groups = qn_seq_new(run, 0), *members = NULL;
    struct qn_val last = {.kind = QN_MISSING}, one, shown;
    if (!groups || !copy_items(run, self, &items) || !sort_items(run, items, &key, false))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        bool same = false;
        if (!key_of(run, &key, items->at[i], &one) || (members && !qn_equal(run, last, one, &same)))
            return false;
        if (!same) {
            struct qn_seq *group = qn_seq_new(run, 2);
            members = qn_seq_new(run, 0);
            bool ignore_case = key.ignore_case;
            key.ignore_case = false;
            bool ok = group && members && key_of(run, &key, items->at[i], &shown) &&
                      qn_seq_add(run, group, shown) && qn_seq_add(run, group, qn_seq(QN_LIST, members)) &&
                      qn_seq_add(run, groups, qn_seq(QN_GROUP, group));
            key.ignore_case = ignore_case;
            if (!ok)
                return false;
            last = one;
        }
        if (!qn_seq_add(run, members, items->at[i]))
            return false;
    }
    *out = qn_seq(QN_LIST, groups);
    return true;
}

/* items[from, to) and `fill`, `n_fill` times, as a list of `rows`. */
static bool add_row(struct qn_run *run, struct qn_seq *rows, const struct qn_seq *items, size_t from,
                    size_t to, struct qn_val fill, int64_t n_fill)
{
    struct qn_seq *row = qn_seq_new(run, to - from);
    for (size_t i = from; row && i < to; i++)
        if (!qn_seq_add(run, row, items->at[i]))
            return false;
    for (int64_t i = 0; row && given(fill) && i < n_fill; i++)
        if (!qn_seq_add(run, row, fill))
            return false;
    return row && qn_seq_add(run, rows, qn_seq(QN_LIST, row));
}

QN_BUILT_IN(filter_batch)
{
    struct qn_seq *items, *rows = qn_seq_new(run, 0);
    int64_t size;
    if (!rows || !qn_arg_int(run, arg[0], 0, &size) || !qn_iterate(run, self, &items))
        return false;
    int64_t n = (int64_t)items->n;
    /* 0: the row that is full from the start, then all others never are; below: it never is */
    if (size == 0 && n > 0 && !add_row(run, rows, items, 0, 0, QN_VAL_NONE, 0))
        return false;
    if (size <= 0 && n > 0 && !add_row(run, rows, items, 0, items->n, QN_VAL_NONE, 0))
        return false;
    for (int64_t at = 0; size > 0 && at < n;) {
        int64_t end = n - at < size ? n : at + size;
        if (!add_row(run, rows, items, (size_t)at, (size_t)end, arg[1], size - (end - at)))
            return false;
        at = end;
    }
    *out = generator(rows);
    return true;
}

QN_BUILT_IN(filter_slice)
{
    struct qn_seq *items, *rows = qn_seq_new(run, 0);
    int64_t n_rows;
    if (!rows || !qn_arg_int(run, arg[0], 0, &n_rows) || !qn_iterate(run, self, &items))
        return false;
    if (n_rows == 0)
        return qn_raise(run, "integer division or modulo by zero");
    for (int64_t i = 0, at = 0; i < n_rows; i++) {
        int64_t n = (int64_t)items->n, more = i < n % n_rows, end = at + n / n_rows + more;
        if (!add_row(run, rows, items, (size_t)at, (size_t)end, arg[1], !more))
            return false;
        at = end;
    }
    *out = generator(rows);
    return true;
}

/* ---- filters and tests applied to each element ---- */

/* args without the first `skip`. */
static struct qn_args args_behind(const struct qn_args *args, size_t skip)
{
    struct qn_args rest = {
        .at = args->at + skip, .n = args->n - skip, .named = args->named, .n_named = args->n_named};
    return rest;
}

static const struct qn_function *find_by_value(struct qn_run *run, struct qn_val name, bool filter)
{
    bool beyond;
    const struct qn_function *function = NULL;
    if (name.kind == QN_STR)
        function = filter ? qn_filter_find(name.s, &beyond) : qn_test_find(name.s, &beyond);
    if (function || !qn_need_defined(run, name))
        return function;
    if (name.kind != QN_STR)
        qn_raise(run, "the name of a %s is a string, not '%s'", filter ? "filter" : "test",
                 qn_type_name(name));
    else
        qn_raise_status(run, beyond ? QUERN_ERR_UNSUPPORTED : run->blame, "there is no %s '%.*s'",
                        filter ? "filter" : "test", (int)(name.s->len < 60 ? name.s->len : 60), name.s->data);
    return NULL;
}

/* map(attribute=..., default=...) */
static bool map_attribute(struct qn_run *run, const struct qn_seq *items, const struct qn_args *args,
                          struct qn_seq *mapped)
{
    struct key key = {.attribute = QN_VAL_NONE, .missing = {QN_MISSING}};
    for (size_t i = 0; i < args->n_named; i++) {
        if (qn_text_is(args->named[i].key.s, "attribute"))
            key.attribute = args->named[i].value;
        else if (qn_text_is(args->named[i].key.s, "default"))
            key.missing = args->named[i].value;
        else
            return qn_raise(run, "map takes an attribute and a default, or a filter");
    }
    for (size_t i = 0; i < items->n; i++) {
        struct qn_val one;
        if (!key_of(run, &key, items->at[i], &one) || !qn_seq_add(run, mapped, one))
            return false;
    }
    return true;
}

static bool names_attribute(const struct qn_args *args)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (qn_text_is(args->named[i].key.s, "attribute"))
            return args->n == 0;
    return false;
}

QN_BUILT_IN(filter_map)
{
    struct qn_seq *items, *mapped = qn_seq_new(run, 0);
    if (!mapped)
        return false;
    *out = generator(mapped);
    if (!qn_truth(self))
        return true;
    if (!qn_iterate(run, self, &items))
        return false;
    if (names_attribute(args))
        return map_attribute(run, items, args, mapped);
    if (args->n == 0)
        return qn_raise(run, "map requires a filter argument");
    const struct qn_args rest = args_behind(args, 1);
    const struct qn_function *function = NULL;
    if (items->n > 0 && !(function = find_by_value(run, args->at[0], true)))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        struct qn_val one;
        if (!qn_enter(run) || !qn_apply(run, function, items->at[i], &rest, &one) ||
            !qn_seq_add(run, mapped, one))
            return false;
        qn_leave(run);
    }
    return true;
}

/* select, reject and what looks at an attribute: elements for which the test holds (`wanted`) or not. */
static bool choose(struct qn_run *run, struct qn_val self, const struct qn_args *args, bool attribute,
                   bool wanted, struct qn_val *out)
{
    struct qn_seq *items, *kept = qn_seq_new(run, 0);
    if (!kept)
        return false;
    *out = generator(kept);
    if (!qn_truth(self))
        return true;
    if (attribute && args->n == 0)
        return qn_raise(run, "an attribute is missing");
    if (!qn_iterate(run, self, &items))
        return false;
    const struct key key = {.attribute = attribute ? args->at[0] : QN_VAL_NONE, .missing = {QN_MISSING}};
    const struct qn_function *test = NULL;
    bool tested = args->n > attribute;
    const struct qn_args rest = args_behind(args, tested ? 1u + attribute : args->n);
    if (tested && items->n > 0 && !(test = find_by_value(run, args->at[attribute], false)))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        struct qn_val one;
        if (!key_of(run, &key, items->at[i], &one) || (test && !qn_apply(run, test, one, &rest, &one)) ||
            (qn_truth(one) == wanted && !qn_seq_add(run, kept, items->at[i])))
            return false;
    }
    return true;
}

QN_BUILT_IN(filter_select)
{
    return choose(run, self, args, false, true, out);
}

QN_BUILT_IN(filter_reject)
{
    return choose(run, self, args, false, false, out);
}

QN_BUILT_IN(filter_selectattr)
{
    return choose(run, self, args, true, true, out);
}

QN_BUILT_IN(filter_rejectattr)
{
    return choose(run, self, args, true, false, out);
}

static const struct qn_function filters[] = {
    {"batch", filter_batch, "linecount fill_with", 1, false},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0, false},
    {"first", filter_first, "", 0, false},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1, false},
    {"items", filter_items, "", 0, false},
    {"join", filter_join, "d attribute", 0, false},
    {"last", filter_last, "", 0, false},
    {"list", filter_list, "", 0, false},
    {"map", filter_map, NULL, 0, false},
    {"max", filter_max, "case_sensitive attribute", 0, false},
    {"min", filter_min, "case_sensitive attribute", 0, false},
    {"reject", filter_reject, NULL, 0, false},
    {"rejectattr", filter_rejectattr, NULL, 0, false},
    {"reverse", filter_reverse, "", 0, false},
    {"select", filter_select, NULL, 0, false},
    {"selectattr", filter_selectattr, NULL, 0, false},
    {"slice", filter_slice, "slices fill_with", 1, false},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0, false},
    {"sum", filter_sum, "attribute start", 0, false},
    {"unique", filter_unique, "case_sensitive attribute", 0, false},
};
const struct qn_table qn_list_filters = {filters, QN_LEN(filters)};
