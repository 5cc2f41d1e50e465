/* What several verbs share: options of models, opening them, reading input. */
#ifndef TOOL_COMMON_H
#define TOOL_COMMON_H

#include "args.h"
#include "out.h"

/* How a model is loaded and what its sessions are like. */
struct model_options {
    const char *model, *device, *pre;
    const char *cache;   /* folder in place of the user's; NULL: the user's */
    const char *profile; /* of devices; NULL: that of the environment, if any */
    int64_t threads, ctx, batch;
    int64_t kv, kv_k, kv_v; /* choices of KV_FORMATS; kv stands for both, the others win */
    bool exact, no_mmap, no_repack, repack_first, keep_layouts, verbose;
};
#define MODEL_DEFAULTS_KV(format)                            \
    {                                                        \
        .batch = 512, .kv = (format), .kv_k = -1, .kv_v = -1 \
    }
#define MODEL_DEFAULTS MODEL_DEFAULTS_KV(-1) /* f16 */
#define KV_FORMATS     "f32|f16|bf16|q8_0|q4_0"

extern const struct arg_option model_arg[1];    /* -m */
extern const struct arg_option load_args[10];   /* where and how to run it */
extern const struct arg_option context_args[5]; /* of the session */

/* A model with its session. */
struct loaded {
    struct quern_model *model;
    struct quern_session *session;
    struct quern_model_info info;
    const struct quern_vocab *vocab;
    uint64_t load_ns;
};

/* Callbacks that write warnings (with `verbose` also the rest) and progress to stderr and cancel on Ctrl-C.
 */
struct quern_callbacks tool_callbacks(bool verbose);

/* An option's value, or that of the environment, or NULL. */
const char *device_wanted(const char *option);
/* Threads from the option or the environment; 0: one for each fast core. */
uint32_t threads_wanted(int64_t option);
enum quern_format kv_format(int64_t choice);
/* Its word; NULL: there are no more. */
const char *kv_format_word(int64_t choice);
/* The cache's directory: that of QUERN_CACHE_DIR, else the user's; "" where there is none or it says "off".
 */
enum { PATH_ROOM = 4096 };
void cache_dir(char path[PATH_ROOM]);
/* That of the user's device profiles: QUERN_PROFILE_DIR, in the same way. */
void profile_dir(char path[PATH_ROOM]);

/* What the library is told about devices, from the environment. Too large for deep stacks. */
enum { DEVICE_SETTINGS = 8, HELPER_SECONDS = 600 };
struct device_setup {
    struct quern_callbacks callbacks;
    struct quern_setting settings[DEVICE_SETTINGS];
    uint32_t n_settings;
    char cache[PATH_ROOM], helper[PATH_ROOM], profile_dir[PATH_ROOM];
    uint32_t helper_ms;
    struct quern_profiles *profiles;
};
/* profile: a file, NULL: that of the environment. On failure the line is written and the exit code returned;
 * it is finished all the same. */
int device_setup(struct device_setup *setup, const char *profile, bool verbose);
void device_setup_finish(struct device_setup *setup);
/* As quern_device_type_name, "other" where there is none. */
const char *device_type_name(uint32_t type);
/* As parameters, valid as long as the setup. */
struct quern_device_params device_params(const struct device_setup *setup, bool fresh);

/* Opens the model; n_ctx 0: as trained. On failure the line is written and the exit code returned. */
int open_model(struct loaded *loaded, const struct model_options *options, uint32_t n_ctx);
/* Makes the session; `params` may name trace and overflow, the rest is filled in from the options. */
int open_session(struct loaded *loaded, const struct model_options *options,
                 const struct quern_session_params *params);
void close_model(struct loaded *loaded);

/* Rate of n in that time; 0 where there was none. */
double per_second(uint64_t n, uint64_t ns);

/* Bytes that grow. */
struct buffer {
    char *data;
    size_t n, cap;
};
void buffer_put(struct buffer *buffer, const char *data, size_t n);
void buffer_finish(struct buffer *buffer);
/* Reads a file, or standard input when path is NULL or "-". The data is NUL-terminated. Returns an exit code.
 */
int read_input(const char *path, struct buffer *buffer);

struct id_list {
    int32_t *id;
    size_t n;
};
/* Numbers separated by white space. `path` is for messages. */
int parse_ids(const char *path, const struct buffer *text, struct id_list *ids);
/* Tokens of a text; `flags` as in quern_tokenize. */
int tokenize_text(const struct quern_vocab *vocab, const char *path, const char *text, size_t n,
                  unsigned flags, struct id_list *ids);
/* n ids that are the same in every run. */
void random_ids(const struct quern_vocab *vocab, size_t n, struct id_list *ids);
void ids_finish(struct id_list *ids);

/* Replaces \n, \t, \r, \0, \", \', \\ and \xHH; returns a copy that the caller frees. */
char *unescape(const char *text, size_t *length);

#endif
