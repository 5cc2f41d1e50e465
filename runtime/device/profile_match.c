/* Which devices a profile is for. */
#include "base/words.h"
#include "device/profile.h"
#include <quern/device.h>

#include <stdio.h>
#include <string.h>

/* ---- words ---- */

bool qn_glob(const char *pattern, const char *text)
{
    const char *star = NULL, *behind = NULL; /* the last *, and where it stopped taking text */
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            behind = text;
        } else if (*pattern && (*pattern == '?' || qn_lower(*pattern) == qn_lower(*text))) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++behind;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool any_word(const struct qn_match_words *words, const char *text)
{
    bool found = words->n == 0;
    for (uint32_t i = 0; i < words->n; i++)
        found |= qn_glob(words->word[i], text);
    return found;
}

static bool any_id(const struct qn_match_ids *ids, uint32_t id)
{
    bool found = ids->n == 0;
    for (uint32_t i = 0; i < ids->n; i++)
        found |= id >= ids->first[i] && id <= ids->last[i];
    return found;
}

/* ---- versions ---- */

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The next number of a version; without one it is 0, as in 23.1 against 23.1.0. */
static uint64_t next_number(const char **at)
{
    uint64_t n = 0;
    for (; digit(**at); ++*at)
        n = n < UINT64_MAX / 16 ? n * 10 + (uint64_t)(**at - '0') : n;
    if (**at == '.' && digit((*at)[1]))
        ++*at;
    return n;
}

int qn_version_compare(const char *a, const char *b)
{
    while (digit(*a) || digit(*b)) {
        uint64_t x = next_number(&a), y = next_number(&b);
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

bool qn_version_range_parse(struct qn_arena *arena, const char *text, struct qn_version_range *range)
{
    static const struct {
        const char *sign;
        enum qn_version_is is;
    } signs[] = {{">=", QN_VERSION_LEAST},
                 {"<=", QN_VERSION_MOST},
                 {">", QN_VERSION_MORE},
                 {"<", QN_VERSION_LESS},
                 {"=", QN_VERSION_EQUAL}};
    *range = (struct qn_version_range){0};
    for (const char *at = text; *at; at += strspn(at, " ")) {
        size_t s = 0;
        while (s < QN_LEN(signs) && strncmp(at, signs[s].sign, strlen(signs[s].sign)) != 0)
            s++;
        if (s == QN_LEN(signs) || range->n == QN_LEN(range->of))
            return false;
        at += strlen(signs[s].sign);
        at += strspn(at, " ");
        size_t n = strspn(at, "0123456789.");
        char *version = qn_arena_alloc(arena, n + 1, 1);
        if (n == 0 || !digit(at[0]) || !digit(at[n - 1]) || strstr(at, "..") || (at[n] && at[n] != ' ') ||
            !version)
            return false;
        memcpy(version, at, n);
        range->of[range->n].is = signs[s].is;
        range->of[range->n++].version = version;
        at += n;
    }
    return range->n > 0;
}

bool qn_version_in_range(const char *version, const struct qn_version_range *range)
{
    bool all = range->n == 0 || digit(version[0]);
    for (uint32_t i = 0; i < range->n; i++) {
        int c = qn_version_compare(version, range->of[i].version);
        const bool holds[] = {[QN_VERSION_EQUAL] = c == 0,
                              [QN_VERSION_LESS] = c<0, [QN_VERSION_LEAST] = c >= 0, [QN_VERSION_MORE] = c> 0,
                              [QN_VERSION_MOST] = c <= 0};
        all = all && holds[range->of[i].is];
    }
    return all;
}

/* ---- profiles ---- */

const char *qn_profile_api(const struct qn_profile *profile)
{
    while (profile && !profile->match.api)
        profile = profile->base;
    return profile ? profile->match.api : NULL;
}

/* A condition that does not hold: its key, and what the device has. */
static bool unmet(char *text, size_t size, const char *key, const char *have)
{
    if (size > 0)
        snprintf(text, size, "its match.%s does not hold for \"%s\"", key, have);
    return false;
}

static bool unmet_id(char *text, size_t size, const char *key, uint32_t have)
{
    char number[16] = "";
    if (size > 0)
        snprintf(number, sizeof number, "0x%04x", (unsigned)have);
    return unmet(text, size, key, number);
}

static bool features_hold(const struct qn_match_words *words, const char *features, char *text, size_t size)
{
    for (uint32_t i = 0; i < words->n; i++)
        if (qn_word_place(features, words->word[i], strlen(words->word[i])) == SIZE_MAX)
            return unmet(text, size, "features", features);
    return true;
}

bool qn_profile_match(const struct qn_profile *profile, const char *driver,
                      const struct quern_device_info *info, char *text, size_t size)
{
    const char *type = quern_device_type_name(info->type);
    bool holds = true;
    type = type ? type : "";
    for (; profile && holds; profile = profile->base) {
        const struct qn_match *m = &profile->match;
        if (m->api && strcmp(m->api, driver) != 0)
            holds = unmet(text, size, "api", driver);
        else if (!any_id(&m->vendor, info->vendor_id))
            holds = unmet_id(text, size, "vendor", info->vendor_id);
        else if (!any_id(&m->device_id, info->device_id))
            holds = unmet_id(text, size, "device-id", info->device_id);
        else if (!any_word(&m->type, type))
            holds = unmet(text, size, "type", type);
        else if (!any_word(&m->device, info->name))
            holds = unmet(text, size, "device", info->name);
        else if (!any_word(&m->driver, info->driver_name))
            holds = unmet(text, size, "driver", info->driver_name);
        else if (!any_word(&m->identity, info->identity))
            holds = unmet(text, size, "identity", info->identity);
        else if (!qn_version_in_range(info->driver_version, &m->driver_version))
            holds = unmet(text, size, "driver-version", info->driver_version);
        else
            holds = features_hold(&m->features, info->features, text, size);
        if (!holds && profile->name && size > 0) {
            size_t n = strlen(text);
            snprintf(text + n, size - n, " (%s)", profile->name);
        }
    }
    return holds;
}
