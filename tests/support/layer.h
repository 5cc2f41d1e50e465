/* Tests that load the Vulkan layer of tests/layer into their own process. */
#ifndef QN_TEST_SUPPORT_LAYER_H
#define QN_TEST_SUPPORT_LAYER_H

#include <stdbool.h>
#include <stddef.h>

/* Sets the environment such that instances made from now on have the layer, with these settings (NULL: none),
 * and empties its log. The first call makes the log's file, which is removed at exit. */
void qn_layer_set(const char *fault, const char *device);
/* Lines of the log that start so. */
size_t qn_layer_lines(const char *start);
/* How often the function was called; known when the instance is destroyed. */
size_t qn_layer_calls(const char *function);
/* Whether no limit was broken, nothing was left behind, and every instance and device was destroyed. Says on
 * stderr what is wrong. */
bool qn_layer_clean(void);

#endif
