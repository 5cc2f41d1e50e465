/* Reading a profile: YAML to what it says, with everything that is wrong in it. */
#include "device/profile.h"

#include "base/guess.h"
#include "base/words.h"
#include <quern/device.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- faults ---- */

void qn_reading_fault(struct qn_reading *r, uint32_t line, uint32_t column, const char *fmt, ...)
{
    char why[512], text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    for (char *c = why; *c; c++)
        *c = (unsigned char)*c < ' ' ? ' ' : *c; /* what it quotes may have several lines */
    snprintf(text, sizeof text, "%.400s:%u:%u: %s", r->path, line, column, why);
    r->n_faults++;
    if (r->fault)
        r->fault(r->user, text);
}

#define LINE(node)          ((uint32_t)(node)->start_mark.line + 1)
#define COLUMN(node)        ((uint32_t)(node)->start_mark.column + 1)

#define FAULT(r, node, ...) qn_reading_fault((r), LINE(node), COLUMN(node), __VA_ARGS__)

static void twice(struct qn_reading *r, const yaml_node_t *node, const char *name, uint32_t line,
                  uint32_t column)
{
    FAULT(r, node, "\"%.90s\" is there twice; first at %u:%u", name, line, column);
}

/* ---- nodes ---- */

/* A profile has some hundred lines. */
enum { MOST_BYTES = 256 << 10, MOST_PAIRS = 1000, MOST_FAULTS = 100, MOST_ITEMS = 4096 };

static yaml_node_t *node_at(struct qn_reading *r, yaml_node_item_t id)
{
    return yaml_document_get_node(&r->document, id);
}

static const char *text_of(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

/* A text without a NUL in it. False: a fault. */
static bool is_text(struct qn_reading *r, const yaml_node_t *node, const char *what)
{
    bool scalar = node->type == YAML_SCALAR_NODE;
    bool good = scalar && strlen(text_of(node)) == node->data.scalar.length && text_of(node)[0] != '\0';
    if (!good)
        FAULT(r, node, "%s: expected a text, got %s", what,
              node->type == YAML_MAPPING_NODE    ? "a mapping"
              : node->type == YAML_SEQUENCE_NODE ? "a list"
                                                 : "nothing");
    return good;
}

static const char *copy_text(struct qn_reading *r, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = qn_arena_alloc(r->arena, n, 1);
    r->no_memory |= !copy;
    return copy ? memcpy(copy, text, n) : "";
}

static const char *text_value(struct qn_reading *r, const yaml_node_t *node, const char *what)
{
    return is_text(r, node, what) ? copy_text(r, text_of(node)) : NULL;
}

/* Whether a mapping's keys are texts, each there once. */
static bool is_mapping(struct qn_reading *r, const yaml_node_t *mapping, const char *what)
{
    if (mapping->type != YAML_MAPPING_NODE) {
        FAULT(r, mapping, "%s: expected a mapping (key: value)", what);
        return false;
    }
    const yaml_node_pair_t *first = mapping->data.mapping.pairs.start, *end = mapping->data.mapping.pairs.top;
    uint32_t faults = r->n_faults;
    if (end - first > MOST_PAIRS) {
        FAULT(r, mapping, "%s: expected at most %d keys", what, MOST_PAIRS);
        return false;
    }
    for (const yaml_node_pair_t *pair = first; pair < end; pair++) {
        const yaml_node_t *key = node_at(r, pair->key);
        bool good = is_text(r, key, "a key");
        for (const yaml_node_pair_t *other = first; good && other < pair; other++) {
            const yaml_node_t *before = node_at(r, other->key);
            if (before->type == YAML_SCALAR_NODE && strcmp(text_of(before), text_of(key)) == 0)
                twice(r, key, text_of(key), LINE(before), COLUMN(before));
        }
    }
    return r->n_faults == faults;
}

/* Whether there is no point in going on. */
static bool enough(const struct qn_reading *r)
{
    return r->no_memory || r->n_faults >= MOST_FAULTS || r->profile->n_items >= MOST_ITEMS;
}

/* Calls `each` for the pairs of what is_mapping. */
static void each_pair(struct qn_reading *r, const yaml_node_t *mapping,
                      void (*each)(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value,
                                   void *user),
                      void *user)
{
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
    for (; pair < mapping->data.mapping.pairs.top && !enough(r); pair++)
        each(r, node_at(r, pair->key), node_at(r, pair->value), user);
}

/* Calls `each` for a value, or for each of a list of them. */
static void each_value(struct qn_reading *r, const yaml_node_t *node,
                       void (*each)(struct qn_reading *r, const yaml_node_t *node, void *user), void *user)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        each(r, node, user);
        return;
    }
    const yaml_node_item_t *i = node->data.sequence.items.start;
    for (; i < node->data.sequence.items.top && !enough(r); i++)
        each(r, node_at(r, *i), user);
}

/* ", did you mean X?", or which there are. */
static void unknown(struct qn_reading *r, const yaml_node_t *key, const char *in, const char *const *known,
                    size_t n)
{
    struct qn_guess guess;
    char list[256] = "";
    size_t length = 0;
    qn_guess_start(&guess, text_of(key));
    for (size_t i = 0; i < n; i++) {
        qn_guess_try(&guess, known[i], strlen(known[i]));
        if (length < sizeof list)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "", known[i]);
    }
    const char *best = qn_guess_end(&guess);
    if (best)
        FAULT(r, key, "there is no \"%.64s\"%s; did you mean %s?", text_of(key), in, best);
    else
        FAULT(r, key, "there is no \"%.64s\"%s; there are: %s", text_of(key), in, list);
}

/* ---- match ---- */

struct match_key {
    const char *name;
    void (*read)(struct qn_reading *r, const yaml_node_t *node, void *to);
    size_t offset;
};

static void read_api(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    const char **api = to;
    *api = text_value(r, node, "api");
    bool found = false;
    const char *have[QN_MAX_DRIVERS];
    size_t n = 0;
    for (uint32_t d = 0; d < r->tunables->n; d++) {
        const struct quern_driver *driver = r->tunables->of[d].driver;
        if (driver) {
            have[n++] = driver->name;
            found |= *api && strcmp(driver->name, *api) == 0;
        }
    }
    if (*api && !found)
        unknown(r, node, " among the drivers of this build", have, n);
}

static void read_word(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    struct qn_match_words *words = to;
    const char *word = text_value(r, node, "match");
    if (word && words->n == QN_MATCH_ANY)
        FAULT(r, node, "match: expected at most %d values", QN_MATCH_ANY);
    else if (word)
        words->word[words->n++] = word;
}

static void read_words(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    each_value(r, node, read_word, to);
}

static void read_type(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    const char *types[16];
    uint32_t n = 0;
    bool found = false;
    if (!is_text(r, node, "type"))
        return;
    for (; n < QN_LEN(types) && quern_device_type_name(n); n++) {
        types[n] = quern_device_type_name(n);
        found |= strcmp(types[n], text_of(node)) == 0;
    }
    if (!found)
        unknown(r, node, " among the types of devices", types, n);
    else
        read_word(r, node, to);
}

static void read_types(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    each_value(r, node, read_type, to);
}

/* "0x1002" or "0x7300-0x73ff" */
static void read_id(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    struct qn_match_ids *ids = to;
    if (!is_text(r, node, "match"))
        return;
    const char *text = text_of(node);
    char *end = NULL;
    unsigned long long first = strtoull(text, &end, 0), last = first;
    bool good = text[0] >= '0' && text[0] <= '9' && end != text;
    if (good && *end == '-') {
        const char *second = end + 1;
        last = strtoull(second, &end, 0);
        good = second[0] >= '0' && second[0] <= '9';
    }
    if (!good || *end || first > last || last > UINT32_MAX)
        FAULT(r, node, "\"%.64s\" is no number of a vendor or device, as in 0x1002 or 0x7300-0x73ff", text);
    else if (ids->n == QN_MATCH_ANY)
        FAULT(r, node, "match: expected at most %d values", QN_MATCH_ANY);
    else {
        ids->first[ids->n] = (uint32_t)first;
        ids->last[ids->n++] = (uint32_t)last;
    }
}

static void read_ids(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    each_value(r, node, read_id, to);
}

static void read_range(struct qn_reading *r, const yaml_node_t *node, void *to)
{
    if (is_text(r, node, "driver-version") && !qn_version_range_parse(r->arena, text_of(node), to))
        FAULT(r, node,
              "driver-version: \"%.64s\" is no range of versions, as in \">=23.1 <24\" or \"=23.1.6\"",
              text_of(node));
}

#define MATCH(name, read, member)                     \
    {                                                 \
        name, read, offsetof(struct qn_match, member) \
    }
static const struct match_key match_keys[] = {
    MATCH("api", read_api, api),
    MATCH("vendor", read_ids, vendor),
    MATCH("device-id", read_ids, device_id),
    MATCH("type", read_types, type),
    MATCH("device", read_words, device),
    MATCH("driver", read_words, driver),
    MATCH("driver-version", read_range, driver_version),
    MATCH("identity", read_words, identity),
    MATCH("features", read_words, features),
};

static void read_match(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value, void *user)
{
    struct qn_match *match = user;
    const char *names[QN_LEN(match_keys)];
    for (size_t i = 0; i < QN_LEN(match_keys); i++) {
        names[i] = match_keys[i].name;
        if (strcmp(names[i], text_of(key)) == 0) {
            match_keys[i].read(r, value, (char *)match + match_keys[i].offset);
            match->n++;
            return;
        }
    }
    unknown(r, key, " in match", names, QN_LEN(names));
}

/* ---- head ---- */

static void read_source(struct qn_reading *r, const yaml_node_t *node, void *user)
{
    struct qn_profile *profile = user;
    const char **sources =
        qn_arena_extend(r->arena, (void *)profile->sources, profile->n_sources * sizeof *sources,
                        (profile->n_sources + 1) * sizeof *sources);
    const char *text = text_value(r, node, "sources");
    r->no_memory |= !sources;
    if (!sources)
        return;
    profile->sources = sources;
    if (text)
        sources[profile->n_sources++] = text;
}

static bool is_name(const char *name)
{
    size_t n = strlen(name);
    return n <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._") == n && name[0] != '.' &&
           name[0] != '-';
}

static void head_pair(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value, void *user)
{
    struct qn_profile *profile = r->profile;
    bool *has_version = user;
    const char *name = text_of(key);
    if (strcmp(name, "quern-profile") == 0) {
        *has_version = true;
        if (is_text(r, value, name) && strcmp(text_of(value), "1") != 0)
            FAULT(r, value, "quern-profile: this is version \"%.16s\" of the format, expected %d",
                  text_of(value), QN_PROFILE_VERSION);
    } else if (strcmp(name, "name") == 0) {
        profile->name = text_value(r, value, name);
        profile->name_line = LINE(value);
        profile->name_column = COLUMN(value);
        if (profile->name && !is_name(profile->name))
            FAULT(r, value, "name: \"%.64s\" has other characters than a-z 0-9 - . _, or more than 63",
                  profile->name);
    } else if (strcmp(name, "about") == 0) {
        profile->about = text_value(r, value, name);
    } else if (strcmp(name, "extends") == 0) {
        profile->extends = text_value(r, value, name);
    } else if (strcmp(name, "overlay") == 0) {
        profile->overlay = value->type == YAML_SCALAR_NODE && strcmp(text_of(value), "true") == 0;
        if (!profile->overlay && is_text(r, value, name) && strcmp(text_of(value), "false") != 0)
            FAULT(r, value, "overlay: expected true or false");
    } else if (strcmp(name, "match") == 0) {
        if (is_mapping(r, value, name))
            each_pair(r, value, read_match, &profile->match);
    } else if (strcmp(name, "sources") == 0) {
        each_value(r, value, read_source, profile);
    } else if (strcmp(name, "unmeasured") == 0) {
        profile->unmeasured = text_value(r, value, name);
    }
}

/* The YAML itself. */
static bool load(struct qn_reading *r, const char *text, size_t n)
{
    yaml_parser_t parser;
    if (n > MOST_BYTES) {
        qn_reading_fault(r, 1, 1, "the file has %zu bytes, expected at most %d", n, MOST_BYTES);
        return false;
    }
    r->no_memory |= !yaml_parser_initialize(&parser);
    if (r->no_memory)
        return false;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    r->loaded = yaml_parser_load(&parser, &r->document);
    if (!r->loaded && parser.error == YAML_MEMORY_ERROR)
        r->no_memory = true;
    else if (!r->loaded)
        qn_reading_fault(r, (uint32_t)parser.problem_mark.line + 1, (uint32_t)parser.problem_mark.column + 1,
                         "%s%s%s", parser.problem ? parser.problem : "this is no YAML",
                         parser.context ? " " : "", parser.context ? parser.context : "");
    yaml_document_t second;
    if (r->loaded && yaml_parser_load(&parser, &second)) {
        const yaml_node_t *root = yaml_document_get_root_node(&second);
        if (root)
            FAULT(r, root, "a second document begins here; expected one profile a file");
        yaml_document_delete(&second);
    } else if (r->loaded) {
        qn_reading_fault(r, (uint32_t)parser.problem_mark.line + 1, (uint32_t)parser.problem_mark.column + 1,
                         "%s", parser.problem ? parser.problem : "this is no YAML");
    }
    yaml_parser_delete(&parser);
    return r->loaded;
}

void qn_reading_head(struct qn_reading *r, const char *text, size_t n)
{
    bool has_version = false;
    r->profile = qn_arena_alloc(r->arena, 1, sizeof *r->profile);
    r->no_memory |= !r->profile;
    if (!r->profile || !load(r, text, n))
        return;
    r->profile->path = r->path;
    const yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (!root) {
        qn_reading_fault(r, 1, 1, "the file is empty; expected quern-profile: %d and a name",
                         QN_PROFILE_VERSION);
        return;
    }
    if (!is_mapping(r, root, "a profile"))
        return;
    each_pair(r, root, head_pair, &has_version);
    if (!has_version)
        FAULT(r, root, "quern-profile: %d is missing, which says that this is a profile", QN_PROFILE_VERSION);
    if (!r->profile->name && r->n_faults == 0)
        FAULT(r, root, "name is missing");
    r->readable = true;
}

void qn_reading_finish(struct qn_reading *r)
{
    if (r->loaded)
        yaml_document_delete(&r->document);
    r->loaded = false;
}

/* ---- body ---- */

/* Where among the names of settings. */
struct place {
    char path[QN_SETTING_NAME];
    const char *reason, *link, *driver_version; /* of a quirk; else "" */
    bool quirk;
    struct qn_version_range versions;
};

/* A setting may be there nested and with dots; it is only once, unless the driver's version chooses. */
static void check_once(struct qn_reading *r, const struct place *place, const yaml_node_t *node)
{
    const struct qn_profile *profile = r->profile;
    for (uint32_t i = 0; i < profile->n_items && place->versions.n == 0; i++) {
        const struct qn_profile_item *item = &profile->items[i];
        if (item->driver_version.n == 0 && strcmp(item->value.setting, place->path) == 0) {
            twice(r, node, place->path, item->line, item->column);
            return;
        }
    }
}

static void add_item(struct qn_reading *r, const struct place *place, const yaml_node_t *node,
                     const char *value)
{
    struct qn_profile *profile = r->profile;
    check_once(r, place, node);
    struct qn_profile_item *items = qn_arena_extend(
        r->arena, profile->items, profile->n_items * sizeof *items, (profile->n_items + 1) * sizeof *items);
    char origin[512];
    snprintf(origin, sizeof origin, "%.480s:%u:%u", r->path, LINE(node), COLUMN(node));
    r->no_memory |= !items;
    if (!items)
        return;
    profile->items = items;
    items[profile->n_items++] =
        (struct qn_profile_item){.value = {.setting = copy_text(r, place->path),
                                           .value = copy_text(r, value),
                                           .text = copy_text(r, text_of(node)),
                                           .profile = profile->name ? profile->name : "",
                                           .origin = copy_text(r, origin),
                                           .reason = place->reason,
                                           .link = place->link,
                                           .driver_version = place->driver_version},
                                 .line = LINE(node),
                                 .column = COLUMN(node),
                                 .driver_version = place->versions};
}

static const char *const head_keys[] = {"quern-profile", "name",    "about",      "extends", "match",
                                        "sources",       "overlay", "unmeasured", "quirks"};

static const char *const quirk_keys[] = {"reason", "link", "driver-version"};

static bool is_head_key(const char *name)
{
    bool found = false;
    for (size_t i = 0; i < QN_LEN(head_keys); i++)
        found |= strcmp(head_keys[i], name) == 0;
    return found;
}

/* What names of settings say about a place. */
struct level {
    const char *path; /* "kernels.matvec" */
    size_t n;
    bool of_format;          /* only those that may be one for each format */
    bool deeper;             /* some go on below */
    struct choices *choices; /* takes the words that may stand here; NULL: nobody asks */
};

struct choices {
    struct qn_guess guess;
    char list[400]; /* of them, with commas */
    size_t n;
};

static void add_choice(struct choices *choices, const char *word, size_t length)
{
    const char *at = choices->list;
    qn_guess_try(&choices->guess, word, length);
    while ((at = strstr(at, ", ")) != NULL &&
           !(strncmp(at + 2, word, length) == 0 && (at[2 + length] == ',' || at[2 + length] == '\0')))
        at += 2;
    if (!at && choices->n + length + 3 < sizeof choices->list)
        choices->n += (size_t)snprintf(choices->list + choices->n, sizeof choices->list - choices->n,
                                       ", %.*s", (int)length, word);
}

static void look(void *user, const struct quern_tunable *tunable)
{
    struct level *level = user;
    if (level->of_format && !(tunable->flags & QUERN_TUNABLE_FORMATS))
        return;
    if (strncmp(tunable->name, level->path, level->n) != 0 ||
        (level->n > 0 && tunable->name[level->n] != '.'))
        return;
    const char *word = tunable->name + level->n + (level->n > 0);
    level->deeper = true;
    if (level->choices)
        add_choice(level->choices, word, strcspn(word, "."));
}

/* Whether settings begin with that path, where a number format may stand as its last word. */
static bool leads_on(struct qn_reading *r, const char *path)
{
    struct level level = {.path = path, .n = strlen(path)};
    const char *api = qn_profile_api(r->profile);
    qn_tunables_each(r->tunables, api, look, &level);
    char probe[QN_SETTING_NAME + 2], name[QN_SETTING_NAME];
    enum quern_format format;
    snprintf(probe, sizeof probe, "%s.x", path);
    if (!level.deeper && qn_setting_split(probe, name, &format)) {
        name[strlen(name) - 2] = '\0';
        level = (struct level){.path = name, .n = strlen(name), .of_format = true};
        qn_tunables_each(r->tunables, api, look, &level);
    }
    return level.deeper;
}

/* What a path of settings would be if the number format in it were in the right case. False: it is in none.
 */
static bool has_format_in_other_case(struct qn_reading *r, const char *path, char meant[QN_SETTING_NAME])
{
    size_t word = 0;
    bool found = false;
    if (snprintf(meant, QN_SETTING_NAME, "%s", path) >= QN_SETTING_NAME)
        return false;
    for (size_t n; meant[word] && !found; word += n + (meant[word + n] == '.')) {
        n = strcspn(meant + word, ".");
        for (int f = 0; f < QUERN_FORMAT_END && !found; f++) {
            const char *name = quern_format_name((enum quern_format)f);
            found = name && strlen(name) == n && qn_same_in_any_case(name, meant + word, n);
            if (found)
                memcpy(meant + word, name, n);
        }
    }
    return found && (leads_on(r, meant) || qn_tunable_find(r->tunables, qn_profile_api(r->profile), meant));
}

static void no_setting(struct qn_reading *r, const yaml_node_t *key, const struct place *above,
                       const char *path)
{
    char meant[QN_SETTING_NAME];
    struct choices choices = {.n = 0};
    struct level level = {.path = above->path, .n = strlen(above->path), .choices = &choices};
    const char *api = qn_profile_api(r->profile);
    const char *const *keys = above->quirk ? quirk_keys : head_keys;
    size_t n_keys = above->path[0] ? 0 : above->quirk ? QN_LEN(quirk_keys) : QN_LEN(head_keys);
    qn_guess_start(&choices.guess, text_of(key));
    for (size_t i = 0; i < n_keys; i++)
        add_choice(&choices, keys[i], strlen(keys[i]));
    qn_tunables_each(r->tunables, api, look, &level);
    const char *best = qn_guess_end(&choices.guess);
    if (has_format_in_other_case(r, path, meant))
        best = meant + (level.n > 0 ? level.n + 1 : 0);
    FAULT(r, key, "there is no \"%.90s\"%s%s; %s%s%s", path, api ? " for devices of driver " : "",
          api ? api : "",
          best            ? "did you mean "
          : choices.n > 0 ? "there are: "
                          : "nothing may stand here",
          best            ? best
          : choices.n > 0 ? choices.list + 2
                          : "",
          best ? "?" : "");
}

static void read_setting(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value, void *user)
{
    const struct place *above = user;
    struct place place = *above;
    int n = snprintf(place.path, sizeof place.path, "%s%s%s", above->path, above->path[0] ? "." : "",
                     text_of(key));
    const struct quern_tunable *tunable =
        n < (int)sizeof place.path ? qn_tunable_find(r->tunables, qn_profile_api(r->profile), place.path)
                                   : NULL;
    char text[256];
    if (tunable && value->type != YAML_SCALAR_NODE) {
        qn_tunable_range(tunable, text, sizeof text);
        FAULT(r, value, "%s: expected %s", place.path, text);
    } else if (tunable) {
        if (qn_tunable_parse(tunable, text_of(value), text, sizeof text))
            add_item(r, &place, value, text);
        else
            FAULT(r, value, "%s is \"%.64s\", expected %s", place.path, text_of(value), text);
    } else if (n < (int)sizeof place.path && leads_on(r, place.path)) {
        if (is_mapping(r, value, place.path))
            each_pair(r, value, read_setting, &place);
    } else {
        no_setting(r, key, above, place.path);
    }
}

static void quirk_head(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value, void *user)
{
    struct place *place = user;
    if (strcmp(text_of(key), quirk_keys[0]) == 0)
        place->reason = text_value(r, value, "reason");
    else if (strcmp(text_of(key), quirk_keys[1]) == 0)
        place->link = text_value(r, value, "link");
    else if (strcmp(text_of(key), quirk_keys[2]) == 0) {
        read_range(r, value, &place->versions);
        if (place->versions.n > 0)
            place->driver_version = copy_text(r, text_of(value));
    }
}

static void quirk_body(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value, void *user)
{
    bool of_head = false;
    for (size_t i = 0; i < QN_LEN(quirk_keys); i++)
        of_head |= strcmp(quirk_keys[i], text_of(key)) == 0;
    if (!of_head)
        read_setting(r, key, value, user);
}

static void read_quirk(struct qn_reading *r, const yaml_node_t *node, void *user)
{
    struct place place = {.link = "", .driver_version = "", .quirk = true};
    uint32_t faults = r->n_faults, items = r->profile->n_items;
    if (!is_mapping(r, node, "a quirk"))
        return;
    each_pair(r, node, quirk_head, &place);
    if (!place.reason && r->n_faults == faults)
        FAULT(r, node, "a quirk: expected a reason, for those who come after");
    place.reason = place.reason ? place.reason : "";
    place.link = place.link ? place.link : "";
    each_pair(r, node, quirk_body, &place);
    if (r->profile->n_items == items && r->n_faults == faults)
        FAULT(r, node, "a quirk: expected something that it changes, as in features: {coopmat: off}");
}

static void body_pair(struct qn_reading *r, const yaml_node_t *key, const yaml_node_t *value, void *user)
{
    struct place place = {.reason = "", .link = "", .driver_version = ""};
    if (strcmp(text_of(key), "quirks") == 0)
        each_value(r, value, read_quirk, NULL);
    else if (!is_head_key(text_of(key)))
        read_setting(r, key, value, &place);
}

/* ---- rules between settings ---- */

struct rules {
    struct qn_reading *reading;
};

static void rule_fault(void *user, const char *setting, const char *why)
{
    struct qn_reading *r = ((struct rules *)user)->reading;
    const struct qn_profile *profile = r->profile;
    for (uint32_t i = profile->n_items; i-- > 0;) {
        const struct qn_profile_item *item = &profile->items[i];
        if (strcmp(item->value.setting, setting) == 0) {
            qn_reading_fault(r, item->line, item->column, "%s is %s: %s", setting, item->value.text, why);
            return;
        }
    }
    qn_reading_fault(r, profile->name_line, profile->name_column,
                     "%s, together with the profiles under it: %s", setting, why);
}

/* All that holds with this profile, its own words last. */
static void check_rules(struct qn_reading *r)
{
    const char *api = qn_profile_api(r->profile);
    const struct quern_driver *driver = NULL;
    for (uint32_t d = 0; d < r->tunables->n; d++)
        if (r->tunables->of[d].driver && api && strcmp(r->tunables->of[d].driver->name, api) == 0)
            driver = r->tunables->of[d].driver;
    if (!driver || !QUERN_DRIVER_HAS(driver, check))
        return;
    size_t n = 0;
    for (const struct qn_profile *p = r->profile; p; p = p->base)
        n += p->n_items;
    struct quern_setting *settings = qn_arena_alloc(r->arena, n + 1, sizeof *settings);
    r->no_memory |= !settings;
    if (!settings)
        return;
    size_t at = n;
    for (const struct qn_profile *p = r->profile; p; p = p->base)
        for (uint32_t i = p->n_items; i-- > 0;)
            settings[--at] = (struct quern_setting){p->items[i].value.setting, p->items[i].value.value};
    struct quern_profile_view view = {
        .struct_size = sizeof view, .n_settings = (uint32_t)n, .settings = settings};
    driver->check(&view, rule_fault, &(struct rules){r});
}

void qn_reading_body(struct qn_reading *r)
{
    if (!r->readable)
        return;
    each_pair(r, yaml_document_get_root_node(&r->document), body_pair, NULL);
    if (r->profile->n_items >= MOST_ITEMS)
        qn_reading_fault(r, 1, 1, "it says more than %d things", MOST_ITEMS - 1);
    if (r->n_faults == 0)
        check_rules(r);
}
