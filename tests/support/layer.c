#include "support/layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char log_path[64];

static void remove_log(void)
{
    unlink(log_path);
}

void qn_layer_set(const char *fault, const char *device)
{
    if (!log_path[0]) {
        strcpy(log_path, "/tmp/quern-layer-XXXXXX");
        int fd = mkstemp(log_path);
        const char *folder = getenv("QUERN_LAYER_PATH");
        if (fd < 0 || !folder)
            abort(); /* meson sets it */
        close(fd);
        atexit(remove_log);
        setenv("VK_ADD_LAYER_PATH", folder, 1);
        setenv("VK_INSTANCE_LAYERS", "VK_LAYER_QUERN_test", 1);
        setenv("NODEVICE_SELECT", "1", 1); /* Mesa's own layer crashes where lists of devices fail */
        setenv("QUERN_LAYER_LOG", log_path, 1);
    }
    if (truncate(log_path, 0) != 0)
        abort();
    static unsigned run; /* of this process */
    char text[16];
    snprintf(text, sizeof text, "%u", ++run);
    setenv("QUERN_LAYER_RUN", text, 1);
    setenv("QUERN_LAYER_FAULT", fault ? fault : "", 1);
    setenv("QUERN_LAYER_DEVICE", device ? device : "", 1);
}

/* Counts the lines that start so; prints them. */
static size_t lines(const char *start, bool print)
{
    char line[1024];
    size_t n = 0;
    FILE *f = fopen(log_path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, start, strlen(start)) == 0) {
            n++;
            if (print)
                fprintf(stderr, "layer: %s", line);
        }
    if (f)
        fclose(f);
    return n;
}

size_t qn_layer_lines(const char *start)
{
    return lines(start, false);
}

size_t qn_layer_calls(const char *function)
{
    char line[1024], name[64];
    size_t n = 0, calls;
    FILE *f = fopen(log_path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "calls %63s %zu", name, &calls) == 2 && strcmp(name, function) == 0)
            n = calls;
    if (f)
        fclose(f);
    return n;
}

bool qn_layer_clean(void)
{
    size_t faults = lines("breach", true) + lines("leak", true);
    bool ended = lines("create", false) == lines("destroy", false);
    if (!ended)
        fprintf(stderr, "layer: an instance or a device was not destroyed\n");
    return faults == 0 && ended;
}
