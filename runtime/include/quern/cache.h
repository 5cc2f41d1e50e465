/* What Quern keeps on disk between runs, so that it need not be worked out again: compiled kernels,
 * pipelines, verdicts about drivers, and weights as devices read them where quern_model_params.keep_layouts
 * asks for it. Nothing of it is needed, nothing of it comes from prompts.
 *
 * A cache is a directory of files, one for each entry, which any number of processes may share. Damaged and
 * foreign entries are thrown away when they are met; where the directory cannot be written, the cache is
 * cold. All functions may be called from any thread. */
#ifndef QUERN_CACHE_H
#define QUERN_CACHE_H

#include <quern/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quern_cache;

/* `dir` is made at the first entry. `limit`: bytes of all entries, beyond which those not used for longest
 * go; 0: 1 GiB. On failure (memory) *cache is NULL. */
QUERN_API enum quern_status quern_cache_open(struct quern_cache **cache, const char *dir, uint64_t limit,
                                             const struct quern_callbacks *callbacks,
                                             struct quern_error *err);
QUERN_API void quern_cache_close(struct quern_cache **cache);

struct quern_cache_kind {
    char name[32]; /* what the entries are: "spirv" */
    uint64_t n_entries;
    uint64_t bytes;
};
/* The kinds that it holds, in the order of their names: fills at most `cap`, sets *n to how many there are.
 */
QUERN_API enum quern_status quern_cache_kinds(const struct quern_cache *cache, struct quern_cache_kind *kinds,
                                              size_t cap, size_t *n, struct quern_error *err);
/* Removes all entries, or those of one kind. *removed (may be NULL): their number and bytes. */
QUERN_API enum quern_status quern_cache_clear(struct quern_cache *cache, const char *kind,
                                              struct quern_cache_kind *removed, struct quern_error *err);

#ifdef __cplusplus
}
#endif

#endif
