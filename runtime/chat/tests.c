/* The tests that `is` applies. */
#include "chat/eval.h"

QN_BUILT_IN(is_boolean)
{
    *out = qn_bool(self.kind == QN_BOOL);
    return true;
}

QN_BUILT_IN(is_true)
{
    *out = qn_bool(self.kind == QN_BOOL && self.b);
    return true;
}

QN_BUILT_IN(is_false)
{
    *out = qn_bool(self.kind == QN_BOOL && !self.b);
    return true;
}

QN_BUILT_IN(is_callable)
{
    *out = qn_bool(self.kind >= QN_FUNCTION || self.kind == QN_UNDEFINED);
    return true;
}

QN_BUILT_IN(is_defined)
{
    *out = qn_bool(self.kind != QN_UNDEFINED);
    return true;
}

QN_BUILT_IN(is_undefined)
{
    *out = qn_bool(self.kind == QN_UNDEFINED);
    return true;
}

QN_BUILT_IN(is_none)
{
    *out = qn_bool(self.kind == QN_NONE);
    return true;
}

QN_BUILT_IN(is_integer)
{
    *out = qn_bool(self.kind == QN_INT);
    return true;
}

QN_BUILT_IN(is_float)
{
    *out = qn_bool(self.kind == QN_FLOAT);
    return true;
}

QN_BUILT_IN(is_number)
{
    *out = qn_bool(qn_is_number(self));
    return true;
}

QN_BUILT_IN(is_string)
{
    *out = qn_bool(self.kind == QN_STR);
    return true;
}

QN_BUILT_IN(is_mapping)
{
    *out = qn_bool(self.kind == QN_DICT);
    return true;
}

QN_BUILT_IN(is_sequence)
{
    *out = qn_bool(self.kind == QN_STR || self.kind == QN_DICT || self.kind == QN_UNDEFINED ||
                   (qn_is_seq(self) && self.kind != QN_VIEW && self.kind != QN_ITER));
    return true;
}

QN_BUILT_IN(is_iterable)
{
    *out = qn_bool(self.kind == QN_STR || self.kind == QN_DICT || self.kind == QN_UNDEFINED ||
                   self.kind == QN_LOOP || qn_is_seq(self));
    return true;
}

QN_BUILT_IN(is_escaped)
{
    *out = qn_bool(self.kind == QN_STR && self.s->markup);
    return true;
}

static bool remainder_is(struct qn_run *run, struct qn_val self, struct qn_val by, int64_t rest,
                         struct qn_val *out)
{
    bool equal;
    if (!qn_binary(run, QN_OP_MOD, self, by, out) || !qn_equal(run, *out, qn_int(rest), &equal))
        return false;
    *out = qn_bool(equal);
    return true;
}

QN_BUILT_IN(is_even)
{
    return remainder_is(run, self, qn_int(2), 0, out);
}

QN_BUILT_IN(is_odd)
{
    return remainder_is(run, self, qn_int(2), 1, out);
}

QN_BUILT_IN(is_divisibleby)
{
    return remainder_is(run, self, arg[0], 0, out);
}

static bool text_case_is(struct qn_run *run, struct qn_val self, bool upper, struct qn_val *out)
{
    const struct qn_text *text = qn_to_text(run, self);
    if (!text || !qn_spend(run, text->len / 16))
        return false;
    *out = qn_bool(qn_text_is_case(text, upper));
    return true;
}

QN_BUILT_IN(is_lower)
{
    return text_case_is(run, self, false, out);
}

QN_BUILT_IN(is_upper)
{
    return text_case_is(run, self, true, out);
}

static bool compare(struct qn_run *run, enum qn_op op, struct qn_val self, struct qn_val other,
                    struct qn_val *out)
{
    bool holds;
    if (!qn_compare(run, op, self, other, &holds))
        return false;
    *out = qn_bool(holds);
    return true;
}

QN_BUILT_IN(is_eq)
{
    return compare(run, QN_OP_EQ, self, arg[0], out);
}

QN_BUILT_IN(is_ne)
{
    return compare(run, QN_OP_NE, self, arg[0], out);
}

QN_BUILT_IN(is_lt)
{
    return compare(run, QN_OP_LT, self, arg[0], out);
}

QN_BUILT_IN(is_le)
{
    return compare(run, QN_OP_LE, self, arg[0], out);
}

QN_BUILT_IN(is_gt)
{
    return compare(run, QN_OP_GT, self, arg[0], out);
}

QN_BUILT_IN(is_ge)
{
    return compare(run, QN_OP_GE, self, arg[0], out);
}

QN_BUILT_IN(is_in)
{
    return compare(run, QN_OP_IN, self, arg[0], out);
}

QN_BUILT_IN(is_sameas)
{
    bool same = self.kind == arg[0].kind;
    if (same && (self.kind == QN_INT || self.kind == QN_STR))
        return compare(run, QN_OP_EQ, self, arg[0], out);
    if (same && self.kind == QN_BOOL)
        same = self.b == arg[0].b;
    else if (same && self.kind != QN_NONE)
        same = self.seq == arg[0].seq;
    *out = qn_bool(same);
    return true;
}

/* Names are looked up in tables: what could not be looked up at all is an error. */
static bool can_be_key(struct qn_run *run, struct qn_val v)
{
    const struct qn_dict nothing = {NULL};
    struct qn_val found;
    return qn_dict_get(run, &nothing, v, &found);
}

QN_BUILT_IN(is_filter)
{
    bool beyond;
    if (!can_be_key(run, self))
        return false;
    *out = qn_bool(self.kind == QN_STR && (qn_filter_find(self.s, &beyond) || beyond));
    return true;
}

QN_BUILT_IN(is_test)
{
    bool beyond;
    if (!can_be_key(run, self))
        return false;
    *out = qn_bool(self.kind == QN_STR && qn_test_find(self.s, &beyond));
    return true;
}

const struct qn_function *qn_test_find(const struct qn_text *name, bool *beyond)
{
    static const struct qn_function tests[] = {
        {"!=", is_ne, "other", 1, false},
        {"<", is_lt, "other", 1, false},
        {"<=", is_le, "other", 1, false},
        {"==", is_eq, "other", 1, false},
        {">", is_gt, "other", 1, false},
        {">=", is_ge, "other", 1, false},
        {"boolean", is_boolean, "", 0, false},
        {"callable", is_callable, "", 0, false},
        {"defined", is_defined, "", 0, false},
        {"divisibleby", is_divisibleby, "num", 1, false},
        {"eq", is_eq, "other", 1, false},
        {"equalto", is_eq, "other", 1, false},
        {"escaped", is_escaped, "", 0, false},
        {"even", is_even, "", 0, false},
        {"false", is_false, "", 0, false},
        {"filter", is_filter, "", 0, false},
        {"float", is_float, "", 0, false},
        {"ge", is_ge, "other", 1, false},
        {"greaterthan", is_gt, "other", 1, false},
        {"gt", is_gt, "other", 1, false},
        {"in", is_in, "seq", 1, false},
        {"integer", is_integer, "", 0, false},
        {"iterable", is_iterable, "", 0, false},
        {"le", is_le, "other", 1, false},
        {"lessthan", is_lt, "other", 1, false},
        {"lower", is_lower, "", 0, false},
        {"lt", is_lt, "other", 1, false},
        {"mapping", is_mapping, "", 0, false},
        {"ne", is_ne, "other", 1, false},
        {"none", is_none, "", 0, false},
        {"number", is_number, "", 0, false},
        {"odd", is_odd, "", 0, false},
        {"sameas", is_sameas, "other", 1, false},
        {"sequence", is_sequence, "", 0, false},
        {"string", is_string, "", 0, false},
        {"test", is_test, "", 0, false},
        {"true", is_true, "", 0, false},
        {"undefined", is_undefined, "", 0, false},
        {"upper", is_upper, "", 0, false},
    };
    *beyond = false;
    return qn_function_find(tests, QN_LEN(tests), name);
}
