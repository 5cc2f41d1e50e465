/* Calls that fail, crash or hang, and the log. */
#include "layer.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a call may do. WAIT: end without success after a time; FOREVER: wait without a time limit. */
enum { LOST = 1, MEMORY = 2, WAIT = 4, FOREVER = 8 };

static const struct {
    const char *name;
    uint32_t can;
} calls[QT_CALLS] = {
#define INSTANCE(name, can)                  {"vk" #name, can},
#define HOOK(name, can)                      {"vk" #name, can},
#define CALL(name, can, first, params, args) {"vk" #name, can},
#define WORK(name, first, params, args)      {"vk" #name, 0},
#define CREATE(name, Type, TYPE)             {"vk" #name, MEMORY},
#define DESTROY(name, Type, TYPE)            {"vk" #name, 0},
#include "calls.inc"
};

enum action { FAIL, CRASH, HANG, SLOW };

/* Fires at call number `at`, or from it on, of one function or of all that may fail so. */
struct rule {
    enum qt_call call; /* QT_CALLS: any */
    uint64_t at, seen;
    bool on;
    enum action action;
    VkResult result;
    const char *result_name;
};

static const struct {
    const char *name;
    VkResult result;
} results[] = {
#define RESULT(name) \
    {                \
#name, name  \
    }
    RESULT(VK_NOT_READY),
    RESULT(VK_TIMEOUT),
    RESULT(VK_INCOMPLETE),
    RESULT(VK_ERROR_OUT_OF_HOST_MEMORY),
    RESULT(VK_ERROR_OUT_OF_DEVICE_MEMORY),
    RESULT(VK_ERROR_INITIALIZATION_FAILED),
    RESULT(VK_ERROR_DEVICE_LOST),
    RESULT(VK_ERROR_MEMORY_MAP_FAILED),
    RESULT(VK_ERROR_LAYER_NOT_PRESENT),
    RESULT(VK_ERROR_EXTENSION_NOT_PRESENT),
    RESULT(VK_ERROR_FEATURE_NOT_PRESENT),
    RESULT(VK_ERROR_INCOMPATIBLE_DRIVER),
    RESULT(VK_ERROR_TOO_MANY_OBJECTS),
    RESULT(VK_ERROR_FRAGMENTED_POOL),
    RESULT(VK_ERROR_OUT_OF_POOL_MEMORY),
    RESULT(VK_ERROR_INVALID_EXTERNAL_HANDLE),
    RESULT(VK_ERROR_UNKNOWN),
#undef RESULT
};

enum { MAX_RULES = 16 };

/* Under the layer's lock. */
static struct {
    char *text; /* the environment, as it was read */
    char log[1024];
    struct rule rules[MAX_RULES];
    size_t n_rules;
    uint64_t n_calls[QT_CALLS];
} state;

const char *qt_call_name(enum qt_call call)
{
    return calls[call].name;
}

/* ---------------------------------------------------------------- the log */

/* One write for each line: several processes may share the file. */
static void write_line(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, strlen(line)) < 0)
        fprintf(stderr, "VK_LAYER_QUERN_test: cannot write to %s\n", path);
    if (fd >= 0)
        close(fd);
}

static void log_line(const char *kind, const char *format, va_list args)
{
    char line[512];
    int n = snprintf(line, sizeof line - 1, "%s", kind);
    n += vsnprintf(line + n, sizeof line - 1 - (size_t)n, format, args);
    size_t end = (size_t)n < sizeof line - 2 ? (size_t)n : sizeof line - 2;
    line[end] = '\n';
    line[end + 1] = '\0';
    if (state.log[0])
        write_line(state.log, line);
    if (kind[0])
        fprintf(stderr, "VK_LAYER_QUERN_test: %s", line);
}

void qt_log(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line("", format, args);
    va_end(args);
}

void qt_breach(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line("breach ", format, args);
    va_end(args);
}

void qt_log_calls(void)
{
    for (int c = 0; c < QT_CALLS; c++)
        if (state.n_calls[c] > 0)
            qt_log("calls %s %llu", calls[c].name, (unsigned long long)state.n_calls[c]);
}

/* ---------------------------------------------------------------- rules */

static void bad_setting(const char *text)
{
    fprintf(stderr, "VK_LAYER_QUERN_test: QUERN_LAYER_FAULT does not understand \"%s\"\n", text);
    abort();
}

/* "vkQueueSubmit@3=VK_ERROR_DEVICE_LOST": see README.md. */
static struct rule rule_parse(char *text)
{
    struct rule rule = {.call = QT_CALLS, .at = 1};
    char *action = strchr(text, '=');
    if (!action)
        bad_setting(text);
    *action++ = '\0';
    char *at = strchr(text, '@');
    if (at) {
        *at++ = '\0';
        rule.at = strtoull(at, &at, 10);
        rule.on = *at == '+';
        if (at[rule.on] != '\0' || rule.at == 0)
            bad_setting(text);
    }
    for (int c = 0; c < QT_CALLS; c++)
        if (strcmp(text, calls[c].name) == 0)
            rule.call = (enum qt_call)c;
    if (rule.call == QT_CALLS && strcmp(text, "any") != 0)
        bad_setting(text);
    if (strcmp(action, "crash") == 0) {
        rule.action = CRASH;
    } else if (strcmp(action, "hang") == 0) {
        rule.action = HANG;
    } else if (strcmp(action, "slow") == 0) {
        rule.action = SLOW;
    } else {
        for (size_t i = 0; i < QT_LEN(results); i++)
            if (strcmp(action, results[i].name) == 0) {
                rule.result = results[i].result;
                rule.result_name = results[i].name;
            }
        if (!rule.result)
            bad_setting(action);
    }
    return rule;
}

static char *copy_of(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    if (!copy)
        abort();
    return strcpy(copy, text);
}

void qt_settings_read(void)
{
    const char *faults = getenv("QUERN_LAYER_FAULT"), *device = getenv("QUERN_LAYER_DEVICE");
    const char *log = getenv("QUERN_LAYER_LOG"), *run = getenv("QUERN_LAYER_RUN");
    faults = faults ? faults : "";
    device = device ? device : "";
    log = log ? log : "";
    run = run ? run : "";
    size_t size = strlen(faults) + strlen(device) + strlen(log) + strlen(run) + 4;
    char *text = malloc(size);
    if (!text)
        abort();
    snprintf(text, size, "%s\n%s\n%s\n%s", faults, device, log, run);
    qt_lock();
    if (!state.text || strcmp(text, state.text) != 0) {
        free(state.text);
        memset(&state, 0, sizeof state);
        state.text = copy_of(text);
        snprintf(state.log, sizeof state.log, "%s", log);
        char *rules = copy_of(faults), *rest = rules;
        for (char *one = strtok_r(rules, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
            if (state.n_rules == MAX_RULES)
                bad_setting(one);
            state.rules[state.n_rules++] = rule_parse(one);
        }
        free(rules);
        qt_device_settings_read(device);
    }
    qt_unlock();
    free(text);
}

/* ---------------------------------------------------------------- firing */

/* Whether a rule for any call means this one: it must be able to end so. */
static bool may_end_so(enum qt_call call, const struct rule *rule)
{
    if (rule->action != FAIL)
        return true;
    if (rule->result == VK_ERROR_DEVICE_LOST)
        return calls[call].can & LOST;
    if (rule->result == VK_TIMEOUT)
        return calls[call].can & WAIT;
    return calls[call].can & MEMORY;
}

static const struct rule *rule_that_fires(enum qt_call call)
{
    const struct rule *fires = NULL;
    for (size_t i = 0; i < state.n_rules; i++) {
        struct rule *rule = &state.rules[i];
        if (rule->call != call && (rule->call != QT_CALLS || !may_end_so(call, rule)))
            continue;
        rule->seen++;
        if (rule->seen == rule->at || (rule->on && rule->seen > rule->at))
            fires = rule;
    }
    return fires;
}

/* What a device that is lost or hangs answers; VK_SUCCESS: it does not come to that. */
static VkResult answer_of_broken(struct qt_device *device, enum qt_call call)
{
    if (calls[call].can & FOREVER)
        qt_breach("%s, which has no time limit", calls[call].name);
    if (device->lost && calls[call].can & LOST)
        return VK_ERROR_DEVICE_LOST;
    if (!device->hung)
        return VK_SUCCESS;
    if (calls[call].can & FOREVER)
        return VK_ERROR_DEVICE_LOST;
    bool destroys = strncmp(calls[call].name, "vkDestroy", 9) == 0 || call == QT_FreeMemory;
    if (destroys && !device->destroyed_hung) /* once for each device */
        qt_breach("%s on a device that hangs: it may still use that", calls[call].name);
    device->destroyed_hung |= destroys;
    return calls[call].can & WAIT ? VK_TIMEOUT : VK_SUCCESS;
}

VkResult qt_before(struct qt_device *device, enum qt_call call)
{
    qt_lock();
    uint64_t n = ++state.n_calls[call];
    VkResult result = device ? answer_of_broken(device, call) : VK_SUCCESS;
    const struct rule *rule = result ? NULL : rule_that_fires(call);
    struct rule copy = rule ? *rule : (struct rule){.at = 0};
    if (rule)
        qt_log("fault %s %llu %s", calls[call].name, (unsigned long long)n,
               copy.action == CRASH  ? "crash"
               : copy.action == HANG ? "hang"
               : copy.action == SLOW ? "slow"
                                     : copy.result_name);
    qt_unlock();
    if (!rule)
        return result;
    if (copy.action == CRASH)
        abort();
    while (copy.action == HANG)
        pause();
    if (copy.action == SLOW)
        usleep(300000);
    bool breaks = device && (copy.result == VK_ERROR_DEVICE_LOST || copy.result == VK_TIMEOUT);
    if (breaks) { /* the real one is idle before the program tears it down */
        device->DeviceWaitIdle(device->handle);
        qt_lock();
        device->lost |= copy.result == VK_ERROR_DEVICE_LOST;
        device->hung |= copy.result == VK_TIMEOUT;
        qt_unlock();
    }
    return copy.result;
}
