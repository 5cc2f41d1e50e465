/* Evaluating tokens for the sake of all their logits. */
#ifndef TOOL_SCORE_H
#define TOOL_SCORE_H

#include "common.h"

/* Feeds the ids to sequence 0 in chunks of at most `batch` and calls `each` with the logits [n_vocab] after
 * every position from `first` on; false ends. Chunks with logits are kept so small that these fit well in
 * memory. `file` is for messages. Returns an exit code. */
int score_tokens(struct quern_session *session, const char *file, const struct id_list *ids, size_t first,
                 size_t batch, size_t n_vocab, bool (*each)(void *user, size_t position, const float *row),
                 void *user);

#endif
