/* Win32 side of file.h, clock.h and thread.h. Paths are UTF-8. Needs Windows 8 or later. */
#include "base/clock.h"
#include "base/cores.h"
#include "base/file.h"
#include "base/library.h"
#include "base/thread.h"
#include "base/windows.h"

#include <io.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

/* ---- clock ---- */

uint64_t qn_now_ns(void)
{
    LARGE_INTEGER ticks, rate;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&ticks);
    uint64_t now = (uint64_t)ticks.QuadPart, per_second = (uint64_t)rate.QuadPart;
    return now / per_second * 1000000000u + now % per_second * 1000000000u / per_second;
}

/* 100 ns since 1601 to nanoseconds since 1970. */
static int64_t date_ns(FILETIME time)
{
    const int64_t from_1601_to_1970 = 116444736000000000;
    return ((int64_t)((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) - from_1601_to_1970) * 100;
}

int64_t qn_date_ns(void)
{
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    return date_ns(now);
}

/* Milliseconds, rounded up, below what means "forever". */
static DWORD milliseconds(uint64_t ns)
{
    uint64_t ms = ns / 1000000 + (ns % 1000000 != 0);
    return ms < INFINITE - 1 ? (DWORD)ms : INFINITE - 1;
}

void qn_sleep_ns(uint64_t ns)
{
    Sleep(milliseconds(ns));
}

/* ---- text ---- */

wchar_t *qn_widen(const struct quern_callbacks *cb, const char *text)
{
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    wchar_t *wide = n > 0 ? qn_alloc(cb, (size_t)n, sizeof *wide) : NULL;
    if (wide)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, n);
    return wide;
}

struct reason {
    char text[256];
};

/* The system's sentence for an error code. */
static struct reason reason_of(DWORD code)
{
    struct reason reason;
    wchar_t wide[200];
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code, 0, wide,
                             (DWORD)QN_LEN(wide), NULL);
    while (n > 0 &&
           (wide[n - 1] == L'\n' || wide[n - 1] == L'\r' || wide[n - 1] == L'.' || wide[n - 1] == L' '))
        n--;
    int length =
        WideCharToMultiByte(CP_UTF8, 0, wide, (int)n, reason.text, (int)sizeof reason.text - 1, NULL, NULL);
    if (n > 0 && length > 0)
        reason.text[length] = '\0';
    else
        snprintf(reason.text, sizeof reason.text, "error %lu", (unsigned long)code);
    return reason;
}

/* ---- files ---- */

static SYSTEM_INFO system_info(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info;
}

size_t qn_page_size(void)
{
    return system_info().dwPageSize;
}

static enum quern_status read_all(const struct quern_callbacks *cb, struct qn_view *view, HANDLE file,
                                  uint64_t offset, const char *name, struct quern_error *err)
{
    uint8_t *data = view->size <= SIZE_MAX ? qn_alloc(cb, (size_t)view->size, 1) : NULL;
    if (!data)
        return qn_fail(err, QUERN_ERR_MEMORY, "%s: out of memory for %llu bytes of file", name,
                       (unsigned long long)view->size);
    for (uint64_t done = 0; done < view->size;) {
        uint64_t left = view->size - done, at = offset + done;
        OVERLAPPED place = {.Offset = (DWORD)at, .OffsetHigh = (DWORD)(at >> 32)};
        DWORD got = 0;
        BOOL good = ReadFile(file, data + done, left < (1u << 30) ? (DWORD)left : 1u << 30, &got, &place);
        DWORD code = good ? ERROR_HANDLE_EOF : GetLastError();
        if (!good || got == 0) {
            qn_free(cb, data);
            return qn_fail(err, QUERN_ERR_FILE, "%s: cannot read: %s", name, reason_of(code).text);
        }
        done += got;
    }
    view->heap = data;
    view->data = data;
    return QUERN_OK;
}

/* False: this range cannot be mapped. A view keeps the file open by itself. */
static bool map(struct qn_view *view, HANDLE file, uint64_t offset)
{
    uint64_t skip = offset % system_info().dwAllocationGranularity, start = offset - skip;
    if (view->size >= SIZE_MAX / 2)
        return false;
    HANDLE mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!mapping)
        return false;
    void *base = MapViewOfFile(mapping, FILE_MAP_READ, (DWORD)(start >> 32), (DWORD)start,
                               (SIZE_T)(view->size + skip));
    CloseHandle(mapping);
    if (!base)
        return false;
    view->map_base = base;
    view->map_size = (size_t)(view->size + skip);
    view->data = (const uint8_t *)base + skip;
    return true;
}

static enum quern_status view_handle(const struct quern_callbacks *cb, struct qn_view *view, HANDLE file,
                                     uint64_t offset, uint64_t length, bool use_mmap, const char *name,
                                     struct quern_error *err)
{
    LARGE_INTEGER size;
    FILETIME written = {0};
    if (GetFileType(file) != FILE_TYPE_DISK || !GetFileSizeEx(file, &size))
        return qn_fail(err, QUERN_ERR_FILE, "%s: not a regular file", name);
    uint64_t file_size = (uint64_t)size.QuadPart;
    if (offset > file_size || (length > 0 && length > file_size - offset))
        return qn_fail(err, QUERN_ERR_FILE,
                       "%s: range of %llu bytes at %llu lies outside the file of %llu bytes", name,
                       (unsigned long long)length, (unsigned long long)offset, (unsigned long long)file_size);
    view->size = length ? length : file_size - offset;
    view->written_ns = GetFileTime(file, NULL, NULL, &written) ? date_ns(written) : 0;
    if (view->size == 0) {
        view->data = (const uint8_t *)"";
        return QUERN_OK;
    }
    if (use_mmap && map(view, file, offset))
        return QUERN_OK;
    enum quern_status status = read_all(cb, view, file, offset, name, err);
    if (status)
        *view = (struct qn_view){0};
    return status;
}

enum quern_status qn_view_fd(const struct quern_callbacks *cb, struct qn_view *view, int fd, uint64_t offset,
                             uint64_t length, bool use_mmap, const char *name, struct quern_error *err)
{
    *view = (struct qn_view){0};
    HANDLE file = (HANDLE)_get_osfhandle(fd);
    if (file == INVALID_HANDLE_VALUE)
        return qn_fail(err, QUERN_ERR_FILE, "%s: not an open descriptor", name);
    return view_handle(cb, view, file, offset, length, use_mmap, name, err);
}

enum quern_status qn_view_path(const struct quern_callbacks *cb, struct qn_view *view, const char *path,
                               bool use_mmap, struct quern_error *err)
{
    *view = (struct qn_view){0};
    wchar_t *wide = qn_widen(cb, path);
    if (!wide)
        return qn_fail_memory(err, "a file name");
    HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                              NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    DWORD code = GetLastError();
    qn_free(cb, wide);
    if (file == INVALID_HANDLE_VALUE)
        return qn_fail(err, QUERN_ERR_FILE, "%s: cannot open: %s", path, reason_of(code).text);
    enum quern_status status = view_handle(cb, view, file, 0, 0, use_mmap, path, err);
    CloseHandle(file);
    return status;
}

void qn_view_finish(const struct quern_callbacks *cb, struct qn_view *view)
{
    if (view->map_base)
        UnmapViewOfFile(view->map_base);
    qn_free(cb, view->heap);
    *view = (struct qn_view){0};
}

void qn_view_prefetch(const struct qn_view *view, uint64_t offset, uint64_t length)
{
    if (!view->map_base || offset >= view->size)
        return;
    if (length > view->size - offset)
        length = view->size - offset;
    WIN32_MEMORY_RANGE_ENTRY range = {(void *)(uintptr_t)(view->data + offset), (SIZE_T)length};
    (void)PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
}

void qn_view_drop(const struct qn_view *view, uint64_t offset, uint64_t length)
{
    if (!view->map_base || offset >= view->size || length > view->size - offset)
        return;
    /* Of pages that are not locked this takes away the place in the working set. */
    (void)VirtualUnlock((void *)(uintptr_t)(view->data + offset), (SIZE_T)length);
}

void qn_memory_large_pages(void *data, uint64_t bytes)
{
    (void)data;
    (void)bytes;
}

static bool write_piece(HANDLE file, const struct qn_piece *piece)
{
    static const uint8_t zeros[4096];
    const uint8_t *data = piece->data;
    for (uint64_t left = piece->size; left > 0;) {
        uint64_t most = data ? 1u << 30 : sizeof zeros;
        DWORD put = 0;
        if (!WriteFile(file, data ? data : zeros, (DWORD)(left < most ? left : most), &put, NULL) || put == 0)
            return false;
        data = data ? data + put : NULL;
        left -= put;
    }
    return true;
}

/* Writes and flushes a new file; 0 or the system's error code. */
static DWORD write_new(const wchar_t *path, const struct qn_piece *pieces, size_t n)
{
    HANDLE file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return GetLastError();
    bool good = true;
    for (size_t i = 0; i < n && good; i++)
        good = write_piece(file, &pieces[i]);
    good = good && FlushFileBuffers(file);
    DWORD code = good ? 0 : GetLastError();
    CloseHandle(file);
    return code;
}

enum quern_status qn_write_pieces(const struct quern_callbacks *cb, const char *path,
                                  const struct qn_piece *pieces, size_t n, struct quern_error *err)
{
    const wchar_t end[] = L".0000000000-000.part";
    size_t length = strlen(path);
    wchar_t *wide = qn_widen(cb, path);
    wchar_t *wide_temp = qn_alloc(cb, length + QN_LEN(end), sizeof *wide_temp);
    enum quern_status status = QUERN_OK;
    if (!wide || !wide_temp) {
        status = qn_fail_memory(err, "a file name");
    } else {
        DWORD code = ERROR_FILE_EXISTS; /* until it is a file that nobody else writes */
        for (int i = 0; i < 1000 && code == ERROR_FILE_EXISTS; i++) {
            swprintf(wide_temp, length + QN_LEN(end), L"%ls.%lu-%d.part", wide,
                     (unsigned long)GetCurrentProcessId(), i);
            code = write_new(wide_temp, pieces, n);
        }
        if (code == 0 && !MoveFileExW(wide_temp, wide, MOVEFILE_REPLACE_EXISTING))
            code = GetLastError();
        if (code != 0) {
            status = qn_fail(err, QUERN_ERR_FILE, "%s: cannot write: %s", path, reason_of(code).text);
            DeleteFileW(wide_temp);
        }
    }
    qn_free(cb, wide_temp);
    qn_free(cb, wide);
    return status;
}

/* ---- directories ---- */

enum quern_status qn_dir_make(const struct quern_callbacks *cb, const char *path, struct quern_error *err)
{
    wchar_t *part = qn_widen(cb, path);
    if (!part)
        return qn_fail_memory(err, "a directory's name");
    enum quern_status status = QUERN_OK;
    for (size_t n = wcslen(part), i = 1; i <= n && !status; i++) {
        wchar_t here = part[i];
        if ((here != L'/' && here != L'\\' && here != L'\0') || part[i - 1] == L':')
            continue;
        part[i] = L'\0';
        DWORD code = CreateDirectoryW(part, NULL) ? 0 : GetLastError();
        DWORD kind = GetFileAttributesW(part);
        if (code != 0 && (kind == INVALID_FILE_ATTRIBUTES || !(kind & FILE_ATTRIBUTE_DIRECTORY)))
            status =
                qn_fail(err, QUERN_ERR_FILE, "%s: cannot make the directory: %s", path, reason_of(code).text);
        part[i] = here;
    }
    qn_free(cb, part);
    return status;
}

static bool list_one(const WIN32_FIND_DATAW *found,
                     bool (*each)(void *user, const struct qn_dir_entry *entry), void *user)
{
    char name[3 * MAX_PATH + 1];
    if ((found->dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT)) ||
        WideCharToMultiByte(CP_UTF8, 0, found->cFileName, -1, name, (int)sizeof name, NULL, NULL) <= 0)
        return true;
    const struct qn_dir_entry entry = {.name = name,
                                       .bytes = (uint64_t)found->nFileSizeHigh << 32 | found->nFileSizeLow,
                                       .written_ns = date_ns(found->ftLastWriteTime)};
    return each(user, &entry);
}

enum quern_status qn_dir_list(const struct quern_callbacks *cb, const char *path,
                              bool (*each)(void *user, const struct qn_dir_entry *entry), void *user,
                              struct quern_error *err)
{
    size_t length = strlen(path) + 3;
    char *pattern = qn_alloc(cb, length, 1);
    if (pattern)
        snprintf(pattern, length, "%s/*", path);
    wchar_t *wide = pattern ? qn_widen(cb, pattern) : NULL;
    qn_free(cb, pattern);
    if (!wide)
        return qn_fail_memory(err, "a directory's name");
    WIN32_FIND_DATAW found;
    HANDLE search = FindFirstFileW(wide, &found);
    DWORD code = GetLastError();
    qn_free(cb, wide);
    if (search == INVALID_HANDLE_VALUE)
        return qn_fail(err, QUERN_ERR_FILE, "%s: cannot list: %s", path, reason_of(code).text);
    while (list_one(&found, each, user) && FindNextFileW(search, &found)) {}
    FindClose(search);
    return QUERN_OK;
}

bool qn_file_stat(const struct quern_callbacks *cb, const char *path, uint64_t *bytes, int64_t *written_ns)
{
    wchar_t *wide = qn_widen(cb, path);
    WIN32_FILE_ATTRIBUTE_DATA data;
    bool good = wide && GetFileAttributesExW(wide, GetFileExInfoStandard, &data);
    qn_free(cb, wide);
    if (good && bytes)
        *bytes = (uint64_t)data.nFileSizeHigh << 32 | data.nFileSizeLow;
    if (good && written_ns)
        *written_ns = date_ns(data.ftLastWriteTime);
    return good;
}

bool qn_file_remove(const struct quern_callbacks *cb, const char *path)
{
    wchar_t *wide = qn_widen(cb, path);
    bool good = wide && (DeleteFileW(wide) || GetLastError() == ERROR_FILE_NOT_FOUND);
    qn_free(cb, wide);
    return good;
}

bool qn_file_touch(const struct quern_callbacks *cb, const char *path)
{
    wchar_t *wide = qn_widen(cb, path);
    HANDLE file = wide ? CreateFileW(wide, FILE_WRITE_ATTRIBUTES,
                                     FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                                     OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL)
                       : INVALID_HANDLE_VALUE;
    qn_free(cb, wide);
    if (file == INVALID_HANDLE_VALUE)
        return false;
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    bool good = SetFileTime(file, NULL, NULL, &now);
    CloseHandle(file);
    return good;
}

/* ---- threads ---- */

bool qn_mutex_init(struct qn_mutex *mutex)
{
    InitializeSRWLock(&mutex->lock);
    return true;
}

void qn_mutex_finish(struct qn_mutex *mutex)
{
    (void)mutex;
}

void qn_mutex_lock(struct qn_mutex *mutex)
{
    AcquireSRWLockExclusive(&mutex->lock);
}

void qn_mutex_unlock(struct qn_mutex *mutex)
{
    ReleaseSRWLockExclusive(&mutex->lock);
}

bool qn_cond_init(struct qn_cond *cond)
{
    InitializeConditionVariable(&cond->cond);
    return true;
}

void qn_cond_finish(struct qn_cond *cond)
{
    (void)cond;
}

void qn_cond_wait(struct qn_cond *cond, struct qn_mutex *mutex)
{
    SleepConditionVariableSRW(&cond->cond, &mutex->lock, INFINITE, 0);
}

bool qn_cond_wait_for(struct qn_cond *cond, struct qn_mutex *mutex, uint64_t ns)
{
    return SleepConditionVariableSRW(&cond->cond, &mutex->lock, milliseconds(ns), 0) ||
           GetLastError() != ERROR_TIMEOUT;
}

void qn_cond_signal(struct qn_cond *cond)
{
    WakeConditionVariable(&cond->cond);
}

void qn_cond_broadcast(struct qn_cond *cond)
{
    WakeAllConditionVariable(&cond->cond);
}

static DWORD WINAPI thread_main(void *arg)
{
    struct qn_thread *thread = arg;
    thread->run(thread->arg);
    return 0;
}

bool qn_thread_start(struct qn_thread *thread, void (*run)(void *arg), void *arg)
{
    thread->run = run;
    thread->arg = arg;
    thread->handle = CreateThread(NULL, 0, thread_main, thread, 0, NULL);
    return thread->handle != NULL;
}

void qn_thread_join(struct qn_thread *thread)
{
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
}

int qn_cpu_count(void)
{
    DWORD_PTR mine, all;
    int n = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all))
        for (; mine != 0; mine &= mine - 1)
            n++;
    return n > 0 ? n : 1;
}

bool qn_cpu_allowed(struct qn_cpu_set *set)
{
    (void)set;
    return false;
}

bool qn_cpu_bind(const struct qn_cpu_set *set)
{
    (void)set;
    return false;
}

/* ---- libraries ---- */

void *qn_library_open(const char *const *names)
{
    void *library = NULL;
    for (size_t i = 0; names[i] && !library; i++)
        library = (void *)LoadLibraryA(names[i]);
    return library;
}

void qn_library_reason(char *text, size_t size)
{
    snprintf(text, size, "%s", reason_of(GetLastError()).text);
}

void *qn_library_symbol(void *library, const char *name)
{
    return (void *)(uintptr_t)GetProcAddress((HMODULE)library, name);
}

bool qn_library_path(const void *symbol, char *path, size_t size)
{
    HMODULE module;
    wchar_t wide[MAX_PATH];
    const DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    DWORD n = symbol && GetModuleHandleExW(flags, (LPCWSTR)symbol, &module)
                  ? GetModuleFileNameW(module, wide, (DWORD)QN_LEN(wide))
                  : 0;
    return n > 0 && n < QN_LEN(wide) &&
           WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, (int)size, NULL, NULL) > 0;
}

bool qn_library_find(const struct quern_callbacks *cb, const char *name, char *path, size_t size)
{
    (void)cb;
    (void)name;
    (void)path;
    (void)size;
    return false;
}

void qn_library_close(void *library)
{
    if (library)
        FreeLibrary((HMODULE)library);
}
