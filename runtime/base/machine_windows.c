#include "base/machine.h"

#include "base/thread.h"
#include "base/windows.h"

void qn_machine_read(const char *root, struct qn_machine *machine)
{
    MEMORYSTATUSEX memory = {.dwLength = sizeof memory};
    (void)root;
    *machine = (struct qn_machine){.group = QN_NO_LIMIT,
                                   .address_space = QN_NO_LIMIT,
                                   .locked = QN_NO_LIMIT,
                                   .processors = (uint32_t)qn_cpu_count()};
    if (GlobalMemoryStatusEx(&memory)) {
        machine->memory = memory.ullTotalPhys;
        machine->available = memory.ullAvailPhys;
    }
}

bool qn_tiles_allowed(void)
{
    return false;
}

const char *qn_file_refused(const char *path, char *group, size_t size)
{
    (void)path;
    if (size > 0)
        group[0] = '\0';
    return NULL; /* devices are no files there */
}
