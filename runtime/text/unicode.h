/* UTF-8 and the few Unicode properties that splitting and normalising need. */
#ifndef QN_TEXT_UNICODE_H
#define QN_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QN_UTF8_BAD UINT32_MAX

/* The code point at `text` (len > 0 bytes are there) and its bytes in *n. What is not UTF-8 (RFC 3629: no
 * surrogates, no overlong forms, nothing above U+10FFFF) is QN_UTF8_BAD with *n = 1. */
uint32_t qn_utf8_decode(const char *text, size_t len, unsigned *n);
/* Bytes written, 1 to 4. cp must be a scalar value. */
unsigned qn_utf8_encode(uint32_t cp, char out[4]);
/* Whether the bytes are the beginning of a character that more bytes may complete (not whole, not broken). */
bool qn_utf8_is_prefix(const uint8_t *bytes, size_t len);

enum qn_char_class {
    QN_CH_LETTER = 1,   /* \p{L} */
    QN_CH_NUMBER = 2,   /* \p{N} */
    QN_CH_SPACE = 4,    /* White_Space */
    QN_CH_PUNCT = 8,    /* \p{P} */
    QN_CH_SYMBOL = 16,  /* \p{S} */
    QN_CH_MARK = 32,    /* \p{M} */
    QN_CH_CONTROL = 64, /* \p{Cc}, \p{Cf}, \p{Cs} */
    QN_CH_DIGIT = 128,  /* \p{Nd}, besides QN_CH_NUMBER */
};

/* Sum of qn_char_class. QN_UTF8_BAD counts as U+FFFD. */
unsigned qn_char_class(uint32_t cp);
/* The first code point of the canonical decomposition. */
uint32_t qn_char_nfd_first(uint32_t cp);
uint32_t qn_char_lower(uint32_t cp);
/* The ideographs that BERT's basic tokenizer puts between spaces. */
bool qn_char_is_cjk(uint32_t cp);

/* GPT-2's alphabet: each byte has a printable code point that stands for it in the vocabulary. */
uint32_t qn_byte_to_alphabet(uint8_t byte);
/* The byte, or -1 where the code point is not of the alphabet. */
int qn_alphabet_to_byte(uint32_t cp);

#endif
