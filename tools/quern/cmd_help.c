/* quern help, quern version. */
#include "lines.h"
#include "verbs.h"

#include "base/guess.h"

#include <string.h>

struct help_options {
    const char *completion;
    bool man;
};

static int run_help(const void *options, const struct arg_list *rest)
{
    const struct help_options *o = options;
    if (o->completion || o->man) {
        if (!write_generated(o->man ? "man" : o->completion, stdout))
            return verb_usage(&verb_help_, "there are completions for bash, zsh and fish, not for \"%s\"",
                              o->completion);
        return EXIT_DONE;
    }
    if (rest->n == 0) {
        overview(stdout);
        return EXIT_DONE;
    }
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", rest->items[0], rest->n > 1 ? " " : "",
             rest->n > 1 ? rest->items[1] : "");
    for (size_t i = 0; i < N_VERBS; i++) {
        size_t first = strcspn(verbs[i]->name, " ");
        bool group =
            verbs[i]->name[first] && strlen(name) == first && memcmp(verbs[i]->name, name, first) == 0;
        if (group || strcmp(verbs[i]->name, name) == 0) {
            verb_help(verbs[i], stdout);
            return EXIT_DONE;
        }
    }
    struct qn_guess guess;
    qn_guess_start(&guess, name);
    for (size_t i = 0; i < N_VERBS; i++)
        qn_guess_try(&guess, verbs[i]->name, strlen(verbs[i]->name));
    const char *best = qn_guess_end(&guess);
    return verb_usage(&verb_help_, "there is no verb %s%s%s%s", name, best ? "; did you mean " : "",
                      best ? best : "", best ? "?" : "");
}

static const struct arg_option help_args[] = {
    {"--completion", ARG_TEXT, offsetof(struct help_options, completion), "SHELL",
     "print a completion script", .hidden = true},
    {"--man", ARG_FLAG, offsetof(struct help_options, man), NULL, "print the manual page", .hidden = true},
};

const struct verb verb_help_ = {
    .name = "help",
    .summary = "Explains the command or a verb.",
    .synopsis = "[VERB]",
    .tables = {{"Options", help_args, ARG_N(help_args), 0}},
    .max_rest = 2,
    .rest = "VERB",
    .defaults = &(const struct help_options){0},
    .size = sizeof(struct help_options),
    .run = run_help,
};

/* ---- version ---- */

struct version_options {
    bool json;
};

static int run_version(const void *options, const struct arg_list *rest)
{
    const struct version_options *o = options;
    if (!o->json) {
        printf("quern %s\n", quern_version());
        return EXIT_DONE;
    }
    cJSON *root = json_object();
    json_put_text(root, "version", quern_version());
    json_put_int(root, "driver_abi", QUERN_DRIVER_ABI);
    json_put_bool(root, "line_editing", lines_editing());
    cJSON *list = json_array();
    for (size_t i = 0; i < quern_architecture_count(); i++) {
        const char *name = quern_architecture_name(i);
        json_add(list, json_text(name, strlen(name)));
    }
    json_put(root, "architectures", list);
    json_end(root, true, stdout);
    return EXIT_DONE;
}

static const struct arg_option version_args[] = {
    {"--json", ARG_FLAG, offsetof(struct version_options, json), NULL, "as JSON, with the architectures"},
};

const struct verb verb_version = {
    .name = "version",
    .summary = "Prints the version.",
    .synopsis = "[--json]",
    .tables = {{"Options", version_args, ARG_N(version_args), 0}},
    .defaults = &(const struct version_options){0},
    .size = sizeof(struct version_options),
    .run = run_version,
};
