/* What the library needs from its host: memory, log, errors. Internal companion of quern/status.h.
 *
 * A `const struct quern_callbacks *cb` inside the library has been through qn_callbacks_resolve():
 * alloc and free are set, the others may be NULL and are reached through the functions below. */
#ifndef QN_BASE_HOST_H
#define QN_BASE_HOST_H

#include <quern/status.h>

enum { QN_ALIGN = 64 }; /* every allocation: a cache line, and the widest vector */

/* Copies `user` (may be NULL) and fills the allocator. */
struct quern_callbacks qn_callbacks_resolve(const struct quern_callbacks *user);

/* Array of n elements of `size` bytes. NULL on overflow, on n * size == 0 and when memory is out. */
void *qn_alloc(const struct quern_callbacks *cb, size_t n, size_t size);
/* The same, filled with zeros. */
void *qn_zalloc(const struct quern_callbacks *cb, size_t n, size_t size);
/* Frees; NULL is allowed. */
void qn_free(const struct quern_callbacks *cb, void *ptr);
/* NUL-terminated copy of n bytes. */
char *qn_strndup(const struct quern_callbacks *cb, const char *text, size_t n);

/* Makes room for `need` elements in a growing array (*ptr, *cap elements of `size` bytes), doubling;
 * contents are kept. False and nothing changed when memory is out. `ptr` is the address of the array. */
bool qn_grow(const struct quern_callbacks *cb, void *ptr, size_t *cap, size_t need, size_t size);

/* Writes the status and a sentence into err (may be NULL) and returns the status. */
enum quern_status qn_fail(struct quern_error *err, enum quern_status status, const char *fmt, ...)
    QUERN_PRINTF(3, 4);
/* The sentence for memory that ran out; `what` names what it was for. */
enum quern_status qn_fail_memory(struct quern_error *err, const char *what);

void qn_log(const struct quern_callbacks *cb, enum quern_log_level level, const char *fmt, ...)
    QUERN_PRINTF(3, 4);
void qn_progress(const struct quern_callbacks *cb, const char *what, uint64_t done, uint64_t total);
bool qn_cancelled(const struct quern_callbacks *cb);

#define QN_LEN(array) (sizeof(array) / sizeof((array)[0]))

#endif
