/* quern device new, dump: what a device says of itself, as the beginning of a profile, or to be replayed. */
#include "common.h"
#include "device_json.h"
#include "term.h"
#include "verbs.h"

#include <ctype.h>
#include <string.h>

/* ---- new ---- */

/* The name that is wanted, or "AMD Radeon RX 7900 XTX (RADV NAVI31)" to "amd-radeon-rx-7900-xtx". */
static void print_name(const char *name, const char *wanted)
{
    if (wanted) {
        printf("name: %s\n", wanted);
        return;
    }
    char text[64];
    size_t n = 0;
    for (; *name && *name != '(' && n + 1 < sizeof text; name++)
        if (isalnum((unsigned char)*name))
            text[n++] = (char)tolower((unsigned char)*name);
        else if (n > 0 && text[n - 1] != '-')
            text[n++] = '-';
    while (n > 0 && text[n - 1] == '-')
        n--;
    printf("name: %.*s\n", n > 0 ? (int)n : 6, n > 0 ? text : "device");
}

/* A text in quotes. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++)
        printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    printf("\"\n");
}

static void print_match(const struct quern_device_desc *d)
{
    const struct quern_device_info *info = &d->info;
    printf("match:\n  api: %s\n  type: %s\n", d->driver, device_type_name(info->type));
    if (info->vendor_id)
        printf("  vendor: 0x%04x\n  # device-id: 0x%04x\n", info->vendor_id, info->device_id);
    printf("  device: ");
    print_quoted(info->name);
    if (info->driver_name[0]) {
        printf("  # driver: ");
        print_quoted(info->driver_name);
        printf("  # driver-version: \">=%s\"\n", info->driver_version);
    }
}

static void print_fact(void *user, const char *name, const char *value)
{
    printf("#   %s: %s\n", name, value);
}

/* What a setting may be. */
static void print_range(const struct quern_tunable *t)
{
    if (t->type == QUERN_TUNABLE_FLAG)
        printf("on, off");
    else if (t->choices)
        for (const char *at = t->choices; *at; at++)
            printf(*at == ' ' ? ", " : "%c", *at);
    else
        printf("%llu to %llu%s", (unsigned long long)t->min, (unsigned long long)t->max,
               t->type == QUERN_TUNABLE_TIME    ? " us"
               : t->type == QUERN_TUNABLE_BYTES ? " bytes"
               : t->type == QUERN_TUNABLE_RATE  ? " bytes/s"
               : t->type == QUERN_TUNABLE_OPS   ? " operations/s"
                                                : "");
}

struct settings {
    const char *driver;
    char before[96]; /* the mappings that are open */
};

/* A setting in a comment, under comments for the mappings that it is in. */
static void print_setting(void *user, const char *driver, const struct quern_tunable *t)
{
    struct settings *s = user;
    if (driver && strcmp(driver, s->driver) != 0)
        return;
    size_t shared = 0;
    int depth = 0;
    for (size_t i = 0; t->name[i] && t->name[i] == s->before[i]; i++)
        if (t->name[i] == '.')
            shared = i + 1;
    for (size_t i = 0; i < shared; i++)
        depth += t->name[i] == '.';
    for (const char *at = t->name + shared; *at; depth++) {
        size_t n = strcspn(at, ".");
        printf("# %*s%.*s:%s", 2 * depth, "", (int)n, at, at[n] ? "\n" : " ");
        at += n + (at[n] == '.');
    }
    printf(" # ");
    print_range(t);
    printf("; without it %s; %s%s\n", t->preset, t->help,
           t->flags & QUERN_TUNABLE_FORMATS ? "; for one number format: Q4_K: {...}" : "");
    snprintf(s->before, sizeof s->before, "%s", t->name);
}

static void print_profile(const struct quern_device_list *list, size_t index,
                          const struct quern_profiles *profiles, const char *name)
{
    const struct quern_device_desc *d = quern_device_list_at(list, index);
    const struct quern_profile_value *const *values;
    const char *profile;
    struct settings settings = {.driver = d->driver};
    (void)quern_device_list_values(list, index, &profile, &values);
    printf(
        "# A device profile: drivers/profiles/schema.md explains it, quern device check FILE checks it, and\n"
        "# quern device show %s --profile FILE shows what it makes of this device.\n"
        "quern-profile: 1\n",
        d->id);
    print_name(d->info.name, name);
    printf("about: ");
    print_quoted(d->info.name);
    printf("extends: %s\n", profile ? profile : "generic");
    print_match(d);
    printf("sources:\n  - ");
    char source[300];
    snprintf(source, sizeof source, "%s with %s", d->info.name, d->info.driver);
    print_quoted(source);
    printf("unmeasured: all; quern device tune %s measures kernels\n", d->id);
    printf("\n# What the device says of itself: features %s\n", d->info.features);
    each_fact(d->info.facts, print_fact, NULL);
    printf("\n# What does not work, each with a reason and a link; quern device verify %s finds it.\n"
           "# quirks:\n#   - features: {NAME: off}\n#     driver-version: \"<1.2.3\"\n#     reason: what "
           "went wrong\n"
           "#     link: https://...\n\n# What may be said besides. Say only what you have a reason for.\n",
           d->id);
    quern_profiles_each_setting(profiles, print_setting, &settings);
}

static int run_device_new(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct device_setup setup;
    struct quern_device_list *list;
    if (rest->n == 0)
        return verb_usage(&verb_device_new, "expected the ID of a device");
    int code = device_list_make(o, &setup, &list);
    size_t found = code == EXIT_DONE ? device_find(list, rest->items[0], &code) : 0;
    if (code == EXIT_DONE)
        print_profile(list, found, setup.profiles, o->name);
    quern_device_list_destroy(&list);
    device_setup_finish(&setup);
    return code;
}

static const struct arg_option new_args[] = {
    {"--name", ARG_TEXT, offsetof(struct device_options, name), "NAME",
     "of the profile, which is that of its file without .yaml (default: made of the device's)"},
    {"--replay", ARG_FILE, offsetof(struct device_options, replay), "FILE",
     "devices that quern device dump wrote down"},
    {"-v, --verbose", ARG_FLAG, offsetof(struct device_options, verbose), NULL, "tell what happens"},
};

const struct verb verb_device_new = {
    .name = "device new",
    .summary = "Writes the beginning of a profile for a device.",
    .synopsis = "ID > FILE",
    .details = "What the profile matches is filled in; what the device says of itself, and everything that "
               "can be said "
               "about it, with its range, stands in comments.",
    .tables = {{"Options", new_args, ARG_N(new_args), 0}},
    .max_rest = 1,
    .defaults = &(const struct device_options){0},
    .size = sizeof(struct device_options),
    .run = run_device_new,
};

/* ---- dump ---- */

static int run_device_dump(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct device_setup setup;
    struct quern_device_list *list;
    if (rest->n == 0)
        return verb_usage(&verb_device_dump, "expected the ID of a device");
    int code = device_list_make(o, &setup, &list);
    size_t found = code == EXIT_DONE ? device_find(list, rest->items[0], &code) : 0;
    if (code == EXIT_DONE) {
        const struct quern_device_desc *d = quern_device_list_at(list, found);
        cJSON *root = json_object(), *devices = json_array();
        json_put_text(root, "quern", quern_version());
        json_put_text(root, "driver", d->driver);
        json_add(devices, device_as_json(d));
        json_put(root, "devices", devices);
        json_end(root, true, stdout);
    }
    quern_device_list_destroy(&list);
    device_setup_finish(&setup);
    return code;
}

const struct verb verb_device_dump = {
    .name = "device dump",
    .summary = "Writes down all that a driver says of a device.",
    .synopsis = "ID > FILE",
    .details = "With --replay FILE, quern device list, show and new take the file's device in place of this "
               "machine's.",
    .tables = {{"Options", new_args, ARG_N(new_args), 0}},
    .max_rest = 1,
    .defaults = &(const struct device_options){0},
    .size = sizeof(struct device_options),
    .run = run_device_dump,
};
