/* Devices: what could run a model here, and what is known of it. */
#ifndef QUERN_DEVICE_H
#define QUERN_DEVICE_H

#include <quern/profile.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Drivers of GPUs load code of others, which may crash or hang. With a helper, that happens in a process of
 * its own first: a program that hands its arguments after the word "device-helper" to quern_device_helper(),
 * as the command `quern` does. With a cache directory, what came out is kept, and what a process was doing
 * with such a driver when it died is known to the next one. Without a helper, devices are listed in the
 * process itself. */
struct quern_device_params {
    const struct quern_callbacks *callbacks; /* NULL: none */
    const struct quern_driver *const
        *drivers; /* further drivers beside the built-in ones; tried in no helper */
    uint32_t n_drivers;
    const struct quern_setting *settings; /* for the drivers */
    uint32_t n_settings;
    const char *cache_dir; /* NULL, "": nothing is kept */
    uint64_t cache_limit;  /* bytes; 0: 1 GiB */
    const char *helper;    /* path of a program; NULL, "": none */
    uint32_t helper_ms;    /* most that one run of it may take; 0: 15 s for a list, 120 s for a trial */
    bool fresh;            /* lists anew, whatever is kept */
    const struct quern_profiles *profiles; /* NULL: the built-in ones */
};
#define quern_device_params(...) (&(struct quern_device_params){.callbacks = NULL, __VA_ARGS__})

struct quern_device_list;

enum quern_device_state {
    QUERN_DEVICE_READY = 0,   /* it passed its trial, or needs none */
    QUERN_DEVICE_UNTRIED = 1, /* its first use will be a trial */
    QUERN_DEVICE_REFUSED = 2, /* it is not used: see reason */
};

/* Word for a type, as profiles have it: "discrete-gpu"; NULL: there is none of this number. */
QUERN_API const char *quern_device_type_name(uint32_t type);

/* One device of the list. Strings live as long as the list. */
struct quern_device_desc {
    const char *id;     /* what `device` in params takes: "cpu", "vulkan:0" */
    const char *driver; /* name of the driver */
    struct quern_device_info info;
    uint32_t state; /* enum quern_device_state */
    const char
        *reason; /* why it is refused, or what of it is off because it computes wrong results; else "" */
};

/* A driver, or a part of one, that was left out of the list. */
struct quern_device_fault {
    const char *driver;
    const char *part; /* path; "": all of the driver */
    const char *reason;
};

/* Lists the devices of all drivers. Opens none. A driver that fails to list is left out. `params` may be
 * NULL. On failure *list is NULL. */
QUERN_API enum quern_status quern_device_list_create(struct quern_device_list **list,
                                                     const struct quern_device_params *params,
                                                     struct quern_error *err);
QUERN_API void quern_device_list_destroy(struct quern_device_list **list);
QUERN_API size_t quern_device_list_count(const struct quern_device_list *list);
QUERN_API const struct quern_device_desc *quern_device_list_at(const struct quern_device_list *list,
                                                               size_t index);
/* What was left out; NULL out of range. */
QUERN_API const struct quern_device_fault *quern_device_list_fault(const struct quern_device_list *list,
                                                                   size_t index);
/* The profile of the index-th device, and what it and those that it extends say, the general ones first: of
 * two values with one setting the later one counts. `profile` and `value` live as long as the list and the
 * profiles. Without a profile there is no value and *profile is NULL. */
QUERN_API size_t quern_device_list_values(const struct quern_device_list *list, size_t index,
                                          const char **profile,
                                          const struct quern_profile_value *const **values);
/* In the same way the quirks that these profiles have for other versions of the driver, which are not used.
 */
QUERN_API size_t quern_device_list_unused_quirks(const struct quern_device_list *list, size_t index,
                                                 const struct quern_profile_value *const **values);
/* The index-th assignment "NAME=VALUE" that the process's environment must have before a device of the list
 * is opened, so that no part is loaded that was left out; NULL out of range. The library does not change the
 * environment. */
QUERN_API const char *quern_device_list_environment(const struct quern_device_list *list, size_t index);

/* Looks at what Quern and its drivers need of this machine, lists the devices anew, and calls `finding` for
 * everything that was looked at, in the order of its topics. What is wrong is no failure of the call. */
struct quern_examine_params {
    const struct quern_device_params *devices; /* NULL: the defaults; profiles are those that are examined */
    const char *profile_dir;                   /* of the user's own profiles; NULL, "": none */
    const char
        *root; /* folder that stands for "/" where the system's own files are looked at; NULL, "": none */
};
QUERN_API enum quern_status quern_examine(const struct quern_examine_params *params, quern_finding_fn finding,
                                          void *user, struct quern_error *err);

/* Forgets lists, trials and measurements, so that whatever was refused gets another chance. */
QUERN_API enum quern_status quern_device_forget(const struct quern_device_params *params,
                                                struct quern_error *err);

/* The helper program's part: does what the library started it for, and hands the answer to `write`, piece by
 * piece. May crash or hang in a driver. */
QUERN_API enum quern_status quern_device_helper(int argc, const char *const *argv,
                                                void (*write)(void *user, const char *text, size_t length),
                                                void *user, struct quern_error *err);

#ifdef __cplusplus
}
#endif

#endif
