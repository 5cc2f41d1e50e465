/* Options of the command: one table for each verb, from which it is parsed, explained and completed. */
#ifndef TOOL_ARGS_H
#define TOOL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    EXIT_DONE = 0,
    EXIT_FAULT = 1,         /* something went wrong while running */
    EXIT_USAGE = 2,         /* the command line is wrong */
    EXIT_INTERRUPTED = 130, /* Ctrl-C before there was a result */
};

enum arg_kind {
    ARG_FLAG,   /* bool, set to true */
    ARG_INT,    /* int64_t within min and max */
    ARG_REAL,   /* double within min and max */
    ARG_TEXT,   /* const char * */
    ARG_FILE,   /* const char *, a path */
    ARG_LIST,   /* struct arg_list, every use appends */
    ARG_CHOICE, /* int64_t, index of the word in meta ("f32|f16"), -1 where none was given */
};

struct arg_list {
    const char **items;
    size_t n;
};

struct arg_option {
    const char *names; /* "-m, --model": the first that starts with "--" is its name in messages */
    enum arg_kind kind;
    size_t offset;    /* of the variable in the verb's struct */
    const char *meta; /* what stands for the value: "FILE" */
    const char *help;
    double min, max; /* both 0: anything */
    bool hidden;     /* neither explained nor completed */
};

/* Options with a title; `base` is added to their offsets, so that verbs may share a table. */
struct arg_table {
    const char *title;
    const struct arg_option *options;
    size_t n;
    size_t base;
};

enum { VERB_TABLES = 5 };

struct verb {
    const char *name; /* one or two words */
    const char *summary;
    const char *synopsis; /* what follows the name */
    const char *details;  /* paragraph of the help text, NULL: none */
    struct arg_table tables[VERB_TABLES];
    size_t max_rest;      /* arguments that are not options */
    const char *rest;     /* what they are, for completion: "FILE", "VERB", "word|word" or NULL */
    const void *defaults; /* the struct that options are written to, as it is at first */
    size_t size;
    /* Returns the exit code. */
    int (*run)(const void *options, const struct arg_list *rest);
};

#define ARG_N(table) (sizeof(table) / sizeof((table)[0]))

/* Parses what follows the verb's name and runs it, or explains what is wrong. Returns the exit code. */
int verb_main(const struct verb *verb, int argc, char **argv);

/* Writes one line to stderr, "quern VERB: ...; see quern help VERB", and returns EXIT_USAGE. */
int verb_usage(const struct verb *verb, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

void verb_help(const struct verb *verb, FILE *out);

/* Calls `each` for every name of an option ("-m", then "--model"). */
void arg_each_name(const struct arg_option *option, void (*each)(void *user, const char *name, size_t length),
                   void *user);

/* Memory that the command cannot go on without: prints a line and exits where there is none. */
void *need_memory(void *ptr, size_t n, size_t size);

#endif
