/* Shared libraries that are loaded while the program runs: GPU loaders, compilers, plug-ins. */
#ifndef QN_BASE_LIBRARY_H
#define QN_BASE_LIBRARY_H

/* The first of the names (the list ends with NULL) that can be loaded, or NULL. */
void *qn_library_open(const char *const *names);
/* Address of a symbol, NULL where there is none. */
void *qn_library_symbol(void *library, const char *name);
/* NULL is allowed. */
void qn_library_close(void *library);

#endif
