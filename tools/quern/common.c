/* What several verbs share: options of models, opening them, reading input. */
#include "common.h"
#include "term.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ---- */

#define AT(member) offsetof(struct model_options, member)

const struct arg_option model_arg[1] = {
    {"-m, --model", ARG_FILE, AT(model), "FILE", "the model, a GGUF file (first part of a split one)"},
};

const struct arg_option load_args[10] = {
    {"--device", ARG_TEXT, AT(device), "LIST",
     "devices to use, most wanted first, for one phase as prefill=ID or decode=ID; see quern device list"},
    {"--profile", ARG_FILE, AT(profile), "FILE",
     "a device profile that counts more than all others; see quern device check"},
    {"-t, --threads", ARG_INT, AT(threads), "N", "processor threads; 0: one for each fast core", 0, 4096},
    {"--exact", ARG_FLAG, AT(exact), NULL, "float32 arithmetic on exactly decoded weights: slow"},
    {"--no-mmap", ARG_FLAG, AT(no_mmap), NULL, "read the file into memory instead of mapping it"},
    {"--no-repack", ARG_FLAG, AT(no_repack), NULL,
     "read weights as the file has them, without copies for speed"},
    {"--keep-layouts", ARG_FLAG, AT(keep_layouts), NULL,
     "keep those copies in FILE.layouts, or in the cache, for the next start with this option"},
    {"--pre", ARG_TEXT, AT(pre), "NAME", "splitting rule of the text in place of the file's"},
    {"-v, --verbose", ARG_FLAG, AT(verbose), NULL, "tell what happens"},
    {"-nommap", ARG_FLAG, AT(no_mmap), NULL, "", .hidden = true},
};

const struct arg_option context_args[5] = {
    {"-c, --ctx-size", ARG_INT, AT(ctx), "N", "length of the context in tokens; 0: as trained", 0, 1e9},
    {"-b, --batch, --batch-size, -ub", ARG_INT, AT(batch), "N", "most tokens evaluated at once", 1, 1e9},
    {"--kv-type", ARG_CHOICE, AT(kv), KV_FORMATS, "format of keys and values"},
    {"-ctk, --cache-type-k", ARG_CHOICE, AT(kv_k), KV_FORMATS, "format of keys"},
    {"-ctv, --cache-type-v", ARG_CHOICE, AT(kv_v), KV_FORMATS, "format of values"},
};

static const struct {
    const char *word;
    enum quern_format format;
} kv_formats[] = {
    {"f32", QUERN_F32}, {"f16", QUERN_F16}, {"bf16", QUERN_BF16}, {"q8_0", QUERN_Q8_0}, {"q4_0", QUERN_Q4_0}};

enum quern_format kv_format(int64_t choice)
{
    return choice < 0 ? QUERN_F16 : kv_formats[choice].format;
}

const char *kv_format_word(int64_t choice)
{
    return choice >= 0 && choice < (int64_t)ARG_N(kv_formats) ? kv_formats[choice].word : NULL;
}

const char *device_wanted(const char *option)
{
    const char *set = option ? option : getenv("QUERN_DEVICE");
    return set && set[0] ? set : "auto";
}

uint32_t threads_wanted(int64_t option)
{
    if (option > 0)
        return (uint32_t)option;
    const char *set = getenv("QUERN_THREADS");
    long n = set ? strtol(set, NULL, 10) : 0;
    return n > 0 && n <= 4096 ? (uint32_t)n : 0;
}

/* A folder of the user's: what the environment says, else the first of the places. "": there is none, or it
 * says "off". */
static void user_dir(const char *variable, const char *const places[][2], size_t n_places,
                     char path[PATH_ROOM])
{
    const char *base = getenv(variable), *rest = "";
    bool off = base && strcmp(base, "off") == 0;
    for (size_t i = 0; i < n_places && !(base && base[0]); i++) {
        base = getenv(places[i][0]);
        rest = places[i][1];
#ifndef _WIN32
        base = base && base[0] == '/' ? base : NULL; /* what is relative does not count */
#endif
    }
    int n = snprintf(path, PATH_ROOM, "%s%s", base ? base : "", rest);
    if (off || !(base && base[0]) || n >= PATH_ROOM)
        path[0] = '\0';
}

void cache_dir(char path[PATH_ROOM])
{
    static const char *const places[][2] = {
#if defined(_WIN32)
        {"LOCALAPPDATA", "/quern/cache"},
#elif defined(__APPLE__)
        {"HOME", "/Library/Caches/quern"},
#else
        {"XDG_CACHE_HOME", "/quern"},
        {"HOME", "/.cache/quern"},
#endif
    };
    user_dir("QUERN_CACHE_DIR", places, ARG_N(places), path);
}

void profile_dir(char path[PATH_ROOM])
{
    static const char *const places[][2] = {
#if defined(_WIN32)
        {"APPDATA", "/quern/profiles"},
#elif defined(__APPLE__)
        {"HOME", "/Library/Application Support/quern/profiles"},
#else
        {"XDG_CONFIG_HOME", "/quern/profiles"},
        {"HOME", "/.config/quern/profiles"},
#endif
    };
    user_dir("QUERN_PROFILE_DIR", places, ARG_N(places), path);
}

/* ---- callbacks ---- */

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    static const char *const name[] = {"error", "warning", "info", "debug"};
    const bool *verbose = user;
    if (level > QUERN_LOG_WARNING && !*verbose)
        return;
    fault_text(NULL, "%s: %s", name[level], text);
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    term_progress(what, done, total);
}

static bool on_cancel(void *user)
{
    return term_interrupted();
}

struct quern_callbacks tool_callbacks(bool verbose)
{
    static const bool levels[] = {false, true};
    return (struct quern_callbacks){
        .user = (void *)&levels[verbose], .log = on_log, .progress = on_progress, .cancel = on_cancel};
}

/* ---- devices ---- */

/* The user's profiles, and the one that was named. */
static int open_profiles(struct device_setup *setup, const char *profile)
{
    struct quern_error err = {0};
    const char *named = profile ? profile : getenv("QUERN_PROFILE");
    const char *emulate = getenv("QUERN_EMULATE");
    profile_dir(setup->profile_dir);
    enum quern_status status =
        quern_profiles_open(&setup->profiles,
                            quern_profiles_params(.callbacks = &setup->callbacks, .dir = setup->profile_dir,
                                                  .file = emulate && emulate[0] ? emulate : named,
                                                  .emulate = emulate && emulate[0]),
                            &err);
    return status == QUERN_OK ? EXIT_DONE : fault(NULL, &err);
}

int device_setup(struct device_setup *setup, const char *profile, bool verbose)
{
    static const char *const from_environment[DEVICE_SETTINGS][2] = {
        {"QUERN_CPU_ISA", "isa"},
        {"QUERN_VK_VALIDATE", "vk-validate"},
        {"QUERN_VK_DISABLE", "vk-disable"},
        {"QUERN_VK_SHADERS", "vk-shaders"},
        {"QUERN_VK_SUBMIT_US", "submit.budget"},
        {"QUERN_VK_IMPORT", "vk-import"},
        {"QUERN_VK_COOPMAT", "kernels.coopmat-on-software"},
        {"QUERN_VK_DOT8", "vk-dot8"}};
    setup->callbacks = tool_callbacks(verbose);
    setup->n_settings = 0;
    for (size_t i = 0; i < ARG_N(from_environment); i++) {
        const char *value = getenv(from_environment[i][0]);
        if (value && value[0])
            setup->settings[setup->n_settings++] =
                (struct quern_setting){.name = from_environment[i][1], .value = value};
    }
    cache_dir(setup->cache);
    if (!term_program_path(setup->helper, sizeof setup->helper))
        setup->helper[0] = '\0';
    const char *seconds = getenv("QUERN_HELPER_SECONDS");
    long n = seconds ? strtol(seconds, NULL, 10) : 0;
    setup->helper_ms = n > 0 && n <= HELPER_SECONDS ? (uint32_t)n * 1000 : 0;
    return open_profiles(setup, profile);
}

void device_setup_finish(struct device_setup *setup)
{
    quern_profiles_close(&setup->profiles);
}

const char *device_type_name(uint32_t type)
{
    const char *name = quern_device_type_name(type);
    return name ? name : "other";
}

struct quern_device_params device_params(const struct device_setup *setup, bool fresh)
{
    return *quern_device_params(.callbacks = &setup->callbacks, .settings = setup->settings,
                                .n_settings = setup->n_settings, .cache_dir = setup->cache,
                                .helper = setup->helper, .helper_ms = setup->helper_ms, .fresh = fresh,
                                .profiles = setup->profiles);
}

/* Whether a list of ids names a device whose driver loads code of others. Without a cache, auto is the
 * processor. */
static bool needs_bring_up(const char *ids, bool has_cache)
{
    for (const char *id = ids; *id;) {
        size_t n = strcspn(id, ",:");
        bool plain = (n == 3 && memcmp(id, "cpu", 3) == 0) || (n == 4 && memcmp(id, "null", 4) == 0) ||
                     (n == 4 && memcmp(id, "auto", 4) == 0 && !has_cache);
        if (!plain)
            return true;
        id += strcspn(id, ",");
        id += *id == ',';
    }
    return false;
}

/* Has the loaders of drivers leave out what the helper did not survive. It is the command that may change the
 * environment, before there are threads; the library does not. */
static int confine(const struct device_setup *setup)
{
    struct quern_device_params params = device_params(setup, false);
    struct quern_device_list *list;
    struct quern_error err = {0};
    if (quern_device_list_create(&list, &params, &err) != QUERN_OK)
        return fault(NULL, &err);
    const char *assignment;
    int code = EXIT_DONE;
    for (size_t i = 0; (assignment = quern_device_list_environment(list, i)) != NULL; i++)
        if (!term_set_environment(assignment))
            code = fault_text(NULL, "the environment cannot be changed to %s", assignment);
    quern_device_list_destroy(&list);
    return code;
}

/* ---- models ---- */

static int open_with(struct loaded *loaded, const struct model_options *options, uint32_t n_ctx,
                     struct device_setup *setup)
{
    const char *device = device_wanted(options->device);
    if (options->cache)
        snprintf(setup->cache, sizeof setup->cache, "%s", options->cache);
    if (needs_bring_up(device, setup->cache[0] != '\0')) {
        int code = confine(setup);
        if (code != EXIT_DONE)
            return code;
    }
    struct quern_error err = {0};
    uint64_t begin = term_now_ns();
    enum quern_status status = quern_model_open(
        &loaded->model, quern_source_path(options->model),
        quern_model_params(.callbacks = &setup->callbacks, .device = device, .n_ctx = n_ctx,
                           .n_threads = threads_wanted(options->threads), .exact = options->exact,
                           .no_mmap = options->no_mmap, .no_repack = options->no_repack,
                           .repack_first = options->repack_first, .keep_layouts = options->keep_layouts,
                           .pre = options->pre, .settings = setup->settings, .n_settings = setup->n_settings,
                           .cache_dir = setup->cache, .helper = setup->helper, .helper_ms = setup->helper_ms,
                           .profiles = setup->profiles),
        &err);
    term_status_end();
    if (status != QUERN_OK)
        return fault(options->model, &err);
    loaded->load_ns = term_now_ns() - begin;
    quern_model_info(loaded->model, &loaded->info);
    loaded->vocab = quern_model_vocab(loaded->model);
    return EXIT_DONE;
}

int open_model(struct loaded *loaded, const struct model_options *options, uint32_t n_ctx)
{
    struct device_setup setup;
    *loaded = (struct loaded){0};
    int code = device_setup(&setup, options->profile, options->verbose);
    if (code == EXIT_DONE)
        code = open_with(loaded, options, n_ctx, &setup);
    device_setup_finish(&setup);
    return code;
}

int open_session(struct loaded *loaded, const struct model_options *options,
                 const struct quern_session_params *params)
{
    enum { MOST = 512 }; /* quern_session_params.n_batch */
    struct quern_session_params all = *params;
    all.n_ctx = all.n_ctx > 0 ? all.n_ctx : (uint32_t)options->ctx;
    all.n_batch = options->batch < MOST ? (uint32_t)options->batch : MOST;
    all.kv_k = kv_format(options->kv_k >= 0 ? options->kv_k : options->kv);
    all.kv_v = kv_format(options->kv_v >= 0 ? options->kv_v : options->kv);
    struct quern_error err = {0};
    if (quern_session_create(&loaded->session, loaded->model, &all, &err) != QUERN_OK)
        return fault(options->model, &err);
    return EXIT_DONE;
}

void close_model(struct loaded *loaded)
{
    quern_session_destroy(&loaded->session);
    quern_model_destroy(&loaded->model);
}

double per_second(uint64_t n, uint64_t ns)
{
    return ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

/* ---- input ---- */

void buffer_put(struct buffer *buffer, const char *data, size_t n)
{
    if (buffer->n + n + 1 > buffer->cap) {
        buffer->cap = (buffer->n + n + 1) * 2;
        buffer->data = need_memory(buffer->data, buffer->cap, 1);
    }
    if (n > 0)
        memcpy(buffer->data + buffer->n, data, n);
    buffer->n += n;
    buffer->data[buffer->n] = '\0';
}

void buffer_finish(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

int read_input(const char *path, struct buffer *buffer)
{
    bool standard = !path || strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (!file)
        return fault_text(path, "%s", strerror(errno));
    char chunk[65536];
    size_t n;
    buffer_put(buffer, "", 0);
    while (!term_interrupted() && (n = fread(chunk, 1, sizeof chunk, file)) > 0)
        buffer_put(buffer, chunk, n);
    int code = EXIT_DONE;
    if (term_interrupted())
        code = EXIT_INTERRUPTED;
    else if (ferror(file))
        code = fault_text(standard ? "standard input" : path, "%s", strerror(errno));
    if (!standard)
        fclose(file);
    return code;
}

int parse_ids(const char *path, const struct buffer *text, struct id_list *ids)
{
    size_t cap = 0;
    *ids = (struct id_list){0};
    const char *at = text->data;
    for (;;) {
        at += strspn(at, " \t\r\n\f\v");
        if (*at == '\0')
            break;
        char *end;
        errno = 0;
        long long id = strtoll(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX || (*end && !strchr(" \t\r\n\f\v", *end))) {
            ids_finish(ids);
            return fault_text(path, "\"%.*s\" is not a token id", (int)strcspn(at, " \t\r\n\f\v"), at);
        }
        if (ids->n == cap) {
            cap = cap > 0 ? cap * 2 : 256;
            ids->id = need_memory(ids->id, cap, sizeof *ids->id);
        }
        ids->id[ids->n++] = (int32_t)id;
        at = end;
    }
    if (at != text->data + text->n) {
        ids_finish(ids);
        return fault_text(path, "byte %zu is NUL, expected token ids", (size_t)(at - text->data));
    }
    return EXIT_DONE;
}

int tokenize_text(const struct quern_vocab *vocab, const char *path, const char *text, size_t n,
                  unsigned flags, struct id_list *ids)
{
    size_t cap = n + 16; /* a token has a byte or more, save for the special ones */
    *ids = (struct id_list){.id = need_memory(NULL, cap, sizeof *ids->id)};
    struct quern_error err = {0};
    enum quern_status status = quern_tokenize(vocab, text, n, flags, ids->id, cap, &ids->n, &err);
    if (status == QUERN_OK && ids->n > cap) {
        cap = ids->n;
        ids->id = need_memory(ids->id, cap, sizeof *ids->id);
        status = quern_tokenize(vocab, text, n, flags, ids->id, cap, &ids->n, &err);
    }
    if (status != QUERN_OK) {
        ids_finish(ids);
        return fault(path, &err);
    }
    return EXIT_DONE;
}

void random_ids(const struct quern_vocab *vocab, size_t n, struct id_list *ids)
{
    uint32_t n_vocab = quern_vocab_size(vocab);
    uint64_t state = 1;
    *ids = (struct id_list){.id = need_memory(NULL, n, sizeof *ids->id), .n = n};
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ids->id[i] = (int32_t)((state >> 33) % n_vocab);
    }
}

void ids_finish(struct id_list *ids)
{
    free(ids->id);
    *ids = (struct id_list){0};
}

char *unescape(const char *text, size_t *length)
{
    static const char from[] = "ntr0\"'\\", to[] = "\n\t\r\0\"'\\";
    char *copy = need_memory(NULL, strlen(text) + 1, 1);
    size_t n = 0;
    for (const char *at = text; *at; at++) {
        const char *known = at[0] == '\\' && at[1] ? strchr(from, at[1]) : NULL;
        if (known) {
            copy[n++] = to[known - from];
            at++;
        } else if (at[0] == '\\' && at[1] == 'x' && at[2] && at[3] &&
                   strspn(at + 2, "0123456789abcdefABCDEF") >= 2) {
            char digits[3] = {at[2], at[3]};
            copy[n++] = (char)strtol(digits, NULL, 16);
            at += 3;
        } else {
            copy[n++] = *at;
        }
    }
    copy[n] = '\0';
    *length = n;
    return copy;
}
