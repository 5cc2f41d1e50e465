#include "conformance/verify.h"

#include "conformance/errors.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FEW_TOKENS = 8 }; /* above, other kernels serve */

/* A case that is being verified. */
struct trial {
    const struct qn_verifier *verifier;
    const struct qn_op_case *at;
    struct qn_case c;
    struct qn_finding *finding;
    enum quern_status status; /* of what is not the device's fault */
    struct quern_error *err;
};

static bool complain(struct trial *t, const char *fmt, ...) QUERN_PRINTF(2, 3);
static bool complain(struct trial *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->finding->text, sizeof t->finding->text, fmt, args);
    va_end(args);
    t->finding->good = false;
    return false;
}

static bool out_of_memory(struct trial *t)
{
    t->status = qn_fail_memory(t->err, "a case");
    return false;
}

/* ---- results ---- */

static bool check_numbers(struct trial *t, uint32_t which, const int32_t *got, const int32_t *want)
{
    const struct qn_case_value *value = &t->c.values[t->c.node.out[which]];
    size_t row = value->row_bytes / 4;
    for (size_t i = 0; i < value->bytes / 4; i++)
        if (got[i] != want[i])
            return complain(t, "result %u, row %zu, element %zu is %d, expected %d", which, i / row, i % row,
                            got[i], want[i]);
    return true;
}

static bool check_result(struct trial *t, uint32_t which, const char *got_bytes, const char *want_bytes)
{
    const struct qn_case_value *value = &t->c.values[t->c.node.out[which]];
    const float *got = (const float *)(const void *)got_bytes,
                *want = (const float *)(const void *)want_bytes;
    size_t row = value->row_bytes / 4;
    if (value->value.format == QUERN_I32)
        return check_numbers(t, which, (const int32_t *)(const void *)got_bytes,
                             (const int32_t *)(const void *)want_bytes);
    double *scale = qn_error_scale(t->at, &t->c, which, want);
    if (!scale)
        return out_of_memory(t);
    struct qn_error_of error = qn_error_compare(got, want, scale, value->bytes / 4);
    qn_free(t->c.cb, scale);
    t->finding->error = fmax(t->finding->error, error.relative);
    double allowed = qn_error_allowed(t->at);
    bool near = error.relative <= allowed && error.finite;
    bool few = value->bytes / 4 < 16; /* which may all be small by chance */
    bool alike = t->at->fill != QN_FILL_RANDOM || few || error.rms <= 0.02;
    if (near && alike)
        return true;
    return complain(
        t,
        "result %u, row %zu, element %zu is %.9g, expected %.9g: error %.2g, allowed %.2g; rms of all %.2g%s",
        which, error.at / row, error.at % row, (double)got[error.at], (double)want[error.at], error.relative,
        allowed, error.rms, error.finite ? "" : "; not finite");
}

/* What was stored: to the byte. */
static bool check_pools(struct trial *t, const struct qn_left *got, const struct qn_left *want)
{
    const struct quern_kv_binding *at = &t->c.kv_at;
    const size_t bytes = at->pages_per_pool * at->page_bytes;
    for (uint32_t p = 0; p < t->c.n_pools; p++)
        for (size_t i = 0; i < bytes; i++)
            if (got->pool[p][i] != want->pool[p][i])
                return complain(t, "pool %u, byte %zu of page %zu is %02x, expected %02x", p,
                                (size_t)(i % at->page_bytes), (size_t)(i / at->page_bytes),
                                got->pool[p][i] & 0xff, want->pool[p][i] & 0xff);
    return true;
}

static bool check_left(struct trial *t, const struct qn_left *got, const struct qn_left *want)
{
    bool ok = true;
    for (uint32_t i = 0; i < QUERN_MAX_OUT && ok && t->c.node.out[i] != QUERN_NONE; i++)
        ok = check_result(t, i, got->results[t->c.node.out[i]], want->results[t->c.node.out[i]]);
    return ok && check_pools(t, got, want);
}

/* ---- runs ---- */

static bool run_reference(struct trial *t, struct qn_left *want)
{
    struct qn_case reference = t->c; /* borrows the values */
    struct qn_rig rig;
    reference.driver = t->verifier->reference;
    reference.device = NULL;
    reference.isa = "none";
    reference.exact = true;
    int32_t status = qn_rig_init(&reference, &rig, t->c.n_tokens, "2", t->err);
    if (!status)
        status = qn_rig_run(&reference, &rig, t->c.n_tokens, want, t->err);
    qn_rig_finish(&reference, &rig);
    t->status = (enum quern_status)status;
    return !status;
}

/* Whether a way of running, which `status` tells, left what `first` is. */
static bool same(struct trial *t, int32_t status, const struct quern_error *err, const struct qn_left *first,
                 const struct qn_left *left, const char *way)
{
    t->finding->refused = status && t->at->many_rounds && strstr(err->text, "its loops go round");
    if (t->finding->refused)
        snprintf(t->finding->text, sizeof t->finding->text, "%.380s", err->text);
    if (status)
        return t->finding->refused || complain(t, "%s: status %d: %.300s", way, status, err->text);
    const char *differ = first != left ? qn_left_differ(&t->c, first, left) : NULL;
    t->finding->unsteady |= differ != NULL;
    return !differ || complain(t, "%s gives other bits in %s", way, differ);
}

/* Runs on the device in a segment for `bucket` tokens: in one batch for `first`, where that is all of them,
 * then again, and `chunk` tokens at a time. */
static bool run_device(struct trial *t, uint32_t bucket, uint32_t chunk, struct qn_left *first)
{
    const struct qn_case *c = &t->c;
    const struct qn_verifier *v = t->verifier;
    struct qn_rig rig = {.device = NULL};
    struct qn_left left = {0};
    struct quern_error err = {.text = ""};
    uint32_t repeats = v->repeats > 0 ? v->repeats : 1;
    bool all = bucket == c->n_tokens;
    int32_t status = qn_rig_init(c, &rig, bucket, "1", &err);
    bool ok = same(t, status, &err, first, first, "preparing");
    bool go_on = ok && !t->finding->refused;
    if (go_on && all) {
        status = qn_rig_run(c, &rig, bucket, first, &err);
        ok = same(t, status, &err, first, first, "running");
    }
    for (uint32_t i = 0; i < repeats && go_on && ok && all && !t->finding->refused; i++) {
        if (!qn_left_init(c, &left))
            ok = out_of_memory(t);
        status = ok ? qn_rig_run(c, &rig, bucket, &left, &err) : QUERN_OK;
        ok = ok && same(t, status, &err, first, &left, "another run");
        qn_left_finish(c, &left);
    }
    if (go_on && ok && chunk < c->n_tokens && !t->finding->refused && !v->quick) {
        if (!qn_left_init(c, &left))
            ok = out_of_memory(t);
        status = ok ? qn_rig_run(c, &rig, chunk, &left, &err) : QUERN_OK;
        ok = ok && same(t, status, &err, first, &left,
                        all ? "fewer tokens in a segment with room for more" : "a segment for fewer tokens");
        qn_left_finish(c, &left);
    }
    qn_rig_finish(c, &rig);
    return ok;
}

/* Runs once more in another way; near the reference, or, with `same_as`, with the same bits. */
static bool run_otherwise(struct trial *t, uint32_t bucket, const struct qn_left *want,
                          const struct qn_left *same_as, const char *way)
{
    struct qn_rig rig = {.device = NULL};
    struct qn_left left;
    struct quern_error err = {.text = ""};
    bool ok = qn_left_init(&t->c, &left) || out_of_memory(t);
    int32_t status = ok ? qn_rig_init(&t->c, &rig, bucket, "1", &err) : QUERN_OK;
    if (ok && !status)
        status = qn_rig_run(&t->c, &rig, bucket, &left, &err);
    ok = ok && same(t, status, &err, same_as ? same_as : &left, &left, way) &&
         (same_as || check_left(t, &left, want));
    qn_rig_finish(&t->c, &rig);
    qn_left_finish(&t->c, &left);
    return ok;
}

/* ---- cases ---- */

bool qn_op_may_round(enum quern_op op)
{
    return op == QUERN_OP_MATMUL || op == QUERN_OP_MOE_MATMUL || op == QUERN_OP_ATTENTION;
}

static void run(struct trial *t, struct qn_left *got, struct qn_left *want)
{
    const struct qn_op_case *at = t->at;
    uint32_t few = at->tokens <= 16 ? 1 : 8, chunk = at->tokens <= 16 ? 1 : at->tokens / 7;
    bool ok = run_reference(t, want) && run_device(t, at->tokens, chunk, got);
    if (!ok || t->finding->refused || !check_left(t, got, want) || t->verifier->quick)
        return;
    if (at->exact && at->tokens > few)
        ok = qn_op_may_round(at->op) && at->tokens > FEW_TOKENS
                 ? run_otherwise(t, few, want, NULL, "a few tokens at a time")
                 : run_device(t, few, few, got);
    if (ok && at->op == QUERN_OP_MATMUL && at->matmul.n[1] > 0) {
        t->c.weights_joined = true; /* where a dispatch may have several products */
        (void)run_otherwise(t, t->c.n_tokens, want, got, "weights in one buffer");
        t->c.weights_joined = false;
    }
}

enum quern_status qn_verify_case(const struct qn_verifier *verifier, const struct qn_op_case *at,
                                 uint64_t seed, struct qn_finding *finding, struct quern_error *err)
{
    struct qn_left got, want;
    struct trial *t = qn_zalloc(verifier->cb, 1, sizeof *t);
    *finding = (struct qn_finding){.good = true};
    if (!t)
        return qn_fail_memory(err, "a case");
    *t = (struct trial){.verifier = verifier, .at = at, .finding = finding, .err = err};
    qn_op_build(at, verifier->cb, verifier->driver, seed, &t->c);
    t->c.device = verifier->device;
    t->c.measured = verifier->measured;
    t->c.n_allocations = verifier->n_allocations;
    bool good = !t->c.failed;
    good = qn_left_init(&t->c, &got) && good;
    good = qn_left_init(&t->c, &want) && good;
    if (good)
        run(t, &got, &want);
    else
        (void)out_of_memory(t);
    enum quern_status status = t->status;
    qn_left_finish(&t->c, &want);
    qn_left_finish(&t->c, &got);
    qn_case_finish(&t->c);
    qn_free(verifier->cb, t);
    return status;
}
