/* SPIR-V of kernels, from the program, from the cache, or from the compiler. */
#include "drivers/vulkan/spirv.h"

#include "base/clock.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* An entry of the cache: a module, or, after a word that no module begins with, why there is none. */
#define CACHE_KIND "spirv"
enum { SPIRV_MAGIC = 0x07230203, NO_MODULE = 0 };

enum quern_status qn_vk_shaders_init(struct qn_vk_shaders *shaders, const struct quern_host *host,
                                     const char *folder, struct quern_error *err)
{
    *shaders = (struct qn_vk_shaders){.host = host, .folder = {.cb = host->callbacks}};
    shaders->has_lock = qn_mutex_init(&shaders->lock);
    if (folder && folder[0])
        shaders->folder.path = qn_strndup(host->callbacks, folder, strlen(folder));
    if (!shaders->has_lock || (folder && folder[0] && !shaders->folder.path))
        return qn_fail_memory(err, "the kernels");
    if (shaders->folder.path && !qn_file_stat(host->callbacks, folder, NULL, NULL))
        return qn_fail(err, QUERN_ERR_PARAM, "%s: there is no such folder of kernels", folder);
    return QUERN_OK;
}

void qn_vk_shaders_finish(struct qn_vk_shaders *shaders)
{
    if (!shaders->host)
        return;
    const char *path = shaders->folder.path;
    qn_vk_folder_finish(&shaders->folder);
    qn_free(shaders->host->callbacks, (void *)(uintptr_t)path);
    qn_shaderc_close(&shaders->shaderc);
    if (shaders->has_lock)
        qn_mutex_finish(&shaders->lock);
    *shaders = (struct qn_vk_shaders){0};
}

/* ---- the cache ---- */

/* Everything that a module depends on. */
struct key {
    uint64_t compiler, defines, sources;
    char name[QN_VK_MAX_NAME];
};

/* `compiler`: what names it. */
static struct key key_of(const char *compiler, const struct qn_vk_kernel_info *info,
                         const struct qn_vk_unit *unit)
{
    struct key key = {.compiler = XXH3_64bits(compiler, strlen(compiler)),
                      .defines = XXH3_64bits(info->defines, strlen(info->defines))};
    for (uint32_t i = 0; i < unit->n; i++) {
        key.sources = XXH3_64bits_withSeed(unit->file[i].name, strlen(unit->file[i].name), key.sources);
        key.sources = XXH3_64bits_withSeed(unit->file[i].text, unit->file[i].bytes, key.sources);
    }
    memcpy(key.name, info->name, strlen(info->name));
    return key;
}

struct taken {
    const struct quern_callbacks *cb;
    uint32_t *words;
    size_t bytes;
};

static void take(void *user, const void *data, size_t bytes)
{
    struct taken *taken = user;
    if (bytes < 4 || bytes % 4 != 0)
        return;
    taken->words = qn_alloc(taken->cb, bytes, 1);
    taken->bytes = bytes;
    if (taken->words)
        memcpy(taken->words, data, bytes);
}

/* True: the cache knows the module, or (*status) why there is none. */
static bool recall(const struct quern_host *host, const struct key *key, struct qn_vk_spirv *spirv,
                   enum quern_status *status, struct quern_error *err)
{
    struct taken taken = {.cb = host->callbacks};
    if (!host->cache || !host->cache_get(host->cache, CACHE_KIND, key, sizeof *key, take, &taken) ||
        !taken.words)
        return false;
    if (taken.words[0] == SPIRV_MAGIC) {
        *spirv = (struct qn_vk_spirv){taken.words, taken.bytes, taken.words};
        *status = QUERN_OK;
        return true;
    }
    bool fault = taken.words[0] == NO_MODULE;
    if (fault)
        *status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "%.*s", (int)(taken.bytes - 4),
                          (const char *)(taken.words + 1));
    qn_free(host->callbacks, taken.words);
    return fault;
}

static void keep(const struct quern_host *host, const struct key *key, const struct qn_vk_spirv *spirv,
                 const struct quern_error *err)
{
    struct {
        uint32_t word;
        char text[sizeof err->text + 4];
    } fault = {.word = NO_MODULE};
    if (!host->cache)
        return;
    snprintf(fault.text, sizeof fault.text, "%s", err->text);
    if (spirv->words)
        host->cache_put(host->cache, CACHE_KIND, key, sizeof *key, spirv->words, spirv->bytes);
    else
        host->cache_put(host->cache, CACHE_KIND, key, sizeof *key, &fault,
                        4 + (strlen(fault.text) / 4 + 1) * 4);
}

/* ---- compiling ---- */

/* With the lock held. */
static enum quern_status load_compiler(struct qn_vk_shaders *shaders, struct quern_error *err)
{
    if (!shaders->shaderc && !shaders->no_shaderc.status)
        (void)qn_shaderc_open(shaders->host->callbacks, &shaders->shaderc, &shaders->no_shaderc);
    return shaders->shaderc ? QUERN_OK
                            : qn_fail(err, shaders->no_shaderc.status, "%s", shaders->no_shaderc.text);
}

/* What the compiler is known by, and the files that the kernel is made of. Where it can be told which
 * compiler that would be, one is not loaded for `probe`. */
static enum quern_status find_sources(struct qn_vk_shaders *shaders, const struct qn_vk_kernel_info *info,
                                      bool probe, struct qn_vk_unit *unit, struct key *key,
                                      struct quern_error *err)
{
    char found[640] = "";
    enum quern_status status = QUERN_OK;
    if (probe)
        qn_shaderc_find(shaders->host->callbacks, found, sizeof found);
    qn_mutex_lock(&shaders->lock);
    if (!found[0])
        status = load_compiler(shaders, err);
    if (!status)
        status = qn_vk_unit_gather(&shaders->folder, info->source, unit, err);
    qn_mutex_unlock(&shaders->lock);
    if (!status)
        *key = key_of(found[0] ? found : qn_shaderc_version(shaders->shaderc), info, unit);
    return status;
}

static enum quern_status compile(struct qn_vk_shaders *shaders, const struct qn_vk_kernel_info *info,
                                 const struct qn_vk_unit *unit, const struct key *key,
                                 struct qn_vk_spirv *spirv, struct quern_error *err)
{
    const struct quern_host *host = shaders->host;
    enum quern_status status;
    if (recall(host, key, spirv, &status, err))
        return status;
    qn_mutex_lock(&shaders->lock);
    status = load_compiler(shaders, err);
    qn_mutex_unlock(&shaders->lock);
    if (!status) {
        uint64_t begin = qn_now_ns();
        status = qn_shaderc_compile(shaders->shaderc, unit, info->defines, &spirv->heap, &spirv->bytes, err);
        spirv->words = spirv->heap;
        qn_mutex_lock(&shaders->lock);
        shaders->n_compiled++;
        shaders->compile_ns += qn_now_ns() - begin;
        qn_mutex_unlock(&shaders->lock);
    }
    if (!status || status == QUERN_ERR_UNSUPPORTED)
        keep(host, key, spirv, err);
    return status;
}

/* From the cache, or from the compiler. */
static enum quern_status get_compiled(struct qn_vk_shaders *shaders, const struct qn_vk_kernel_info *info,
                                      bool probe, struct qn_vk_spirv *spirv, struct quern_error *err)
{
    struct key key;
    struct qn_vk_unit *unit = qn_alloc(shaders->host->callbacks, 1, sizeof *unit);
    enum quern_status status = unit ? QUERN_OK : qn_fail_memory(err, "a kernel");
    if (!status)
        status = find_sources(shaders, info, probe, unit, &key, err);
    if (!status)
        status = compile(shaders, info, unit, &key, spirv, err);
    qn_free(shaders->host->callbacks, unit);
    return status;
}

/* Asks the compiler, if nobody has. */
static bool has_extension(struct qn_vk_shaders *shaders, enum qn_vk_extension extension,
                          struct quern_error *why)
{
    static const struct qn_vk_kernel_info probes[QN_VK_EXTENSION_END] = {
        [QN_VK_GLSL_COOPMAT] = {.name = "probe_coopmat", .source = "probe.comp", .defines = "COOPMAT"},
        [QN_VK_GLSL_COOPMAT2] = {.name = "probe_coopmat2", .source = "probe.comp", .defines = "COOPMAT2"}};
    qn_mutex_lock(&shaders->lock);
    struct qn_vk_answer answer = shaders->answers[extension];
    qn_mutex_unlock(&shaders->lock);
    if (!answer.known) {
        struct qn_vk_spirv spirv = {0};
        enum quern_status status = get_compiled(shaders, &probes[extension], true, &spirv, &answer.why_not);
        qn_vk_spirv_finish(shaders, &spirv);
        answer.known = status != QUERN_ERR_MEMORY;
        answer.yes = !status;
        qn_mutex_lock(&shaders->lock);
        shaders->answers[extension] = answer;
        qn_mutex_unlock(&shaders->lock);
    }
    if (!answer.yes)
        qn_fail(why, QUERN_ERR_UNSUPPORTED, "%s", answer.why_not.text);
    return answer.yes;
}

static bool was_given_up(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel, bool from_now_on)
{
    qn_mutex_lock(&shaders->lock);
    bool given_up = shaders->given_up[kernel];
    shaders->given_up[kernel] |= from_now_on;
    shaders->n_given_up += from_now_on && !given_up;
    qn_mutex_unlock(&shaders->lock);
    return given_up;
}

bool qn_vk_give_up(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel)
{
    return !was_given_up(shaders, kernel, true);
}

bool qn_vk_can_have(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel, struct quern_error *why)
{
    if (was_given_up(shaders, kernel, false)) {
        qn_fail(why, QUERN_ERR_UNSUPPORTED, "the device does not take it");
        return false;
    }
    if (!shaders->folder.path && qn_vk_module_find(kernel))
        return true;
    const struct qn_vk_kernel_info info = qn_vk_kernel_info(kernel);
    if (info.extension == QN_VK_PLAIN_GLSL && qn_vk_module_find(kernel))
        return true;
    if (info.extension == QN_VK_PLAIN_GLSL || !info.for_format) {
        qn_fail(why, QUERN_ERR_UNSUPPORTED, "there is no kernel %s", info.name);
        return false;
    }
    return has_extension(shaders, info.extension, why);
}

enum quern_status qn_vk_spirv_get(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel,
                                  struct qn_vk_spirv *spirv, struct quern_error *err)
{
    *spirv = (struct qn_vk_spirv){0};
    const struct qn_vk_module *module = shaders->folder.path ? NULL : qn_vk_module_find(kernel);
    if (module) {
        spirv->words = module->code;
        spirv->bytes = module->bytes;
        return QUERN_OK;
    }
    const struct qn_vk_kernel_info info = qn_vk_kernel_info(kernel);
    struct quern_error why = {0};
    enum quern_status status = get_compiled(shaders, &info, false, spirv, &why);
    if (status && status != QUERN_ERR_MEMORY && shaders->folder.path)
        status = QUERN_ERR_PARAM; /* the folder is wrong, not the device */
    return status ? qn_fail(err, status, "kernel %s: %s", info.name, why.text) : QUERN_OK;
}

void qn_vk_spirv_finish(struct qn_vk_shaders *shaders, struct qn_vk_spirv *spirv)
{
    qn_free(shaders->host->callbacks, spirv->heap);
    *spirv = (struct qn_vk_spirv){0};
}
