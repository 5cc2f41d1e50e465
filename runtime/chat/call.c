/* Calls, and the functions that every template has. */
#include "chat/eval.h"

#include <string.h>

const struct qn_function *qn_function_find(const struct qn_function *table, size_t n,
                                           const struct qn_text *name)
{
    for (size_t i = 0; i < n; i++)
        if (qn_text_is(name, table[i].name))
            return &table[i];
    return NULL;
}

/* The place of a name among "one two three", or -1. */
static int param_index(const char *params, const struct qn_text *name)
{
    int index = 0;
    for (const char *at = params; *at; index++) {
        size_t n = strcspn(at, " ");
        if (n == name->len && memcmp(at, name->data, n) == 0)
            return index;
        at += n + (at[n] == ' ');
    }
    return -1;
}

static size_t count_params(const char *params)
{
    size_t n = *params != '\0';
    for (; *params; params++)
        n += *params == ' ';
    return n;
}

bool qn_apply(struct qn_run *run, const struct qn_function *function, struct qn_val self,
              const struct qn_args *args, struct qn_val *out)
{
    struct qn_val arg[QN_PARAMS_MAX] = {{QN_MISSING}};
    if (!function->params)
        return function->run(run, self, arg, args, out);
    size_t n = count_params(function->params);
    if (args->n > n)
        return qn_raise(run, "%s() takes %zu arguments, not %zu", function->name, n, args->n);
    if (args->n > 0)
        memcpy(arg, args->at, args->n * sizeof *arg);
    for (size_t i = 0; i < args->n_named; i++) {
        const struct qn_text *name = args->named[i].key.s;
        int index = function->by_place ? -1 : param_index(function->params, name);
        if (index < 0 || arg[index].kind != QN_MISSING)
            return qn_raise(run, "%s() does not take the argument '%.*s'", function->name,
                            (int)(name->len < 60 ? name->len : 60), name->data);
        arg[index] = args->named[i].value;
    }
    for (size_t i = 0; i < function->n_required; i++)
        if (arg[i].kind == QN_MISSING)
            return qn_raise(run, "%s() needs %u arguments", function->name, function->n_required);
    return function->run(run, self, arg, args, out);
}

bool qn_call(struct qn_run *run, struct qn_val callee, const struct qn_args *args, struct qn_val *out)
{
    switch (callee.kind) {
    case QN_FUNCTION:
        return qn_apply(run, callee.function, QN_VAL_NONE, args, out);
    case QN_METHOD:
        return qn_apply(run, callee.method->function, callee.method->self, args, out);
    case QN_MACRO:
        return qn_call_macro(run, callee.macro, args, out);
    case QN_LOOP:
        return qn_call_loop(run, callee.loop, args, out);
    default:
        return qn_need_defined(run, callee) &&
               qn_raise(run, "'%s' object is not callable", qn_type_name(callee));
    }
}

/* ---- functions ---- */

static bool global_range(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                         const struct qn_args *args, struct qn_val *out)
{
    for (int i = 0; i < 3; i++)
        if (arg[i].kind != QN_MISSING && !qn_is_int(arg[i]))
            return qn_raise(run, "range() takes integers, not '%s'", qn_type_name(arg[i]));
    bool one = arg[1].kind == QN_MISSING;
    int64_t start = one ? 0 : qn_as_int(arg[0]), stop = qn_as_int(arg[one ? 0 : 1]);
    int64_t step = arg[2].kind == QN_MISSING ? 1 : qn_as_int(arg[2]);
    if (step == 0)
        return qn_raise(run, "range() step must not be zero");
    uint64_t distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t n = (step > 0 ? stop <= start : start <= stop) ? 0 : (distance - 1) / stride + 1;
    if (n > QN_CHAT_RANGE_MAX)
        return qn_raise(run, "a range of more than 100000 elements");
    struct qn_seq *seq = qn_seq_new(run, (size_t)n);
    if (!seq)
        return false;
    seq->start = start;
    seq->stop = stop;
    seq->step = step;
    for (uint64_t i = 0; i < n; i++)
        if (!qn_seq_add(run, seq, qn_int((int64_t)((uint64_t)start + i * (uint64_t)step))))
            return false;
    *out = qn_seq(QN_RANGE, seq);
    return true;
}

/* A mapping, or a sequence of pairs, and named arguments. */
static bool make_dict(struct qn_run *run, const char *what, const struct qn_args *args, struct qn_dict **out)
{
    struct qn_dict *dict = qn_dict_new(run);
    struct qn_seq *pairs = NULL, *pair;
    if (!dict)
        return false;
    if (args->n > 1)
        return qn_raise(run, "%s() takes at most one argument by place", what);
    if (args->n == 1 && args->at[0].kind == QN_DICT) {
        for (size_t i = 0; i < args->at[0].dict->n; i++)
            if (!qn_dict_put(run, dict, args->at[0].dict->at[i].key, args->at[0].dict->at[i].value))
                return false;
    } else if (args->n == 1) {
        if (!qn_iterate(run, args->at[0], &pairs))
            return false;
        for (size_t i = 0; i < pairs->n; i++) {
            if (!qn_iterate(run, pairs->at[i], &pair))
                return false;
            if (pair->n != 2)
                return qn_raise(run, "%s() needs pairs", what);
            if (!qn_dict_put(run, dict, pair->at[0], pair->at[1]))
                return false;
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        if (!qn_dict_put(run, dict, args->named[i].key, args->named[i].value))
            return false;
    *out = dict;
    return true;
}

static bool global_dict(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                        const struct qn_args *args, struct qn_val *out)
{
    out->kind = QN_DICT;
    return make_dict(run, "dict", args, &out->dict);
}

static bool global_namespace(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                             const struct qn_args *args, struct qn_val *out)
{
    out->kind = QN_NAMESPACE;
    return make_dict(run, "namespace", args, &out->dict);
}

static bool global_raise(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                         const struct qn_args *args, struct qn_val *out)
{
    const struct qn_text *text = qn_to_text(run, arg[0]);
    if (!text)
        return false;
    return qn_raise_status(run, QUERN_ERR_PARAM, "%.*s", (int)(text->len < 300 ? text->len : 300),
                           text->data);
}

static bool global_strftime(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                            const struct qn_args *args, struct qn_val *out)
{
    const struct qn_text *format = NULL;
    struct qn_builder b = {.run = run};
    return qn_arg_text(run, arg[0], &format) && qn_put_time(&b, format, run->now) && qn_finish(&b, out);
}

const struct qn_function *qn_global_find(const struct qn_text *name)
{
    static const struct qn_function globals[] = {
        {"dict", global_dict, NULL, 0, false},
        {"namespace", global_namespace, NULL, 0, false},
        {"raise_exception", global_raise, "message", 1, false},
        {"range", global_range, "start stop step", 1, true},
        {"strftime_now", global_strftime, "format", 1, false},
    };
    return qn_function_find(globals, QN_LEN(globals), name);
}

/* ---- helpers of the tables ---- */

bool qn_finish(struct qn_builder *b, struct qn_val *out)
{
    *out = qn_str(qn_builder_text(b));
    return out->s != NULL;
}

bool qn_arg_int(struct qn_run *run, struct qn_val arg, int64_t missing, int64_t *out)
{
    *out = missing;
    if (arg.kind == QN_MISSING)
        return true;
    if (!qn_need_defined(run, arg))
        return false;
    if (!qn_is_int(arg))
        return qn_raise(run, "an argument must be an integer, not '%s'", qn_type_name(arg));
    *out = qn_as_int(arg);
    return true;
}

bool qn_arg_text(struct qn_run *run, struct qn_val arg, const struct qn_text **out)
{
    if (!qn_need_defined(run, arg))
        return false;
    if (arg.kind != QN_STR)
        return qn_raise(run, "an argument must be a string, not '%s'", qn_type_name(arg));
    *out = arg.s;
    return true;
}
