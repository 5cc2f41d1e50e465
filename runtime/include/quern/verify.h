/* Proof that a device computes what it should, and measurements of what it likes: for those who write its
 * driver or its profile. */
#ifndef QUERN_VERIFY_H
#define QUERN_VERIFY_H

#include <quern/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- verifying ---- */

/* What came out for an operation, in one number format of weights. Strings are valid during the call. */
struct quern_verify_row {
    const char *operation; /* "matmul" */
    const char *format;    /* "Q4_K"; "": it has none */
    uint32_t n_cases, n_failed;
    uint32_t n_refused;             /* more rounds than loops go on this device, which says so */
    double error_exact, error_fast; /* largest relative errors; fast: activations may be rounded */
    bool unsteady;                  /* other bits from run to run */
    const char *fault;              /* the first case that failed, in words; "": none */
    const char *remedy; /* the setting with which no case fails ("features.coopmat=0"); "": none */
};

struct quern_verify_params {
    const char *device;  /* id */
    const char *only;    /* operations and number formats, separated by spaces; NULL, "": all */
    uint32_t repeats;    /* runs of each case that must give the same bits, besides the first; 0: 2 */
    uint32_t n_random;   /* random cases for each operation and format, beside the picked ones */
    uint64_t seed;       /* of those */
    bool large;          /* those that take much time or memory as well */
    const char *save_to; /* folder of profiles, where settings that help become quirks; NULL, "": nowhere */
    void (*row)(void *user, const struct quern_verify_row *row); /* NULL: nobody listens */
    void *user;
};
#define quern_verify_params(...) (&(struct quern_verify_params){.device = "auto", __VA_ARGS__})

struct quern_verify_result {
    uint32_t n_cases, n_failed, n_rows, n_rows_failed;
    struct quern_device_info info;
    char profile[64]; /* that the device has; "": none */
    char saved[1024]; /* path of the profile with the quirks; "": none was written */
};

/* Runs every operation and number format of a device against the CPU's reference. QUERN_OK also where cases
 * failed: see the result. A case that fails is tried again without each optional feature. */
QUERN_API enum quern_status quern_device_verify(const struct quern_device_params *devices,
                                                const struct quern_verify_params *params,
                                                struct quern_verify_result *result, struct quern_error *err);

/* ---- tuning ---- */

/* What came out for a kernel, in one number format of weights. Strings are valid during the call. */
struct quern_tune_row {
    const char *kernel;   /* "matvec": the part of its settings' names */
    const char *format;   /* "Q4_K"; "": it has none of its own */
    double gain;          /* of speed by the settings: 1.25 is a quarter more; 1: without any */
    const char *settings; /* "lanes 8, rows 2"; "": nothing was faster than what holds already */
    uint32_t n_tried;     /* combinations */
    bool kept;            /* it was measured in an earlier run */
};

struct quern_tune_params {
    const char *device; /* id */
    const char
        *only;      /* kernels and number formats, separated by spaces; NULL, "": all, in the usual formats */
    double seconds; /* of each measurement; 0: 0.1 */
    uint64_t bytes; /* of the weights that a token reads in it; 0: more than caches hold */
    const char *save_to; /* folder of profiles, where the overlay goes after each row; NULL, "": nowhere */
    bool again;          /* measures rows anew that an earlier run has measured */
    void (*row)(void *user, const struct quern_tune_row *row); /* NULL: nobody listens */
    void *user;
};
#define quern_tune_params(...) (&(struct quern_tune_params){.device = "auto", __VA_ARGS__})

struct quern_tune_result {
    uint32_t n_rows, n_faster;
    struct quern_device_info info;
    char saved[1024]; /* path of the overlay; "": none was written */
};

/* Times the kernels of a device with values of the settings that its driver marks with QUERN_TUNABLE_SPEED,
 * one setting after another, each as long as it pays. Settings stay where they are faster when measured again
 * beside what held before, and compute the same as the reference. Cancelling loses the row at hand. */
QUERN_API enum quern_status quern_device_tune(const struct quern_device_params *devices,
                                              const struct quern_tune_params *params,
                                              struct quern_tune_result *result, struct quern_error *err);

#ifdef __cplusplus
}
#endif

#endif
