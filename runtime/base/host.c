#include "base/host.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <malloc.h>
#endif

static void *default_alloc(void *user, size_t size, size_t align)
{
    (void)user;
#ifdef _WIN32
    return _aligned_malloc(size, align);
#else
    void *ptr = NULL;
    return posix_memalign(&ptr, align, size) == 0 ? ptr : NULL;
#endif
}

static void default_free(void *user, void *ptr)
{
    (void)user;
#ifdef _WIN32
    _aligned_free(ptr);
#else
    free(ptr);
#endif
}

struct quern_callbacks qn_callbacks_resolve(const struct quern_callbacks *user)
{
    struct quern_callbacks cb = {0};
    if (user)
        cb = *user;
    if (!cb.alloc || !cb.free) {
        cb.alloc = default_alloc;
        cb.free = default_free;
    }
    return cb;
}

void *qn_alloc(const struct quern_callbacks *cb, size_t n, size_t size)
{
    if (n == 0 || size == 0 || n > SIZE_MAX / 2 / size)
        return NULL;
    return cb->alloc(cb->user, n * size, QN_ALIGN);
}

void *qn_zalloc(const struct quern_callbacks *cb, size_t n, size_t size)
{
    void *ptr = qn_alloc(cb, n, size);
    if (ptr)
        memset(ptr, 0, n * size);
    return ptr;
}

void qn_free(const struct quern_callbacks *cb, void *ptr)
{
    if (ptr)
        cb->free(cb->user, ptr);
}

char *qn_strndup(const struct quern_callbacks *cb, const char *text, size_t n)
{
    char *copy = n < SIZE_MAX ? qn_alloc(cb, n + 1, 1) : NULL;
    if (copy) {
        if (n > 0)
            memcpy(copy, text, n);
        copy[n] = '\0';
    }
    return copy;
}

bool qn_grow(const struct quern_callbacks *cb, void *ptr, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    size_t want = *cap < 8 ? 8 : *cap;
    while (want < need) {
        if (want > SIZE_MAX / 2)
            return false;
        want *= 2;
    }
    void *fresh = qn_alloc(cb, want, size);
    if (!fresh)
        return false;
    void *old;
    memcpy(&old, ptr, sizeof old); /* the caller's array may have any element type */
    if (*cap > 0)
        memcpy(fresh, old, *cap * size);
    qn_free(cb, old);
    memcpy(ptr, &fresh, sizeof fresh);
    *cap = want;
    return true;
}

enum quern_status qn_fail(struct quern_error *err, enum quern_status status, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        err->status = status;
    }
    return status;
}

enum quern_status qn_fail_memory(struct quern_error *err, const char *what)
{
    return qn_fail(err, QUERN_ERR_MEMORY, "out of memory for %s", what);
}

void qn_log(const struct quern_callbacks *cb, enum quern_log_level level, const char *fmt, ...)
{
    if (!cb->log)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cb->log(cb->user, level, text);
}

void qn_progress(const struct quern_callbacks *cb, const char *what, uint64_t done, uint64_t total)
{
    if (cb->progress)
        cb->progress(cb->user, what, done, total);
}

bool qn_cancelled(const struct quern_callbacks *cb)
{
    return cb->cancel && cb->cancel(cb->user);
}

const char *quern_status_name(enum quern_status status)
{
    switch (status) {
    case QUERN_OK:
        return "ok";
    case QUERN_ERR_PARAM:
        return "parameter";
    case QUERN_ERR_FILE:
        return "file";
    case QUERN_ERR_UNSUPPORTED:
        return "unsupported";
    case QUERN_ERR_MEMORY:
        return "memory";
    case QUERN_ERR_DEVICE:
        return "device";
    case QUERN_ERR_LOST:
        return "device lost";
    case QUERN_ERR_TIMEOUT:
        return "timeout";
    case QUERN_ERR_CONTEXT:
        return "context full";
    case QUERN_ERR_NUMERIC:
        return "numeric";
    case QUERN_ERR_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}
