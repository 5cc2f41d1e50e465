/* Every operation on a Vulkan device against the CPU driver in plain C and exact, with the validation layer
 * on: twice the same bits, the same bits in steps of fewer tokens where the same kernel serves, near the
 * reference.
 *
 *     test_vulkan_ops [--device N] [--disable FEATURE,...] [--exact | --fast | --both] [--large]
 *                     [--random COUNT] [--seed SEED] [--require FEATURE] [--kernel NAME] [--submit-us TIME]
 *                     [--set SETTING=VALUE]...
 *                     [--verbose] [OPERATION|FORMAT...]
 *
 * Without operations or formats: all. --random adds COUNT random cases of each operation (and of each format,
 * where it has any). Cases that a device may round in are run rounding or exactly, in turn; --both: both.
 * --require skips all on a device without that feature; --kernel fails unless a kernel of that name was used.
 * --set: a setting of the device, as profiles have it.
 * --submit-us: what a submit may take; a second run of a case is then done in slices.
 * --large adds the cases that take much memory. A case that fails prints a line, and the others go on. */
#include "conformance/verify.h"

#include "base/clock.h"
#include "base/host.h"
#include "drivers/cpu/cpu.h"
#include "drivers/vulkan/device.h"
#include "drivers/vulkan/vulkan.h"
#include "formats/formats.h"
#include "support/ways.h"
#include "test.h"

#include <math.h>

enum { FEWEST_FORMATS = 28, SKIPPED = 77, FAST = 1, EXACT = 2, MOST_SETTINGS = 8 };

static struct {
    uint32_t device, random, modes; /* modes 0: in turn */
    uint64_t seed;
    bool large, verbose;
    const char *disable, *require, *kernel, *submit_us;
    struct qn_op_choice choice;
    struct quern_setting setting[MOST_SETTINGS];
    uint32_t n_settings;
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
};

static void run_case(const struct qn_op_case *at, struct tally *tally)
{
    const struct quern_callbacks callbacks = qn_callbacks_resolve(&qn_case_callbacks);
    const struct qn_verifier verifier = {.cb = &callbacks,
                                         .driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI),
                                         .reference = quern_cpu_driver_get(QUERN_DRIVER_ABI),
                                         .device = gpu.device,
                                         .measured = options.submit_us != NULL,
                                         .n_allocations = qn_case_allocations};
    struct qn_finding finding;
    struct quern_error err;
    char name[256];
    int before = gpu.n_complaints;
    uint64_t start = qn_now_ns();
    if (qn_verify_case(&verifier, at, tally->seed, &finding, &err))
        fail_msg("%s", err.text);
    bool ok = finding.good && gpu.n_complaints == before;
    qn_op_print(at, name, sizeof name);
    if (!ok)
        printf("FAILED %s: %s (seed %llu)\n", name,
               finding.good ? "the validation layer complains" : finding.text,
               (unsigned long long)tally->seed);
    else if (finding.refused)
        printf("refused: %s\n", finding.text);
    else if (options.verbose)
        printf("ok %7.1f ms %s\n", (double)(qn_now_ns() - start) * 1e-6, name);
    tally->n++;
    tally->n_failed += !ok;
    tally->worst[at->exact] = fmax(tally->worst[at->exact], finding.error);
}

/* ---------------------------------------------------------------- all cases */

static void run_modes(struct qn_op_case at, struct tally *tally)
{
    uint32_t modes = options.modes ? options.modes : 1u << (tally->n_listed + at.format) % 2;
    if (!qn_op_may_round(at.op) ||
        (at.fill == QN_FILL_HUGE && qn_op_reads_weights(at.op))) /* beyond half floats */
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
    if (qn_op_may_round(op))
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
    struct quern_setting all[QN_LEN(settings) + MOST_SETTINGS];
    memcpy(all, settings, sizeof settings);
    memcpy(all + QN_LEN(settings), options.setting, options.n_settings * sizeof all[0]);
    struct quern_profile_view profile = {sizeof profile, (uint32_t)QN_LEN(settings) + options.n_settings,
                                         all};
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

static bool set_option(const char *name, char *text)
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
    else if (strcmp(name, "--set") == 0 && strchr(text, '=') && options.n_settings < MOST_SETTINGS) {
        char *value = strchr(text, '=');
        *value++ = '\0';
        options.setting[options.n_settings++] = (struct quern_setting){text, value};
    } else
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
        else if (i + 1 < argc && set_option(argv[i], argv[i + 1]))
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
