/* Runs statements: output, branches, loops, assignments, macros. */
#include "chat/eval.h"

#include <string.h>

/* ---- variables ---- */

bool qn_set_var(struct qn_run *run, const struct qn_text *name, struct qn_val value)
{
    struct qn_scope *scope = run->scope;
    size_t i = 0;
    while (i < scope->n && scope->at[i].name != name)
        i++;
    if (i == scope->cap) {
        size_t cap = scope->cap < 4 ? 4 : 2 * scope->cap;
        struct qn_var *at = qn_arena_extend(&run->arena, scope->at, scope->n * sizeof *at, cap * sizeof *at);
        if (!at)
            return qn_raise_memory(run);
        scope->at = at;
        scope->cap = cap;
    }
    scope->at[i] = (struct qn_var){name, value};
    scope->n += i == scope->n;
    return qn_spend(run, 1 + i / 16);
}

static struct qn_scope *open_scope(struct qn_run *run, struct qn_scope *parent)
{
    struct qn_scope *scope = qn_run_alloc(run, 1, sizeof *scope);
    if (scope)
        scope->parent = parent;
    return scope;
}

static bool set_attr(struct qn_run *run, const struct qn_node *target, struct qn_val value)
{
    struct qn_val object;
    struct qn_node name = {
        .kind = QN_N_NAME, .name = target->name, .line = target->line, .column = target->column};
    if (!qn_eval(run, &name, &object))
        return false;
    if (object.kind != QN_NAMESPACE)
        return qn_raise(run, "cannot assign an attribute of '%s': only a namespace takes one",
                        qn_type_name(object));
    return qn_dict_put(run, object.dict, target->value, value);
}

static bool assign(struct qn_run *run, const struct qn_node *target, struct qn_val value)
{
    qn_point(run, target);
    if (target->kind == QN_N_NAME)
        return qn_set_var(run, target->name, value);
    if (target->kind == QN_N_NS_ATTR)
        return set_attr(run, target, value);
    struct qn_seq *values;
    size_t n = 0;
    for (const struct qn_node *one = target->list; one; one = one->next)
        n++;
    if (!qn_iterate(run, value, &values))
        return false;
    if (values->n != n)
        return qn_raise(run, "%zu values for %zu names", values->n, n);
    n = 0;
    for (const struct qn_node *one = target->list; one; one = one->next)
        if (!assign(run, one, values->at[n++]))
            return false;
    return true;
}

/* Runs a body in a scope of its own; what it writes becomes a text. */
static bool capture(struct qn_run *run, const struct qn_node *body, struct qn_scope *parent,
                    const struct qn_text **text)
{
    struct qn_builder b = {.run = run}, *out = run->out;
    struct qn_scope *before = run->scope;
    run->scope = open_scope(run, parent);
    run->out = &b;
    bool ok = run->scope && qn_exec(run, body);
    run->out = out;
    run->scope = before;
    *text = ok ? qn_builder_text(&b) : NULL;
    return *text != NULL;
}

/* ---- loops ---- */

/* Has the condition asked until there are more than `index` items; *there: there are. */
static bool fill_items(struct qn_run *run, struct qn_loop *loop, size_t index, bool *there)
{
    while (loop->items->n <= index && loop->n_source < loop->source->n) {
        struct qn_val item = loop->source->at[loop->n_source++], holds = qn_bool(true);
        if (loop->node->c) {
            struct qn_scope *before = run->scope;
            run->scope = open_scope(run, loop->scope);
            bool ok = run->scope && assign(run, loop->node->a, item) && qn_eval(run, loop->node->c, &holds);
            run->scope = before;
            if (!ok)
                return false;
        }
        if (qn_truth(holds) && !qn_seq_add(run, loop->items, item))
            return false;
    }
    *there = loop->items->n > index;
    return true;
}

static bool loop_over(struct qn_run *run, const struct qn_node *node, struct qn_val over,
                      struct qn_scope *parent, unsigned depth)
{
    struct qn_seq *source;
    struct qn_loop *loop = qn_run_alloc(run, 1, sizeof *loop);
    struct qn_scope *scope = open_scope(run, parent), *before = run->scope;
    qn_point(run, node);
    if (!loop || !scope || !qn_iterate(run, over, &source))
        return false;
    *loop = (struct qn_loop){.node = node, .scope = parent, .source = source, .depth = depth};
    loop->items = qn_seq_new(run, node->c ? 0 : source->n);
    if (!loop->items)
        return false;
    for (bool there;; loop->index++) {
        if (!fill_items(run, loop, loop->index, &there))
            return false;
        if (!there)
            break;
        scope->n = 0;
        run->scope = scope;
        bool ok = assign(run, node->a, loop->items->at[loop->index]) &&
                  qn_set_var(run, run->chat->names.loop, (struct qn_val){.kind = QN_LOOP, .loop = loop}) &&
                  qn_exec(run, node->list);
        run->scope = before;
        if (!ok)
            return false;
        int flow = run->flow;
        run->flow = QN_FLOW_NEXT;
        if (flow == QN_FLOW_BREAK)
            return true;
    }
    if (loop->items->n > 0 || !node->more)
        return true;
    run->scope = open_scope(run, parent);
    bool ok = run->scope && qn_exec(run, node->more);
    run->scope = before;
    return ok;
}

bool qn_call_loop(struct qn_run *run, const struct qn_loop *loop, const struct qn_args *args,
                  struct qn_val *out)
{
    if (loop->node->op != 'r')
        return qn_raise(run, "the loop is called, but it is not marked as recursive");
    if (args->n != 1 || args->n_named > 0)
        return qn_raise(run, "loop() takes what to loop over");
    struct qn_builder b = {.run = run}, *before = run->out;
    run->out = &b;
    bool ok = qn_enter(run) && loop_over(run, loop->node, args->at[0], loop->scope, loop->depth + 1);
    run->out = before;
    if (!ok)
        return false;
    qn_leave(run);
    return qn_finish(&b, out);
}

static bool loop_cycle(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                       const struct qn_args *args, struct qn_val *out)
{
    if (args->n == 0 || args->n_named > 0)
        return qn_raise(run, "no items for cycling given");
    *out = args->at[self.loop->index % args->n];
    return true;
}

static bool loop_changed(struct qn_run *run, struct qn_val self, const struct qn_val *arg,
                         const struct qn_args *args, struct qn_val *out)
{
    struct qn_loop *loop = self.loop;
    bool same = loop->previous && loop->n_previous == args->n;
    for (size_t i = 0; same && i < args->n; i++)
        if (!qn_equal(run, loop->previous[i], args->at[i], &same))
            return false;
    *out = qn_bool(!same);
    if (same)
        return true;
    loop->previous = qn_run_alloc(run, args->n, sizeof *loop->previous);
    if (!loop->previous)
        return false;
    memcpy(loop->previous, args->at, args->n * sizeof *loop->previous);
    loop->n_previous = args->n;
    return true;
}

static bool loop_length(struct qn_run *run, struct qn_loop *loop, int64_t *n)
{
    bool there;
    if (!fill_items(run, loop, SIZE_MAX, &there))
        return false;
    *n = (int64_t)loop->items->n;
    return true;
}

bool qn_loop_attr(struct qn_run *run, struct qn_val v, const struct qn_text *name, struct qn_val *out)
{
    static const struct qn_function methods[] = {{"cycle", loop_cycle, NULL, 0, true},
                                                 {"changed", loop_changed, NULL, 0, true}};
    struct qn_loop *loop = v.loop;
    int64_t index = (int64_t)loop->index, n;
    bool there;
    *out = (struct qn_val){.kind = QN_MISSING};
    if (qn_text_is(name, "index")) {
        *out = qn_int(index + 1);
    } else if (qn_text_is(name, "index0")) {
        *out = qn_int(index);
    } else if (qn_text_is(name, "first")) {
        *out = qn_bool(index == 0);
    } else if (qn_text_is(name, "depth") || qn_text_is(name, "depth0")) {
        *out = qn_int(loop->depth - (name->len == 6));
    } else if (qn_text_is(name, "last") || qn_text_is(name, "nextitem")) {
        if (!fill_items(run, loop, loop->index + 1, &there))
            return false;
        if (name->len == 4)
            *out = qn_bool(!there);
        else
            *out = there ? loop->items->at[loop->index + 1] : qn_undefined(name);
    } else if (qn_text_is(name, "previtem")) {
        *out = index > 0 ? loop->items->at[loop->index - 1] : qn_undefined(name);
    } else if (qn_text_is(name, "length") || qn_text_is(name, "revindex") || qn_text_is(name, "revindex0")) {
        if (!loop_length(run, loop, &n))
            return false;
        *out = qn_int(name->len == 6 ? n : n - index - (name->len == 9));
    } else {
        const struct qn_function *function = qn_function_find(methods, QN_LEN(methods), name);
        struct qn_method_of *method = function ? qn_run_alloc(run, 1, sizeof *method) : NULL;
        if (function && !method)
            return false;
        if (method) {
            *method = (struct qn_method_of){function, v};
            *out = (struct qn_val){.kind = QN_METHOD, .method = method};
        }
    }
    return true;
}

/* ---- macros ---- */

static bool too_many(struct qn_run *run, const struct qn_macro *macro)
{
    const struct qn_text *name = macro->node->name;
    return qn_raise(run, "macro '%.*s' does not take these arguments",
                    name ? (int)(name->len < 60 ? name->len : 60) : 6, name ? name->data : "caller");
}

/* Parameters, then what is left in varargs, kwargs and caller where the body mentions these. */
static bool bind_params(struct qn_run *run, const struct qn_macro *macro, const struct qn_args *args)
{
    enum { VARARGS = 1, KWARGS = 2, CALLER = 4 };
    const struct qn_known_names *known = &run->chat->names;
    size_t n = 0, used = 0;
    for (const struct qn_node *param = macro->node->more; param; param = param->next, n++) {
        struct qn_val v = n < args->n ? args->at[n] : (struct qn_val){.kind = QN_MISSING};
        for (size_t i = 0; i < args->n_named; i++) {
            if (qn_text_order(args->named[i].key.s, param->name) != 0)
                continue;
            if (v.kind != QN_MISSING)
                return too_many(run, macro);
            v = args->named[i].value;
            used++;
        }
        if (v.kind == QN_MISSING) {
            v = qn_undefined(param->name);
            if (param->a && !qn_eval(run, param->a, &v))
                return false;
        }
        if (!qn_set_var(run, param->name, v))
            return false;
    }
    struct qn_seq *rest = qn_seq_new(run, 0);
    struct qn_dict *named = qn_dict_new(run);
    struct qn_val caller = qn_undefined(known->caller);
    if (!rest || !named)
        return false;
    for (size_t i = n; i < args->n; i++)
        if (!(macro->node->op & VARARGS))
            return too_many(run, macro);
        else if (!qn_seq_add(run, rest, args->at[i]))
            return false;
    for (size_t i = 0; used < args->n_named && i < args->n_named; i++) {
        const struct qn_text *name = args->named[i].key.s;
        const struct qn_node *param = macro->node->more;
        while (param && qn_text_order(param->name, name) != 0)
            param = param->next;
        if (param)
            continue;
        if ((macro->node->op & CALLER) && qn_text_is(name, "caller"))
            caller = args->named[i].value;
        else if (!(macro->node->op & KWARGS))
            return too_many(run, macro);
        else if (!qn_dict_put(run, named, args->named[i].key, args->named[i].value))
            return false;
    }
    return (!(macro->node->op & VARARGS) || qn_set_var(run, known->varargs, qn_seq(QN_TUPLE, rest))) &&
           (!(macro->node->op & KWARGS) || qn_set_var(run, known->kwargs, qn_dict(named))) &&
           (!(macro->node->op & CALLER) || qn_set_var(run, known->caller, caller));
}

bool qn_call_macro(struct qn_run *run, const struct qn_macro *macro, const struct qn_args *args,
                   struct qn_val *out)
{
    struct qn_builder b = {.run = run}, *before_out = run->out;
    struct qn_scope *before = run->scope;
    run->scope = open_scope(run, macro->scope);
    run->out = &b;
    bool ok = run->scope && qn_enter(run) && bind_params(run, macro, args) && qn_exec(run, macro->node->list);
    run->out = before_out;
    run->scope = before;
    if (!ok)
        return false;
    qn_leave(run);
    return qn_finish(&b, out);
}

static bool new_macro(struct qn_run *run, const struct qn_node *node, struct qn_val *out)
{
    struct qn_macro *macro = qn_run_alloc(run, 1, sizeof *macro);
    if (!macro)
        return false;
    *macro = (struct qn_macro){node, run->scope};
    *out = (struct qn_val){.kind = QN_MACRO, .macro = macro};
    return true;
}

static bool exec_call_block(struct qn_run *run, const struct qn_node *node)
{
    struct qn_val callee, caller, result;
    struct qn_args args;
    if (!qn_eval(run, node->a->a, &callee) || !qn_eval_args(run, node->a->list, &args) ||
        !new_macro(run, node->b, &caller))
        return false;
    qn_point(run, node);
    return qn_args_add_named(run, &args, qn_str(run->chat->names.caller), caller) &&
           qn_call(run, callee, &args, &result) && qn_put_str(run->out, result);
}

/* ---- statements ---- */

static bool exec_if(struct qn_run *run, const struct qn_node *node)
{
    for (; node; node = node->c) {
        struct qn_val condition;
        if (!qn_eval(run, node->a, &condition))
            return false;
        if (qn_truth(condition))
            return qn_exec(run, node->list);
        if (!node->c)
            return !node->more || qn_exec(run, node->more);
    }
    return true;
}

static bool exec_for(struct qn_run *run, const struct qn_node *node)
{
    struct qn_val over;
    return qn_eval(run, node->b, &over) && loop_over(run, node, over, run->scope, 1);
}

static bool exec_set(struct qn_run *run, const struct qn_node *node)
{
    struct qn_val value;
    return qn_eval(run, node->b, &value) && assign(run, node->a, value);
}

static bool exec_set_block(struct qn_run *run, const struct qn_node *node)
{
    const struct qn_text *text;
    if (!capture(run, node->list, run->scope, &text))
        return false;
    struct qn_val value = qn_str(text);
    if (run->flow != QN_FLOW_NEXT)
        return true;
    return (!node->b || qn_eval_filters(run, node->b, value, &value)) && assign(run, node->a, value);
}

static bool exec_filter_block(struct qn_run *run, const struct qn_node *node)
{
    const struct qn_text *text;
    struct qn_val value;
    if (!capture(run, node->list, run->scope, &text))
        return false;
    if (run->flow != QN_FLOW_NEXT)
        return true;
    return qn_eval_filters(run, node->b, qn_str(text), &value) && qn_put_str(run->out, value);
}

/* The values of `with` see the names around it, not each other. */
static bool exec_scope(struct qn_run *run, const struct qn_node *node)
{
    struct qn_scope *before = run->scope, *scope = open_scope(run, before);
    bool ok = scope != NULL;
    for (const struct qn_node *set = node->more; ok && set; set = set->next) {
        struct qn_val value;
        ok = qn_eval(run, set->b, &value);
        run->scope = scope;
        ok = ok && assign(run, set->a, value);
        run->scope = before;
    }
    run->scope = scope;
    ok = ok && qn_exec(run, node->list);
    run->scope = before;
    return ok;
}

static bool exec_print(struct qn_run *run, const struct qn_node *node)
{
    struct qn_val value;
    return qn_eval(run, node->a, &value) && qn_put_str(run->out, value);
}

static bool exec_macro(struct qn_run *run, const struct qn_node *node)
{
    struct qn_val macro;
    return new_macro(run, node, &macro) && qn_set_var(run, node->name, macro);
}

static bool exec_one(struct qn_run *run, const struct qn_node *node)
{
    qn_point(run, node);
    switch (node->kind) {
    case QN_N_DATA:
        return qn_put_text(run->out, node->value.s);
    case QN_N_PRINT:
        return exec_print(run, node);
    case QN_N_IF:
        return exec_if(run, node);
    case QN_N_FOR:
        return exec_for(run, node);
    case QN_N_BREAK:
        run->flow = QN_FLOW_BREAK;
        return true;
    case QN_N_CONTINUE:
        run->flow = QN_FLOW_CONTINUE;
        return true;
    case QN_N_SET:
        return exec_set(run, node);
    case QN_N_SET_BLOCK:
        return exec_set_block(run, node);
    case QN_N_MACRO:
        return exec_macro(run, node);
    case QN_N_CALL_BLOCK:
        return exec_call_block(run, node);
    case QN_N_FILTER_BLOCK:
        return exec_filter_block(run, node);
    default: /* QN_N_SCOPE */
        return exec_scope(run, node);
    }
}

bool qn_exec(struct qn_run *run, const struct qn_node *body)
{
    if (!qn_enter(run))
        return false;
    for (const struct qn_node *node = body; node && run->flow == QN_FLOW_NEXT; node = node->next)
        if (!qn_spend(run, 1) || !exec_one(run, node))
            return false;
    qn_leave(run);
    return true;
}
