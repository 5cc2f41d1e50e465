/* Shared libraries that are loaded while the program runs: GPU loaders, compilers, plug-ins. */
#ifndef QN_BASE_LIBRARY_H
#define QN_BASE_LIBRARY_H

#include "base/host.h"

#include <stdbool.h>
#include <stddef.h>

/* The first of the names (the list ends with NULL) that can be loaded, or NULL. */
void *qn_library_open(const char *const *names);
/* The system's sentence on why the last name could not be loaded; call it right after that, in the same
 * thread. */
void qn_library_reason(char *text, size_t size);
/* Address of a symbol, NULL where there is none. */
void *qn_library_symbol(void *library, const char *name);
/* Path of the file that a symbol (NULL is allowed) came from; false where the system does not tell. */
bool qn_library_path(const void *symbol, char *path, size_t size);
/* Path of the library of that name, found without loading it: in the folders of the environment's
 * LD_LIBRARY_PATH and those where systems have theirs. False: it is in none of them, and may still be
 * elsewhere; always on Windows. */
bool qn_library_find(const struct quern_callbacks *cb, const char *name, char *path, size_t size);
/* NULL is allowed. */
void qn_library_close(void *library);

#endif
