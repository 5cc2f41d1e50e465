/* The quern command: finds the verb and runs it. */
#include "out.h"
#include "term.h"
#include "verbs.h"

#include "base/guess.h"

#include <string.h>

const struct verb *const verbs[N_VERBS] = {
    &verb_run,           &verb_chat,         &verb_inspect,         &verb_tokenize,       &verb_logits,
    &verb_perplexity,    &verb_bench,        &verb_profile,         &verb_device_list,    &verb_device_show,
    &verb_device_forget, &verb_device_check, &verb_device_profiles, &verb_device_emulate, &verb_device_verify,
    &verb_device_tune,   &verb_device_new,   &verb_device_dump,     &verb_device_schema,  &verb_doctor,
    &verb_cache,         &verb_version,      &verb_help_,
};

void overview(FILE *out)
{
    fputs("Usage: quern VERB [options]\n\nRuns GGUF language models on the devices of this machine.\n\n",
          out);
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(out, "  %-17s%s\n", verbs[i]->name, verbs[i]->summary);
    fputs("\nquern help VERB explains one of them. Exit codes: 0 done, 1 fault, 2 wrong usage, 130 "
          "interrupted.\n",
          out);
}

/* The verb that argv names, and how many words it took; NULL where there is none. */
static const struct verb *find_verb(int argc, char **argv, int *n_words)
{
    for (size_t i = 0; i < N_VERBS; i++) {
        const char *name = verbs[i]->name;
        size_t first = strcspn(name, " ");
        if (strlen(argv[1]) != first || memcmp(argv[1], name, first) != 0)
            continue;
        if (name[first] == '\0') {
            *n_words = 1;
            return verbs[i];
        }
        if (argc > 2 && strcmp(argv[2], name + first + 1) == 0) {
            *n_words = 2;
            return verbs[i];
        }
    }
    return NULL;
}

static int unknown_verb(int argc, char **argv)
{
    struct qn_guess guess;
    char words[64];
    bool option_next = argc > 2 && argv[2][0] == '-';
    snprintf(words, sizeof words, "%s%s%s", argv[1], argc > 2 && !option_next ? " " : "",
             argc > 2 && !option_next ? argv[2] : "");
    const char *const tries[] = {argv[1], words};
    for (size_t t = 0; t < ARG_N(tries); t++) {
        qn_guess_start(&guess, tries[t]);
        for (size_t i = 0; i < N_VERBS; i++)
            qn_guess_try(&guess, verbs[i]->name, strlen(verbs[i]->name));
        const char *best = qn_guess_end(&guess);
        if (best) {
            fprintf(stderr, "quern: there is no verb %s; did you mean %s? (see quern help)\n", tries[t],
                    best);
            return EXIT_USAGE;
        }
    }
    fprintf(stderr, "quern: there is no verb %s (see quern help)\n", argv[1]);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "device-helper") == 0)
        return finish_output(device_helper(argc - 2, argv + 2));
    char help[] = "help", version[] = "version";
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
        argv[1] = help;
    else if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        argv[1] = version;
    int n_words = 0;
    const struct verb *verb = find_verb(argc, argv, &n_words);
    if (!verb)
        return unknown_verb(argc, argv);
    if (verb == &verb_device_emulate && argc > 4 && argv[3][0] != '-') {
        if (!emulate_device(argv[3]))
            return finish_output(EXIT_FAULT);
        argv += 3;
        argc -= 3;
        verb = find_verb(argc, argv, &n_words);
        if (!verb)
            return unknown_verb(argc, argv);
    }
    term_catch_interrupt();
    return finish_output(verb_main(verb, argc - 1 - n_words, argv + 1 + n_words));
}
