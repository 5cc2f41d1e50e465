/* Operators between values, with Python's arithmetic; integers beyond 64 bits are an error. */
#include "chat/eval.h"

#include <math.h>
#include <string.h>

bool qn_need_defined(struct qn_run *run, struct qn_val v)
{
    if (v.kind != QN_UNDEFINED && v.kind != QN_MISSING)
        return true;
    if (!v.s)
        return qn_raise(run, "the value is undefined");
    return qn_raise(run, "'%.*s' is undefined", (int)(v.s->len < 100 ? v.s->len : 100), v.s->data);
}

static bool overflow(struct qn_run *run)
{
    return qn_raise(run, "an integer beyond 64 bits");
}

static bool power_ints(struct qn_run *run, int64_t base, int64_t exponent, struct qn_val *out)
{
    if (exponent < 0) {
        if (base == 0)
            return qn_raise(run, "0.0 cannot be raised to a negative power");
        *out = qn_float(pow((double)base, (double)exponent));
        return true;
    }
    int64_t result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return overflow(run);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
            return overflow(run);
    }
    *out = qn_int(result);
    return true;
}

static bool binary_ints(struct qn_run *run, enum qn_op op, int64_t a, int64_t b, struct qn_val *out)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case QN_OP_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case QN_OP_SUB:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case QN_OP_MUL:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    case QN_OP_POW:
        return power_ints(run, a, b, out);
    default:
        if (b == 0)
            return qn_raise(run, "division by zero");
        if (op == QN_OP_DIV) {
            *out = qn_float((double)a / (double)b);
            return true;
        }
        if (b == -1) { /* INT64_MIN among them */
            over = op == QN_OP_FLOORDIV && __builtin_sub_overflow(0, a, &result);
            break;
        }
        bool adjust = a % b != 0 && (a % b < 0) != (b < 0);
        result = op == QN_OP_FLOORDIV ? a / b - adjust : a % b + (adjust ? b : 0);
    }
    if (over)
        return overflow(run);
    *out = qn_int(result);
    return true;
}

static double floor_mod(double a, double b)
{
    double rest = fmod(a, b);
    if (rest != 0)
        return (rest < 0) != (b < 0) ? rest + b : rest;
    return copysign(0, b);
}

static double floor_div(double a, double b)
{
    double quotient = (a - floor_mod(a, b)) / b, whole = floor(quotient);
    if (quotient == 0)
        return copysign(0, a / b);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static bool power_floats(struct qn_run *run, double a, double b, struct qn_val *out)
{
    if (a == 0 && b < 0)
        return qn_raise(run, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return qn_raise_status(run, QUERN_ERR_UNSUPPORTED, "complex numbers are not supported");
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b))
        return qn_raise(run, "a number that is too large");
    *out = qn_float(result);
    return true;
}

static bool binary_floats(struct qn_run *run, enum qn_op op, double a, double b, struct qn_val *out)
{
    double result = 0;
    if ((op == QN_OP_DIV || op == QN_OP_FLOORDIV || op == QN_OP_MOD) && b == 0)
        return qn_raise(run, "division by zero");
    switch (op) {
    case QN_OP_ADD:
        result = a + b;
        break;
    case QN_OP_SUB:
        result = a - b;
        break;
    case QN_OP_MUL:
        result = a * b;
        break;
    case QN_OP_DIV:
        result = a / b;
        break;
    case QN_OP_FLOORDIV:
        result = floor_div(a, b);
        break;
    case QN_OP_MOD:
        result = floor_mod(a, b);
        break;
    default:
        return power_floats(run, a, b, out);
    }
    *out = qn_float(result);
    return true;
}

static bool add_texts(struct qn_run *run, const struct qn_text *a, const struct qn_text *b,
                      struct qn_val *out)
{
    struct qn_val escaped;
    if (a->markup != b->markup) {
        if (!qn_text_escape(run, a->markup ? b : a, &escaped))
            return false;
        a = a->markup ? a : escaped.s;
        b = b->markup ? b : escaped.s;
    }
    struct qn_builder builder = {.run = run, .markup = a->markup};
    return qn_put_text(&builder, a) && qn_put_text(&builder, b) && qn_finish(&builder, out);
}

static bool add_sequences(struct qn_run *run, struct qn_val a, struct qn_val b, struct qn_val *out)
{
    struct qn_seq *seq = qn_seq_new(run, a.seq->n + b.seq->n);
    for (size_t i = 0; seq && i < a.seq->n; i++)
        if (!qn_seq_add(run, seq, a.seq->at[i]))
            return false;
    for (size_t i = 0; seq && i < b.seq->n; i++)
        if (!qn_seq_add(run, seq, b.seq->at[i]))
            return false;
    *out = qn_seq(a.kind == QN_LIST ? QN_LIST : QN_TUPLE, seq);
    return seq != NULL;
}

/* v * times for texts, lists and tuples. */
static bool repeat(struct qn_run *run, struct qn_val v, int64_t times, struct qn_val *out)
{
    if (v.kind == QN_STR) {
        struct qn_builder b = {.run = run, .markup = v.s->markup};
        return qn_put_fill(&b, v.s, times) && qn_finish(&b, out);
    }
    size_t n = times > 0 ? v.seq->n : 0;
    if (n > 0 && (uint64_t)times > QN_CHAT_STEPS_MAX / n)
        return qn_raise_limit(run, "the steps that a template may take");
    struct qn_seq *seq = qn_seq_new(run, n * (size_t)(n > 0 ? times : 0));
    if (!seq)
        return false;
    for (int64_t k = 0; n > 0 && k < times; k++)
        for (size_t i = 0; i < n; i++)
            if (!qn_seq_add(run, seq, v.seq->at[i]))
                return false;
    *out = qn_seq(v.kind == QN_LIST ? QN_LIST : QN_TUPLE, seq);
    return true;
}

static bool repeats(struct qn_val v)
{
    return v.kind == QN_STR || v.kind == QN_LIST || qn_is_tuple(v);
}

bool qn_binary(struct qn_run *run, enum qn_op op, struct qn_val a, struct qn_val b, struct qn_val *out)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (qn_is_int(a) && qn_is_int(b))
        return binary_ints(run, op, qn_as_int(a), qn_as_int(b), out);
    if (qn_is_number(a) && qn_is_number(b))
        return binary_floats(run, op, qn_as_float(a), qn_as_float(b), out);
    if (op == QN_OP_MOD && a.kind == QN_STR)
        return qn_format_percent(run, a.s, b, out);
    if (!qn_need_defined(run, a) || !qn_need_defined(run, b))
        return false;
    if (op == QN_OP_ADD && a.kind == QN_STR && b.kind == QN_STR)
        return add_texts(run, a.s, b.s, out);
    if (op == QN_OP_ADD && ((a.kind == QN_LIST && b.kind == QN_LIST) || (qn_is_tuple(a) && qn_is_tuple(b))))
        return add_sequences(run, a, b, out);
    if (op == QN_OP_MUL && repeats(a) && qn_is_int(b))
        return repeat(run, a, qn_as_int(b), out);
    if (op == QN_OP_MUL && repeats(b) && qn_is_int(a))
        return repeat(run, b, qn_as_int(a), out);
    return qn_raise(run, "unsupported operand types for %s: '%s' and '%s'", names[op], qn_type_name(a),
                    qn_type_name(b));
}

bool qn_compare(struct qn_run *run, enum qn_op op, struct qn_val a, struct qn_val b, bool *out)
{
    int order;
    if (op == QN_OP_EQ || op == QN_OP_NE) {
        if (!qn_equal(run, a, b, out))
            return false;
        *out = *out == (op == QN_OP_EQ);
        return true;
    }
    if (op == QN_OP_IN || op == QN_OP_NOT_IN) {
        if (!qn_contains(run, b, a, out))
            return false;
        *out = *out == (op == QN_OP_IN);
        return true;
    }
    if (!qn_order(run, a, b, &order))
        return false;
    *out = op == QN_OP_LT   ? order == -1
           : op == QN_OP_LE ? order == -1 || order == 0
           : op == QN_OP_GT ? order == 1
                            : order == 0 || order == 1;
    return true;
}
