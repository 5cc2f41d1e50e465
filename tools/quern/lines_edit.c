/* Editing of lines at a terminal, with libedit.
 *
 * While a line is edited, Ctrl-C and Ctrl-Z are keys like any other, so that nothing happens behind the
 * editor's back. Text that is pasted comes between two marks (bracketed paste) and goes into the line as it
 * is, newlines too. */
#include "lines_edit.h"
#include "term.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <wchar.h>

enum { HISTORY_LENGTH = 1000 };

struct editor {
    EditLine *edit;
    History *history;
    FILE *out;
    const char *prompt;
    bool cancelled;       /* by Ctrl-C */
    struct buffer typed;  /* what was in the line by then */
    char path[PATH_ROOM]; /* of the history, "" for none */
};

static struct editor *editor_of(EditLine *edit)
{
    void *editor = NULL;
    el_get(edit, EL_CLIENTDATA, &editor);
    return editor;
}

static char *prompt_of(EditLine *edit)
{
    return (char *)(uintptr_t)editor_of(edit)->prompt;
}

/* ---- keys ---- */

static unsigned char on_cancel(EditLine *edit, int key)
{
    (void)key;
    struct editor *editor = editor_of(edit);
    const LineInfo *line = el_line(edit);
    editor->cancelled = true;
    editor->typed.n = 0;
    buffer_put(&editor->typed, line->buffer, (size_t)(line->lastchar - line->buffer));
    return CC_EOF;
}

/* The editor's own handler of the signal puts the terminal in order. */
static unsigned char on_suspend(EditLine *edit, int key)
{
    (void)edit, (void)key;
    raise(SIGTSTP);
    return CC_REFRESH;
}

/* Reads up to the mark that ends a paste and puts the text into the line. */
static unsigned char on_paste(EditLine *edit, int key)
{
    (void)key;
    static const wchar_t mark[] = L"\033[201~";
    const size_t n_mark = wcslen(mark);
    size_t n = 0, cap = 256;
    wchar_t *text = need_memory(NULL, cap, sizeof *text);
    wchar_t c, last = L'\0';
    bool ended = false;
    while (!ended && el_wgetc(edit, &c) == 1) {
        /* a line break has one half or two, which the terminal may have swapped */
        bool half = (c == L'\n' && last == L'\r') || (c == L'\r' && last == L'\n');
        last = half ? L'\0' : c;
        if (half)
            continue;
        if (n + 2 > cap)
            text = need_memory(text, cap *= 2, sizeof *text);
        text[n++] = c == L'\r' ? L'\n' : c;
        ended = n >= n_mark && wmemcmp(text + n - n_mark, mark, n_mark) == 0;
    }
    n -= ended ? n_mark : 0;
    text[n] = L'\0';
    bool fits = n == 0 || el_winsertstr(edit, text) == 0;
    free(text);
    return fits ? CC_REFRESH : CC_ERROR;
}

/* ---- the history's file ---- */

/* Makes the folders on the way to the last part of a path. */
static bool make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!ok)
            return false;
    }
    return true;
}

static void find_history(struct editor *editor, const char *name)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (state && state[0] == '/')
        n = snprintf(editor->path, PATH_ROOM, "%s/quern/%s", state, name);
    else if (home && home[0] == '/')
        n = snprintf(editor->path, PATH_ROOM, "%s/.local/state/quern/%s", home, name);
    if (n <= 0 || n >= PATH_ROOM)
        editor->path[0] = '\0';
}

/* ---- the editor ---- */

struct editor *editor_open(FILE *out, const char *history_name)
{
    struct editor *editor = need_memory(NULL, 1, sizeof *editor);
    *editor = (struct editor){.out = out, .prompt = ""};
    /* libedit reads characters, not bytes. */
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    editor->edit = el_init("quern", stdin, out, stderr);
    editor->history = history_init();
    if (!editor->edit || !editor->history) {
        editor_close(editor);
        return NULL;
    }
    HistEvent event;
    history(editor->history, &event, H_SETSIZE, HISTORY_LENGTH);
    history(editor->history, &event, H_SETUNIQUE, 1);
    find_history(editor, history_name);
    if (editor->path[0])
        history(editor->history, &event, H_LOAD, editor->path);
    el_set(editor->edit, EL_CLIENTDATA, editor);
    el_set(editor->edit, EL_PROMPT, prompt_of);
    el_set(editor->edit, EL_EDITOR, "emacs");
    el_set(editor->edit, EL_SIGNAL, 1);
    el_set(editor->edit, EL_HIST, history, editor->history);
    /* the wide call keeps these texts, the other one would copy and lose them */
    el_wset(editor->edit, EL_ADDFN, L"quern-cancel", L"Give up the line", on_cancel);
    el_wset(editor->edit, EL_ADDFN, L"quern-paste", L"Take pasted text", on_paste);
    el_wset(editor->edit, EL_ADDFN, L"quern-suspend", L"Stop the program until it is called back",
            on_suspend);
    el_set(editor->edit, EL_SETTY, "-d", "-isig", NULL);
    el_set(editor->edit, EL_BIND, "^C", "quern-cancel", NULL);
    el_set(editor->edit, EL_BIND, "^Z", "quern-suspend", NULL);
    el_set(editor->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(editor->edit, EL_BIND, "\\e[200~", "quern-paste", NULL);
    el_source(editor->edit, NULL); /* what the user has in ~/.editrc */
    return editor;
}

enum line_result editor_read(struct editor *editor, const char *prompt, struct buffer *line)
{
    int n = 0;
    editor->prompt = prompt;
    editor->cancelled = false;
    fputs("\033[?2004h", editor->out);
    errno = 0;
    const char *text = el_gets(editor->edit, &n);
    int error = errno;
    fputs("\033[?2004l", editor->out);
    fflush(editor->out);
    if (text && n > 0) {
        size_t length = strlen(text);
        buffer_put(line, text, length - (text[length - 1] == '\n'));
        return LINE_READ;
    }
    fputc('\n', editor->out);
    if (editor->cancelled) {
        buffer_put(line, editor->typed.data, editor->typed.n);
        return LINE_INTERRUPTED;
    }
    if (term_interrupted())
        return LINE_INTERRUPTED;
    errno = error;
    return n < 0 ? LINE_FAULT : LINE_END;
}

void editor_remember(struct editor *editor, const char *text)
{
    HistEvent event;
    if (text[0])
        history(editor->history, &event, H_ENTER, text);
}

void editor_close(struct editor *editor)
{
    HistEvent event;
    if (editor->edit && editor->path[0] && make_folders(editor->path))
        history(editor->history, &event, H_SAVE, editor->path);
    if (editor->history)
        history_end(editor->history);
    if (editor->edit)
        el_end(editor->edit);
    buffer_finish(&editor->typed);
    free(editor);
}
