/* POSIX side of file.h, clock.h, library.h and thread.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/clock.h"
#include "base/cores.h"
#include "base/file.h"
#include "base/library.h"
#include "base/thread.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- clock ---- */

uint64_t qn_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t qn_date_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void qn_sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

/* ---- files ---- */

size_t qn_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

#ifdef __APPLE__
#define st_mtim st_mtimespec
#endif

static int64_t date_of(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static enum quern_status read_all(const struct quern_callbacks *cb, struct qn_view *view, int fd,
                                  uint64_t offset, const char *name, struct quern_error *err)
{
    uint8_t *data = view->size <= SIZE_MAX ? qn_alloc(cb, (size_t)view->size, 1) : NULL;
    if (!data)
        return qn_fail(err, QUERN_ERR_MEMORY, "%s: out of memory for %llu bytes of file", name,
                       (unsigned long long)view->size);
    for (uint64_t done = 0; done < view->size;) {
        uint64_t left = view->size - done;
        ssize_t got =
            pread(fd, data + done, left < (1u << 30) ? (size_t)left : 1u << 30, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int code = errno;
            qn_free(cb, data);
            return qn_fail(err, QUERN_ERR_FILE, "%s: cannot read: %s", name,
                           got < 0 ? strerror(code) : "file became shorter");
        }
        done += (uint64_t)got;
    }
    view->heap = data;
    view->data = data;
    return QUERN_OK;
}

enum quern_status qn_view_fd(const struct quern_callbacks *cb, struct qn_view *view, int fd, uint64_t offset,
                             uint64_t length, bool use_mmap, const char *name, struct quern_error *err)
{
    *view = (struct qn_view){0};
    struct stat st;
    if (fstat(fd, &st) != 0)
        return qn_fail(err, QUERN_ERR_FILE, "%s: cannot stat: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return qn_fail(err, QUERN_ERR_FILE, "%s: not a regular file", name);
    uint64_t file_size = (uint64_t)st.st_size;
    if (offset > file_size || (length > 0 && length > file_size - offset))
        return qn_fail(err, QUERN_ERR_FILE,
                       "%s: range of %llu bytes at %llu lies outside the file of %llu bytes", name,
                       (unsigned long long)length, (unsigned long long)offset, (unsigned long long)file_size);
    view->size = length ? length : file_size - offset;
    view->written_ns = date_of(&st);
    if (view->size == 0) {
        view->data = (const uint8_t *)"";
        return QUERN_OK;
    }
    if (use_mmap && view->size < SIZE_MAX / 2) {
        uint64_t skip = offset % qn_page_size();
        size_t map_size = (size_t)(view->size + skip);
        void *base = mmap(NULL, map_size, PROT_READ, MAP_SHARED, fd, (off_t)(offset - skip));
        if (base != MAP_FAILED) {
            view->map_base = base;
            view->map_size = map_size;
            view->data = (const uint8_t *)base + skip;
            return QUERN_OK;
        }
    }
    enum quern_status status = read_all(cb, view, fd, offset, name, err);
    if (status)
        *view = (struct qn_view){0};
    return status;
}

enum quern_status qn_view_path(const struct quern_callbacks *cb, struct qn_view *view, const char *path,
                               bool use_mmap, struct quern_error *err)
{
    *view = (struct qn_view){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return qn_fail(err, QUERN_ERR_FILE, "%s: cannot open: %s", path, strerror(errno));
    enum quern_status status = qn_view_fd(cb, view, fd, 0, 0, use_mmap, path, err);
    close(fd);
    return status;
}

void qn_view_finish(const struct quern_callbacks *cb, struct qn_view *view)
{
    if (view->map_base)
        munmap(view->map_base, view->map_size);
    qn_free(cb, view->heap);
    *view = (struct qn_view){0};
}

void qn_view_prefetch(const struct qn_view *view, uint64_t offset, uint64_t length)
{
    if (!view->map_base || offset >= view->size)
        return;
    uintptr_t start = (uintptr_t)(view->data + offset);
    uintptr_t skip = start % qn_page_size();
    if (length > view->size - offset)
        length = view->size - offset;
    (void)madvise((void *)(start - skip), (size_t)(length + skip), MADV_WILLNEED);
}

void qn_view_drop(const struct qn_view *view, uint64_t offset, uint64_t length)
{
    if (!view->map_base || offset >= view->size || length > view->size - offset)
        return;
    uintptr_t start = (uintptr_t)(view->data + offset), end = start + (uintptr_t)length,
              page = qn_page_size();
    start -= start % page;
    end -= end % page;
    if (start < end)
        (void)madvise((void *)start, (size_t)(end - start), MADV_DONTNEED);
}

void qn_memory_large_pages(void *data, uint64_t bytes)
{
#ifdef MADV_HUGEPAGE
    uintptr_t start = (uintptr_t)data, end = start + (uintptr_t)bytes, page = qn_page_size();
    start = (start + page - 1) / page * page;
    end -= end % page;
    if (start < end)
        (void)madvise((void *)start, (size_t)(end - start), MADV_HUGEPAGE);
#else
    (void)data;
    (void)bytes;
#endif
}

static bool write_piece(int fd, const struct qn_piece *piece)
{
    static const uint8_t zeros[4096];
    const uint8_t *data = piece->data;
    for (uint64_t left = piece->size; left > 0;) {
        uint64_t most = data ? 1u << 30 : sizeof zeros;
        ssize_t put = write(fd, data ? data : zeros, (size_t)(left < most ? left : most));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        data = data ? data + put : NULL;
        left -= (uint64_t)put;
    }
    return true;
}

static bool write_all(int fd, const struct qn_piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!write_piece(fd, &pieces[i]))
            return false;
    return true;
}

/* A new file beside `path`, which nobody else writes. */
static int create_beside(const char *path, char *temp, size_t size)
{
    int fd = -1;
    errno = EEXIST;
    for (int i = 0; i < 1000 && fd < 0 && errno == EEXIST; i++) {
        snprintf(temp, size, "%s.%ld-%d.part", path, (long)getpid(), i);
        fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    return fd;
}

enum quern_status qn_write_pieces(const struct quern_callbacks *cb, const char *path,
                                  const struct qn_piece *pieces, size_t n, struct quern_error *err)
{
    size_t length = strlen(path) + 40;
    char *temp = qn_alloc(cb, length, 1);
    if (!temp)
        return qn_fail_memory(err, "a file name");
    enum quern_status status = QUERN_OK;
    int fd = create_beside(path, temp, length);
    if (fd < 0) {
        status = qn_fail(err, QUERN_ERR_FILE, "%s: cannot create: %s", temp, strerror(errno));
    } else {
        bool good = write_all(fd, pieces, n) && fsync(fd) == 0;
        int code = errno;
        good = close(fd) == 0 && good;
        if (good && rename(temp, path) != 0) {
            good = false;
            code = errno;
        }
        if (!good) {
            status = qn_fail(err, QUERN_ERR_FILE, "%s: cannot write: %s", path, strerror(code));
            unlink(temp);
        }
    }
    qn_free(cb, temp);
    return status;
}

/* ---- directories ---- */

enum quern_status qn_dir_make(const struct quern_callbacks *cb, const char *path, struct quern_error *err)
{
    size_t n = strlen(path);
    char *part = qn_strndup(cb, path, n);
    if (!part)
        return qn_fail_memory(err, "a directory's name");
    enum quern_status status = QUERN_OK;
    for (size_t i = 1; i <= n && !status; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        part[i] = '\0';
        struct stat st;
        if (mkdir(part, 0700) != 0 && (stat(part, &st) != 0 || !S_ISDIR(st.st_mode)))
            status = qn_fail(err, QUERN_ERR_FILE, "%s: cannot make the directory: %s", part, strerror(errno));
        part[i] = path[i];
    }
    qn_free(cb, part);
    return status;
}

enum quern_status qn_dir_list(const struct quern_callbacks *cb, const char *path,
                              bool (*each)(void *user, const struct qn_dir_entry *entry), void *user,
                              struct quern_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return qn_fail(err, QUERN_ERR_FILE, "%s: cannot list: %s", path, strerror(errno));
    bool more = true;
    for (struct dirent *item; more && (item = readdir(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), item->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        const struct qn_dir_entry entry = {
            .name = item->d_name, .bytes = (uint64_t)st.st_size, .written_ns = date_of(&st)};
        more = each(user, &entry);
    }
    closedir(dir);
    return QUERN_OK;
}

bool qn_file_stat(const struct quern_callbacks *cb, const char *path, uint64_t *bytes, int64_t *written_ns)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    if (bytes)
        *bytes = (uint64_t)st.st_size;
    if (written_ns)
        *written_ns = date_of(&st);
    return true;
}

bool qn_file_remove(const struct quern_callbacks *cb, const char *path)
{
    return unlink(path) == 0 || errno == ENOENT;
}

bool qn_file_touch(const struct quern_callbacks *cb, const char *path)
{
    return utimensat(AT_FDCWD, path, NULL, 0) == 0;
}

/* ---- threads ---- */

bool qn_mutex_init(struct qn_mutex *mutex)
{
    return pthread_mutex_init(&mutex->lock, NULL) == 0;
}

void qn_mutex_finish(struct qn_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->lock);
}

void qn_mutex_lock(struct qn_mutex *mutex)
{
    pthread_mutex_lock(&mutex->lock);
}

void qn_mutex_unlock(struct qn_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->lock);
}

bool qn_cond_init(struct qn_cond *cond)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    bool good = pthread_cond_init(&cond->cond, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return good;
}

void qn_cond_finish(struct qn_cond *cond)
{
    pthread_cond_destroy(&cond->cond);
}

void qn_cond_wait(struct qn_cond *cond, struct qn_mutex *mutex)
{
    pthread_cond_wait(&cond->cond, &mutex->lock);
}

bool qn_cond_wait_for(struct qn_cond *cond, struct qn_mutex *mutex, uint64_t ns)
{
    uint64_t end = qn_now_ns();
    end = ns > UINT64_MAX - end ? UINT64_MAX : end + ns;
    struct timespec until = {.tv_sec = (time_t)(end / 1000000000u), .tv_nsec = (long)(end % 1000000000u)};
    return pthread_cond_timedwait(&cond->cond, &mutex->lock, &until) != ETIMEDOUT;
}

void qn_cond_signal(struct qn_cond *cond)
{
    pthread_cond_signal(&cond->cond);
}

void qn_cond_broadcast(struct qn_cond *cond)
{
    pthread_cond_broadcast(&cond->cond);
}

static void *thread_main(void *arg)
{
    struct qn_thread *thread = arg;
    thread->run(thread->arg);
    return NULL;
}

bool qn_thread_start(struct qn_thread *thread, void (*run)(void *arg), void *arg)
{
    thread->run = run;
    thread->arg = arg;
    /* the host program's signals stay with the host program's threads */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = pthread_create(&thread->handle, NULL, thread_main, thread) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return good;
}

void qn_thread_join(struct qn_thread *thread)
{
    pthread_join(thread->handle, NULL);
}

int qn_cpu_count(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

bool qn_cpu_allowed(struct qn_cpu_set *set)
{
#ifdef __linux__
    cpu_set_t mine;
    memset(set, 0, sizeof *set);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0 || CPU_COUNT(&mine) == 0)
        return false;
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS && cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mine))
            set->word[cpu / 64] |= (uint64_t)1 << cpu % 64;
    return true;
#else
    (void)set;
    return false;
#endif
}

bool qn_cpu_bind(const struct qn_cpu_set *set)
{
#ifdef __linux__
    cpu_set_t mine;
    CPU_ZERO(&mine);
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS && cpu < CPU_SETSIZE; cpu++)
        if (qn_cpu_set_has(set, cpu))
            CPU_SET(cpu, &mine);
    return sched_setaffinity(0, sizeof mine, &mine) == 0;
#else
    (void)set;
    return false;
#endif
}

/* ---- libraries ---- */

void *qn_library_open(const char *const *names)
{
    void *library = NULL;
    for (size_t i = 0; names[i] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

void qn_library_reason(char *text, size_t size)
{
    const char *reason = dlerror();
    snprintf(text, size, "%s", reason ? reason : "it cannot be loaded");
}

void *qn_library_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

bool qn_library_path(const void *symbol, char *path, size_t size)
{
    Dl_info info;
    if (!symbol || !dladdr(symbol, &info) || !info.dli_fname)
        return false;
    int n = snprintf(path, size, "%s", info.dli_fname);
    return n > 0 && (size_t)n < size;
}

bool qn_library_find(const struct quern_callbacks *cb, const char *name, char *path, size_t size)
{
    static const char *const folders[] = {
#if defined(__x86_64__)
        "/usr/lib/x86_64-linux-gnu",
#elif defined(__aarch64__)
        "/usr/lib/aarch64-linux-gnu",
#endif
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    };
    const char *at = getenv("LD_LIBRARY_PATH"); /* as the system does, which loads it */
    while (at && *at) {
        size_t n = strcspn(at, ":");
        snprintf(path, size, "%.*s/%s", (int)n, at, name);
        if (n > 0 && qn_file_stat(cb, path, NULL, NULL))
            return true;
        at += n + (at[n] == ':');
    }
    for (size_t i = 0; i < QN_LEN(folders); i++) {
        snprintf(path, size, "%s/%s", folders[i], name);
        if (qn_file_stat(cb, path, NULL, NULL))
            return true;
    }
    return false;
}

void qn_library_close(void *library)
{
    if (library)
        dlclose(library);
}
