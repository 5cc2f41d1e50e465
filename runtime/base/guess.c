#include "base/guess.h"

#include "base/words.h"

#include <stdint.h>
#include <string.h>

/* Levenshtein distance of two short words, in any case. */
static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    enum { LONGEST = 47 };
    size_t row[LONGEST + 1];
    if (n_a > LONGEST || n_b > LONGEST)
        return SIZE_MAX;
    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = diagonal + (qn_lower(a[i - 1]) != qn_lower(b[j - 1]));
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n_b];
}

void qn_guess_start(struct qn_guess *guess, const char *word)
{
    *guess = (struct qn_guess){.word = word, .distance = SIZE_MAX};
}

void qn_guess_try(struct qn_guess *guess, const char *candidate, size_t length)
{
    size_t n = strlen(guess->word);
    size_t d = distance(guess->word, n, candidate, length);
    if (n > 3 && length > n && qn_same_in_any_case(guess->word, candidate, n))
        d = 1; /* the beginning of it */
    if (d < guess->distance && length < sizeof guess->best) {
        memcpy(guess->best, candidate, length);
        guess->best[length] = '\0';
        guess->distance = d;
    }
}

const char *qn_guess_end(const struct qn_guess *guess)
{
    size_t n = strlen(guess->word);
    size_t limit = n <= 2 ? 0 : n <= 4 ? 1 : n <= 8 ? 2 : 3;
    return guess->distance <= limit ? guess->best : NULL;
}
