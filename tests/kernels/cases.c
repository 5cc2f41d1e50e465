/* See cases.h. */
#include "cases.h"

/* ---------------------------------------------------------------- list */

enum { MAX_SEEN = 8 * (1 + QUERN_LAYOUT_END) * QUERN_FORMAT_END };

struct seen {
    qn_matmul_fn run[MAX_SEEN];
    int n;
};

static bool is_new(struct seen *seen, const struct qn_matmul_kernel *kernel)
{
    if (!kernel->run || seen->n == MAX_SEEN)
        return false;
    for (int i = 0; i < seen->n; i++)
        if (seen->run[i] == kernel->run)
            return false;
    seen->run[seen->n++] = kernel->run;
    return true;
}

void qn_kernel_cases(qn_kernel_case_visit visit, void *user)
{
    const uint32_t have = qn_isa_detect();
    struct seen seen = {.n = 0};
    for (uint32_t mask = 0, bit = 1;; bit <<= 1) {
        struct qn_kernels kernels;
        qn_kernels_init(&kernels, mask);
        for (int format = 0; format < QUERN_FORMAT_END; format++) {
            struct qn_kernel_case exact = {format, QUERN_LAYOUT_FILE, &kernels.exact[format], true};
            if (is_new(&seen, exact.kernel))
                visit(&kernels, &exact, user);
            for (uint32_t layout = 0; layout < QUERN_LAYOUT_END; layout++) {
                struct qn_kernel_case fast = {format, layout, &kernels.fast[layout][format], false};
                if (is_new(&seen, fast.kernel))
                    visit(&kernels, &fast, user);
            }
        }
        while (bit && !(bit & have))
            bit <<= 1;
        if (!bit)
            return;
        mask |= bit;
    }
}
