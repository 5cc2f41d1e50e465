/* The part of quern bench that measures starting up. */
#ifndef TOOL_BENCH_START_H
#define TOOL_BENCH_START_H

#include "common.h"

/* Starts twice, with an empty cache and with what was kept then; appends a row for each part. Returns an exit
 * code. */
int bench_start(const struct model_options *options, cJSON *rows);
/* The rows as a table. */
void bench_start_print(const cJSON *rows);

#endif
