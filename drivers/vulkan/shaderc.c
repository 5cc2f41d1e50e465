/* shaderc's functions, as its C interface declares them; they have been the same since its first version. */
#include "drivers/vulkan/shaderc.h"

#include "base/file.h"
#include "base/library.h"

#include <stdio.h>
#include <string.h>

typedef struct shaderc_compiler *shaderc_compiler_t;
typedef struct shaderc_compile_options *shaderc_compile_options_t;
typedef struct shaderc_compilation_result *shaderc_compilation_result_t;

enum {
    SHADERC_COMPUTE = 2,
    SHADERC_PERFORMANCE = 2,
    SHADERC_VULKAN = 0,
    SHADERC_VULKAN_1_2 = 1 << 22 | 2 << 12,
    SHADERC_VULKAN_1_3 = 1 << 22 | 3 << 12,
};

struct shaderc_include_result {
    const char *source_name;
    size_t source_name_length;
    const char *content; /* where source_name is empty: what is wrong */
    size_t content_length;
    void *user_data;
};
typedef struct shaderc_include_result *(*shaderc_include_fn)(void *user, const char *wanted, int type,
                                                             const char *by, size_t depth);
typedef void (*shaderc_release_include_fn)(void *user, struct shaderc_include_result *result);

/* result, name without "shaderc_", arguments */
#define FUNCTIONS(X)                                                                                      \
    X(shaderc_compiler_t, compiler_initialize, (void))                                                    \
    X(void, compiler_release, (shaderc_compiler_t))                                                       \
    X(shaderc_compile_options_t, compile_options_initialize, (void))                                      \
    X(void, compile_options_release, (shaderc_compile_options_t))                                         \
    X(void, compile_options_add_macro_definition,                                                         \
      (shaderc_compile_options_t, const char *name, size_t, const char *value, size_t))                   \
    X(void, compile_options_set_optimization_level, (shaderc_compile_options_t, int level))               \
    X(void, compile_options_set_target_env, (shaderc_compile_options_t, int target, uint32_t version))    \
    X(void, compile_options_set_include_callbacks,                                                        \
      (shaderc_compile_options_t, shaderc_include_fn, shaderc_release_include_fn, void *user))            \
    X(shaderc_compilation_result_t, compile_into_spv,                                                     \
      (shaderc_compiler_t, const char *text, size_t, int kind, const char *file, const char *entry_point, \
       shaderc_compile_options_t))                                                                        \
    X(int, result_get_compilation_status, (shaderc_compilation_result_t))                                 \
    X(const char *, result_get_error_message, (shaderc_compilation_result_t))                             \
    X(const char *, result_get_bytes, (shaderc_compilation_result_t))                                     \
    X(size_t, result_get_length, (shaderc_compilation_result_t))                                          \
    X(void, result_release, (shaderc_compilation_result_t))                                               \
    X(void, get_spv_version, (unsigned *version, unsigned *revision))

struct qn_shaderc {
    const struct quern_callbacks *cb;
    void *library;
#define MEMBER(result, name, arguments) result(*name) arguments;
    FUNCTIONS(MEMBER)
#undef MEMBER
    shaderc_compiler_t compiler;
    char version[512];
};

/* ---- loading ---- */

/* "LIBRARY BYTES DATE SPIR-V VERSION": shaderc does not tell its own version, so its file stands for it, and
 * that of glslang where it is a library of its own. */
static void describe(struct qn_shaderc *shaderc)
{
    static const char *const symbols[] = {"shaderc_compile_into_spv", "glslang_initialize_process",
                                          "spvSoftwareVersionString"};
    unsigned version = 0, revision = 0;
    shaderc->get_spv_version(&version, &revision);
    int n = snprintf(shaderc->version, sizeof shaderc->version, "spv %x.%u", version, revision);
    for (size_t i = 0; i < QN_LEN(symbols) && n > 0 && n < (int)sizeof shaderc->version; i++) {
        char path[256];
        uint64_t bytes;
        int64_t written_ns;
        if (qn_library_path(qn_library_symbol(shaderc->library, symbols[i]), path, sizeof path) &&
            qn_file_stat(shaderc->cb, path, &bytes, &written_ns))
            n += snprintf(shaderc->version + n, sizeof shaderc->version - (size_t)n, ", %s %llu %lld", path,
                          (unsigned long long)bytes, (long long)written_ns);
    }
}

static const char *const names[] = {
#if defined(_WIN32)
    "shaderc_shared.dll",
#elif defined(__APPLE__)
    "libshaderc_shared.1.dylib",
#else
    "libshaderc_shared.so.1",
    "libshaderc.so.1",
#endif
};

void qn_shaderc_find(const struct quern_callbacks *cb, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < QN_LEN(names) && used < size; i++) {
        char path[256];
        uint64_t bytes;
        int64_t written_ns;
        if (qn_library_find(cb, names[i], path, sizeof path) && qn_file_stat(cb, path, &bytes, &written_ns))
            used += (size_t)snprintf(text + used, size - used, "%s %llu@%lld ", path,
                                     (unsigned long long)bytes, (long long)written_ns);
    }
}

/* Loads the library, or says why none of its names can be. */
static bool load_library(struct qn_shaderc *shaderc, char *why, size_t size)
{
    size_t n = 0;
    why[0] = '\0';
    for (size_t i = 0; i < QN_LEN(names) && !shaderc->library; i++) {
        char reason[200];
        shaderc->library = qn_library_open((const char *const[]){names[i], NULL});
        if (!shaderc->library) {
            qn_library_reason(reason, sizeof reason);
            n += (size_t)snprintf(why + n, n < size ? size - n : 0, "%s%s", i > 0 ? "; " : "", reason);
        }
    }
    return shaderc->library;
}

enum quern_status qn_shaderc_open(const struct quern_callbacks *cb, struct qn_shaderc **out,
                                  struct quern_error *err)
{
    struct qn_shaderc *shaderc = *out = qn_zalloc(cb, 1, sizeof *shaderc);
    if (!shaderc)
        return qn_fail_memory(err, "shaderc");
    shaderc->cb = cb;
    char why[420];
    bool good = load_library(shaderc, why, sizeof why);
#define LOAD(result, name, arguments)                                          \
    if (good) {                                                                \
        void *symbol = qn_library_symbol(shaderc->library, "shaderc_" #name);  \
        memcpy(&shaderc->name, &symbol, sizeof symbol); /* no cast in ISO C */ \
        good = symbol;                                                         \
        if (!good)                                                             \
            snprintf(why, sizeof why, "it has no shaderc_" #name);             \
    }
    FUNCTIONS(LOAD)
#undef LOAD
    if (good) {
        shaderc->compiler = shaderc->compiler_initialize();
        snprintf(why, sizeof why, "it does not start");
    }
    if (shaderc->compiler) {
        describe(shaderc);
        return QUERN_OK;
    }
    qn_shaderc_close(out);
    return qn_fail(err, QUERN_ERR_UNSUPPORTED, "there is no shaderc to compile it with: %s", why);
}

void qn_shaderc_close(struct qn_shaderc **out)
{
    struct qn_shaderc *shaderc = *out;
    if (!shaderc)
        return;
    if (shaderc->compiler)
        shaderc->compiler_release(shaderc->compiler);
    qn_library_close(shaderc->library);
    qn_free(shaderc->cb, shaderc);
    *out = NULL;
}

const char *qn_shaderc_version(const struct qn_shaderc *shaderc)
{
    return shaderc->version;
}

/* ---- compiling ---- */

struct includer {
    const struct quern_callbacks *cb;
    const struct qn_vk_unit *unit;
};

/* One file that is included; kept until shaderc is done with it. NULL, where memory is out, ends the
 * compilation. */
static struct shaderc_include_result *include(void *user, const char *wanted, int type, const char *by,
                                              size_t depth)
{
    const struct includer *includer = user;
    static const char missing[] = "there is no such file";
    struct shaderc_include_result *result = qn_zalloc(includer->cb, 1, sizeof *result);
    const struct qn_vk_source *file = qn_vk_unit_find(includer->unit, wanted, by);
    if (!result)
        return NULL;
    result->source_name = file ? file->name : "";
    result->source_name_length = strlen(result->source_name);
    result->content = file ? file->text : missing;
    result->content_length = file ? file->bytes : sizeof missing - 1;
    return result;
}

static void release_include(void *user, struct shaderc_include_result *result)
{
    qn_free(((const struct includer *)user)->cb, result);
}

static void add_defines(const struct qn_shaderc *shaderc, shaderc_compile_options_t options,
                        const char *defines)
{
    for (const char *at = defines; *at;) {
        size_t n = strcspn(at, " ");
        if (n > 0)
            shaderc->compile_options_add_macro_definition(options, at, n, "1", 1);
        at += n + (at[n] == ' ');
    }
}

enum quern_status qn_shaderc_compile(const struct qn_shaderc *shaderc, const struct qn_vk_unit *unit,
                                     const char *defines, uint32_t **words, size_t *bytes,
                                     struct quern_error *err)
{
    *words = NULL;
    enum quern_status status = QUERN_OK;
    shaderc_compilation_result_t result = NULL;
    struct includer includer = {shaderc->cb, unit};
    shaderc_compile_options_t options = shaderc->compile_options_initialize();
    if (!options)
        return qn_fail_memory(err, "compiling a kernel");
    add_defines(shaderc, options, defines);
    shaderc->compile_options_set_optimization_level(options, SHADERC_PERFORMANCE);
    shaderc->compile_options_set_target_env(
        options, SHADERC_VULKAN, strstr(defines, "COOPMAT2") ? SHADERC_VULKAN_1_3 : SHADERC_VULKAN_1_2);
    shaderc->compile_options_set_include_callbacks(options, include, release_include, &includer);
    result = shaderc->compile_into_spv(shaderc->compiler, unit->file[0].text, unit->file[0].bytes,
                                       SHADERC_COMPUTE, unit->file[0].name, "main", options);
    if (!result || shaderc->result_get_compilation_status(result) != 0) {
        const char *message = result ? shaderc->result_get_error_message(result) : "";
        size_t line = strcspn(message, "\n"); /* the first fault */
        status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "%.*s", line > 0 && line < 400 ? (int)line : 400,
                         line > 0 ? message : "shaderc failed and did not say why");
        goto done;
    }
    *bytes = shaderc->result_get_length(result);
    *words = qn_alloc(shaderc->cb, *bytes, 1);
    if (*words)
        memcpy(*words, shaderc->result_get_bytes(result), *bytes);
    else
        status = qn_fail_memory(err, "a kernel");
done:
    if (result)
        shaderc->result_release(result);
    shaderc->compile_options_release(options);
    return status;
}
