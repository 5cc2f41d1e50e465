/* Numbers as text, the same in every locale: the C library is asked only for digits, never for a point. */
#include "chat/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIGITS = 800 }; /* no double needs more to be told from its neighbours */

bool qn_int_parse(const char *text, size_t len, unsigned base, int64_t *i)
{
    uint64_t value = 0;
    for (size_t at = 0; at < len; at++) {
        if (text[at] == '_')
            continue;
        unsigned c = (uint8_t)text[at];
        unsigned digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (value > ((uint64_t)INT64_MAX - digit) / base)
            return false;
        value = value * base + digit;
    }
    *i = (int64_t)value;
    return true;
}

size_t qn_int_repr(int64_t i, char out[QN_NUMBER_ROOM])
{
    return (size_t)snprintf(out, QN_NUMBER_ROOM, "%lld", (long long)i);
}

/* Digits and a power of ten without a point: strtod reads that alike everywhere. */
bool qn_float_parse(const char *text, size_t len, double *f)
{
    char plain[MAX_DIGITS + 32];
    size_t n = 0;
    int64_t shift = 0, exponent = 0;
    bool point = false, more = false;
    size_t at = 0;
    for (; at < len && (text[at] | 32) != 'e'; at++) {
        if (text[at] == '_')
            continue;
        if (text[at] == '.') {
            point = true;
            continue;
        }
        shift -= point;
        if (n == 0 && text[at] == '0')
            continue;
        if (n < MAX_DIGITS) {
            plain[n++] = text[at];
        } else {
            more |= text[at] != '0';
            shift++;
        }
    }
    if (n == 0) {
        *f = 0;
        return true;
    }
    if (more)
        plain[n - 1] = plain[n - 1] == '0' || plain[n - 1] == '5' ? plain[n - 1] + 1 : plain[n - 1];
    if (at < len) {
        bool negative = text[++at] == '-';
        at += text[at] == '-' || text[at] == '+';
        for (; at < len; at++)
            if (text[at] != '_' && exponent < 100000000)
                exponent = 10 * exponent + (text[at] - '0');
        exponent = negative ? -exponent : exponent;
    }
    exponent += shift;
    exponent = exponent > 100000 ? 100000 : exponent < -100000 ? -100000 : exponent;
    snprintf(plain + n, sizeof plain - n, "e%d", (int)exponent);
    *f = strtod(plain, NULL);
    return true;
}

/* The digits of |f| rounded to `digits` of them, and the power of ten of the first. */
static int digits_of(double f, int digits, char *out)
{
    char text[MAX_DIGITS];
    snprintf(text, sizeof text, "%.*e", digits - 1, fabs(f));
    size_t n = 0;
    const char *c = text;
    for (; *c && *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            out[n++] = *c;
    out[n] = '\0';
    return *c == 'e' ? atoi(c + 1) : 0;
}

static size_t not_finite(double f, char *out)
{
    return (size_t)snprintf(out, QN_NUMBER_ROOM, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
}

/* digits with a point after `whole` of them (which may be below 1 or beyond their number). */
static size_t with_point(const char *digits, int whole, bool always_fraction, char *out)
{
    size_t n = 0;
    int count = (int)strlen(digits);
    if (whole <= 0)
        out[n++] = '0';
    for (int i = 0; i < whole; i++)
        out[n++] = i < count ? digits[i] : '0';
    if (whole < count || always_fraction)
        out[n++] = '.';
    for (int i = whole; i < 0 && whole < count; i++)
        out[n++] = '0';
    for (int i = whole < 0 ? 0 : whole; i < count; i++)
        out[n++] = digits[i];
    if (whole >= count && always_fraction)
        out[n++] = '0';
    return n;
}

size_t qn_float_repr(double f, char out[QN_NUMBER_ROOM])
{
    if (!isfinite(f))
        return not_finite(f, out);
    char digits[32], again[48];
    int exponent = 0;
    for (int count = 1; count <= 17; count++) {
        exponent = digits_of(f, count, digits);
        snprintf(again, sizeof again, "%se%d", digits, exponent - count + 1);
        if (strtod(again, NULL) == fabs(f))
            break;
    }
    size_t n = 0;
    if (signbit(f))
        out[n++] = '-';
    if (exponent >= -4 && exponent < 16)
        return n + with_point(digits, exponent + 1, true, out + n);
    n += with_point(digits, 1, false, out + n);
    return n + (size_t)snprintf(out + n, QN_NUMBER_ROOM - n, "e%c%02d", exponent < 0 ? '-' : '+',
                                exponent < 0 ? -exponent : exponent);
}

/* What snprintf wrote, with '.' for whatever stands between the digits. */
static size_t plain_point(char *text)
{
    size_t n = 0;
    bool inside = false;
    for (const char *c = text; *c; c++) {
        bool known = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == 'e' || *c == 'E';
        if (known || !inside)
            text[n++] = known ? *c : '.';
        inside = !known;
    }
    text[n] = '\0';
    return n;
}

size_t qn_float_format(double f, char format, int precision, bool alternate, char out[QN_NUMBER_ROOM])
{
    if (!isfinite(f))
        return not_finite(f, out);
    char spec[8] = {'%', '.', '*', format, '\0'};
    if (alternate)
        memcpy(spec, (char[]){'%', '#', '.', '*', format, '\0'}, 6);
    int n = snprintf(out, QN_NUMBER_ROOM, spec, precision, f);
    return n > 0 ? plain_point(out) : 0;
}

double qn_float_round(double f, int digits)
{
    if (!isfinite(f) || digits > 22 + 300 || f == 0)
        return f;
    if (digits < 0) {
        if (digits < -308)
            return 0 * f;
        double scale = pow(10, -digits), scaled = f / scale, whole = nearbyint(scaled);
        return whole * scale;
    }
    char text[QN_NUMBER_ROOM];
    if (digits > 90)
        return f;
    size_t n = qn_float_format(fabs(f), 'f', digits, false, text);
    double rounded;
    qn_float_parse(text, n, &rounded);
    return signbit(f) ? -rounded : rounded;
}
