/* Chunks of tokens through a session. */
#include "score.h"

enum { MOST_ITEMS = 512, MOST_FLOATS = 64 << 20 };

int score_tokens(struct quern_session *session, const char *file, const struct id_list *ids, size_t first,
                 size_t batch, size_t n_vocab, bool (*each)(void *user, size_t position, const float *row),
                 void *user)
{
    struct quern_item items[MOST_ITEMS];
    struct quern_error err = {0};
    batch = batch < MOST_ITEMS ? batch : MOST_ITEMS;
    size_t scored = MOST_FLOATS / n_vocab < batch ? MOST_FLOATS / n_vocab : batch;
    scored = scored > 0 ? scored : 1;
    for (size_t at = 0; at < ids->n;) {
        size_t room = at < first ? batch : scored;
        size_t end = at < first && first < ids->n ? first : ids->n;
        size_t n = end - at < room ? end - at : room;
        for (size_t i = 0; i < n; i++)
            items[i] = (struct quern_item){.token = ids->id[at + i], .logits = at >= first};
        if (quern_session_eval(session, items, n, &err) != QUERN_OK)
            return fault(file, &err);
        for (size_t i = 0; i < n && at >= first; i++)
            if (!each(user, at + i, quern_session_logits(session, i)))
                return EXIT_DONE;
        at += n;
    }
    return EXIT_DONE;
}
