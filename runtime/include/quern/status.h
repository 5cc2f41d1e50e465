/* Status codes, error details and callbacks: what every part of the API shares. */
#ifndef QUERN_STATUS_H
#define QUERN_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define QUERN_API
#elif defined(__GNUC__)
#define QUERN_API __attribute__((visibility("default")))
#else
#define QUERN_API
#endif

#if defined(__MINGW32__) && !defined(__clang__)
#define QUERN_PRINTF(fmt, args) __attribute__((format(gnu_printf, fmt, args)))
#elif defined(__GNUC__)
#define QUERN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define QUERN_PRINTF(fmt, args)
#endif

/* What went wrong, by whom it can be mended. Numbers are stable; new ones are added at the end. */
enum quern_status {
    QUERN_OK = 0,
    QUERN_ERR_PARAM = 1,       /* the caller passed something out of range */
    QUERN_ERR_FILE = 2,        /* a file is missing, unreadable or damaged */
    QUERN_ERR_UNSUPPORTED = 3, /* well-formed, but this build or device cannot do it */
    QUERN_ERR_MEMORY = 4,      /* host or device memory ran out */
    QUERN_ERR_DEVICE = 5,      /* a device or its driver failed */
    QUERN_ERR_LOST = 6,        /* the device is gone; its memory with it */
    QUERN_ERR_TIMEOUT = 7,     /* the device did not finish in time */
    QUERN_ERR_CONTEXT = 8,     /* the context (KV cache) is full */
    QUERN_ERR_NUMERIC = 9,     /* results are not finite numbers */
    QUERN_ERR_CANCELLED = 10,  /* the cancel callback said stop */
};

/* Short English name of a status, such as "file". Never NULL. */
QUERN_API const char *quern_status_name(enum quern_status status);

/* The detail that goes with a status: a sentence for a person, without a trailing newline.
 * Owned by the caller, filled on failure only. Every function takes NULL where the sentence is not wanted. */
struct quern_error {
    enum quern_status status;
    char text[508];
};

enum quern_log_level {
    QUERN_LOG_ERROR = 0,
    QUERN_LOG_WARNING = 1,
    QUERN_LOG_INFO = 2,
    QUERN_LOG_DEBUG = 3,
};

/* How the library reaches its host program. Any member may be NULL.
 * All may be called from any thread that the library uses, and must not call back into it. */
struct quern_callbacks {
    void *user; /* handed to each call */

    /* Memory of `size` bytes (never 0), aligned to `align` (a power of two), or NULL.
     * NULL members: the C library's allocator. Set both or neither. */
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *ptr);

    /* One line without a newline. NULL: nothing is logged. */
    void (*log)(void *user, enum quern_log_level level, const char *text);

    /* Long work: `what` is a short label, done of total (both in the same unit). */
    void (*progress)(void *user, const char *what, uint64_t done, uint64_t total);

    /* Asked between chunks of work; true ends the call with QUERN_ERR_CANCELLED. */
    bool (*cancel)(void *user);
};

#ifdef __cplusplus
}
#endif

#endif
