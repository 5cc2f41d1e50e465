/* Devices of another machine, as quern device dump wrote them down: they can be listed and matched with
 * profiles, not opened. */
#ifndef TOOL_REPLAY_H
#define TOOL_REPLAY_H

#include "common.h"

/* The dump's devices stand for those of its driver from now on, in this process. On failure the line is
 * written and the exit code returned. */
int replay_open(const char *path, const struct quern_driver **driver);

#endif
