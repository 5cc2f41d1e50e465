/* Programs that are run for a bounded time, and files that tell whether their owner lives. The program that
 * is run is this one; the system must be able to start it, which it cannot where an emulator runs the tests.
 */
#include "base/clock.h"
#include "base/claim.h"
#include "base/process.h"
#include "test.h"

static const char *self;

static bool cancel_now(void *user)
{
    return *(const bool *)user;
}

/* Runs this program with a task. */
static struct qn_process_end run(const char *task, uint64_t timeout_ms, bool cancelled, char *output,
                                 size_t cap, size_t *n)
{
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    cb.cancel = cancel_now;
    cb.user = &cancelled;
    const char *const arguments[] = {"task", task, "a \"b\\\" c\\", NULL};
    const char *const environment[] = {"QN_TEST_A=one two", "QN_TEST_B=", NULL};
    struct qn_process_params params = {self, arguments, environment, timeout_ms * 1000000};
    struct qn_process_end end;
    struct quern_error err = {0};
    if (qn_process_run(&cb, &params, output, cap, n, &end, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return end;
}

static void test_exit(void **state)
{
    (void)state;
    char output[256];
    size_t n;
    struct qn_process_end end = run("say", 60000, false, output, sizeof output, &n);
    assert_int_equal(end.how, QN_PROCESS_EXITED);
    assert_int_equal(end.code, 7);
    assert_true(n < sizeof output);
    output[n] = '\0';
    assert_string_equal(output, "one two|a \"b\\\" c\\");
    end = run("much", 60000, false, output, sizeof output, &n); /* more than fits is no fault */
    assert_int_equal(end.how, QN_PROCESS_EXITED);
    assert_int_equal(end.code, 0);
    assert_int_equal(n, sizeof output);
}

static void test_no_program(void **state)
{
    (void)state;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    const char *const none[] = {NULL};
    struct qn_process_params params = {"no/such/program", none, none, 1000000000};
    struct qn_process_end end;
    struct quern_error err = {0};
    size_t n;
    char output[1];
    assert_int_equal(qn_process_run(&cb, &params, output, 1, &n, &end, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "no/such/program"));
}

static void test_crash(void **state)
{
    (void)state;
    char output[16], text[64];
    size_t n;
    struct qn_process_end end = run("crash", 60000, false, output, sizeof output, &n);
    assert_int_equal(end.how, QN_PROCESS_CRASHED);
    qn_process_describe(&end, 0, text, sizeof text);
    assert_non_null(strstr(text, "crashed"));
    assert_int_equal(n, 4); /* what it wrote before */
}

static void test_time(void **state)
{
    (void)state;
    char output[16], text[64];
    size_t n;
    uint64_t begin = qn_now_ns();
    struct qn_process_end end = run("hang", 300, false, output, sizeof output, &n);
    assert_int_equal(end.how, QN_PROCESS_TIMED_OUT);
    qn_process_describe(&end, 300000000, text, sizeof text);
    assert_string_equal(text, "did not end within 0.3 s");
    end = run("close", 300, false, output, sizeof output, &n); /* closes its output, then hangs */
    assert_int_equal(end.how, QN_PROCESS_TIMED_OUT);
    end = run("hang", 60000, true, output, sizeof output, &n);
    assert_int_equal(end.how, QN_PROCESS_CANCELLED);
    assert_true(qn_now_ns() - begin < 30000000000ull);
}

#ifndef _WIN32
#include <signal.h>

/* In a program that lets the system collect its children, how one ended is not known. */
static void test_collected(void **state)
{
    (void)state;
    char output[256];
    size_t n;
    signal(SIGCHLD, SIG_IGN);
    struct qn_process_end end = run("say", 60000, false, output, sizeof output, &n);
    assert_int_equal(end.how, QN_PROCESS_ENDED);
    assert_true(n > 0);
    end = run("hang", 300, false, output, sizeof output, &n);
    assert_int_equal(end.how, QN_PROCESS_TIMED_OUT);
    signal(SIGCHLD, SIG_DFL);
}
#endif

static void test_claim(void **state)
{
    (void)state;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    char path[512], text[64], output[16];
    size_t n;
    struct qn_claim claim;
    snprintf(path, sizeof path, "%s.claim.%llu", self, (unsigned long long)qn_process_id());
    assert_false(qn_claim_is_dead(&cb, path, text, sizeof text));
    assert_int_equal(qn_claim_take(&cb, &claim, path, "at work", NULL), QUERN_OK);
    assert_false(qn_claim_is_dead(&cb, path, text, sizeof text));
    qn_claim_drop(&cb, &claim);
    qn_claim_drop(&cb, &claim);
    assert_false(qn_claim_is_dead(&cb, path, text, sizeof text));
    assert_int_equal(qn_claim_take(&cb, &claim, "no/such/folder/x", "", NULL), QUERN_ERR_FILE);

    snprintf(path, sizeof path, "%s.claim", self); /* by a process that does not drop it */
    run("claim", 60000, false, output, sizeof output, &n);
    assert_true(qn_claim_is_dead(&cb, path, text, sizeof text));
    assert_string_equal(text, "left behind");
    assert_int_equal(remove(path), 0);
}

static int do_task(const char *task, const char *argument)
{
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct qn_claim claim;
    if (strcmp(task, "say") == 0) {
        const char *a = getenv("QN_TEST_A"), *b = getenv("QN_TEST_B");
        printf("%s|%s%s", a ? a : "", b ? b : "", argument);
        return 7;
    }
    for (int i = 0; i < 20000 && strcmp(task, "much") == 0; i++)
        printf("a line of output\n");
    if (strcmp(task, "claim") == 0) {
        char path[512];
        snprintf(path, sizeof path, "%s.claim", self);
        return qn_claim_take(&cb, &claim, path, "left behind", NULL) != QUERN_OK;
    }
    if (strcmp(task, "crash") == 0) {
        printf("here");
        fflush(stdout);
        abort();
    }
    if (strcmp(task, "close") == 0)
        fclose(stdout);
    while (strcmp(task, "hang") == 0 || strcmp(task, "close") == 0)
        qn_sleep_ns(100000000);
    return 0;
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 4 && strcmp(argv[1], "task") == 0)
        return do_task(argv[2], argv[3]);
    if (getenv("QN_TEST_EMULATED")) {
        fprintf(stderr, "SKIPPED: an emulator runs this program, and the system cannot start it\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit),      cmocka_unit_test(test_no_program), cmocka_unit_test(test_crash),
        cmocka_unit_test(test_time),      cmocka_unit_test(test_claim),
#ifndef _WIN32
        cmocka_unit_test(test_collected),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
