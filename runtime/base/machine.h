/* What the system gives this process: memory, processors, limits. */
#ifndef QN_BASE_MACHINE_H
#define QN_BASE_MACHINE_H

#include "base/host.h"

#define QN_NO_LIMIT UINT64_MAX

/* Bytes; QN_NO_LIMIT: there is no limit, or the system does not tell. */
struct qn_machine {
    uint64_t memory, available; /* all, and what could be had now; 0: the system does not tell */
    uint64_t group;             /* most memory of the process's control group, or of one above it */
    uint64_t address_space;     /* most that the process may map */
    uint64_t locked;            /* most that it may lock in memory */
    uint32_t processors;        /* that it may run on */
    double processor_time;      /* of so many at most, by its control group; 0: all */
};

/* `root`: folder that stands for "/"; "". */
void qn_machine_read(const char *root, struct qn_machine *machine);

/* Whether threads of this process may use the tile registers (AMX) that the processor has: asks the system,
 * whose leave holds for the whole process from then on. */
bool qn_tiles_allowed(void);

/* Why the process cannot read and write a file or device; NULL: it can. `group`, of `size`: the name of the
 * group that may, where joining it would help, else "". */
const char *qn_file_refused(const char *path, char *group, size_t size);

#endif
