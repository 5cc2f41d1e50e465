/* Lists of words with spaces or commas between them. */
#ifndef QN_BASE_WORDS_H
#define QN_BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* The next word, of n characters, and on to what follows; NULL: there is none. */
const char *qn_word_next(const char **at, size_t *n);

/* The same as a text, cut to what there is room for; false: there is none. */
bool qn_word_take(const char **at, char *word, size_t size);

/* An A to Z as a to z, in any locale. */
static inline char qn_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Whether two texts of n characters are the same, but for case. */
bool qn_same_in_any_case(const char *a, const char *b, size_t n);

/* Place of a word of n characters in the list, from 0; SIZE_MAX: it is not there. */
size_t qn_word_place(const char *list, const char *word, size_t n);

#endif
