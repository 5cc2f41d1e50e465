/* quern chat: what its files share. The messages are in chat_messages.c, what the template makes of them in
 * chat_template.c, answers in chat_answer.c, what the user types in chat_input.c and chat_commands.c. */
#ifndef TOOL_CHAT_H
#define TOOL_CHAT_H

#include "lines.h"
#include "sampling.h"

#include <quern/chat.h>

struct chat_options {
    struct model_options model;
    struct sampling_options sampling;
    const char *system, *template, *prompt, *load, *save;
    struct arg_list variables;
    int64_t n_predict, overflow;
    bool json, single;
};

/* A template, made ready for one model. */
struct chat_template {
    struct quern_chat_template *compiled;
    const char *path; /* where it is from, for messages */
    char *variables;  /* JSON, or NULL */
    char *bos, *eos;
    int64_t now;     /* that of the first answer: a template that shows it shows the same every time */
    int32_t end;     /* control token that ends an answer beside those of the vocabulary; -1: none */
    char *stop_text; /* text that does, where there is no such token; NULL: none */
};

/* Counts of one answer, or of all together. */
struct chat_counts {
    size_t n_prompt, n_reused, n_evaluated; /* the prompt's tokens: all, kept from before, evaluated */
    size_t n_generated, n_dropped;          /* tokens of the answer; turns that are no longer seen */
    uint64_t prompt_ns, generate_ns, first_ns;
};

struct chat {
    const struct chat_options *options;
    struct loaded loaded;
    struct sampling sampling;
    struct chat_template template;
    struct lines *lines;
    bool typed;      /* somebody sits there: faults do not end the conversation */
    bool done;       /* the user wants to leave */
    cJSON *messages; /* array of {"role", "content"} */
    int first; /* message from which on the model sees the conversation; a system message it always sees */
    uint64_t n_answers;
    struct chat_counts last, total;
    const char *last_stop;
};

/* ---- messages ---- */

void chat_add(struct chat *chat, const char *role, const char *text, size_t length);
/* Takes the last message off; the caller deletes it. NULL: there is none. */
cJSON *chat_take_last(struct chat *chat);
void chat_drop_last(struct chat *chat);
/* Role of message i, counted from the end where i is negative; "" where there is none. */
const char *chat_role(const struct chat *chat, int i);
/* Text of the system message, or NULL. */
const char *chat_system(const struct chat *chat);
/* Sets the system message; NULL takes it away. */
void chat_set_system(struct chat *chat, const char *text);
/* Forgets all but the system message. */
void chat_reset(struct chat *chat);
/* Replaces the messages by those of a file; on failure they stay. Returns an exit code. */
int chat_load(struct chat *chat, const char *path);
/* Writes the messages; the file is complete or as it was. Returns an exit code. */
int chat_save(const struct chat *chat, const char *path);

/* ---- the template ---- */

/* Finds and compiles the template. Returns an exit code. */
int chat_template_open(struct chat *chat);
void chat_template_close(struct chat_template *template);
/* Tokens of a JSON array of messages, which asks for an answer. Returns an exit code. */
int chat_template_ids(const struct chat *chat, const cJSON *messages, struct id_list *ids);

/* ---- answers ---- */

/* Answers the last message, which is the user's, and adds the answer to the messages. A fault, or Ctrl-C
 * before there was any text, adds nothing. Returns an exit code. */
int chat_answer(struct chat *chat);
void chat_print_stats(const struct chat *chat, FILE *out);

/* ---- what the user types ---- */

struct message {
    struct buffer text;
    bool literal; /* a block or several lines: no command, whatever it begins with */
};
void message_finish(struct message *message);

enum input_result {
    INPUT_MESSAGE,
    INPUT_END,   /* of the input, or the user wants to leave */
    INPUT_FAULT, /* a line was written */
};
/* Reads a message of one or more lines, never an empty one. */
enum input_result chat_read(struct chat *chat, struct message *message);

/* Whether a message is a command. */
bool chat_is_command(const struct message *message);
/* Does what the command says. Returns an exit code. */
int chat_command(struct chat *chat, const char *line);

#endif
