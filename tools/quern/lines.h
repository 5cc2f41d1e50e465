/* Lines of standard input: typed at a terminal, with editing and a history where the build has libedit, or
 * from a pipe. */
#ifndef TOOL_LINES_H
#define TOOL_LINES_H

#include "common.h"

enum line_result {
    LINE_READ,
    LINE_END,         /* of the input, or Ctrl-D */
    LINE_INTERRUPTED, /* Ctrl-C; the line holds what was typed before it, at a terminal with editing */
    LINE_FAULT,       /* the input cannot be read; errno says why */
};

struct lines;

/* `history`: name of the history's file in the user's state folder. */
struct lines *lines_open(const char *history);
/* Whether somebody types. */
bool lines_typed(const struct lines *lines);
/* Reads one line, without its newline. `prompt` shows only where somebody types. A text that was pasted in
 * one go is one line with newlines in it. */
enum line_result lines_read(struct lines *lines, const char *prompt, struct buffer *line);
/* Keeps a text in the history, if there is one. */
void lines_remember(struct lines *lines, const char *text);
void lines_close(struct lines **lines);

/* Whether this build edits lines. */
bool lines_editing(void);

#endif
