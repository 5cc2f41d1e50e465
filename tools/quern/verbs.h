/* Every verb of the command, in the order of the help text. */
#ifndef TOOL_VERBS_H
#define TOOL_VERBS_H

#include "args.h"

enum { N_VERBS = 23 };
extern const struct verb *const verbs[N_VERBS];

extern const struct verb verb_run, verb_chat, verb_inspect, verb_tokenize, verb_logits, verb_perplexity,
    verb_device_list, verb_device_show, verb_device_forget, verb_device_check, verb_device_profiles,
    verb_device_emulate, verb_device_schema, verb_device_verify, verb_device_tune, verb_device_new,
    verb_device_dump, verb_doctor, verb_cache, verb_bench, verb_profile, verb_version, verb_help_;

/* What the library starts this program for: `quern device-helper ...`. Not a verb for people. Returns the
 * exit code. */
int device_helper(int argc, char **argv);

/* From now on devices stand for those of the profile. False: a line says why not. */
bool emulate_device(const char *profile);

/* Prints the list of verbs. */
void overview(FILE *out);

/* Completion scripts ("bash", "zsh", "fish") and the manual page ("man") from the tables. False: unknown. */
bool write_generated(const char *what, FILE *out);

#endif
