/* Editing of lines at a terminal. */
#ifndef TOOL_LINES_EDIT_H
#define TOOL_LINES_EDIT_H

#include "lines.h"

struct editor;

/* `out`: the terminal; `history` as in lines_open. NULL where the terminal cannot be used so. */
struct editor *editor_open(FILE *out, const char *history);
enum line_result editor_read(struct editor *editor, const char *prompt, struct buffer *line);
void editor_remember(struct editor *editor, const char *text);
void editor_close(struct editor *editor);

#endif
