/* Win32 side of process.h. */
#include "base/clock.h"
#include "base/process.h"
#include "base/thread.h"
#include "base/windows.h"

#include <string.h>

/* ---- text that a process is started with ---- */

struct text {
    const struct quern_callbacks *cb;
    char *data;
    size_t n, cap;
    bool failed;
};

static void put(struct text *text, const char *bytes, size_t n)
{
    if (text->failed || !qn_grow(text->cb, &text->data, &text->cap, text->n + n, 1)) {
        text->failed = true;
        return;
    }
    memcpy(text->data + text->n, bytes, n);
    text->n += n;
}

/* An argument in quotes, as CommandLineToArgvW reads it: backslashes count before a quote only. */
static void put_argument(struct text *text, const char *argument)
{
    size_t slashes = 0;
    put(text, text->n > 0 ? " \"" : "\"", text->n > 0 ? 2 : 1);
    for (const char *c = argument; *c; c++) {
        for (size_t i = 0; *c == '"' && i < slashes + 1; i++)
            put(text, "\\", 1);
        slashes = *c == '\\' ? slashes + 1 : 0;
        put(text, c, 1);
    }
    for (size_t i = 0; i < slashes; i++)
        put(text, "\\", 1);
    put(text, "\"", 1);
}

static wchar_t *command_line(const struct quern_callbacks *cb, const struct qn_process_params *params)
{
    struct text text = {.cb = cb};
    put_argument(&text, params->path);
    for (size_t i = 0; params->arguments[i]; i++)
        put_argument(&text, params->arguments[i]);
    put(&text, "", 1);
    wchar_t *wide = text.failed ? NULL : qn_widen(cb, text.data);
    qn_free(cb, text.data);
    return wide;
}

/* Whether the assignment names the variable of one of `more`. */
static bool replaced(const wchar_t *own, wchar_t *const *more, size_t n_more)
{
    for (size_t i = 0; i < n_more; i++) {
        size_t n = wcscspn(more[i], L"=") + 1;
        if (_wcsnicmp(own, more[i], n) == 0)
            return true;
    }
    return false;
}

enum { MOST_VARIABLES = 16 };

/* The process's environment with those of `more` in place of its own, as CreateProcess takes it. */
static wchar_t *make_environment(const struct quern_callbacks *cb, const char *const *more)
{
    wchar_t *wide[MOST_VARIABLES], *block = NULL, *own = GetEnvironmentStringsW();
    size_t n_wide = 0, size = 2, at = 0;
    bool good = own != NULL;
    for (size_t i = 0; good && more && more[i]; i++) {
        good = n_wide < MOST_VARIABLES && (wide[n_wide] = qn_widen(cb, more[i])) != NULL;
        if (good)
            size += wcslen(wide[n_wide++]) + 1;
    }
    for (const wchar_t *v = own; good && *v; v += wcslen(v) + 1)
        size += wcslen(v) + 1;
    if (good)
        block = qn_zalloc(cb, size, sizeof *block);
    for (const wchar_t *v = own; block && *v; v += wcslen(v) + 1)
        if (!replaced(v, wide, n_wide)) {
            wcscpy(block + at, v);
            at += wcslen(v) + 1;
        }
    for (size_t i = 0; i < n_wide; i++) {
        if (block) {
            wcscpy(block + at, wide[i]);
            at += wcslen(wide[i]) + 1;
        }
        qn_free(cb, wide[i]);
    }
    if (own)
        FreeEnvironmentStringsW(own);
    return block;
}

/* ---- running ---- */

struct running {
    HANDLE job, process, in;
};

/* Starts it with just these three handles, in a job that ends with it. */
static bool start(wchar_t *path, wchar_t *command, wchar_t *environment, HANDLE out, HANDLE nothing,
                  struct running *running)
{
    HANDLE handles[] = {out, nothing};
    char room[256];
    SIZE_T size = sizeof room;
    LPPROC_THREAD_ATTRIBUTE_LIST list = (void *)room;
    if (!InitializeProcThreadAttributeList(list, 1, 0, &size))
        return false;
    STARTUPINFOEXW info = {.StartupInfo = {.cb = sizeof info,
                                           .dwFlags = STARTF_USESTDHANDLES,
                                           .hStdInput = nothing,
                                           .hStdOutput = out,
                                           .hStdError = nothing},
                           .lpAttributeList = list};
    PROCESS_INFORMATION made;
    const DWORD flags =
        CREATE_SUSPENDED | CREATE_UNICODE_ENVIRONMENT | CREATE_NO_WINDOW | EXTENDED_STARTUPINFO_PRESENT;
    bool good =
        UpdateProcThreadAttribute(list, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles, sizeof handles, NULL,
                                  NULL) &&
        CreateProcessW(path, command, NULL, NULL, TRUE, flags, environment, NULL, &info.StartupInfo, &made);
    DeleteProcThreadAttributeList(list);
    if (!good)
        return false;
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {.BasicLimitInformation.LimitFlags =
                                                       JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE |
                                                       JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION};
    running->job = CreateJobObjectW(NULL, NULL);
    if (running->job) {
        SetInformationJobObject(running->job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
        AssignProcessToJobObject(running->job, made.hProcess);
    }
    running->process = made.hProcess;
    ResumeThread(made.hThread);
    CloseHandle(made.hThread);
    return true;
}

/* What there is to read now. */
static void read_some(HANDLE in, char *output, size_t cap, size_t *n)
{
    DWORD there = 0, got = 0;
    char rest[4096];
    while (PeekNamedPipe(in, NULL, 0, NULL, &there, NULL) && there > 0) {
        bool room = *n < cap;
        size_t most = room ? cap - *n : sizeof rest;
        if (!ReadFile(in, room ? output + *n : rest, most < there ? (DWORD)most : there, &got, NULL))
            return;
        if (room)
            *n += got;
    }
}

static void follow(const struct quern_callbacks *cb, struct running *running, uint64_t timeout_ns,
                   char *output, size_t cap, size_t *n, struct qn_process_end *end)
{
    uint64_t now = qn_now_ns(), end_ns = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    bool ended = false;
    *end = (struct qn_process_end){.how = QN_PROCESS_TIMED_OUT};
    while (!ended && qn_now_ns() < end_ns) {
        ended = WaitForSingleObject(running->process, 5) == WAIT_OBJECT_0;
        read_some(running->in, output, cap, n);
        if (!ended && qn_cancelled(cb)) {
            end->how = QN_PROCESS_CANCELLED;
            break;
        }
    }
    if (!ended)
        TerminateProcess(running->process, 1);
    if (running->job)
        CloseHandle(running->job);
    if (ended) {
        DWORD code = 0;
        GetExitCodeProcess(running->process, &code);
        /* abort() of the C library ends with 3 */
        bool crashed = code >= 0xc0000000u || code == 3;
        *end = (struct qn_process_end){.how = crashed ? QN_PROCESS_CRASHED : QN_PROCESS_EXITED, .code = code};
    }
    CloseHandle(running->process);
}

enum quern_status qn_process_run(const struct quern_callbacks *cb, const struct qn_process_params *params,
                                 char *output, size_t cap, size_t *n, struct qn_process_end *end,
                                 struct quern_error *err)
{
    *n = 0;
    wchar_t *path = qn_widen(cb, params->path), *command = command_line(cb, params),
            *environment = make_environment(cb, params->environment);
    SECURITY_ATTRIBUTES inherited = {.nLength = sizeof inherited, .bInheritHandle = TRUE};
    HANDLE out = NULL, nothing = INVALID_HANDLE_VALUE;
    struct running running = {NULL, NULL, NULL};
    enum quern_status status = QUERN_OK;
    if (!path || !command || !environment)
        status = qn_fail_memory(err, "the arguments of a program");
    else {
        nothing = CreateFileW(L"NUL", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                              &inherited, OPEN_EXISTING, 0, NULL);
        bool good = nothing != INVALID_HANDLE_VALUE && CreatePipe(&running.in, &out, &inherited, 0) &&
                    SetHandleInformation(running.in, HANDLE_FLAG_INHERIT, 0) &&
                    start(path, command, environment, out, nothing, &running);
        if (!good)
            status = qn_fail(err, QUERN_ERR_FILE, "%s cannot be started: error %lu", params->path,
                             (unsigned long)GetLastError());
    }
    if (out)
        CloseHandle(out);
    if (nothing != INVALID_HANDLE_VALUE)
        CloseHandle(nothing);
    if (!status)
        follow(cb, &running, params->timeout_ns, output, cap, n, end);
    if (running.in)
        CloseHandle(running.in);
    qn_free(cb, path);
    qn_free(cb, command);
    qn_free(cb, environment);
    return status;
}
