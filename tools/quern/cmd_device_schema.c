/* quern device schema: the keys of device profiles as a JSON schema, from what the drivers say that can be
 * set. */
#include "common.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

/* Puts the words of a list, with spaces between them: numbers as such. */
static cJSON *words_of(const char *list, bool numbers)
{
    cJSON *words = json_array();
    for (const char *at = list; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        json_add(words, numbers ? json_int(strtoll(at, NULL, 10)) : json_text(at, n));
        at += n;
    }
    return words;
}

static void add_flag(cJSON *words, bool on)
{
    static const char *const text[2][3] = {{"off", "no", "false"}, {"on", "yes", "true"}};
    for (size_t i = 0; i < 3; i++)
        json_add(words, json_text(text[on][i], strlen(text[on][i])));
    json_add(words, cJSON_CreateBool(on)); /* what readers of YAML 1.1 make of it */
    json_add(words, json_int(on));
}

/* A number with one of these units. */
static cJSON *measured(const char *units, uint64_t min, uint64_t max, bool plain)
{
    char pattern[160];
    cJSON *any = json_array(), *text = json_object(), *number = json_object(), *value = json_object();
    snprintf(pattern, sizeof pattern, "^[0-9]+(\\.[0-9]+)? ?(%s)$", units);
    json_put_text(text, "type", "string");
    json_put_text(text, "pattern", pattern);
    json_put_text(number, "type", "integer");
    json_put(number, "minimum", json_int((int64_t)(plain ? min : 0)));
    json_put(number, "maximum", json_int((int64_t)(plain ? max : 0)));
    json_add(any, text);
    if (plain || min == 0)
        json_add(any, number);
    else
        cJSON_Delete(number);
    json_put(value, "anyOf", any);
    return value;
}

static cJSON *value_of(const struct quern_tunable *setting)
{
    cJSON *value = json_object();
    cJSON *words;
    switch (setting->type) {
    case QUERN_TUNABLE_FLAG:
        words = json_array();
        add_flag(words, true);
        add_flag(words, false);
        json_put(value, "enum", words);
        return value;
    case QUERN_TUNABLE_WORD:
        words = words_of(setting->choices, false);
        if (strstr(setting->choices, "on off")) {
            json_add(words, cJSON_CreateBool(true));
            json_add(words, cJSON_CreateBool(false));
        }
        json_put(value, "enum", words);
        return value;
    case QUERN_TUNABLE_COUNT:
        if (setting->choices) {
            json_put(value, "enum", words_of(setting->choices, true));
            return value;
        }
        json_put_text(value, "type", "integer");
        json_put(value, "minimum", json_int((int64_t)setting->min));
        json_put(value, "maximum", json_int((int64_t)setting->max));
        return value;
    default:
        cJSON_Delete(value);
    }
    if (setting->type == QUERN_TUNABLE_BYTES)
        return measured("TiB|GiB|MiB|KiB|GB|MB|kB|KB|B", setting->min, setting->max, true);
    if (setting->type == QUERN_TUNABLE_TIME)
        return measured("s|ms|us", setting->min, setting->max, false);
    if (setting->type == QUERN_TUNABLE_RATE)
        return measured("TB/s|GB/s|MB/s|GiB/s", setting->min, setting->max, false);
    return measured("TOP/s|GOP/s|MOP/s|TFLOP/s|GFLOP/s|MFLOP/s", setting->min, setting->max, false);
}

/* ---- settings ---- */

/* An object that has only the keys that it names. */
static cJSON *closed_object(void)
{
    cJSON *object = json_object();
    json_put_text(object, "type", "object");
    json_put_bool(object, "additionalProperties", false);
    json_put(object, "properties", json_object());
    return object;
}

static cJSON *properties(cJSON *object)
{
    return cJSON_GetObjectItemCaseSensitive(object, "properties");
}

static cJSON *child(cJSON *object, const char *name, size_t n)
{
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)n, name);
    cJSON *found = cJSON_GetObjectItemCaseSensitive(properties(object), key);
    if (!found) {
        found = closed_object();
        json_put(properties(object), key, found);
    }
    return found;
}

/* Where what may differ between number formats stands a level deeper, under their names. */
static cJSON *of_formats(cJSON *object)
{
    static const char key[] = "patternProperties";
    cJSON *patterns = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!patterns) {
        char pattern[1024];
        size_t n = (size_t)snprintf(pattern, sizeof pattern, "^(");
        for (int f = 0; f < QUERN_FORMAT_END; f++) {
            const char *name = quern_format_name((enum quern_format)f);
            if (name && n < sizeof pattern)
                n += (size_t)snprintf(pattern + n, sizeof pattern - n, "%s%s", n > 2 ? "|" : "", name);
        }
        if (n < sizeof pattern)
            snprintf(pattern + n, sizeof pattern - n, ")$");
        patterns = json_object();
        json_put(patterns, pattern, closed_object());
        json_put(object, key, patterns);
    }
    return patterns->child;
}

static const char *type_name(uint32_t type)
{
    static const char *const names[] = {
        [QUERN_TUNABLE_FLAG] = "flag", [QUERN_TUNABLE_COUNT] = "count", [QUERN_TUNABLE_BYTES] = "bytes",
        [QUERN_TUNABLE_TIME] = "time", [QUERN_TUNABLE_WORD] = "word",   [QUERN_TUNABLE_RATE] = "rate",
        [QUERN_TUNABLE_OPS] = "ops"};
    return type < sizeof names / sizeof names[0] ? names[type] : "other";
}

/* A value of a key; "x-quern" has it as the driver's table has it. */
static void add_setting(void *user, const char *driver, const struct quern_tunable *setting)
{
    cJSON *at = user;
    const char *word = setting->name;
    for (const char *dot; (dot = strchr(word, '.')) != NULL; word = dot + 1)
        at = child(at, word, (size_t)(dot - word));
    cJSON *value = value_of(setting), *same = cJSON_GetObjectItemCaseSensitive(properties(at), word);
    char text[512];
    snprintf(text, sizeof text, "%s%s%s (without it: %s)", driver ? driver : "", driver ? ": " : "",
             setting->help, setting->preset);
    json_put_text(value, "description", text);
    cJSON *row = json_object();
    json_put_text(row, "driver", driver ? driver : "");
    json_put_text(row, "setting", setting->name);
    json_put_text(row, "type", type_name(setting->type));
    json_put_bool(row, "formats", (setting->flags & QUERN_TUNABLE_FORMATS) != 0);
    json_put(row, "min", json_int((int64_t)setting->min));
    json_put(row, "max", json_int((int64_t)setting->max));
    if (setting->choices)
        json_put(row, "choices", words_of(setting->choices, false));
    json_put(value, "x-quern", row);
    if (setting->flags & QUERN_TUNABLE_FORMATS)
        json_put(properties(of_formats(at)), word, cJSON_Duplicate(value, true));
    if (!same) {
        json_put(properties(at), word, value);
        return;
    }
    /* of several drivers */
    cJSON *both = json_object(), *any = json_array();
    json_add(any, cJSON_DetachItemFromObjectCaseSensitive(properties(at), word));
    json_add(any, value);
    json_put(both, "anyOf", any);
    json_put(properties(at), word, both);
}

/* ---- the other keys ---- */

static cJSON *parsed(const char *json)
{
    cJSON *value = cJSON_Parse(json);
    return value ? value : json_object();
}

#define TEXTS \
    "{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"array\", \"items\": {\"type\": \"string\"}}]}"
#define VERSION "{\"type\": \"string\", \"pattern\": \"^((>=|<=|>|<|=) ?[0-9]+(\\\\.[0-9]+)*( |$))+$\"}"
#define ID                                                                                                   \
    "{\"anyOf\": [{\"type\": \"integer\", \"minimum\": 0, \"maximum\": 4294967295}, {\"type\": \"string\", " \
    "\"pattern\": \"^(0x)?[0-9a-fA-F]+-(0x)?[0-9a-fA-F]+$\"}]}"
#define IDS "{\"anyOf\": [" ID ", {\"type\": \"array\", \"items\": " ID "}]}"
#define TYPE \
    "{\"enum\": [\"cpu\", \"integrated-gpu\", \"discrete-gpu\", \"npu\", \"software\", \"null\", null]}"

static const struct {
    const char *key, *value;
} head[] =
    {
        {"quern-profile", "{\"const\": 1, \"description\": \"the version of the format\"}"},
        {"name", "{\"type\": \"string\", \"pattern\": \"^[a-z0-9_-][a-z0-9._-]*$\", \"maxLength\": 63}"},
        {"about", "{\"type\": \"string\", \"description\": \"what it is for, in a line\"}"},
        {"extends", "{\"type\": \"string\", \"description\": \"the profile under it\"}"},
        {"overlay",
         "{\"type\": \"boolean\", \"description\": \"lies on top of the profile that a device has\"}"},
        {"sources", TEXTS},
        {"unmeasured", "{\"type\": \"string\", \"description\": \"what of it nobody has measured\"}"},
},
  matches[] =
      {
          {"api", "{\"type\": \"string\", \"description\": \"name of a driver\"}"},
          {"vendor", IDS},
          {"device-id", IDS},
          {"type", "{\"anyOf\": [" TYPE ", {\"type\": \"array\", \"items\": " TYPE "}]}"},
          {"device", TEXTS},
          {"driver", TEXTS},
          {"driver-version", VERSION},
          {"identity", TEXTS},
          {"features", TEXTS},
},
  quirk[] = {
      {"reason", "{\"type\": \"string\"}"},
      {"link", "{\"type\": \"string\"}"},
      {"driver-version", VERSION},
};

#define PUT_KEYS(object, keys)                                  \
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys)[0]; i++) \
    json_put(properties(object), (keys)[i].key, parsed((keys)[i].value))

/* Refers to the sections of settings, which are in the definitions. */
static void put_sections(cJSON *object, const cJSON *settings)
{
    const cJSON *section;
    cJSON_ArrayForEach(section, cJSON_GetObjectItemCaseSensitive(settings, "properties"))
    {
        char path[96];
        cJSON *reference = json_object();
        snprintf(path, sizeof path, "#/definitions/%s", section->string);
        json_put_text(reference, "$ref", path);
        json_put(properties(object), section->string, reference);
    }
}

static cJSON *make_schema(const struct quern_profiles *profiles)
{
    cJSON *settings = closed_object(), *schema = closed_object(), *match = closed_object(),
          *one_quirk = closed_object(), *quirks = json_object();
    quern_profiles_each_setting(profiles, add_setting, settings);
    json_put_text(schema, "$schema", "http://json-schema.org/draft-07/schema#");
    json_put_text(schema, "title", "Quern device profile");
    json_put(schema, "required", words_of("quern-profile name", false));
    PUT_KEYS(schema, head);
    PUT_KEYS(match, matches);
    PUT_KEYS(one_quirk, quirk);
    json_put(one_quirk, "required", words_of("reason", false));
    put_sections(one_quirk, settings);
    put_sections(schema, settings);
    json_put_text(quirks, "type", "array");
    json_put(quirks, "items", one_quirk);
    json_put(properties(schema), "match", match);
    json_put(properties(schema), "quirks", quirks);
    json_put(schema, "definitions", cJSON_DetachItemFromObjectCaseSensitive(settings, "properties"));
    cJSON_Delete(settings);
    return schema;
}

/* ---- the verb ---- */

static int run_device_schema(const void *options, const struct arg_list *rest)
{
    struct device_setup setup;
    int code = device_setup(&setup, "", false);
    if (setup.profiles)
        json_end(make_schema(setup.profiles), true, stdout);
    device_setup_finish(&setup);
    return code;
}

const struct verb verb_device_schema = {
    .name = "device schema",
    .summary = "Prints a JSON schema of device profiles.",
    .synopsis = "",
    .details = "For editors that check and complete YAML by one: quern device schema > profile.schema.json, "
               "and in the "
               "profile's first line # yaml-language-server: $schema=profile.schema.json. quern device check "
               "finds more.",
    .defaults = &(const char){0},
    .size = 0,
    .run = run_device_schema,
};
