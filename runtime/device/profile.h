/* Device profiles inside the runtime. A profile is read in two passes: its head (name, extends, match), by
 * which it finds the one that it extends; then what it says, which depends on the driver that it is for.
 * Everything lies in the arena of the profiles. */
#ifndef QN_DEVICE_PROFILE_H
#define QN_DEVICE_PROFILE_H

#include "base/arena.h"
#include "device/tunables.h"
#include <quern/profile.h>

#include <yaml.h>

enum { QN_PROFILE_VERSION = 1, QN_MATCH_ANY = 32, QN_PROFILE_DEPTH = 16 };

/* A version: numbers with dots between them. */
enum qn_version_is { QN_VERSION_EQUAL, QN_VERSION_LESS, QN_VERSION_LEAST, QN_VERSION_MORE, QN_VERSION_MOST };

/* "A version of at least 23.1 and below 24". */
struct qn_version_range {
    uint32_t n; /* conditions, all of which must hold */
    struct {
        enum qn_version_is is;
        const char *version;
    } of[4];
};

/* Reads ">=23.1 <24"; false: it is none. `text` stays in use. */
bool qn_version_range_parse(struct qn_arena *arena, const char *text, struct qn_version_range *range);
bool qn_version_in_range(const char *version, const struct qn_version_range *range);
/* -1, 0, 1; what follows the numbers does not count. */
int qn_version_compare(const char *a, const char *b);

/* Whether the text, in any case, is of that pattern: * stands for anything, ? for one character. */
bool qn_glob(const char *pattern, const char *text);

/* One of several words or patterns. */
struct qn_match_words {
    uint32_t n;
    const char *word[QN_MATCH_ANY];
};

struct qn_match_ids {
    uint32_t n;
    uint32_t first[QN_MATCH_ANY], last[QN_MATCH_ANY];
};

/* What a device must be; what is not there is not asked for. */
struct qn_match {
    const char *api; /* name of the driver; NULL: any */
    struct qn_match_ids vendor, device_id;
    struct qn_match_words type, device, driver, identity;
    struct qn_match_words features; /* all of them */
    struct qn_version_range driver_version;
    uint32_t n; /* conditions */
};

/* What a profile says. */
struct qn_profile_item {
    struct quern_profile_value value;
    uint32_t line, column;
    struct qn_version_range driver_version; /* a quirk may be for some versions only */
};

struct qn_profile {
    const char *name, *about, *extends;
    const char *path; /* "built in" */
    uint32_t rank;    /* of its source: built in, of the directory, the file */
    bool overlay;     /* lies on top of whatever other profile a device has */
    bool good;        /* has no fault */
    uint32_t name_line, name_column;
    struct qn_match match;
    const struct qn_profile *base; /* that it extends; NULL: none */
    uint32_t depth;                /* profiles under it */
    uint32_t n_items;
    struct qn_profile_item *items;
    const char *const *sources; /* where its values come from */
    uint32_t n_sources;
    const char *unmeasured; /* what of it was never measured; NULL: nothing */
};

/* The driver that it and all under it are for; NULL: any. */
const char *qn_profile_api(const struct qn_profile *profile);
/* Whether the device is one of those that the profile is for; where it is not, `text` says which condition
 * does not hold, and of which profile; with a size of 0 nobody asks. */
bool qn_profile_match(const struct qn_profile *profile, const char *driver,
                      const struct quern_device_info *info, char *text, size_t size);

/* ---- reading one: profile_read.c ---- */

/* A file on its way in. */
struct qn_reading {
    struct qn_arena *arena;
    const char *path;
    yaml_document_t document;
    bool loaded, readable;
    const struct qn_tunable_set *tunables;
    struct qn_profile *profile;
    quern_profile_fault_fn fault; /* NULL: nobody listens */
    void *user;
    uint32_t n_faults;
    bool no_memory;
};

/* First pass. A reading is finished also after a fault. `path` stays in use. */
void qn_reading_head(struct qn_reading *reading, const char *text, size_t n);
/* Second pass, when profile->base is known. */
void qn_reading_body(struct qn_reading *reading);
void qn_reading_finish(struct qn_reading *reading);
void qn_reading_fault(struct qn_reading *reading, uint32_t line, uint32_t column, const char *fmt, ...)
    QUERN_PRINTF(4, 5);

/* ---- all of them: profiles.c ---- */

/* What the profiles say of a device, the general ones first; of two with one setting the later counts. */
struct qn_profile_values {
    const struct qn_profile *profile; /* NULL: none is for the device */
    size_t n, n_unused;
    const struct quern_profile_value **value;
    const struct quern_profile_value **unused; /* quirks for other versions of the driver */
};

enum quern_status qn_profiles_resolve(const struct quern_profiles *profiles, const struct quern_callbacks *cb,
                                      const char *driver, const struct quern_device_info *info,
                                      struct qn_profile_values *values, struct quern_error *err);
void qn_profile_values_finish(const struct quern_callbacks *cb, struct qn_profile_values *values);

/* Logs what is not used for the device: the profile that was named by hand, where it is for others; overlays
 * for another version of its driver. */
void qn_profiles_tell_unused(const struct quern_profiles *profiles, const struct quern_callbacks *cb,
                             const char *driver, const struct quern_device_info *info);

/* The one that was named by hand; NULL: none was. */
const struct qn_profile *qn_profiles_file(const struct quern_profiles *profiles);

/* As quern_profile_check, of a file's text. */
enum quern_status qn_profile_check_text(const struct quern_profiles *profiles, const char *path,
                                        const char *text, size_t n, quern_profile_fault_fn fault, void *user,
                                        struct quern_error *err);

/* Made by drivers/profiles/embed.py. */
struct qn_profile_text {
    const char *name;
    const char *text;
    size_t n;
};
extern const struct qn_profile_text qn_profile_texts[];
extern const size_t qn_n_profile_texts;

#endif
