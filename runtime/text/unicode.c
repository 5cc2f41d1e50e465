#include "text/unicode.h"

#include <utf8proc.h>

/* Allowed range of the second byte for a lead byte (Unicode standard, table 3-7); the length is the return
 * value, 0 where the byte leads nothing. */
static unsigned lead(uint8_t byte, uint8_t *low, uint8_t *high)
{
    *low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    *high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    if (byte < 0x80)
        return 1;
    if (byte < 0xC2)
        return 0;
    return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : byte < 0xF5 ? 4 : 0;
}

uint32_t qn_utf8_decode(const char *text, size_t len, unsigned *n)
{
    const uint8_t *b = (const uint8_t *)text;
    *n = 1;
    if (b[0] < 0x80)
        return b[0];
    uint8_t low, high;
    unsigned need = lead(b[0], &low, &high);
    if (need < 2 || len < need || b[1] < low || b[1] > high)
        return QN_UTF8_BAD;
    uint32_t cp = b[0] & (0xFFu >> (need + 1));
    for (unsigned i = 1; i < need; i++) {
        if ((b[i] & 0xC0) != 0x80)
            return QN_UTF8_BAD;
        cp = cp << 6 | (b[i] & 0x3F);
    }
    *n = need;
    return cp;
}

unsigned qn_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    unsigned n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (unsigned i = n; i-- > 1; cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00u >> n & 0xF0) | cp);
    return n;
}

bool qn_utf8_is_prefix(const uint8_t *bytes, size_t len)
{
    uint8_t low, high;
    if (len == 0 || len >= lead(bytes[0], &low, &high))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (bytes[i] < low || bytes[i] > high)
            return false;
        low = 0x80;
        high = 0xBF;
    }
    return true;
}

static bool is_space(uint32_t cp)
{
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static unsigned category_class(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return QN_CH_LETTER;
    case UTF8PROC_CATEGORY_ND:
        return QN_CH_NUMBER | QN_CH_DIGIT;
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return QN_CH_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return QN_CH_PUNCT;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return QN_CH_SYMBOL;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return QN_CH_MARK;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
        return QN_CH_CONTROL;
    default:
        return 0;
    }
}

unsigned qn_char_class(uint32_t cp)
{
    static const uint8_t ascii[128] = {
        [0 ... 8] = QN_CH_CONTROL,    [9 ... 13] = QN_CH_SPACE,
        [14 ... 31] = QN_CH_CONTROL,  [' '] = QN_CH_SPACE,
        ['!' ... '#'] = QN_CH_PUNCT,  ['$'] = QN_CH_SYMBOL,
        ['%' ... '*'] = QN_CH_PUNCT,  ['+'] = QN_CH_SYMBOL,
        [',' ... '/'] = QN_CH_PUNCT,  ['0' ... '9'] = QN_CH_NUMBER | QN_CH_DIGIT,
        [':' ... ';'] = QN_CH_PUNCT,  ['<' ... '>'] = QN_CH_SYMBOL,
        ['?' ... '@'] = QN_CH_PUNCT,  ['A' ... 'Z'] = QN_CH_LETTER,
        ['[' ... ']'] = QN_CH_PUNCT,  ['^'] = QN_CH_SYMBOL,
        ['_'] = QN_CH_PUNCT,          ['`'] = QN_CH_SYMBOL,
        ['a' ... 'z'] = QN_CH_LETTER, ['{'] = QN_CH_PUNCT,
        ['|'] = QN_CH_SYMBOL,         ['}'] = QN_CH_PUNCT,
        ['~'] = QN_CH_SYMBOL,         [127] = QN_CH_CONTROL,
    };
    if (cp < 128)
        return ascii[cp];
    if (cp == QN_UTF8_BAD)
        return QN_CH_SYMBOL;
    return is_space(cp) ? QN_CH_SPACE : category_class(cp);
}

uint32_t qn_char_nfd_first(uint32_t cp)
{
    if (cp < 0xC0)
        return cp;
    utf8proc_int32_t parts[8];
    int bound = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 8, UTF8PROC_DECOMPOSE, &bound);
    return n > 0 ? (uint32_t)parts[0] : cp;
}

uint32_t qn_char_lower(uint32_t cp)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

bool qn_char_is_cjk(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B820 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* Printable Latin-1 stands for itself; the other bytes follow from U+0100 on, in order. */
static bool is_own(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

uint32_t qn_byte_to_alphabet(uint8_t byte)
{
    if (is_own(byte))
        return byte;
    if (byte <= 32)
        return 0x100u + byte;
    return byte <= 160 ? 0x100u + 33 + (byte - 127u) : 0x100u + 33 + 34;
}

int qn_alphabet_to_byte(uint32_t cp)
{
    if (cp < 0x100)
        return is_own(cp) ? (int)cp : -1;
    uint32_t i = cp - 0x100;
    if (i <= 32)
        return (int)i;
    if (i < 33 + 34)
        return (int)(127 + (i - 33));
    return i == 33 + 34 ? 173 : -1;
}
