/* What the verbs about devices share: their options, the list, a device in words and as JSON. */
#ifndef TOOL_DEVICE_JSON_H
#define TOOL_DEVICE_JSON_H

#include "common.h"

struct device_options {
    const char *profile, *replay;
    bool json, verbose;
};

/* The list, made anew, and the setup that it lives on. On failure the line is written; both are finished all
 * the same. */
int device_list_make(const struct device_options *options, struct device_setup *setup,
                     struct quern_device_list **list);
/* Place of the device of that id; without one, the line is written and *code is set. */
size_t device_find(const struct quern_device_list *list, const char *wanted, int *code);

/* Calls `each` for the lines "name: value" of the facts. */
void each_fact(const char *facts, void (*each)(void *user, const char *name, const char *value), void *user);

cJSON *device_as_json(const struct quern_device_desc *d);

#endif
