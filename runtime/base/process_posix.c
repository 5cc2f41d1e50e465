/* POSIX side of process.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/clock.h"
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* The process's environment with the assignments of `more` in place of its own; the strings are borrowed.
 * NULL when memory is out. */
static char **make_environment(const struct quern_callbacks *cb, const char *const *more)
{
    size_t n_own = 0, n_more = 0, n = 0;
    while (environ && environ[n_own])
        n_own++;
    while (more && more[n_more])
        n_more++;
    char **all = qn_zalloc(cb, n_own + n_more + 1, sizeof *all);
    if (!all)
        return NULL;
    for (size_t i = 0; i < n_own; i++) {
        bool replaced = false;
        for (size_t j = 0; j < n_more; j++)
            replaced |= same_name(more[j], environ[i]);
        if (!replaced)
            all[n++] = environ[i];
    }
    for (size_t i = 0; i < n_more; i++)
        all[n++] = (char *)(uintptr_t)more[i];
    return all;
}

static char **make_arguments(const struct quern_callbacks *cb, const struct qn_process_params *params)
{
    size_t n = 0;
    while (params->arguments[n])
        n++;
    char **all = qn_zalloc(cb, n + 2, sizeof *all);
    if (!all)
        return NULL;
    all[0] = (char *)(uintptr_t)params->path;
    for (size_t i = 0; i < n; i++)
        all[i + 1] = (char *)(uintptr_t)params->arguments[i];
    return all;
}

/* Starts the program in a process group of its own, with default signals; 0 or an error number. */
static int start(const struct qn_process_params *params, char **arguments, char **environment, int out,
                 pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int code = posix_spawn_file_actions_init(&actions);
    if (code)
        return code;
    code = posix_spawnattr_init(&attributes);
    if (code) {
        posix_spawn_file_actions_destroy(&actions);
        return code;
    }
    code = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!code)
        code = posix_spawn_file_actions_adddup2(&actions, out, 1);
    if (!code)
        code = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    if (!code)
        code = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                         POSIX_SPAWN_SETSIGDEF);
    if (!code)
        code = posix_spawnattr_setsigmask(&attributes, &none);
    if (!code)
        code = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!code)
        code = posix_spawn(pid, params->path, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

/* Reads until the end of the output. False when the time is up or the work is cancelled: then *how says
 * which. */
static bool read_output(const struct quern_callbacks *cb, int in, uint64_t end_ns, char *output, size_t cap,
                        size_t *n, enum qn_process_how *how)
{
    for (;;) {
        uint64_t now = qn_now_ns();
        *how = qn_cancelled(cb) ? QN_PROCESS_CANCELLED : QN_PROCESS_TIMED_OUT;
        if (*how == QN_PROCESS_CANCELLED || now >= end_ns)
            return false;
        uint64_t left_ms = (end_ns - now) / 1000000 + 1;
        struct pollfd poll_in = {.fd = in, .events = POLLIN};
        if (poll(&poll_in, 1, left_ms < 50 ? (int)left_ms : 50) <= 0)
            continue;
        char rest[4096]; /* what has no room is read and forgotten */
        bool room = *n < cap;
        ssize_t got = read(in, room ? output + *n : rest, room ? cap - *n : sizeof rest);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return true;
        if (room)
            *n += (size_t)got;
    }
}

/* Waits for the end of a process that has closed its output, until the time is up; it stays to be collected.
 */
static bool await(const struct quern_callbacks *cb, pid_t pid, uint64_t end_ns, enum qn_process_how *how)
{
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        int failed = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
        if (!failed && info.si_pid == pid)
            return true;
        if (failed && errno != EINTR) { /* the host program collects all children itself */
            *how = QN_PROCESS_ENDED;
            return false;
        }
        *how = qn_cancelled(cb) ? QN_PROCESS_CANCELLED : QN_PROCESS_TIMED_OUT;
        if (*how == QN_PROCESS_CANCELLED || qn_now_ns() >= end_ns)
            return false;
        qn_sleep_ns(1000000);
    }
}

static void follow(const struct quern_callbacks *cb, pid_t pid, int in, uint64_t timeout_ns, char *output,
                   size_t cap, size_t *n, struct qn_process_end *end)
{
    uint64_t now = qn_now_ns(), end_ns = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    int state = 0;
    *end = (struct qn_process_end){.how = QN_PROCESS_EXITED};
    bool ended = read_output(cb, in, end_ns, output, cap, n, &end->how) && await(cb, pid, end_ns, &end->how);
    if (end->how == QN_PROCESS_ENDED && !ended)
        return;
    kill(-pid, SIGKILL); /* what it started, and itself where it has not ended; nobody has its number yet */
    while (waitpid(pid, &state, 0) < 0 && errno == EINTR) {}
    if (!ended)
        return;
    bool crashed = WIFSIGNALED(state);
    *end = (struct qn_process_end){.how = crashed ? QN_PROCESS_CRASHED : QN_PROCESS_EXITED,
                                   .code = (uint32_t)(crashed ? WTERMSIG(state) : WEXITSTATUS(state))};
}

enum quern_status qn_process_run(const struct quern_callbacks *cb, const struct qn_process_params *params,
                                 char *output, size_t cap, size_t *n, struct qn_process_end *end,
                                 struct quern_error *err)
{
    *n = 0;
    char **environment = make_environment(cb, params->environment), **arguments = make_arguments(cb, params);
    int ends[2];
    enum quern_status status = QUERN_OK;
    if (!environment || !arguments) {
        status = qn_fail_memory(err, "the arguments of a program");
    } else if (pipe2(ends, O_CLOEXEC) != 0) {
        status = qn_fail(err, QUERN_ERR_FILE, "no pipe to %s: %s", params->path, strerror(errno));
    } else {
        pid_t pid;
        int code = start(params, arguments, environment, ends[1], &pid);
        close(ends[1]);
        if (code)
            status = qn_fail(err, QUERN_ERR_FILE, "%s cannot be started: %s", params->path, strerror(code));
        else
            follow(cb, pid, ends[0], params->timeout_ns, output, cap, n, end);
        close(ends[0]);
    }
    qn_free(cb, environment);
    qn_free(cb, arguments);
    return status;
}
