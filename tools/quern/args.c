/* Parsing and explaining options, driven by the tables of the verbs. */
#include "args.h"

#include "base/guess.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Options that people know from other engines and that do not exist here. */
static const struct {
    const char *name, *answer;
} foreign[] = {
    {"-ngl", "layers are placed without being told; --device names the devices"},
    {"--n-gpu-layers", "layers are placed without being told; --device names the devices"},
    {"-ncmoe", "experts are placed without being told; --device names the devices"},
    {"-hf", "models are not downloaded; give a file with -m"},
    {"-fa", "attention is always computed in blocks"},
    {"--mlock", "there is no such thing; weights stay in the file's pages"},
};

void *need_memory(void *ptr, size_t n, size_t size)
{
    void *grown = n <= SIZE_MAX / 2 / size ? realloc(ptr, n * size > 0 ? n * size : 1) : NULL;
    if (!grown) {
        fputs("quern: out of memory\n", stderr);
        exit(EXIT_FAULT);
    }
    return grown;
}

/* ---- names ---- */

void arg_each_name(const struct arg_option *option, void (*each)(void *user, const char *name, size_t length),
                   void *user)
{
    for (const char *at = option->names; *at;) {
        size_t length = strcspn(at, ", ");
        each(user, at, length);
        at += length;
        at += strspn(at, ", ");
    }
}

struct name_search {
    const char *word;
    size_t length;
    bool found;
};

static void match_name(void *user, const char *name, size_t length)
{
    struct name_search *search = user;
    if (length == search->length && memcmp(name, search->word, length) == 0)
        search->found = true;
}

static const struct arg_option *find_option(const struct verb *verb, const char *word, size_t length,
                                            size_t *base)
{
    for (size_t t = 0; t < VERB_TABLES; t++)
        for (size_t i = 0; i < verb->tables[t].n; i++) {
            struct name_search search = {.word = word, .length = length};
            arg_each_name(&verb->tables[t].options[i], match_name, &search);
            if (search.found) {
                *base = verb->tables[t].base;
                return &verb->tables[t].options[i];
            }
        }
    return NULL;
}

/* ---- guessing ---- */

static void guess_name(void *user, const char *name, size_t length)
{
    qn_guess_try(user, name, length);
}

static int unknown_option(const struct verb *verb, const char *word, size_t length)
{
    for (size_t i = 0; i < ARG_N(foreign); i++)
        if (strlen(foreign[i].name) == length && memcmp(foreign[i].name, word, length) == 0)
            return verb_usage(verb, "there is no option %s: %s", foreign[i].name, foreign[i].answer);
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    struct qn_guess guess;
    qn_guess_start(&guess, name);
    for (size_t t = 0; t < VERB_TABLES; t++)
        for (size_t i = 0; i < verb->tables[t].n; i++)
            if (!verb->tables[t].options[i].hidden)
                arg_each_name(&verb->tables[t].options[i], guess_name, &guess);
    const char *best = qn_guess_end(&guess);
    if (best)
        return verb_usage(verb, "there is no option %s; did you mean %s?", name, best);
    return verb_usage(verb, "there is no option %s", name);
}

/* ---- values ---- */

static bool find_choice(const char *words, const char *value, int64_t *index)
{
    size_t n = strlen(value);
    *index = 0;
    for (const char *at = words;; (*index)++) {
        size_t length = strcspn(at, "|");
        size_t same = 0;
        while (same < length && same < n && (at[same] | 32) == (value[same] | 32))
            same++;
        if (same == length && n == length)
            return true;
        if (at[length] == '\0')
            return false;
        at += length + 1;
    }
}

static int bad_value(const struct verb *verb, const char *name, const struct arg_option *option,
                     const char *value)
{
    if (option->kind == ARG_CHOICE)
        return verb_usage(verb, "%s: expected one of %s, not \"%s\"", name, option->meta, value);
    const char *kind = option->kind == ARG_INT ? "a whole number" : "a number";
    if (option->min == 0 && option->max == 0)
        return verb_usage(verb, "%s: expected %s, not \"%s\"", name, kind, value);
    if (option->max >= 1e9)
        return verb_usage(verb, "%s: expected %s of at least %g, not \"%s\"", name, kind, option->min, value);
    return verb_usage(verb, "%s: expected %s from %g to %g, not \"%s\"", name, kind, option->min, option->max,
                      value);
}

static bool in_range(const struct arg_option *option, double value)
{
    return (option->min == 0 && option->max == 0) || (value >= option->min && value <= option->max);
}

/* Writes a value where the option wants it; false where it is none. */
static bool store(const struct arg_option *option, void *target, const char *value)
{
    char *end;
    errno = 0;
    switch (option->kind) {
    case ARG_FLAG:
        *(bool *)target = true;
        return true;
    case ARG_INT: {
        long long number = strtoll(value, &end, 10);
        *(int64_t *)target = number;
        return end != value && *end == '\0' && errno == 0 && in_range(option, (double)number);
    }
    case ARG_REAL: {
        double number = strtod(value, &end);
        *(double *)target = number;
        return end != value && *end == '\0' && !isnan(number) && in_range(option, number);
    }
    case ARG_TEXT:
    case ARG_FILE:
        *(const char **)target = value;
        return true;
    case ARG_LIST: {
        struct arg_list *list = target;
        list->items = need_memory((void *)list->items, list->n + 1, sizeof *list->items);
        list->items[list->n++] = value;
        return true;
    }
    case ARG_CHOICE:
        return find_choice(option->meta, value, target);
    }
    return false;
}

/* ---- parsing ---- */

/* Parses argv[*at], an option, and its value. EXIT_DONE, or the code to exit with. */
static int parse_option(const struct verb *verb, void *options, int argc, char **argv, int *at)
{
    const char *word = argv[*at];
    size_t length = strlen(word), base = 0;
    const char *value = NULL;
    const struct arg_option *option = find_option(verb, word, length, &base);
    if (!option && word[0] == '-' && word[1] == '-' && strchr(word, '=')) {
        length = strcspn(word, "=");
        value = word + length + 1;
        option = find_option(verb, word, length, &base);
    }
    if (!option)
        return unknown_option(verb, word, length);
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    if (option->kind == ARG_FLAG && value)
        return verb_usage(verb, "%s takes no value", name);
    if (option->kind != ARG_FLAG && !value) {
        if (*at + 1 >= argc)
            return verb_usage(verb, "%s needs a value: %s %s", name, name, option->meta);
        value = argv[++*at];
    }
    if (!store(option, (char *)options + base + option->offset, value))
        return bad_value(verb, name, option, value);
    return EXIT_DONE;
}

int verb_main(const struct verb *verb, int argc, char **argv)
{
    void *options = need_memory(NULL, verb->size + 1, 1); /* some have none */
    if (verb->size > 0)
        memcpy(options, verb->defaults, verb->size);
    struct arg_list rest = {0};
    rest.items = need_memory(NULL, (size_t)argc + 1, sizeof *rest.items);
    bool only_rest = false;
    int code = EXIT_DONE;
    bool help = false;
    for (int i = 0; i < argc && code == EXIT_DONE && !help; i++) {
        if (only_rest || argv[i][0] != '-' || argv[i][1] == '\0')
            rest.items[rest.n++] = argv[i];
        else if (strcmp(argv[i], "--") == 0)
            only_rest = true;
        else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
            help = true;
        else
            code = parse_option(verb, options, argc, argv, &i);
    }
    if (code == EXIT_DONE && help)
        verb_help(verb, stdout);
    else if (code == EXIT_DONE && rest.n > verb->max_rest)
        code = verb_usage(verb, "\"%s\" is one argument too many", rest.items[verb->max_rest]);
    else if (code == EXIT_DONE)
        code = verb->run(options, &rest);
    for (size_t t = 0; t < VERB_TABLES; t++)
        for (size_t i = 0; i < verb->tables[t].n; i++)
            if (verb->tables[t].options[i].kind == ARG_LIST)
                free((void *)((struct arg_list *)(void *)((char *)options + verb->tables[t].base +
                                                          verb->tables[t].options[i].offset))
                         ->items);
    free((void *)rest.items);
    free(options);
    return code;
}

int verb_usage(const struct verb *verb, const char *fmt, ...)
{
    va_list args;
    fprintf(stderr, "quern %s: ", verb->name);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, " (see quern help %s)\n", verb->name);
    return EXIT_USAGE;
}

/* ---- help ---- */

static void help_default(const struct verb *verb, const struct arg_table *table,
                         const struct arg_option *option, FILE *out)
{
    const char *value = (const char *)verb->defaults + table->base + option->offset;
    if (option->kind == ARG_INT)
        fprintf(out, " (default %lld)", (long long)*(const int64_t *)(const void *)value);
    else if (option->kind == ARG_REAL)
        fprintf(out, " (default %g)", *(const double *)(const void *)value);
    else if (option->kind == ARG_CHOICE && *(const int64_t *)(const void *)value >= 0) {
        const char *word = option->meta;
        for (int64_t i = *(const int64_t *)(const void *)value; i > 0; i--)
            word += strcspn(word, "|") + 1;
        fprintf(out, " (default %.*s)", (int)strcspn(word, "|"), word);
    } else if (option->kind == ARG_TEXT && *(const char *const *)(const void *)value)
        fprintf(out, " (default %s)", *(const char *const *)(const void *)value);
}

void verb_help(const struct verb *verb, FILE *out)
{
    enum { COLUMN = 34 };
    fprintf(out, "Usage: quern %s%s%s\n\n%s\n", verb->name, verb->synopsis[0] ? " " : "", verb->synopsis,
            verb->summary);
    for (size_t t = 0; t < VERB_TABLES && verb->tables[t].n > 0; t++) {
        const struct arg_table *table = &verb->tables[t];
        fprintf(out, "\n%s:\n", table->title);
        for (size_t i = 0; i < table->n; i++) {
            const struct arg_option *option = &table->options[i];
            if (option->hidden)
                continue;
            int n = fprintf(out, "  %s%s%s", option->names, option->meta ? " " : "",
                            option->meta ? option->meta : "");
            if (n >= COLUMN - 1) {
                fputc('\n', out);
                n = 0;
            }
            fprintf(out, "%*s%s", COLUMN - n, "", option->help);
            help_default(verb, table, option, out);
            fputc('\n', out);
        }
    }
    fprintf(out, "%s  %-*s%s\n", verb->tables[0].n > 0 ? "" : "\nOptions:\n", COLUMN - 2, "-h, --help",
            "show this text");
    if (verb->details)
        fprintf(out, "\n%s\n", verb->details);
}
