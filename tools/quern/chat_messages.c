/* The messages of a conversation, and the files that hold them:
 *
 *     {"quern-chat": 1, "messages": [{"role": "user", "content": "Hello"}, ...]}
 *
 * A file is taken as it stands or refused as a whole: unknown keys and roles are faults. */
#include "chat.h"
#include "term.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_VERSION = 1 };

#define VERSION_KEY  "quern-chat"
#define MESSAGES_KEY "messages"

/* ---- the list ---- */

static cJSON *message_new(const char *role, const char *text, size_t length)
{
    cJSON *message = json_object();
    json_put_text(message, "role", role);
    json_put_bytes(message, "content", text, length);
    return message;
}

void chat_add(struct chat *chat, const char *role, const char *text, size_t length)
{
    json_add(chat->messages, message_new(role, text, length));
}

cJSON *chat_take_last(struct chat *chat)
{
    int n = cJSON_GetArraySize(chat->messages);
    cJSON *last = n > 0 ? cJSON_DetachItemFromArray(chat->messages, n - 1) : NULL;
    if (chat->first > n - 1)
        chat->first = 0;
    return last;
}

void chat_drop_last(struct chat *chat)
{
    cJSON_Delete(chat_take_last(chat));
}

static const char *text_of(const cJSON *message, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, key));
    return text ? text : "";
}

const char *chat_role(const struct chat *chat, int i)
{
    int n = cJSON_GetArraySize(chat->messages);
    i += i < 0 ? n : 0;
    return i >= 0 && i < n ? text_of(cJSON_GetArrayItem(chat->messages, i), "role") : "";
}

const char *chat_system(const struct chat *chat)
{
    return strcmp(chat_role(chat, 0), "system") == 0
               ? text_of(cJSON_GetArrayItem(chat->messages, 0), "content")
               : NULL;
}

void chat_set_system(struct chat *chat, const char *text)
{
    int before = cJSON_GetArraySize(chat->messages);
    if (chat_system(chat))
        cJSON_DeleteItemFromArray(chat->messages, 0);
    if (text)
        cJSON_InsertItemInArray(chat->messages, 0, message_new("system", text, strlen(text)));
    if (chat->first > 0)
        chat->first += cJSON_GetArraySize(chat->messages) - before;
}

void chat_reset(struct chat *chat)
{
    int keep = chat_system(chat) ? 1 : 0;
    for (int n = cJSON_GetArraySize(chat->messages); n > keep; n--)
        cJSON_DeleteItemFromArray(chat->messages, n - 1);
    chat->first = 0;
}

/* ---- reading ---- */

/* "line 3, column 14" of a byte. */
static const char *position(const char *text, size_t at, char room[64])
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    snprintf(room, 64, "line %zu, column %zu", line, column);
    return room;
}

/* Where a string holds \u0000, which would end it; `n` where none does. */
static size_t find_escaped_nul(const char *text, size_t n)
{
    for (size_t i = 0; i + 6 <= n; i++)
        if (text[i] == '\\') {
            if (memcmp(text + i, "\\u0000", 6) == 0)
                return i;
            i++; /* what a backslash stands before is no beginning of another escape */
        }
    return n;
}

static cJSON *parse(const char *path, const struct buffer *text)
{
    char room[64];
    size_t bad = text_valid(text->data, text->n);
    if (bad < text->n) {
        fault_text(path, "%s: this is not UTF-8", position(text->data, bad, room));
        return NULL;
    }
    bad = find_escaped_nul(text->data, text->n);
    if (bad < text->n) {
        fault_text(path, "%s: a NUL character", position(text->data, bad, room));
        return NULL;
    }
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text->data, text->n + 1, &end, true);
    if (!root) {
        size_t at = end ? (size_t)(end - text->data) : 0;
        fault_text(path, "%s: %s", position(text->data, at < text->n ? at : text->n, room),
                   at < text->n ? "this is not JSON" : "the file ends in the middle");
    }
    return root;
}

/* Checks that an object has exactly the keys of `known`; `where` is for messages. */
static bool check_keys(const char *path, const char *where, const cJSON *object, const char *const known[2])
{
    if (!cJSON_IsObject(object)) {
        fault_text(path, "%s: expected an object", where);
        return false;
    }
    int seen[2] = {0, 0};
    for (const cJSON *item = object->child; item; item = item->next) {
        int k = strcmp(item->string, known[0]) == 0 ? 0 : strcmp(item->string, known[1]) == 0 ? 1 : -1;
        if (k < 0 || seen[k]++) {
            fault_text(path, "%s: \"%.40s\" %s", where, item->string,
                       k < 0 ? "is unknown" : "stands there twice");
            return false;
        }
    }
    for (int k = 0; k < 2; k++)
        if (!seen[k]) {
            fault_text(path, "%s: \"%s\" is missing", where, known[k]);
            return false;
        }
    return true;
}

static bool check_message(const char *path, const cJSON *message, int index)
{
    static const char *const keys[2] = {"role", "content"};
    char where[64];
    snprintf(where, sizeof where, MESSAGES_KEY "[%d]", index);
    if (!check_keys(path, where, message, keys))
        return false;
    for (int k = 0; k < 2; k++)
        if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(message, keys[k]))) {
            fault_text(path, "%s.%s: expected a string", where, keys[k]);
            return false;
        }
    const char *role = text_of(message, "role");
    bool system = strcmp(role, "system") == 0;
    if (!system && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0) {
        fault_text(path, "%s.role: expected system, user or assistant, not \"%.40s\"", where, role);
        return false;
    }
    if (system && index > 0) {
        fault_text(path, "%s.role: system is for the first message only", where);
        return false;
    }
    return true;
}

static bool check(const char *path, const cJSON *root)
{
    static const char *const keys[2] = {VERSION_KEY, MESSAGES_KEY};
    if (!check_keys(path, "the conversation", root, keys))
        return false;
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, VERSION_KEY);
    const cJSON *messages = cJSON_GetObjectItemCaseSensitive(root, MESSAGES_KEY);
    if (!cJSON_IsNumber(version) || version->valuedouble != FORMAT_VERSION) {
        fault_text(path, VERSION_KEY ": expected %d, the version of the format that this program reads",
                   FORMAT_VERSION);
        return false;
    }
    if (!cJSON_IsArray(messages)) {
        fault_text(path, MESSAGES_KEY ": expected an array");
        return false;
    }
    int index = 0;
    for (const cJSON *message = messages->child; message; message = message->next)
        if (!check_message(path, message, index++))
            return false;
    return true;
}

int chat_load(struct chat *chat, const char *path)
{
    struct buffer text = {0};
    int code = read_input(path, &text);
    cJSON *root = NULL;
    if (code == EXIT_DONE) {
        root = parse(path, &text);
        code = root && check(path, root) ? EXIT_DONE : EXIT_FAULT;
    }
    if (code == EXIT_DONE) {
        cJSON_Delete(chat->messages);
        chat->messages = cJSON_DetachItemFromObjectCaseSensitive(root, MESSAGES_KEY);
        chat->first = 0;
    }
    cJSON_Delete(root);
    buffer_finish(&text);
    return code;
}

/* ---- writing ---- */

int chat_save(const struct chat *chat, const char *path)
{
    size_t room = strlen(path) + 32;
    char *part = need_memory(NULL, room, 1);
    snprintf(part, room, "%s.%08x.part", path, (unsigned)term_random());
    FILE *file = fopen(part, "wbx");
    int code = file ? EXIT_DONE : fault_text(path, "%s", strerror(errno));
    if (file) {
        cJSON *root = json_object();
        json_put_int(root, VERSION_KEY, FORMAT_VERSION);
        cJSON_AddItemReferenceToObject(root, MESSAGES_KEY, chat->messages);
        json_end(root, true, file);
        bool written = !ferror(file);
        written = fclose(file) == 0 && written;
        if (!written || rename(part, path) != 0) {
            code = fault_text(path, "%s", strerror(errno));
            remove(part);
        }
    }
    free(part);
    return code;
}
