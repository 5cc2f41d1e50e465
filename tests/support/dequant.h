/* Reference blocks of number formats, and what they decode to: tests/golden/dequant. */
#ifndef QN_TEST_DEQUANT_H
#define QN_TEST_DEQUANT_H

#include <stdio.h>
#include <stdlib.h>

/* Reads NAME and suffix (".bin", ".f32"), at most `room` bytes; returns how many, 0 when it is not there. */
static inline size_t qn_dequant_read(const char *name, const char *suffix, void *out, size_t room)
{
    char path[1024];
    const char *root = getenv("QUERN_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/dequant/%s%s", root ? root : ".", name, suffix);
    FILE *f = fopen(path, "rb");
    if (!f)
        return 0;
    size_t n = fread(out, 1, room, f);
    fclose(f);
    return n;
}

#endif
