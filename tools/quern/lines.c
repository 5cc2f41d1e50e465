/* Lines of standard input, as they come. */
#include "lines.h"
#include "term.h"

#ifdef QN_HAVE_LIBEDIT
#include "lines_edit.h"
#else
struct editor;
#endif

#include <errno.h>
#include <stdlib.h>

struct lines {
    bool typed;
    FILE *out;             /* where prompts go */
    struct editor *editor; /* NULL: lines as the terminal sends them */
};

struct lines *lines_open(const char *history)
{
    struct lines *lines = need_memory(NULL, 1, sizeof *lines);
    *lines = (struct lines){.typed = term_is_terminal(stdin)};
    lines->out = term_is_terminal(stdout) ? stdout : stderr;
#ifdef QN_HAVE_LIBEDIT
    if (lines->typed)
        lines->editor = editor_open(lines->out, history);
#else
    (void)history;
#endif
    return lines;
}

bool lines_typed(const struct lines *lines)
{
    return lines->typed;
}

bool lines_editing(void)
{
#ifdef QN_HAVE_LIBEDIT
    return true;
#else
    return false;
#endif
}

static enum line_result read_plain(struct buffer *line)
{
    int c;
    errno = 0;
    while ((c = getc(stdin)) != EOF && c != '\n') {
        char byte = (char)c;
        buffer_put(line, &byte, 1);
    }
    if (term_interrupted()) {
        clearerr(stdin);
        return LINE_INTERRUPTED;
    }
    if (c == EOF && ferror(stdin))
        return LINE_FAULT;
    if (c == EOF && line->n == 0)
        return LINE_END;
    if (line->n > 0 && line->data[line->n - 1] == '\r')
        line->data[--line->n] = '\0';
    return LINE_READ;
}

enum line_result lines_read(struct lines *lines, const char *prompt, struct buffer *line)
{
    line->n = 0;
    buffer_put(line, "", 0);
#ifdef QN_HAVE_LIBEDIT
    if (lines->editor)
        return editor_read(lines->editor, prompt, line);
#endif
    if (lines->typed) {
        fputs(prompt, lines->out);
        fflush(lines->out);
    }
    enum line_result result = read_plain(line);
    if (lines->typed && result != LINE_READ)
        fputc('\n', lines->out);
    return result;
}

void lines_remember(struct lines *lines, const char *text)
{
#ifdef QN_HAVE_LIBEDIT
    if (lines->editor)
        editor_remember(lines->editor, text);
#else
    (void)lines, (void)text;
#endif
}

void lines_close(struct lines **lines)
{
    if (!*lines)
        return;
#ifdef QN_HAVE_LIBEDIT
    if ((*lines)->editor)
        editor_close((*lines)->editor);
#endif
    free(*lines);
    *lines = NULL;
}
