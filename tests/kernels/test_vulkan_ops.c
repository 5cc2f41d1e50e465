/* Every operation on a Vulkan device against the CPU driver in plain C and exact, with the validation layer
 * on: twice the same bits, the same bits in steps of fewer tokens where the same kernel serves, near the
 * reference.
 *
 *     test_vulkan_ops [--device N] [--disable FEATURE,...] [--exact | --fast | --both] [--large]
 *                     [--random COUNT] [--seed SEED] [--require FEATURE] [--kernel NAME] [--submit-us TIME]
 *                     [--verbose] [OPERATION|FORMAT...]
 *
 * Without operations or formats: all. --random adds COUNT random cases of each operation (and of each format,
 * where it has any). Cases that a device may round in are run rounding or exactly, in turn; --both: both.
 * --require skips all on a device without that feature; --kernel fails unless a kernel of that name was used.
 * --submit-us: what a submit may take; a second run of a case is then done in slices.
 * --large adds the cases that take much memory. A case that fails prints a line, and the others go on. */
#include "op_cases.h"

#include "base/clock.h"
#include "base/host.h"
#include "drivers/cpu/cpu.h"
#include "drivers/vulkan/device.h"
#include "drivers/vulkan/vulkan.h"
#include "formats/formats.h"
#include "test.h"

#include <math.h>

enum { FEWEST_FORMATS = 28, SKIPPED = 77, FAST = 1, EXACT = 2 };
enum { FEW_TOKENS = 8 }; /* above, other kernels serve */

static struct {
    uint32_t device, random, modes; /* modes 0: in turn */
    uint64_t seed;
    bool large, verbose;
    const char *disable, *require, *kernel, *submit_us;
    struct qn_op_choice choice;
} options = {.seed = 1};

static struct {
    struct quern_device *device;
    uint64_t formats; /* that the device reads */
    int n_complaints; /* of the validation layer */
} gpu;

/* Of the cases of an operation. */
struct tally {
    uint32_t n_listed, n, n_failed;
    double worst[2]; /* largest relative error: fast, exact */
    uint64_t seed;
    bool refused; /* the case: more rounds than loops go on this device */
};

/* ---------------------------------------------------------------- errors */

/* Norms of the rows of x or of a weight. */
static double *norms(const float *x, size_t n_rows, size_t row)
{
    double *norm = calloc(n_rows + 1, sizeof *norm);
    assert_non_null(norm);
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < row; i++)
            norm[r] += (double)x[r * row + i] * x[r * row + i];
        norm[r] = sqrt(norm[r]);
    }
    return norm;
}

static double *weight_norms(struct qn_case *c, uint32_t id)
{
    const struct quern_value *w = &c->values[id].value;
    const struct qn_format *format = qn_format_get((enum quern_format)w->format);
    size_t k = (size_t)w->dim[0], n = (size_t)(w->dim[1] * w->dim[2]);
    size_t row_bytes = c->values[id].bytes / n;
    float *row = malloc(k * sizeof *row);
    double *norm = calloc(n, sizeof *norm);
    assert_true(row && norm);
    for (size_t r = 0; r < n; r++) {
        format->dequantise((const char *)c->values[id].data + r * row_bytes, row, k);
        double *one = norms(row, 1, k);
        norm[r] = one[0];
        free(one);
    }
    free(row);
    return norm;
}

/* What an error is measured by: an element of a product by the norms of its row and column (and with two
 * products, by both), others by what goes into them. out: result number `which`, [n elements]. The caller
 * frees. */
static double *product_scale(const struct qn_op_case *at, struct qn_case *c, uint32_t which, size_t n)
{
    bool moe = at->op == QUERN_OP_MOE_MATMUL;
    uint32_t sides = at->op == QUERN_OP_MATMUL ? at->matmul.glu + 1u : at->moe.glu + 1u;
    const struct qn_case_value *x = &c->values[c->node.in[0]];
    size_t k = (size_t)x->value.dim[0], n_x = x->bytes / 4 / k;
    size_t rows = (size_t)c->values[c->node.in[1 + which]].value.dim[1];
    uint32_t act = moe ? at->moe.act : at->matmul.act;
    double *x_norm = norms(x->data, n_x, k), *scale = malloc((n + 1) * sizeof *scale);
    assert_non_null(scale);
    for (size_t i = 0; i < n; i++)
        scale[i] = 1;
    for (uint32_t side = 0; side < sides; side++) {
        double *w_norm = weight_norms(c, c->node.in[1 + which + side]);
        uint32_t bias = c->node.in[(moe ? 3 : 4) + which + side];
        for (size_t i = 0; i < n; i++) {
            size_t column = i / rows, row = i % rows;
            if (moe) {
                row += rows * (size_t)((const int32_t *)c->values[c->node.in[5]].data)[column];
                column = at->moe.per_slot ? column : column / at->moe.n_used;
            }
            double size = w_norm[row] * x_norm[column] + (double)k * 1e-30;
            if (bias != QUERN_NONE)
                size += fabs((double)qn_case_data(c, bias)[row]);
            scale[i] *= act == QUERN_ACT_RELU2 ? size * size : size;
        }
        free(w_norm);
    }
    if (!moe && at->matmul.residual)
        for (size_t i = 0; i < n; i++)
            scale[i] += fabs((double)qn_case_data(c, c->node.in[7])[i]);
    free(x_norm);
    return scale;
}

static double *activation_scale(const struct qn_op_case *at, struct qn_case *c, size_t n)
{
    double *scale = malloc((n + 1) * sizeof *scale);
    assert_non_null(scale);
    for (size_t i = 0; i < n; i++) {
        size_t d = at->activation.n, row = i / d;
        const float *gate = qn_case_data(c, c->node.in[0]) + row * d * (at->activation.split ? 2 : 1);
        double other = at->activation.split ? gate[d + i % d]
                       : at->activation.up  ? qn_case_data(c, c->node.in[1])[i]
                                            : 1;
        double x = fabs((double)gate[i % d]);
        scale[i] = (at->activation.act == QUERN_ACT_RELU2 ? x * x : x) * fabs(other) + 1e-30;
    }
    return scale;
}

/* The largest number of the row, as the reference has it. */
static double *row_scale(const float *want, size_t n, size_t row)
{
    double *scale = malloc((n + 1) * sizeof *scale);
    assert_non_null(scale);
    for (size_t first = 0; first < n; first += row) {
        double largest = 0;
        for (size_t i = first; i < first + row; i++)
            largest = fmax(largest, fabs((double)want[i]));
        for (size_t i = first; i < first + row; i++)
            scale[i] = largest + 1e-30;
    }
    return scale;
}

static double *scale_of(const struct qn_op_case *at, struct qn_case *c, uint32_t which, const float *want)
{
    const struct qn_case_value *value = &c->values[c->node.out[which]];
    size_t n = value->bytes / 4;
    switch (at->op) {
    case QUERN_OP_MATMUL:
    case QUERN_OP_MOE_MATMUL:
        return product_scale(at, c, which, n);
    case QUERN_OP_ACTIVATION:
        return activation_scale(at, c, n);
    case QUERN_OP_EMBED:
    case QUERN_OP_ROWS:
    case QUERN_OP_NORM:
        return row_scale(want, n, at->op == QUERN_OP_NORM ? at->norm.group : 1);
    default:
        return row_scale(want, n, value->row_bytes / 4);
    }
}

/* Largest relative error allowed. Fast: activations in 8 bits, or in half floats. */
static double allowed(const struct qn_op_case *at)
{
    switch (at->op) {
    case QUERN_OP_MATMUL:
    case QUERN_OP_MOE_MATMUL:
        return at->exact ? 2e-6 : 6e-3;
    case QUERN_OP_ATTENTION: /* rounding of a score moves its weight as much as the score is large */
        return (at->exact ? 2e-6 : 2e-3) *
               (1 + (at->fill == QN_FILL_HUGE ? 1e26 : 1) * at->kv.scale * sqrt(at->kv.layer.head_dim_k));
    case QUERN_OP_EMBED:
    case QUERN_OP_ROWS:
        return 3e-7;
    default:
        return 5e-6;
    }
}

struct error {
    double relative, rms; /* largest by the element's scale; of all by the results' */
    size_t at;
    bool finite;
};

static struct error compare_floats(const float *got, const float *want, const double *scale, size_t n)
{
    struct error error = {.finite = true};
    double squares = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - want[i]), relative = off / scale[i];
        error.finite = error.finite && isfinite(got[i]) && isfinite(want[i]);
        if (!(relative <= error.relative) || i == 0)
            error.relative = relative, error.at = i;
        squares += off * off;
        all += (double)want[i] * want[i];
    }
    error.rms = all > 0 ? sqrt(squares / all) : 0;
    return error;
}

/* ---------------------------------------------------------------- one case */

static bool complain(const struct qn_op_case *at, struct tally *tally, const char *format, ...)
{
    char name[256];
    va_list args;
    qn_op_print(at, name, sizeof name);
    printf("FAILED %s: ", name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (seed %llu)\n", (unsigned long long)tally->seed);
    return false;
}

static bool check_result(const struct qn_op_case *at, struct qn_case *c, uint32_t which,
                         const char *got_bytes, const char *want_bytes, struct tally *tally)
{
    const struct qn_case_value *value = &c->values[c->node.out[which]];
    const float *got = (const float *)(const void *)got_bytes,
                *want = (const float *)(const void *)want_bytes;
    size_t row = value->row_bytes / 4;
    if (value->value.format == QUERN_I32) {
        const int32_t *a = (const int32_t *)(const void *)got_bytes,
                      *b = (const int32_t *)(const void *)want_bytes;
        for (size_t i = 0; i < value->bytes / 4; i++)
            if (a[i] != b[i])
                return complain(at, tally, "result %u, row %zu, element %zu is %d, expected %d", which,
                                i / row, i % row, a[i], b[i]);
        return true;
    }
    double *scale = scale_of(at, c, which, want);
    struct error error = compare_floats(got, want, scale, value->bytes / 4);
    free(scale);
    tally->worst[at->exact] = fmax(tally->worst[at->exact], error.relative);
    bool near = error.relative <= allowed(at) && error.finite;
    bool few = value->bytes / 4 < 16; /* which may all be small by chance */
    bool alike = at->fill != QN_FILL_RANDOM || few || error.rms <= 0.02;
    if (near && alike)
        return true;
    return complain(
        at, tally,
        "result %u, row %zu, element %zu is %.9g, expected %.9g: error %.2g, allowed %.2g; rms of all %.2g%s",
        which, error.at / row, error.at % row, (double)got[error.at], (double)want[error.at], error.relative,
        allowed(at), error.rms, error.finite ? "" : "; not finite");
}

/* What was stored differs by rounding at most: half floats and blocks are compared decoded. */
static bool check_pools(const struct qn_op_case *at, struct qn_case *c, const struct qn_left *got,
                        const struct qn_left *want, struct tally *tally)
{
    const size_t bytes = c->kv_at.pages_per_pool * c->kv_at.page_bytes;
    for (uint32_t p = 0; p < c->n_pools; p++)
        for (size_t i = 0; i < bytes; i++)
            if (got->pool[p][i] != want->pool[p][i])
                return complain(at, tally, "pool %u, byte %zu of page %zu is %02x, expected %02x", p,
                                (size_t)(i % c->kv_at.page_bytes), (size_t)(i / c->kv_at.page_bytes),
                                got->pool[p][i] & 0xff, want->pool[p][i] & 0xff);
    return true;
}

static bool run_reference(const struct qn_op_case *at, const struct qn_case *c, struct qn_left *want,
                          struct tally *tally)
{
    struct qn_case reference = *c; /* borrows the values */
    struct qn_rig rig;
    struct quern_error err;
    reference.driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    reference.device = NULL;
    reference.isa = "none";
    reference.exact = true;
    int32_t status = qn_rig_init(&reference, &rig, c->n_tokens, "2", &err);
    if (!status)
        status = qn_rig_run(&reference, &rig, c->n_tokens, want, &err);
    qn_rig_finish(&reference, &rig);
    return !status || complain(at, tally, "the reference: %s", err.text);
}

/* Runs on the device in a segment for `bucket` tokens; the same bits as `first`, where that is given. */
static bool run_device(const struct qn_op_case *at, const struct qn_case *c, uint32_t bucket, uint32_t chunk,
                       struct qn_left *first, struct tally *tally)
{
    struct qn_rig rig;
    struct qn_left left;
    struct quern_error err;
    qn_left_init(c, &left);
    bool ok = true;
    int32_t status = qn_rig_init(c, &rig, bucket, "1", &err);
    if (!status && bucket == c->n_tokens)
        status = qn_rig_run(c, &rig, bucket, first, &err);
    const char *differ = NULL, *way = "a second run";
    if (!status && bucket == c->n_tokens) {
        status = qn_rig_run(c, &rig, bucket, &left, &err);
        differ = status ? NULL : qn_left_differ(c, first, &left);
    }
    if (!status && !differ && chunk < c->n_tokens) {
        qn_left_finish(&left);
        qn_left_init(c, &left);
        way = bucket == c->n_tokens ? "a segment with room for more tokens" : "a segment for fewer tokens";
        status = qn_rig_run(c, &rig, chunk, &left, &err);
        differ = status ? NULL : qn_left_differ(c, first, &left);
    }
    tally->refused = status && at->many_rounds && strstr(err.text, "its loops go round");
    if (tally->refused)
        printf("refused: %s\n", err.text);
    else if (status)
        ok = complain(at, tally, "status %d: %s", status, err.text);
    else if (differ)
        ok = complain(at, tally, "%s of %u tokens, %u at a time, gives other bits in %s", way, bucket, chunk,
                      differ);
    qn_rig_finish(c, &rig);
    qn_left_finish(&left);
    return ok;
}

/* Of these operations a device may compute some with rounded activations. */
static bool has_modes(enum quern_op op)
{
    return op == QUERN_OP_MATMUL || op == QUERN_OP_MOE_MATMUL || op == QUERN_OP_ATTENTION;
}

static bool check_left(const struct qn_op_case *at, struct qn_case *c, const struct qn_left *got,
                       const struct qn_left *want, struct tally *tally)
{
    bool ok = true;
    for (uint32_t i = 0; i < QUERN_MAX_OUT && ok && c->node.out[i] != QUERN_NONE; i++)
        ok = check_result(at, c, i, got->results[c->node.out[i]], want->results[c->node.out[i]], tally);
    return ok && check_pools(at, c, got, want, tally);
}

/* Runs a few tokens at a time, for which another kernel may serve: near the reference, with bits of its own.
 */
static bool run_few(const struct qn_op_case *at, struct qn_case *c, uint32_t few, const struct qn_left *want,
                    struct tally *tally)
{
    struct qn_rig rig;
    struct qn_left left;
    struct quern_error err;
    qn_left_init(c, &left);
    int32_t status = qn_rig_init(c, &rig, few, "1", &err);
    if (!status)
        status = qn_rig_run(c, &rig, few, &left, &err);
    bool ok = status ? complain(at, tally, "%u tokens at a time: %s", few, err.text)
                     : check_left(at, c, &left, want, tally);
    qn_rig_finish(c, &rig);
    qn_left_finish(&left);
    return ok;
}

/* Runs with all weights in one buffer, where a dispatch may have several products: the same bits. */
static bool run_joined(const struct qn_op_case *at, struct qn_case *c, const struct qn_left *apart,
                       struct tally *tally)
{
    struct qn_rig rig;
    struct qn_left left;
    struct quern_error err;
    qn_left_init(c, &left);
    c->weights_joined = true;
    int32_t status = qn_rig_init(c, &rig, c->n_tokens, "1", &err);
    if (!status)
        status = qn_rig_run(c, &rig, c->n_tokens, &left, &err);
    const char *differ = status ? NULL : qn_left_differ(c, apart, &left);
    bool ok = status   ? complain(at, tally, "weights in one buffer: %s", err.text)
              : differ ? complain(at, tally, "weights in one buffer give other bits in %s", differ)
                       : true;
    qn_rig_finish(c, &rig);
    qn_left_finish(&left);
    c->weights_joined = false;
    return ok;
}

static void run_case(const struct qn_op_case *at, struct tally *tally)
{
    struct qn_case c;
    struct qn_left got, want;
    uint32_t few = at->tokens <= 16 ? 1 : 8, chunk = at->tokens <= 16 ? 1 : at->tokens / 7;
    int before = gpu.n_complaints;
    uint64_t start = qn_now_ns();
    qn_op_build(at, quern_vulkan_driver_get(QUERN_DRIVER_ABI), tally->seed, &c);
    c.device = gpu.device;
    c.measured = options.submit_us != NULL;
    qn_left_init(&c, &got);
    qn_left_init(&c, &want);
    bool ok = run_reference(at, &c, &want, tally) && run_device(at, &c, at->tokens, chunk, &got, tally) &&
              (tally->refused || check_left(at, &c, &got, &want, tally));
    if (ok && !tally->refused && at->exact && at->tokens > few)
        ok = has_modes(at->op) && at->tokens > FEW_TOKENS ? run_few(at, &c, few, &want, tally)
                                                          : run_device(at, &c, few, few, &got, tally);
    if (ok && at->op == QUERN_OP_MATMUL && at->matmul.n[1] > 0)
        ok = run_joined(at, &c, &got, tally);
    if (ok && gpu.n_complaints > before)
        ok = complain(at, tally, "the validation layer complains");
    tally->n++;
    tally->n_failed += !ok;
    if (ok && options.verbose) {
        char name[256];
        qn_op_print(at, name, sizeof name);
        printf("ok %7.1f ms %s\n", (double)(qn_now_ns() - start) * 1e-6, name);
    }
    qn_left_finish(&want);
    qn_left_finish(&got);
    qn_case_finish(&c);
}

/* ---------------------------------------------------------------- all cases */

static void run_modes(struct qn_op_case at, struct tally *tally)
{
    uint32_t modes = options.modes ? options.modes : 1u << (tally->n_listed + at.format) % 2;
    if (!has_modes(at.op) || (at.fill == QN_FILL_HUGE && qn_op_reads_weights(at.op))) /* beyond half floats */
        modes = EXACT;
    for (int exact = 0; exact < 2; exact++) {
        at.exact = exact;
        if (modes >> exact & 1)
            run_case(&at, tally);
    }
    tally->seed++;
}

static bool is_wanted(enum quern_op op, enum quern_format format)
{
    return (gpu.formats >> format & 1) && qn_op_is_chosen(&options.choice, op, format);
}

static void visit(const struct qn_op_case *listed, void *user)
{
    struct qn_op_case at = *listed;
    ((struct tally *)user)->n_listed++;
    if (at.large && !options.large)
        return;
    for (int format = 0; format < QUERN_FORMAT_END; format++) {
        if (!at.any_format && (int)listed->format != format)
            continue;
        at.format = (enum quern_format)format;
        if (is_wanted(at.op, at.format))
            run_modes(at, user);
    }
}

static void run_random(enum quern_op op, struct tally *tally)
{
    tally->seed = options.seed << 20;
    for (uint32_t i = 0; i < options.random; i++)
        for (int format = 0; format < QUERN_FORMAT_END; format++) {
            uint64_t state = tally->seed;
            tally->n_listed++;
            if ((qn_op_reads_weights(op) || format == 0) && is_wanted(op, (enum quern_format)format))
                run_modes(qn_op_random(op, (enum quern_format)format, &state), tally);
        }
}

static void run_op(enum quern_op op)
{
    struct tally tally = {.seed = 1};
    if (options.choice.any_op && !options.choice.op[op])
        return;
    qn_op_cases(op, visit, &tally);
    run_random(op, &tally);
    printf("%s: %u cases, %u failed; largest relative error %.2g", qn_op_name(op), tally.n, tally.n_failed,
           tally.worst[1]);
    if (has_modes(op))
        printf(" exact, %.2g fast", tally.worst[0]);
    printf("\n");
    assert_int_equal(tally.n_failed, 0);
    assert_true(tally.n > 0);
}

#define QN_OP(id, lower)                   \
    static void test_##lower(void **state) \
    {                                      \
        (void)state;                       \
        run_op(QUERN_OP_##id);             \
    }
#include "drivers/cpu/ops.inc"
#undef QN_OP

/* ---------------------------------------------------------------- the device */

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    (void)user;
    (void)level;
    if (strstr(text, "Vulkan validation") && gpu.n_complaints++ < 10)
        fprintf(stderr, "%s\n", text);
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += n)
        if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

static int32_t open_device(struct quern_error *err)
{
    static struct quern_callbacks callbacks;
    callbacks = qn_case_callbacks;
    callbacks.log = on_log;
    const struct quern_driver *driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI);
    static struct quern_host host = {sizeof host, &callbacks};
    struct quern_setting settings[] = {{"vk-validate", "1"},
                                       {"kernels.coopmat-on-software", "1"},
                                       {"vk-dot8", "1"},
                                       {"vk-disable", options.disable ? options.disable : ""},
                                       {"submit.budget", options.submit_us ? options.submit_us : "0"}};
    struct quern_profile_view profile = {sizeof profile, QN_LEN(settings), settings};
    struct quern_device_info infos[16] = {{.struct_size = sizeof infos[0]}};
    struct quern_caps caps = {.struct_size = sizeof caps};
    uint32_t n = 0;
    for (size_t i = 0; i < QN_LEN(infos); i++)
        infos[i].struct_size = sizeof infos[i];
    int32_t status = driver->probe(&host, infos, QN_LEN(infos), &n, err);
    if (status || n == 0) {
        fprintf(stderr, "SKIPPED: no Vulkan device is here\n");
        exit(SKIPPED);
    }
    if (options.require && !has_word(infos[options.device].features, options.require)) {
        fprintf(stderr, "SKIPPED: %s has no %s\n", infos[options.device].name, options.require);
        exit(SKIPPED);
    }
    status = driver->open(&host, options.device, &profile, &gpu.device, err);
    if (status)
        return status;
    printf("%s, %s: %s\n", infos[options.device].name, infos[options.device].driver,
           infos[options.device].features);
    driver->caps(gpu.device, &caps);
    gpu.formats = caps.weight_formats;
    return QUERN_OK;
}

static void test_formats(void **state)
{
    (void)state;
    int n = 0;
    for (int f = 0; f < QUERN_FORMAT_END; f++)
        n += gpu.formats >> f & 1;
    assert_true(n >= FEWEST_FORMATS);
}

/* Whether the kernel, in any of its formats, was made into a pipeline. */
static void test_kernel(void **state)
{
    (void)state;
    bool used = !options.kernel;
    for (int k = 0; k < QN_VK_KERNEL_END && !used; k++)
        used = gpu.device->pipelines[k] && strncmp(qn_vk_kernel_info((enum qn_vk_kernel)k).name,
                                                   options.kernel, strlen(options.kernel)) == 0;
    if (!used)
        fail_msg("no kernel %s was used", options.kernel);
}

static bool set_number(const char *name, const char *text)
{
    unsigned long long number = strtoull(text, NULL, 10);
    if (strcmp(name, "--device") == 0)
        options.device = (uint32_t)number;
    else if (strcmp(name, "--random") == 0)
        options.random = (uint32_t)number;
    else if (strcmp(name, "--seed") == 0)
        options.seed = number;
    else if (strcmp(name, "--disable") == 0)
        options.disable = text;
    else if (strcmp(name, "--require") == 0)
        options.require = text;
    else if (strcmp(name, "--submit-us") == 0)
        options.submit_us = text;
    else if (strcmp(name, "--kernel") == 0)
        options.kernel = text;
    else
        return false;
    return true;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--large") == 0)
            options.large = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            options.verbose = true;
        else if (strcmp(argv[i], "--exact") == 0)
            options.modes = EXACT;
        else if (strcmp(argv[i], "--fast") == 0)
            options.modes = FAST;
        else if (strcmp(argv[i], "--both") == 0)
            options.modes = FAST | EXACT;
        else if (i + 1 < argc && set_number(argv[i], argv[i + 1]))
            i++;
        else if (!qn_op_choose(&options.choice, argv[i]))
            return fprintf(stderr, "test_vulkan_ops: %s is no option, operation or number format\n", argv[i]),
                   false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
#define QN_OP(id, lower) cmocka_unit_test(test_##lower),
#include "drivers/cpu/ops.inc"
#undef QN_OP
        cmocka_unit_test(test_kernel),
    };
    struct quern_error err = {.text = ""};
    if (!parse(argc, argv))
        return 2;
    if (open_device(&err)) {
        fprintf(stderr, "test_vulkan_ops: %s\n", err.text);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    quern_vulkan_driver_get(QUERN_DRIVER_ABI)->close(gpu.device);
    if (gpu.n_complaints > 0)
        fprintf(stderr, "%d messages of the validation layer\n", gpu.n_complaints);
    return failed > 0 || gpu.n_complaints > 0;
}
