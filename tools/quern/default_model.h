/* The model of verbs that need none to be named. */
#ifndef TOOL_DEFAULT_MODEL_H
#define TOOL_DEFAULT_MODEL_H

#include "common.h"

enum { DEFAULT_MODEL_PATH = 4096 };

/* Fills options->model in where -m did not: QUERN_MODEL, or the model that comes with the program, whose path
 * is written to `room`. Returns an exit code, after a line where there is none. */
int default_model(const struct verb *verb, struct model_options *options, char room[DEFAULT_MODEL_PATH]);

#endif
