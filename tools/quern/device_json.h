/* What the verbs about devices share: their options, the list, a device in words and as JSON. */
#ifndef TOOL_DEVICE_JSON_H
#define TOOL_DEVICE_JSON_H

#include "common.h"
#include "verbs.h"

struct device_options {
    const char *profile, *replay, *name;
    bool json, verbose;
};

/* The list, made anew, and the setup that it lives on. On failure the line is written; both are finished all
 * the same. */
int device_list_make(const struct device_options *options, struct device_setup *setup,
                     struct quern_device_list **list);
/* Place of the device of that id; without one, the line is written and *code is set. */
size_t device_find(const struct quern_device_list *list, const char *wanted, int *code);

/* What a verb does to one device, with the rest of its arguments as words. */
struct device_work {
    const char *id;
    const char *only; /* words, separated by spaces */
    struct device_setup *setup;
};
/* Does it to the device that the first argument names. */
int device_do(const struct verb *verb, const char *profile, bool verbose, const struct arg_list *rest,
              int (*work)(const void *options, const struct device_work *work), const void *options);

/* A report with rows that come one after another. */
struct device_report {
    struct table table;
    cJSON *rows; /* NULL: they go into the table */
};
void device_report_start(struct device_report *report, bool json, const char *columns,
                         const char *const *heads);
/* Tells the fault, if there was any, and then what came out: `put` into the JSON beside the rows, or `print`,
 * which ends the table; unless nothing did. */
int device_report_end(struct device_report *report, enum quern_status status, const struct quern_error *err,
                      uint32_t n_rows, void (*put)(void *user, cJSON *root), void (*print)(void *user),
                      void *user);

/* Calls `each` for the lines "name: value" of the facts. */
void each_fact(const char *facts, void (*each)(void *user, const char *name, const char *value), void *user);

cJSON *device_as_json(const struct quern_device_desc *d);

#endif
