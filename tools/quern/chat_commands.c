/* What begins with a slash is for the program, not for the model. */
#include "chat.h"
#include "term.h"

#include "base/guess.h"

#include <string.h>

struct command {
    const char *names; /* "reset, clear" */
    const char *meta;  /* what follows, NULL: nothing */
    bool needs;        /* it must follow */
    const char *help;
    int (*run)(struct chat *chat, const char *rest);
};

static int print_help(struct chat *chat, const char *rest);

static int set_system(struct chat *chat, const char *rest)
{
    if (rest[0])
        chat_set_system(chat, strcmp(rest, "-") == 0 ? NULL : rest);
    const char *text = chat_system(chat);
    fprintf(stderr, "system message: %s\n", text ? text : "none");
    return EXIT_DONE;
}

static int save(struct chat *chat, const char *rest)
{
    int code = chat_save(chat, rest);
    if (code == EXIT_DONE)
        fprintf(stderr, "saved %d messages to %s\n", cJSON_GetArraySize(chat->messages), rest);
    return code;
}

static int load(struct chat *chat, const char *rest)
{
    int code = chat_load(chat, rest);
    if (code == EXIT_DONE)
        fprintf(stderr, "loaded %d messages from %s\n", cJSON_GetArraySize(chat->messages), rest);
    return code;
}

static int reset(struct chat *chat, const char *rest)
{
    (void)rest;
    chat_reset(chat);
    fprintf(stderr, "the conversation is forgotten%s\n",
            chat_system(chat) ? ", but not the system message" : "");
    return EXIT_DONE;
}

static int print_stats(struct chat *chat, const char *rest)
{
    (void)rest;
    chat_print_stats(chat, stderr);
    return EXIT_DONE;
}

static int answer_again(struct chat *chat, const char *rest)
{
    (void)rest;
    cJSON *before = strcmp(chat_role(chat, -1), "assistant") == 0 ? chat_take_last(chat) : NULL;
    bool asked = strcmp(chat_role(chat, -1), "user") == 0;
    int code = asked ? chat_answer(chat) : fault_text(NULL, "/regen: there is no message to answer");
    if (before && strcmp(chat_role(chat, -1), "assistant") != 0)
        json_add(chat->messages, before); /* it stays where no other came */
    else
        cJSON_Delete(before);
    return code;
}

static int undo(struct chat *chat, const char *rest)
{
    (void)rest;
    bool answer = strcmp(chat_role(chat, -1), "assistant") == 0;
    if (answer)
        chat_drop_last(chat);
    bool message = strcmp(chat_role(chat, -1), "user") == 0;
    if (message)
        chat_drop_last(chat);
    if (!answer && !message)
        return fault_text(NULL, "/undo: there is nothing to take back");
    fprintf(stderr, "took back the last message%s\n", message && answer ? " and its answer" : "");
    return EXIT_DONE;
}

static int quit(struct chat *chat, const char *rest)
{
    (void)rest;
    chat->done = true;
    return EXIT_DONE;
}

static const struct command commands[] = {
    {"help", NULL, false, "show this text", print_help},
    {"system", "[TEXT]", false, "show the system message, or set it; - takes it away", set_system},
    {"regen", NULL, false, "answer the last message again", answer_again},
    {"undo", NULL, false, "take back the last message and its answer", undo},
    {"reset, clear", NULL, false, "forget the conversation, but not the system message", reset},
    {"save", "FILE", true, "write the conversation to a file", save},
    {"load", "FILE", true, "go on with the conversation of a file", load},
    {"stats", NULL, false, "tell what the last answer and all together took", print_stats},
    {"quit, exit, bye", NULL, false, "leave; so does Ctrl-D", quit},
};

static int print_help(struct chat *chat, const char *rest)
{
    (void)chat, (void)rest;
    for (size_t i = 0; i < ARG_N(commands); i++) {
        char names[64] = "";
        size_t n = 0;
        for (const char *at = commands[i].names; *at; at++) {
            bool begins = at == commands[i].names || at[-1] == ' ';
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%c", begins ? "/" : "", *at);
        }
        snprintf(names + n, sizeof names - n, "%s%s", commands[i].meta ? " " : "",
                 commands[i].meta ? commands[i].meta : "");
        fprintf(stderr, "  %-22s%s\n", names, commands[i].help);
    }
    fputs("A line that ends with \\ goes on; lines between two that are \"\"\" are one message. To begin a "
          "message\n"
          "with a slash, put a blank before it. Ctrl-C ends an answer and keeps what there is of it.\n",
          stderr);
    return EXIT_DONE;
}

bool chat_is_command(const struct message *message)
{
    return !message->literal && message->text.data[0] == '/' && !strchr(message->text.data, '\n');
}

/* Whether "reset, clear" has the word. */
static bool has_name(const char *names, const char *word, size_t n)
{
    for (const char *at = names; *at;) {
        size_t length = strcspn(at, ", ");
        if (length == n && memcmp(at, word, n) == 0)
            return true;
        at += length;
        at += strspn(at, ", ");
    }
    return false;
}

static int unknown(const char *word, size_t n)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : (int)sizeof name - 1, word);
    struct qn_guess guess;
    qn_guess_start(&guess, name);
    for (size_t i = 0; i < ARG_N(commands); i++)
        for (const char *at = commands[i].names; *at;) {
            size_t length = strcspn(at, ", ");
            qn_guess_try(&guess, at, length);
            at += length;
            at += strspn(at, ", ");
        }
    const char *best = qn_guess_end(&guess);
    if (best)
        return fault_text(NULL, "there is no command /%s; did you mean /%s? (/help lists them)", name, best);
    return fault_text(NULL, "there is no command /%s (/help lists them)", name);
}

int chat_command(struct chat *chat, const char *line)
{
    const char *word = line + 1;
    size_t n = strcspn(word, " \t");
    const char *begin = word + n + strspn(word + n, " \t");
    struct buffer rest = {0};
    buffer_put(&rest, begin, strlen(begin));
    while (rest.n > 0 && strchr(" \t", rest.data[rest.n - 1]))
        rest.data[--rest.n] = '\0';
    const struct command *command = NULL;
    for (size_t i = 0; i < ARG_N(commands) && !command; i++)
        if (has_name(commands[i].names, word, n))
            command = &commands[i];
    int code;
    if (!command)
        code = unknown(word, n);
    else if (command->needs && rest.n == 0)
        code = fault_text(NULL, "/%.*s needs a value: /%.*s %s", (int)n, word, (int)n, word, command->meta);
    else if (!command->meta && rest.n > 0)
        code = fault_text(NULL, "/%.*s takes no value", (int)n, word);
    else
        code = command->run(chat, rest.data);
    buffer_finish(&rest);
    return code;
}
