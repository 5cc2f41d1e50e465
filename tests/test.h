/* Includes cmocka, or, where a cross toolchain has none (Windows), the few of its macros that our tests use.
 */
#ifndef QN_TEST_H
#define QN_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef QN_HAVE_CMOCKA
#include <cmocka.h>
#else
struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};
#define cmocka_unit_test(function) \
    {                              \
#function, function        \
    }
static jmp_buf qn_test_exit;
static int qn_test_verdict; /* 0 passed, 1 failed, 2 skipped */
static inline void qn_test_leave(int verdict, const char *what, const char *file, int line)
{
    if (verdict == 1)
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    qn_test_verdict = verdict;
    longjmp(qn_test_exit, 1);
}
#define assert_true(x)                                 ((x) ? (void)0 : qn_test_leave(1, #x, __FILE__, __LINE__))
#define assert_false(x)                                assert_true(!(x))
#define assert_int_equal(a, b)                         assert_true((a) == (b))
#define assert_int_not_equal(a, b)                     assert_true((a) != (b))
#define assert_null(p)                                 assert_true((p) == NULL)
#define assert_non_null(p)                             assert_true((p) != NULL)
#define assert_ptr_equal(a, b)                         assert_true((a) == (b))
#define assert_string_equal(a, b)                      assert_true(strcmp((a), (b)) == 0)
#define assert_memory_equal(a, b, n)                   assert_true(memcmp((a), (b), (n)) == 0)
#define fail_msg(...)                                  (fprintf(stderr, __VA_ARGS__), qn_test_leave(1, "message above", __FILE__, __LINE__))
#define skip()                                         qn_test_leave(2, "", __FILE__, __LINE__)
static inline int qn_test_run(const struct CMUnitTest *tests, size_t n)
{
    volatile int failed = 0; /* survives the longjmp */
    for (volatile size_t i = 0; i < n; i++) {
        qn_test_verdict = 0;
        if (setjmp(qn_test_exit) == 0)
            tests[i].run(NULL);
        failed += qn_test_verdict == 1;
        printf("%s %s\n",
               qn_test_verdict == 0   ? "ok"
               : qn_test_verdict == 1 ? "FAILED"
                                      : "skipped",
               tests[i].name);
    }
    return failed;
}
#define cmocka_run_group_tests(tests, setup, teardown) qn_test_run(tests, sizeof(tests) / sizeof((tests)[0]))
#endif

/* Folder of the reference data, or skips the test loudly when it is not there. `file` is relative to it. */
static inline const char *qn_test_shared(const char *file)
{
    static char path[1024];
    const char *root = getenv("QUERN_SHARED");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared", file);
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "SKIPPED: reference data %s is not here\n", path);
        skip();
    }
    fclose(f);
    return path;
}

#endif
