/* Win32 side of claim.h: the owner keeps the file open and lets nobody else write. */
#include "base/claim.h"
#include "base/thread.h"
#include "base/windows.h"

#include <string.h>

uint64_t qn_process_id(void)
{
    return GetCurrentProcessId();
}

enum quern_status qn_claim_take(const struct quern_callbacks *cb, struct qn_claim *claim, const char *path,
                                const char *text, struct quern_error *err)
{
    *claim = (struct qn_claim){.path = qn_strndup(cb, path, strlen(path))};
    wchar_t *wide = qn_widen(cb, path);
    HANDLE file = INVALID_HANDLE_VALUE;
    DWORD n = (DWORD)strlen(text), put = 0;
    if (wide && claim->path)
        file = CreateFileW(wide, GENERIC_WRITE | DELETE, FILE_SHARE_READ, NULL, CREATE_ALWAYS,
                           FILE_ATTRIBUTE_NORMAL, NULL);
    qn_free(cb, wide);
    if (file != INVALID_HANDLE_VALUE && WriteFile(file, text, n, &put, NULL) && put == n) {
        claim->handle = (intptr_t)file;
        return QUERN_OK;
    }
    unsigned long code = GetLastError();
    if (file != INVALID_HANDLE_VALUE)
        CloseHandle(file);
    qn_free(cb, claim->path);
    *claim = (struct qn_claim){0};
    return qn_fail(err, QUERN_ERR_FILE, "%s: cannot create: error %lu", path, code);
}

void qn_claim_drop(const struct quern_callbacks *cb, struct qn_claim *claim)
{
    if (!claim->path)
        return;
    CloseHandle((HANDLE)claim->handle);
    wchar_t *wide = qn_widen(cb, claim->path);
    if (wide)
        DeleteFileW(wide);
    qn_free(cb, wide);
    qn_free(cb, claim->path);
    *claim = (struct qn_claim){0};
}

bool qn_claim_is_dead(const struct quern_callbacks *cb, const char *path, char *text, size_t size)
{
    text[0] = '\0';
    wchar_t *wide = qn_widen(cb, path);
    HANDLE file = INVALID_HANDLE_VALUE;
    if (wide) /* fails where the owner has it open */
        file =
            CreateFileW(wide, GENERIC_READ | GENERIC_WRITE,
                        FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    qn_free(cb, wide);
    if (file == INVALID_HANDLE_VALUE)
        return false;
    DWORD got = 0;
    (void)ReadFile(file, text, (DWORD)(size - 1), &got, NULL);
    text[got] = '\0';
    CloseHandle(file);
    return true;
}
