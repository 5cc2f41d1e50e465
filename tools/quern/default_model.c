/* Where the model lies that comes with the program.
 *
 * An installed program finds it from where itself lies, so that an installation may be moved. The one in the
 * build folder takes it from the source tree. QN_MODELS_INSTALLED (from the program's folder, or absolute),
 * QN_BUILD_DIR and QN_MODELS_SOURCE come from the build. */
#include "default_model.h"
#include "term.h"

#include <stdlib.h>
#include <string.h>

#define MODEL_NAME "quern-story-moe.gguf"

static bool exists(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file)
        fclose(file);
    return file != NULL;
}

/* Writes "folder/name" where it fits and is there. */
static bool try_folder(char room[DEFAULT_MODEL_PATH], const char *base, const char *folder)
{
    bool absolute = folder[0] == '/';
    int n = snprintf(room, DEFAULT_MODEL_PATH, "%s%s%s/%s", absolute ? "" : base, absolute ? "" : "/", folder,
                     MODEL_NAME);
    return n > 0 && n < DEFAULT_MODEL_PATH && exists(room);
}

static bool find(char room[DEFAULT_MODEL_PATH])
{
    char program[DEFAULT_MODEL_PATH];
    if (!term_program_path(program, sizeof program))
        return false;
    char *name = strrchr(program, '/');
    if (!name)
        return false;
    *name = '\0'; /* its folder */
    if (try_folder(room, program, QN_MODELS_INSTALLED))
        return true;
    return strcmp(program, QN_BUILD_DIR) == 0 && try_folder(room, program, QN_MODELS_SOURCE);
}

int default_model(const struct verb *verb, struct model_options *options, char room[DEFAULT_MODEL_PATH])
{
    const char *set = getenv("QUERN_MODEL");
    if (options->model)
        return EXIT_DONE;
    if (set && set[0])
        options->model = set;
    else if (find(room))
        options->model = room;
    else
        return verb_usage(verb, "no model came with this program; name one with -m FILE or QUERN_MODEL");
    return EXIT_DONE;
}
