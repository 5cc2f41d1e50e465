/* A mark is the file "marks/SUBJECT-PID-ADDRESS" in the cache's directory. */
#include "device/marks.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "marks"

/* "DIR/marks/NAME", to be freed; NULL when memory is out. */
static char *path_of(const struct quern_callbacks *cb, const struct quern_cache *cache, const char *name)
{
    size_t size = strlen(qn_cache_dir(cache)) + sizeof FOLDER + strlen(name) + 2;
    char *path = qn_alloc(cb, size, 1);
    if (path)
        snprintf(path, size, "%s/" FOLDER "%s%s", qn_cache_dir(cache), name[0] ? "/" : "", name);
    return path;
}

void qn_marks_take(const struct quern_callbacks *cb, const struct quern_cache *cache, uint64_t subject,
                   const char *what, struct qn_claim *claim)
{
    *claim = (struct qn_claim){0};
    if (!cache)
        return;
    char name[80], text[256];
    snprintf(name, sizeof name, "%016" PRIx64 "-%" PRIu64 "-%" PRIxPTR, subject, qn_process_id(),
             (uintptr_t)claim);
    snprintf(text, sizeof text, "process %" PRIu64 ": %.200s", qn_process_id(), what);
    char *folder = path_of(cb, cache, ""), *path = path_of(cb, cache, name);
    struct quern_error err = {.text = "out of memory"};
    if (!folder || !path || qn_dir_make(cb, folder, &err) || qn_claim_take(cb, claim, path, text, &err))
        qn_log(cb, QUERN_LOG_DEBUG, "%s goes unmarked: %s", what, err.text);
    qn_free(cb, folder);
    qn_free(cb, path);
}

struct collection {
    const struct quern_callbacks *cb;
    const struct quern_cache *cache;
    char prefix[24]; /* of the subject's marks; "": all */
    uint32_t n;
    char last[256];
};

static bool collect(void *user, const struct qn_dir_entry *entry)
{
    struct collection *c = user;
    char text[sizeof c->last];
    if (strncmp(entry->name, c->prefix, strlen(c->prefix)) != 0)
        return true;
    char *path = path_of(c->cb, c->cache, entry->name);
    if (path && qn_claim_is_dead(c->cb, path, text, sizeof text) && qn_file_remove(c->cb, path)) {
        c->n++;
        memcpy(c->last, text, sizeof text);
    }
    qn_free(c->cb, path);
    return true;
}

static void collect_all(struct collection *c)
{
    char *folder = c->cache ? path_of(c->cb, c->cache, "") : NULL;
    if (folder && qn_file_stat(c->cb, folder, NULL, NULL))
        (void)qn_dir_list(c->cb, folder, collect, c, NULL);
    qn_free(c->cb, folder);
}

uint32_t qn_marks_collect(const struct quern_callbacks *cb, const struct quern_cache *cache, uint64_t subject,
                          char *last, size_t size)
{
    struct collection c = {.cb = cb, .cache = cache};
    snprintf(c.prefix, sizeof c.prefix, "%016" PRIx64 "-", subject);
    collect_all(&c);
    snprintf(last, size, "%s", c.last);
    return c.n;
}

void qn_marks_clear(const struct quern_callbacks *cb, const struct quern_cache *cache)
{
    struct collection c = {.cb = cb, .cache = cache};
    collect_all(&c);
}
