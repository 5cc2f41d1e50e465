/* A small file that tells, as long as a process lives, what the process is doing; and afterwards that it did
 * not come to its end. Whether the owner lives is told by a lock on the file, which the system lifts whatever
 * the owner's end. */
#ifndef QN_BASE_CLAIM_H
#define QN_BASE_CLAIM_H

#include "base/host.h"

struct qn_claim {
    intptr_t handle; /* descriptor, or HANDLE on Windows */
    char *path;      /* NULL: none */
};

/* Makes the file, whose name is no other process's, and holds it. On failure *claim is none. */
enum quern_status qn_claim_take(const struct quern_callbacks *cb, struct qn_claim *claim, const char *path,
                                const char *text, struct quern_error *err);
/* Removes the file; nothing where there is none. */
void qn_claim_drop(const struct quern_callbacks *cb, struct qn_claim *claim);
/* True where the file is there and nobody holds it; its beginning is written to `text`, NUL-terminated. */
bool qn_claim_is_dead(const struct quern_callbacks *cb, const char *path, char *text, size_t size);

/* Number of this process. */
uint64_t qn_process_id(void);

#endif
