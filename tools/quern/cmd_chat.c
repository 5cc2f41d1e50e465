/* quern chat: a conversation with a model, at a terminal or through a pipe. */
#include "chat.h"
#include "default_model.h"
#include "term.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>

/* ---- beginning ---- */

static int load_messages(struct chat *chat)
{
    const struct chat_options *o = chat->options;
    chat->messages = json_array();
    int code = o->load ? chat_load(chat, o->load) : EXIT_DONE;
    if (code == EXIT_DONE && o->system)
        chat_set_system(chat, o->system);
    return code;
}

static int open_chat(struct chat *chat)
{
    const struct chat_options *o = chat->options;
    int code = sampling_start(&chat->sampling, &verb_chat, &o->sampling);
    if (code == EXIT_DONE)
        code = load_messages(chat);
    if (code == EXIT_DONE)
        code = open_model(&chat->loaded, &o->model, (uint32_t)o->model.ctx);
    if (code == EXIT_DONE)
        code = chat_template_open(chat);
    if (code == EXIT_DONE)
        code = open_session(&chat->loaded, &o->model, quern_session_params(.overflow = QUERN_OVERFLOW_ERROR));
    if (code == EXIT_DONE) { /* options that no sampler takes are told at once */
        struct quern_sampler *sampler = NULL;
        code =
            sampling_create(&chat->sampling, &chat->loaded, o->model.model, chat->sampling.seed, 0, &sampler);
        quern_sampler_destroy(&sampler);
    }
    return code;
}

static void close_chat(struct chat *chat)
{
    lines_close(&chat->lines);
    chat_template_close(&chat->template);
    sampling_finish(&chat->sampling);
    cJSON_Delete(chat->messages);
    close_model(&chat->loaded);
}

static void greet(const struct chat *chat)
{
    const struct quern_model_info *info = &chat->loaded.info;
    fprintf(stderr, "%s, %u tokens of context. /help lists the commands.\n",
            info->name[0] ? info->name : info->architecture, quern_session_n_ctx(chat->loaded.session));
}

/* ---- going on ---- */

static int say(struct chat *chat, const char *text, size_t n)
{
    chat_add(chat, "user", text, n);
    int code = chat_answer(chat);
    if (strcmp(chat_role(chat, -1), "user") == 0) { /* there was no answer */
        chat_drop_last(chat);
        if (chat->typed)
            fputs("(the message was taken back)\n", stderr);
    }
    return code;
}

/* What a command or an answer came to. At a terminal the conversation goes on after a fault and after Ctrl-C.
 */
static int settle(struct chat *chat, int code)
{
    bool broken = term_broken();
    if (!chat->typed || broken || term_terminated())
        return code;
    term_forget_interrupt();
    return EXIT_DONE;
}

static int converse(struct chat *chat)
{
    const struct chat_options *o = chat->options;
    int code = EXIT_DONE;
    if (o->prompt)
        code = settle(chat, say(chat, o->prompt, strlen(o->prompt)));
    bool done = o->prompt && o->single;
    struct message message = {0};
    while (code == EXIT_DONE && !done && !chat->done && !term_broken()) {
        enum input_result input = chat_read(chat, &message);
        if (input != INPUT_MESSAGE) {
            code = input == INPUT_FAULT ? EXIT_FAULT : term_interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
            break;
        }
        if (chat->typed)
            term_forget_interrupt(); /* one that came too late for the last answer is not for the next */
        bool command = chat_is_command(&message);
        code = settle(chat, command ? chat_command(chat, message.text.data)
                                    : say(chat, message.text.data, message.text.n));
        done = o->single && !command;
    }
    message_finish(&message);
    return code;
}

static int run_chat(const void *options, const struct arg_list *rest)
{
    struct chat_options chosen = *(const struct chat_options *)options;
    struct chat chat = {.options = &chosen};
    char room[DEFAULT_MODEL_PATH];
    int code = default_model(&verb_chat, &chosen.model, room);
    if (code == EXIT_DONE)
        code = open_chat(&chat);
    if (code == EXIT_DONE) {
        chat.lines = lines_open("chat_history");
        chat.typed = lines_typed(chat.lines) && !chosen.single;
        if (chat.typed)
            greet(&chat);
        code = converse(&chat);
        if (chosen.save) {
            int saved = chat_save(&chat, chosen.save);
            code = code == EXIT_DONE ? saved : code;
        }
    }
    close_chat(&chat);
    return code;
}

#define AT(member) offsetof(struct chat_options, member)

static const struct arg_option chat_args[] = {
    {"-p, --prompt", ARG_TEXT, AT(prompt), "TEXT", "the first message"},
    {"--system, -sys, --system-prompt", ARG_TEXT, AT(system), "TEXT", "the system message"},
    {"-n, --predict, --n-predict", ARG_INT, AT(n_predict), "N", "tokens of an answer at most; -1: no limit",
     -2, 1e9},
    {"--single-turn, -st", ARG_FLAG, AT(single), NULL, "leave after one answer"},
    {"--load", ARG_FILE, AT(load), "FILE", "begin with the conversation of a file"},
    {"--save", ARG_FILE, AT(save), "FILE", "write the conversation to a file at the end"},
    {"--chat-template", ARG_FILE, AT(template), "FILE",
     "a template in place of the model's; or one that it names"},
    {"--template-var", ARG_LIST, AT(variables), "KEY=JSON", "a variable of the template; may be repeated"},
    {"--overflow", ARG_CHOICE, AT(overflow), "drop|error",
     "a full context drops its oldest turns, or is a fault"},
    {"--json", ARG_FLAG, AT(json), NULL, "one line of JSON for each answer instead of text as it comes"},
};

static const struct chat_options chat_defaults = {
    .model = MODEL_DEFAULTS,
    .sampling = SAMPLING_DEFAULTS,
    .n_predict = -1,
};

const struct verb verb_chat = {
    .name = "chat",
    .summary = "Holds a conversation with a model.",
    .synopsis = "[-m MODEL] [-p MESSAGE] [options]",
    .details = "In a pipe each line of standard input is a message, and answers go to standard output.\n"
               "A line that ends with \\ goes on; lines between two that are \"\"\" are one message.\n"
               "/help lists the commands. Ctrl-C ends an answer and keeps what there is of it.\n"
               "Without -m the model is that of QUERN_MODEL, or the one that comes with the program.",
    .tables = {{"Model", model_arg, ARG_N(model_arg), AT(model)},
               {"Conversation", chat_args, ARG_N(chat_args), 0},
               {"Sampling", sampling_args, ARG_N(sampling_args), AT(sampling)},
               {"Context", context_args, ARG_N(context_args), AT(model)},
               {"Running", load_args, ARG_N(load_args), AT(model)}},
    .defaults = &chat_defaults,
    .size = sizeof(struct chat_options),
    .run = run_chat,
};
