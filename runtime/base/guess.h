/* What someone who mistyped a word may have meant. */
#ifndef QN_BASE_GUESS_H
#define QN_BASE_GUESS_H

#include <stddef.h>

/* The candidate closest to a mistyped word, in any case; NULL where none is close. */
struct qn_guess {
    const char *word;
    char best[48];
    size_t distance;
};
void qn_guess_start(struct qn_guess *guess, const char *word);
void qn_guess_try(struct qn_guess *guess, const char *candidate, size_t length);
const char *qn_guess_end(const struct qn_guess *guess);

#endif
