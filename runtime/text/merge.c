/* Merging neighbours by rank: what SPM and BPE have in common. */
#include "text/vocab.h"

bool qn_encoder_push(struct qn_encoder *encoder, int32_t id)
{
    struct qn_ids *ids = encoder->ids;
    if (!qn_grow(encoder->cb, &ids->id, &ids->cap, ids->n + 1, sizeof *ids->id))
        return false;
    ids->id[ids->n++] = id;
    return true;
}

bool qn_encoder_put(struct qn_encoder *encoder, const char *text, size_t len)
{
    if (!qn_grow(encoder->cb, &encoder->buf, &encoder->cap_buf, encoder->n_buf + len, 1))
        return false;
    for (size_t i = 0; i < len; i++)
        encoder->buf[encoder->n_buf + i] = text[i];
    encoder->n_buf += len;
    return true;
}

bool qn_encoder_symbol(struct qn_encoder *encoder, uint32_t start, uint32_t len, uint32_t id)
{
    size_t n = encoder->n_symbols;
    if (!qn_grow(encoder->cb, &encoder->symbols, &encoder->cap_symbols, n + 1, sizeof *encoder->symbols))
        return false;
    encoder->symbols[n] = (struct qn_symbol){start, len, id, (int32_t)n - 1, -1};
    if (n > 0)
        encoder->symbols[n - 1].next = (int32_t)n;
    encoder->n_symbols = n + 1;
    return true;
}

bool qn_encoder_bytes(struct qn_encoder *encoder, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int32_t id = encoder->vocab->byte_token[(uint8_t)text[i]];
        if (id < 0)
            id = encoder->vocab->special.unk;
        if (id >= 0 && !qn_encoder_push(encoder, id))
            return false;
    }
    return true;
}

/* Takes the symbol after `left` into it. */
static void join(struct qn_symbol *symbols, int32_t left, uint32_t merged)
{
    struct qn_symbol *a = &symbols[left], *b = &symbols[a->next];
    a->len += b->len;
    a->id = merged;
    a->next = b->next;
    b->len = 0;
    if (a->next >= 0)
        symbols[a->next].prev = left;
}

static bool merge_plain(struct qn_encoder *encoder, const char *text, qn_merge_rule *rule)
{
    struct qn_symbol *symbols = encoder->symbols;
    uint64_t key[QN_MERGE_SHORT]; /* of the symbol and its next; UINT64_MAX: they do not merge */
    uint32_t merged[QN_MERGE_SHORT];
    for (int32_t i = 0; i >= 0; i = symbols[i].next) {
        uint32_t rank;
        key[i] = UINT64_MAX;
        if (symbols[i].next >= 0 &&
            rule(encoder->vocab, text, &symbols[i], &symbols[symbols[i].next], &rank, &merged[i]))
            key[i] = rank;
    }
    for (;;) {
        int32_t best = 0;
        for (int32_t i = 0; i >= 0; i = symbols[i].next)
            if (key[i] < key[best])
                best = i;
        if (key[best] == UINT64_MAX)
            return true;
        join(symbols, best, merged[best]);
        int32_t again[2] = {symbols[best].prev, best};
        for (int k = 0; k < 2; k++) {
            int32_t i = again[k];
            uint32_t rank;
            if (i < 0)
                continue;
            key[i] = UINT64_MAX;
            if (symbols[i].next >= 0 &&
                rule(encoder->vocab, text, &symbols[i], &symbols[symbols[i].next], &rank, &merged[i]))
                key[i] = rank;
        }
    }
}

static bool heap_push(struct qn_encoder *encoder, const char *text, qn_merge_rule *rule, int32_t left)
{
    const struct qn_symbol *a = &encoder->symbols[left];
    uint32_t rank, merged;
    if (a->next < 0 || !rule(encoder->vocab, text, a, &encoder->symbols[a->next], &rank, &merged))
        return true;
    if (!qn_grow(encoder->cb, &encoder->heap, &encoder->cap_heap, encoder->n_heap + 1, sizeof *encoder->heap))
        return false;
    struct qn_merge_entry entry = {(uint64_t)rank << 32 | (uint32_t)left, a->next,
                                   a->len + encoder->symbols[a->next].len, merged};
    size_t i = encoder->n_heap++;
    for (; i > 0 && encoder->heap[(i - 1) / 2].key > entry.key; i = (i - 1) / 2)
        encoder->heap[i] = encoder->heap[(i - 1) / 2];
    encoder->heap[i] = entry;
    return true;
}

static struct qn_merge_entry heap_pop(struct qn_encoder *encoder)
{
    struct qn_merge_entry *heap = encoder->heap, top = heap[0], last = heap[--encoder->n_heap];
    size_t n = encoder->n_heap, i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1].key < heap[child].key)
            child++;
        if (heap[child].key >= last.key)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

bool qn_merge(struct qn_encoder *encoder, const char *text, qn_merge_rule *rule, size_t plain_limit)
{
    if (encoder->n_symbols < 2)
        return true;
    if (encoder->n_symbols <= plain_limit)
        return merge_plain(encoder, text, rule);
    encoder->n_heap = 0;
    for (size_t i = 0; i < encoder->n_symbols; i++)
        if (!heap_push(encoder, text, rule, (int32_t)i))
            return false;
    while (encoder->n_heap > 0) {
        struct qn_merge_entry entry = heap_pop(encoder);
        int32_t left = (int32_t)(uint32_t)entry.key;
        struct qn_symbol *a = &encoder->symbols[left];
        if (a->len == 0 || a->next != entry.right || a->len + encoder->symbols[a->next].len != entry.len)
            continue;
        join(encoder->symbols, left, entry.merged);
        if ((a->prev >= 0 && !heap_push(encoder, text, rule, a->prev)) ||
            !heap_push(encoder, text, rule, left))
            return false;
    }
    return true;
}
