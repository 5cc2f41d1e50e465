/* Dates as Python's strftime writes them in the C locale. The time is local already: there is no zone. */
#include "chat/value.h"
#include "text/unicode.h"

#include <stdio.h>
#include <string.h>

struct date {
    int64_t year;
    int month, day, hour, minute, second; /* month 0 to 11, day 1 to 31 */
    int weekday, yearday;                 /* 0: Sunday, 0: 1 January */
};

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days since 1970-01-01 to a date: eras of 400 years that begin in March. */
static struct date date_of(int64_t now)
{
    const int64_t day_seconds = 86400;
    int64_t days = now / day_seconds, rest = now % day_seconds;
    if (rest < 0) {
        rest += day_seconds;
        days--;
    }
    struct date d = {.hour = (int)(rest / 3600), .minute = (int)(rest / 60 % 60), .second = (int)(rest % 60)};
    d.weekday = (int)(((days + 4) % 7 + 7) % 7);
    int64_t shifted = days + 719468; /* since 0000-03-01 */
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t of_era = shifted - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t from_march = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * from_march + 2) / 153;
    d.day = (int)(from_march - (153 * month + 2) / 5 + 1);
    d.month = (int)(month < 10 ? month + 2 : month - 10);
    d.year = year + era * 400 + (d.month < 2);
    static const int before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    d.yearday = before[d.month] + d.day - 1 + (d.month > 1 && is_leap(d.year));
    return d;
}

/* Week and year of ISO 8601. */
static int iso_week(const struct date *d, int64_t *year)
{
    int monday = (d->weekday + 6) % 7; /* days since Monday */
    int week = (d->yearday - monday + 10) / 7;
    *year = d->year;
    if (week < 1) {
        --*year;
        int last = d->yearday + (is_leap(*year) ? 366 : 365);
        return (last - monday + 10) / 7;
    }
    int length = is_leap(d->year) ? 366 : 365;
    if (week == 53 && d->yearday - monday + 3 >= length) {
        ++*year;
        return 1;
    }
    return week;
}

static const char *const day_names[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                        "Thursday", "Friday", "Saturday"};
static const char *const month_names[] = {"January",   "February", "March",    "April",
                                          "May",       "June",     "July",     "August",
                                          "September", "October",  "November", "December"};

/* A number: its value, width and what fills it; false where the letter is none. */
static bool number_of(const struct date *d, char letter, int64_t *value, int *width, char *fill)
{
    int64_t year;
    int week = iso_week(d, &year), hour12 = d->hour % 12 == 0 ? 12 : d->hour % 12;
    static const char letters[] = "dHIMSmyjYCeklgGVUWuw";
    const int64_t values[] = {d->day,
                              d->hour,
                              hour12,
                              d->minute,
                              d->second,
                              d->month + 1,
                              d->year % 100,
                              d->yearday + 1,
                              d->year,
                              d->year / 100,
                              d->day,
                              d->hour,
                              hour12,
                              year % 100,
                              year,
                              week,
                              (d->yearday + 7 - d->weekday) / 7,
                              (d->yearday + 7 - (d->weekday + 6) % 7) / 7,
                              d->weekday == 0 ? 7 : d->weekday,
                              d->weekday};
    const char *known = strchr(letters, letter);
    if (!letter || !known)
        return false;
    *value = values[known - letters];
    *width = strchr("YGuw", letter) ? 1 : letter == 'j' ? 3 : 2;
    *fill = strchr("ekl", letter) ? ' ' : '0';
    return true;
}

/* What a directive stands for in terms of others, or NULL. */
static const char *composed(char letter)
{
    switch (letter) {
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
        return "%m/%d/%y";
    case 'F':
        return "%Y-%m-%d";
    case 'R':
        return "%H:%M";
    case 'r':
        return "%I:%M:%S %p";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    default:
        return NULL;
    }
}

static bool put_name(struct qn_builder *b, const struct date *d, char letter, int64_t now)
{
    char text[32];
    switch (letter) {
    case 'A':
        return qn_put_word(b, day_names[d->weekday]);
    case 'a':
        return qn_put(b, day_names[d->weekday], 3, false);
    case 'B':
        return qn_put_word(b, month_names[d->month]);
    case 'b':
    case 'h':
        return qn_put(b, month_names[d->month], 3, false);
    case 'p':
        return qn_put_word(b, d->hour < 12 ? "AM" : "PM");
    case 'P':
        return qn_put_word(b, d->hour < 12 ? "am" : "pm");
    case 'n':
        return qn_put_word(b, "\n");
    case 't':
        return qn_put_word(b, "\t");
    case 'f':
        return qn_put_word(b, "000000");
    case 's':
        snprintf(text, sizeof text, "%lld", (long long)now);
        return qn_put_word(b, text);
    case 'z':
    case 'Z':
        return true;
    case '%':
        return qn_put_word(b, "%");
    default:
        return qn_raise_status(b->run, QUERN_ERR_UNSUPPORTED, "strftime_now does not know '%%%c'",
                               letter >= ' ' && letter < 127 ? letter : '?');
    }
}

static bool put_directive(struct qn_builder *b, const struct date *d, char letter, char pad, int64_t now)
{
    const char *parts = composed(letter);
    for (; parts && *parts; parts++) {
        bool ok = *parts == '%' ? put_directive(b, d, *++parts, 0, now) : qn_put(b, parts, 1, false);
        if (!ok)
            return false;
    }
    int64_t value;
    int width;
    char fill, text[32];
    if (parts)
        return true;
    if (!number_of(d, letter, &value, &width, &fill))
        return put_name(b, d, letter, now);
    if (pad == '_')
        fill = ' ';
    else if (pad == '0')
        fill = '0';
    if (pad == '-')
        width = 1;
    snprintf(text, sizeof text, fill == ' ' ? "%*lld" : "%0*lld", width, (long long)value);
    return qn_put_word(b, text);
}

bool qn_put_time(struct qn_builder *b, const struct qn_text *format, int64_t now)
{
    const int64_t years = INT64_C(9000) * 366 * 86400;
    if (now < -62135596800 || now > years)
        return qn_raise_status(b->run, QUERN_ERR_PARAM, "the time is not within the years 1 and 9999");
    struct date d = date_of(now);
    for (size_t at = 0; at < format->len;) {
        if (format->data[at] != '%' || at + 1 == format->len) {
            struct qn_char c = qn_char_at(format, at);
            if (!qn_put_part(b, format, at, at + c.len))
                return false;
            at += c.len;
            continue;
        }
        at++;
        char pad = 0;
        if (strchr("-_0", format->data[at]) && format->data[at] && at + 1 < format->len)
            pad = format->data[at++];
        if (!put_directive(b, &d, format->data[at++], pad, now))
            return false;
    }
    return true;
}
