/* The terminal: progress on it, Ctrl-C from it, and the clock for what is shown. */
#ifndef TOOL_TERM_H
#define TOOL_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* From now on the first Ctrl-C asks the work to end; a second one ends the process. */
void term_catch_interrupt(void);
bool term_interrupted(void);

bool term_is_terminal(FILE *stream);

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
/* A number that differs from run to run. */
uint32_t term_random(void);
/* Processors that the process may use. */
unsigned term_processors(void);
/* Name of the processor, "" where it is not known. */
void term_processor_name(char *name, size_t size);

#endif
