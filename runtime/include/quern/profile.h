/* Device profiles: what is known of a kind of device, in a YAML file. drivers/profiles/schema.md describes
 * the format. What a profile says becomes settings of the device's driver, and of the runtime. */
#ifndef QUERN_PROFILE_H
#define QUERN_PROFILE_H

#include <quern/driver.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Profiles that a program knows: the built-in ones, those of a directory, and one named by hand. Read-only
 * once open; any thread may use it. */
struct quern_profiles;

struct quern_profiles_params {
    const struct quern_callbacks *callbacks;   /* NULL: none */
    const struct quern_driver *const *drivers; /* further drivers beside the built-in ones */
    uint32_t n_drivers;
    const char *dir;  /* of the user's own, all its files "*.yaml"; one that is wrong is left out with
                         warnings.  NULL, "": none */
    const char *file; /* counts more than all others; wrong: an error. NULL, "": none */
    /* The file is taken for every device of the driver that it is written for, whatever it matches: with its
     * limits and features, a device stands for another. */
    bool emulate;
};
#define quern_profiles_params(...) (&(struct quern_profiles_params){.callbacks = NULL, __VA_ARGS__})

/* A fault in a profile: where, and what was expected there. */
typedef void (*quern_profile_fault_fn)(void *user, const char *text);

/* `params` may be NULL. On failure *profiles is NULL. */
QUERN_API enum quern_status quern_profiles_open(struct quern_profiles **profiles,
                                                const struct quern_profiles_params *params,
                                                struct quern_error *err);
QUERN_API void quern_profiles_close(struct quern_profiles **profiles);

/* Strings live as long as the profiles. */
struct quern_profile_desc {
    const char *name;
    const char *about;
    const char *origin;     /* path of its file, or "built in" */
    const char *extends;    /* "": nothing */
    const char *unmeasured; /* what of it was never measured on such a device; "": nothing */
};
QUERN_API size_t quern_profiles_count(const struct quern_profiles *profiles);
/* False out of range. */
QUERN_API bool quern_profiles_at(const struct quern_profiles *profiles, size_t index,
                                 struct quern_profile_desc *desc);

/* Everything that a profile may say, of each driver and (driver: NULL) of every device. */
typedef void (*quern_profile_setting_fn)(void *user, const char *driver, const struct quern_tunable *setting);
QUERN_API void quern_profiles_each_setting(const struct quern_profiles *profiles,
                                           quern_profile_setting_fn each, void *user);

/* Reads the file as one among `profiles` (which it may extend) and calls `fault` for each thing that is wrong
 * in it: "FILE:LINE:COLUMN: ...". QUERN_ERR_FILE where there is any. */
QUERN_API enum quern_status quern_profile_check(const struct quern_profiles *profiles, const char *path,
                                                quern_profile_fault_fn fault, void *user,
                                                struct quern_error *err);

/* What a profile says, and where. */
struct quern_profile_value {
    const char *setting;        /* "kernels.matvec.lanes" */
    const char *value;          /* as the driver gets it */
    const char *text;           /* as it is written: "64 KiB" */
    const char *profile;        /* name */
    const char *origin;         /* "PATH:LINE:COLUMN" */
    const char *reason, *link;  /* of a quirk; else "" */
    const char *driver_version; /* range outside of which a quirk does not hold: "<41.2"; "": none */
};

#ifdef __cplusplus
}
#endif

#endif
