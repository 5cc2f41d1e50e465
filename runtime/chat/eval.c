/* Evaluates expressions. */
#include "chat/eval.h"

#include <string.h>

static bool no_variable(struct qn_run *run, const struct qn_text *name, struct qn_val *out)
{
    struct qn_val v;
    if (!qn_dict_get(run, run->context, qn_str(name), &v))
        return false;
    if (v.kind == QN_MISSING) {
        const struct qn_function *function = qn_global_find(name);
        v = function ? (struct qn_val){.kind = QN_FUNCTION, .function = function} : qn_undefined(name);
    }
    *out = v;
    return true;
}

static bool eval_name(struct qn_run *run, const struct qn_text *name, struct qn_val *out)
{
    size_t walked = 0;
    for (const struct qn_scope *scope = run->scope; scope; scope = scope->parent) {
        for (size_t i = 0; i < scope->n; i++) {
            if (scope->at[i].name == name) {
                *out = scope->at[i].value;
                return qn_spend(run, (walked + i) / 16);
            }
        }
        walked += 1 + scope->n;
    }
    return qn_spend(run, walked / 16) && no_variable(run, name, out);
}

static bool eval_sequence(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_seq *seq = qn_seq_new(run, 0);
    if (!seq)
        return false;
    for (const struct qn_node *one = node->list; one; one = one->next) {
        struct qn_val v;
        if (!qn_eval(run, one, &v) || !qn_seq_add(run, seq, v))
            return false;
    }
    *out = qn_seq(node->kind == QN_N_LIST ? QN_LIST : QN_TUPLE, seq);
    return true;
}

static bool eval_dict(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_dict *dict = qn_dict_new(run);
    if (!dict)
        return false;
    for (const struct qn_node *pair = node->list; pair; pair = pair->next) {
        struct qn_val key, value;
        if (!qn_eval(run, pair->a, &key) || !qn_eval(run, pair->b, &value))
            return false;
        qn_point(run, pair);
        if (!qn_dict_put(run, dict, key, value))
            return false;
    }
    *out = qn_dict(dict);
    return true;
}

static bool eval_logic(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    for (const struct qn_node *one = node->list; one; one = one->next) {
        if (!qn_eval(run, one, out))
            return false;
        if (qn_truth(*out) == (node->kind == QN_N_OR))
            break;
    }
    return true;
}

static bool eval_compare(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val left, right;
    bool holds = true;
    if (!qn_eval(run, node->a, &left))
        return false;
    for (const struct qn_node *operand = node->list; operand && holds; operand = operand->next) {
        if (!qn_eval(run, operand->a, &right))
            return false;
        qn_point(run, node);
        if (!qn_compare(run, operand->op, left, right, &holds))
            return false;
        left = right;
    }
    *out = qn_bool(holds);
    return true;
}

static bool eval_concat(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_builder b = {.run = run};
    for (const struct qn_node *one = node->list; one; one = one->next) {
        struct qn_val v;
        if (!qn_eval(run, one, &v) || !qn_put_str(&b, v))
            return false;
    }
    return qn_finish(&b, out);
}

static bool eval_unary(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val v;
    if (!qn_eval(run, node->a, &v))
        return false;
    qn_point(run, node);
    if (!qn_need_defined(run, v))
        return false;
    if (!qn_is_number(v))
        return qn_raise(run, "a sign before '%s'", qn_type_name(v));
    bool minus = node->op == QN_OP_SUB;
    if (v.kind == QN_FLOAT) {
        *out = qn_float(minus ? -v.f : v.f);
        return true;
    }
    int64_t i = qn_as_int(v);
    if (minus && i == INT64_MIN)
        return qn_raise(run, "an integer beyond 64 bits");
    *out = qn_int(minus ? -i : i);
    return true;
}

static bool eval_slice(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    const struct qn_node *nodes[3] = {node->b, node->c, node->d};
    struct qn_val object, bound[3];
    if (!node->a) {
        qn_point(run, node);
        return qn_raise(run, "a slice among several subscripts");
    }
    if (!qn_eval(run, node->a, &object))
        return false;
    for (int i = 0; i < 3; i++) {
        bound[i] = QN_VAL_NONE;
        if (nodes[i] && !qn_eval(run, nodes[i], &bound[i]))
            return false;
    }
    qn_point(run, node);
    return qn_get_slice(run, object, bound, out);
}

/* ---- arguments ---- */

void qn_args_init(struct qn_args *args)
{
    args->at = args->room;
    args->n = args->n_named = args->cap_named = 0;
    args->cap = QN_PARAMS_MAX;
    args->named = NULL;
}

bool qn_args_add(struct qn_run *run, struct qn_args *args, struct qn_val v)
{
    if (args->n == args->cap) {
        struct qn_val *at = qn_run_alloc(run, 2 * args->cap, sizeof *at);
        if (!at)
            return false;
        memcpy(at, args->at, args->n * sizeof *at);
        args->at = at;
        args->cap *= 2;
    }
    args->at[args->n++] = v;
    return qn_spend(run, 1);
}

bool qn_args_add_named(struct qn_run *run, struct qn_args *args, struct qn_val name, struct qn_val v)
{
    if (name.kind != QN_STR)
        return qn_raise(run, "keywords must be strings");
    for (size_t i = 0; i < args->n_named; i++)
        if (qn_text_order(args->named[i].key.s, name.s) == 0)
            return qn_raise(run, "two values for the argument '%.*s'",
                            (int)(name.s->len < 60 ? name.s->len : 60), name.s->data);
    if (args->n_named == args->cap_named) {
        size_t cap = args->cap_named ? 2 * args->cap_named : 4;
        struct qn_entry *named = qn_run_alloc(run, cap, sizeof *named);
        if (!named)
            return false;
        if (args->n_named > 0)
            memcpy(named, args->named, args->n_named * sizeof *named);
        args->named = named;
        args->cap_named = cap;
    }
    args->named[args->n_named++] = (struct qn_entry){.key = name, .value = v};
    return qn_spend(run, 1 + args->n_named / 8);
}

static bool spread(struct qn_run *run, struct qn_args *args, uint32_t op, struct qn_val v)
{
    if (op == 'P') {
        if (v.kind != QN_DICT)
            return qn_raise(run, "argument after ** must be a mapping, not %s", qn_type_name(v));
        for (size_t i = 0; i < v.dict->n; i++)
            if (!qn_args_add_named(run, args, v.dict->at[i].key, v.dict->at[i].value))
                return false;
        return true;
    }
    struct qn_seq *seq;
    if (!qn_iterate(run, v, &seq))
        return false;
    for (size_t i = 0; i < seq->n; i++)
        if (!qn_args_add(run, args, seq->at[i]))
            return false;
    return true;
}

bool qn_eval_args(struct qn_run *run, const struct qn_node *list, struct qn_args *args)
{
    qn_args_init(args);
    for (const struct qn_node *arg = list; arg; arg = arg->next) {
        struct qn_val v;
        if (!qn_eval(run, arg->a, &v))
            return false;
        bool ok = arg->op     ? spread(run, args, arg->op, v)
                  : arg->name ? qn_args_add_named(run, args, qn_str(arg->name), v)
                              : qn_args_add(run, args, v);
        if (!ok)
            return false;
    }
    return true;
}

static bool eval_call(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val callee;
    struct qn_args args;
    if (!qn_eval(run, node->a, &callee) || !qn_eval_args(run, node->list, &args))
        return false;
    qn_point(run, node);
    return qn_call(run, callee, &args, out);
}

/* ---- filters and tests ---- */

static bool eval_applied(struct qn_run *run, const struct qn_node *node, struct qn_val self,
                         struct qn_val *out)
{
    struct qn_args args;
    qn_point(run, node);
    if (!node->function)
        return qn_raise(run, "there is no %s '%.*s'", node->kind == QN_N_TEST ? "test" : "filter",
                        (int)(node->name->len < 60 ? node->name->len : 60), node->name->data);
    if (!qn_eval_args(run, node->list, &args))
        return false;
    qn_point(run, node);
    return qn_apply(run, node->function, self, &args, out);
}

bool qn_eval_filters(struct qn_run *run, const struct qn_node *node, struct qn_val ahead, struct qn_val *out)
{
    struct qn_val self = ahead;
    if (!qn_enter(run) || (node->a && !qn_eval_filters(run, node->a, ahead, &self)) ||
        !eval_applied(run, node, self, out))
        return false;
    qn_leave(run);
    return true;
}

static bool eval_applied_to(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val self;
    return qn_eval(run, node->a, &self) && eval_applied(run, node, self, out);
}

/* ---- all ---- */

static bool eval_cond(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val condition;
    if (!qn_eval(run, node->b, &condition))
        return false;
    if (qn_truth(condition))
        return qn_eval(run, node->a, out);
    *out = qn_undefined(NULL);
    return !node->c || qn_eval(run, node->c, out);
}

static bool eval_access(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val object, key;
    if (!qn_eval(run, node->a, &object) || (node->b && !qn_eval(run, node->b, &key)))
        return false;
    qn_point(run, node);
    return node->b ? qn_get_item(run, object, key, out) : qn_get_attr(run, object, node->name, out);
}

static bool eval_binary(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_val a, b;
    if (!qn_eval(run, node->a, &a) || !qn_eval(run, node->b, &b))
        return false;
    qn_point(run, node);
    return qn_binary(run, node->op, a, b, out);
}

static bool eval_any(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    switch (node->kind) {
    case QN_N_NAME:
        return eval_name(run, node->name, out);
    case QN_N_LIST:
    case QN_N_TUPLE:
        return eval_sequence(run, node, out);
    case QN_N_DICT:
        return eval_dict(run, node, out);
    case QN_N_UNARY:
        return eval_unary(run, node, out);
    case QN_N_BINARY:
        return eval_binary(run, node, out);
    case QN_N_AND:
    case QN_N_OR:
        return eval_logic(run, node, out);
    case QN_N_NOT:
        if (!qn_eval(run, node->a, out))
            return false;
        *out = qn_bool(!qn_truth(*out));
        return true;
    case QN_N_COMPARE:
        return eval_compare(run, node, out);
    case QN_N_CONCAT:
        return eval_concat(run, node, out);
    case QN_N_COND:
        return eval_cond(run, node, out);
    case QN_N_ATTR:
    case QN_N_ITEM:
        return eval_access(run, node, out);
    case QN_N_SLICE:
        return eval_slice(run, node, out);
    case QN_N_CALL:
        return eval_call(run, node, out);
    default: /* QN_N_FILTER, QN_N_TEST */
        return eval_applied_to(run, node, out);
    }
}

bool qn_eval(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    if (node->kind == QN_N_CONST) {
        *out = node->value;
        return qn_spend(run, 1);
    }
    qn_point(run, node);
    if (!qn_spend(run, 1) || !qn_enter(run) || !eval_any(run, node, out))
        return false;
    qn_leave(run);
    return true;
}
