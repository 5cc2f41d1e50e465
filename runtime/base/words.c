#include "base/words.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char between[] = " ,";

const char *qn_word_next(const char **at, size_t *n)
{
    const char *word = *at + strspn(*at, between);
    *n = strcspn(word, between);
    *at = word + *n;
    return *n > 0 ? word : NULL;
}

bool qn_word_take(const char **at, char *word, size_t size)
{
    size_t n;
    const char *have = qn_word_next(at, &n);
    if (have)
        snprintf(word, size, "%.*s", (int)n, have);
    return have != NULL;
}

bool qn_same_in_any_case(const char *a, const char *b, size_t n)
{
    size_t i = 0;
    while (i < n && qn_lower(a[i]) == qn_lower(b[i]))
        i++;
    return i == n;
}

size_t qn_word_place(const char *list, const char *word, size_t n)
{
    const char *at = list, *have;
    size_t length;
    for (size_t i = 0; (have = qn_word_next(&at, &length)) != NULL; i++)
        if (length == n && memcmp(have, word, n) == 0)
            return i;
    return SIZE_MAX;
}
