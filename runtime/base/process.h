/* A program that is run to its end, for a bounded time: for work that may take its process down with it. */
#ifndef QN_BASE_PROCESS_H
#define QN_BASE_PROCESS_H

#include "base/host.h"

enum qn_process_how {
    QN_PROCESS_EXITED,    /* code: what it returned */
    QN_PROCESS_CRASHED,   /* code: the signal, or the exception on Windows */
    QN_PROCESS_ENDED,     /* in a way that is not known: the host program collects its children itself */
    QN_PROCESS_TIMED_OUT, /* it was ended */
    QN_PROCESS_CANCELLED, /* the cancel callback said stop; it was ended */
};

struct qn_process_end {
    enum qn_process_how how;
    uint32_t code;
};

struct qn_process_params {
    const char *path;             /* of the program */
    const char *const *arguments; /* after its name; ends with NULL */
    const char *const
        *environment; /* "NAME=VALUE" in place of what the process has of these; ends with NULL */
    uint64_t timeout_ns;
};

/* Runs the program with nothing on its standard input and without a standard error, and keeps the beginning
 * of its standard output: at most `cap` bytes in `output`, *n of them. Returns when it has ended, also where
 * its output is longer; what it has started itself is ended with it. On success *end tells how; on failure
 * nothing was run. Never forks by itself, touches no signals of the process. */
enum quern_status qn_process_run(const struct quern_callbacks *cb, const struct qn_process_params *params,
                                 char *output, size_t cap, size_t *n, struct qn_process_end *end,
                                 struct quern_error *err);

/* "ended with code 3", "crashed (signal 11)", ... */
void qn_process_describe(const struct qn_process_end *end, uint64_t timeout_ns, char *text, size_t size);

#endif
