/* POSIX side of claim.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

uint64_t qn_process_id(void)
{
    return (uint64_t)getpid();
}

/* The file appears under its name only once it is locked, or others would take it for a dead one. */
static int make(const char *path, const char *temp, const char *text)
{
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t n = strlen(text);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && write(fd, text, n) == (ssize_t)n &&
        rename(temp, path) == 0)
        return fd;
    int code = errno;
    if (fd >= 0) {
        unlink(temp);
        close(fd);
    }
    errno = code;
    return -1;
}

enum quern_status qn_claim_take(const struct quern_callbacks *cb, struct qn_claim *claim, const char *path,
                                const char *text, struct quern_error *err)
{
    *claim = (struct qn_claim){.path = qn_strndup(cb, path, strlen(path))};
    size_t size = strlen(path) + sizeof ".part";
    char *temp = qn_alloc(cb, size, 1);
    enum quern_status status = QUERN_OK;
    if (!temp || !claim->path) {
        status = qn_fail_memory(err, "a file name");
    } else {
        snprintf(temp, size, "%s.part", path);
        int fd = make(path, temp, text);
        claim->handle = fd;
        if (fd < 0)
            status = qn_fail(err, QUERN_ERR_FILE, "%s: cannot create: %s", path, strerror(errno));
    }
    qn_free(cb, temp);
    if (status) {
        qn_free(cb, claim->path);
        *claim = (struct qn_claim){0};
    }
    return status;
}

void qn_claim_drop(const struct quern_callbacks *cb, struct qn_claim *claim)
{
    if (!claim->path)
        return;
    unlink(claim->path);
    close((int)claim->handle);
    qn_free(cb, claim->path);
    *claim = (struct qn_claim){0};
}

bool qn_claim_is_dead(const struct quern_callbacks *cb, const char *path, char *text, size_t size)
{
    (void)cb;
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool dead = flock(fd, LOCK_SH | LOCK_NB) == 0;
    ssize_t got = dead ? read(fd, text, size - 1) : 0;
    text[got > 0 ? got : 0] = '\0';
    close(fd);
    return dead;
}
