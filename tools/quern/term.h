/* The terminal: progress on it, Ctrl-C from it, and the clock for what is shown. */
#ifndef TOOL_TERM_H
#define TOOL_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* From now on the first Ctrl-C, or request to terminate, asks the work to end; a second one ends the process.
 */
void term_catch_interrupt(void);
/* Whether the work shall end. */
bool term_interrupted(void);
/* Whether nothing more can be written to stdout. A write that an interrupt cut short is no fault. */
bool term_broken(void);
/* The Ctrl-C has been answered: the next one counts as the first again. */
void term_forget_interrupt(void);
/* Whether the process shall end, whatever Ctrl-C means at the moment. */
bool term_terminated(void);

bool term_is_terminal(FILE *stream);

/* Writes text to stdout at once. While its line is not ended, no status is shown: it would wipe the line. */
void term_text(const char *text, size_t n);
/* One line on stderr that is written over; nothing where stderr is no terminal. */
void term_status(const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;
/* A bar for `done` of `total`. */
void term_progress(const char *what, uint64_t done, uint64_t total);
/* Wipes the line. */
void term_status_end(void);

/* Monotonic nanoseconds. */
uint64_t term_now_ns(void);
/* Seconds since 1970-01-01 00:00 in local time. */
int64_t term_local_seconds(void);
/* A number that differs from run to run. */
uint32_t term_random(void);
/* Path of this program without links; false where it cannot be found out. */
bool term_program_path(char *path, size_t size);
/* Sets "NAME=VALUE" in the process's environment. */
bool term_set_environment(const char *assignment);
/* Ends the process after so many seconds, whatever it is doing (0: never; not on Windows). */
void term_alarm(unsigned seconds);
/* Processors that the process may use. */
unsigned term_processors(void);
/* Name of the processor, "" where it is not known. */
void term_processor_name(char *name, size_t size);

#endif
