/* Messages from lines: a line is a message; one that ends with a backslash goes on; lines between two that
 * are
 * """ are one message, whatever is in them. */
#include "chat.h"
#include "term.h"

#include <errno.h>
#include <string.h>

static const char block_mark[] = "\"\"\"";

void message_finish(struct message *message)
{
    buffer_finish(&message->text);
}

static bool is_mark(const char *text, size_t n)
{
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    return n == strlen(block_mark) && memcmp(text, block_mark, n) == 0;
}

/* Adds the lines of a text to a block. True: it is complete. */
static bool add_to_block(struct buffer *block, const char *text)
{
    for (;;) {
        size_t n = strcspn(text, "\n");
        if (is_mark(text, n)) {
            if (block->n > 0)
                block->data[--block->n] = '\0'; /* the newline before the mark */
            return true;
        }
        buffer_put(block, text, n);
        buffer_put(block, "\n", 1);
        if (text[n] == '\0')
            return false;
        text += n + 1;
    }
}

/* Adds a line. True: the message is complete. */
static bool add_line(struct message *message, const struct buffer *line, bool *in_block)
{
    if (*in_block)
        return add_to_block(&message->text, line->data);
    if (message->text.n == 0 && is_mark(line->data, strcspn(line->data, "\n"))) {
        *in_block = message->literal = true;
        const char *rest = strchr(line->data, '\n'); /* pasted together with its block */
        return rest && add_to_block(&message->text, rest + 1);
    }
    buffer_put(&message->text, line->data, line->n);
    if (line->n == 0 || line->data[line->n - 1] != '\\')
        return true;
    message->text.data[message->text.n - 1] = '\n';
    message->literal = true;
    return false;
}

/* At a terminal Ctrl-C gives up what was typed; twice with nothing typed it leaves. True: leave. */
static bool give_up(struct message *message, bool typed_anything, bool *warned)
{
    bool nothing = !typed_anything && message->text.n == 0 && !message->literal;
    bool leave = nothing && *warned;
    term_forget_interrupt();
    if (nothing && !leave)
        fputs("(Ctrl-C once more, Ctrl-D or /quit leaves)\n", stderr);
    *warned = nothing;
    message->text.n = 0;
    message->literal = false;
    return leave;
}

static bool is_blank(const struct buffer *text)
{
    return strspn(text->data, " \t\n") == text->n;
}

static enum input_result ended(const struct message *message, bool in_block)
{
    if (!in_block)
        return message->text.n > 0 ? INPUT_MESSAGE : INPUT_END;
    fault_text("standard input", "it ends within a block: a line that is %s is missing", block_mark);
    return INPUT_FAULT;
}

enum input_result chat_read(struct chat *chat, struct message *message)
{
    struct buffer line = {0};
    bool typed = lines_typed(chat->lines), in_block = false, warned = false, complete = false;
    enum input_result result = INPUT_MESSAGE;
    message->text.n = 0;
    buffer_put(&message->text, "", 0);
    message->literal = false;
    while (result == INPUT_MESSAGE && !complete) {
        bool more = message->text.n > 0 || message->literal;
        switch (lines_read(chat->lines, more ? "... " : "> ", &line)) {
        case LINE_READ:
            warned = false;
            complete = add_line(message, &line, &in_block);
            if (complete && is_blank(&message->text)) { /* nothing was said */
                complete = in_block = message->literal = false;
                message->text.n = 0;
            }
            break;
        case LINE_END:
            result = typed ? INPUT_END : ended(message, in_block);
            complete = true;
            break;
        case LINE_INTERRUPTED:
            in_block = false;
            if (!typed || term_terminated() || give_up(message, line.n > 0, &warned))
                result = INPUT_END;
            break;
        case LINE_FAULT:
            fault_text("standard input", "%s", strerror(errno));
            result = INPUT_FAULT;
            break;
        }
    }
    buffer_finish(&line);
    if (typed && result == INPUT_MESSAGE)
        lines_remember(chat->lines, message->text.data);
    return result;
}
