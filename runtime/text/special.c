/* Special tokens: their roles, and where they stand in a text. */
#include "text/vocab.h"

#include <ctype.h>
#include <string.h>

/* ---- roles ---- */

/* The id that a key names, or -1; out of range is a warning. */
static enum quern_status read_id(const struct quern_callbacks *cb, const struct qn_vocab *vocab,
                                 const struct qn_gguf *gguf, const char *key, int32_t *id,
                                 struct quern_error *err)
{
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, key);
    if (!kv)
        return QUERN_OK;
    if (kv->is_array || kv->type == QN_GGUF_STRING || kv->type == QN_GGUF_F32 || kv->type == QN_GGUF_F64 ||
        kv->type == QN_GGUF_BOOL)
        return qn_fail(err, QUERN_ERR_FILE, "%s: %s is %s%s, expected an integer", qn_gguf_name(gguf), key,
                       kv->is_array ? "an array of " : "", qn_gguf_type_name(kv->type));
    int64_t value = qn_gguf_int_at(kv, 0);
    bool fits = value >= 0 && value < (int64_t)vocab->n;
    if (!fits)
        qn_log(cb, QUERN_LOG_WARNING, "%s: %s is %lld, but there are %u tokens; counted as none",
               qn_gguf_name(gguf), key, (long long)value, vocab->n);
    *id = fits ? (int32_t)value : -1;
    return QUERN_OK;
}

/* Files of old converters leave these out: where sentencepiece puts them. */
static int32_t default_id(const struct qn_vocab *vocab, int32_t id)
{
    bool special =
        (uint32_t)id < vocab->n && (vocab->type[id] == QN_TOKEN_CONTROL ||
                                    vocab->type[id] == QN_TOKEN_UNKNOWN || vocab->type[id] == QN_TOKEN_USER);
    return special ? id : -1;
}

static int32_t find_text(const struct qn_vocab *vocab, const char *text)
{
    return qn_vocab_find(vocab, text, strlen(text));
}

static void set_defaults(struct qn_vocab *vocab)
{
    struct qn_vocab_special *s = &vocab->special;
    *s = (struct qn_vocab_special){-1, -1, -1, -1, -1, -1, -1, -1, false, false};
    switch (vocab->kind) {
    case QN_VOCAB_SPM:
        s->unk = default_id(vocab, 0);
        s->bos = default_id(vocab, 1);
        s->eos = default_id(vocab, 2);
        s->add_bos = true;
        break;
    case QN_VOCAB_BPE:
        s->add_bos = (vocab->pre.flags & QN_PRE_ADD_BOS) != 0;
        break;
    case QN_VOCAB_WPM:
        s->unk = find_text(vocab, "[UNK]");
        s->sep = find_text(vocab, "[SEP]");
        s->pad = find_text(vocab, "[PAD]");
        s->cls = find_text(vocab, "[CLS]");
        s->mask = find_text(vocab, "[MASK]");
        s->add_bos = s->add_eos = true;
        break;
    }
}

static enum quern_status read_roles(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                                    const struct qn_gguf *gguf, int32_t *eom, struct quern_error *err)
{
    struct qn_vocab_special *s = &vocab->special;
    const struct {
        const char *key;
        int32_t *id;
    } keys[] = {
        {"tokenizer.ggml.bos_token_id", &s->bos},
        {"tokenizer.ggml.eos_token_id", &s->eos},
        {"tokenizer.ggml.eot_token_id", &s->eot},
        {"tokenizer.ggml.eom_token_id", eom},
        {"tokenizer.ggml.unknown_token_id", &s->unk},
        {"tokenizer.ggml.seperator_token_id", &s->sep}, /* the key is spelt so */
        {"tokenizer.ggml.padding_token_id", &s->pad},
        {"tokenizer.ggml.cls_token_id", &s->cls},
        {"tokenizer.ggml.mask_token_id", &s->mask},
    };
    enum quern_status status = QUERN_OK;
    for (size_t i = 0; status == QUERN_OK && i < QN_LEN(keys); i++)
        status = read_id(cb, vocab, gguf, keys[i].key, keys[i].id, err);
    if (status == QUERN_OK)
        status = qn_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &s->add_bos, false, err);
    if (status == QUERN_OK)
        status = qn_gguf_bool(gguf, "tokenizer.ggml.add_eos_token", &s->add_eos, false, err);
    return status;
}

/* Texts that end a turn or a text in the vocabularies of known families, best known first. */
static const struct {
    const char *text;
    bool turn; /* fit for the role of EOT */
} end_texts[] = {
    {"<|eot_id|>", true},
    {"<|im_end|>", true},
    {"<|end|>", true},
    {"<end_of_turn>", true},
    {"<turn|>", true},
    {"<|end_of_turn|>", true},
    {"<|eot|>", true},
    {"<|EOT|>", true},
    {"<EOT>", true},
    {"_<EOT>", true},
    {"[EOT]", true},
    {"<end_of_utterance>", true},
    {"<|return|>", false},
    {"<|call|>", false},
    {"<|flush|>", false},
    {"<|calls|>", false},
    {"<|eom_id|>", false},
    {"<|eom|>", false},
    {"<|endoftext|>", false},
    {"<|end_of_text|>", false},
    {"<end_of_text>", false},
    {"</s>", false},
    {"<eos>", false},
    {"[EOS]", false},
    {"<|eos|>", false},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     false},
    {"<|fim_pad|>", false},
    {"<|repo_name|>", false},
    {"<|file_sep|>", false},
};

static void mark_end(struct qn_vocab *vocab, int32_t id)
{
    if (id >= 0)
        vocab->flags[id] |= QN_TOKEN_END;
}

static void find_ends(struct qn_vocab *vocab, int32_t eom)
{
    struct qn_vocab_special *s = &vocab->special;
    /* In this family <|end|> ends a message, and the turn goes on. */
    bool harmony = find_text(vocab, "<|return|>") >= 0 && find_text(vocab, "<|call|>") >= 0;
    for (size_t i = 0; i < QN_LEN(end_texts); i++) {
        int32_t id = find_text(vocab, end_texts[i].text);
        if (id < 0)
            continue;
        /* Some converters write these as ordinary or as user-defined tokens. */
        vocab->type[id] = QN_TOKEN_CONTROL;
        if (harmony && strcmp(end_texts[i].text, "<|end|>") == 0)
            continue;
        mark_end(vocab, id);
        if (end_texts[i].turn && s->eot < 0)
            s->eot = id;
    }
    mark_end(vocab, s->eos);
    mark_end(vocab, s->eot);
    mark_end(vocab, eom);
}

static bool contains_any_case(struct qn_str text, const char *needle)
{
    size_t n = strlen(needle);
    for (size_t i = 0; i + n <= text.len; i++) {
        size_t k = 0;
        while (k < n && tolower((unsigned char)text.data[i + k]) == needle[k])
            k++;
        if (k == n)
            return true;
    }
    return false;
}

/* White space next to a special token that the family's own tokenizer drops. */
static enum quern_status set_strips(struct qn_vocab *vocab, const struct qn_gguf *gguf,
                                    struct quern_error *err)
{
    struct qn_str name = {"", 0}, arch = {"", 0};
    enum quern_status status = qn_gguf_str(gguf, "general.name", &name, false, err);
    if (status == QUERN_OK)
        status = qn_gguf_str(gguf, "general.architecture", &arch, false, err);
    if (status != QUERN_OK)
        return status;
    const char *pre = vocab->pre.name ? vocab->pre.name : "";
    struct qn_str pre_str = {pre, strlen(pre)};
    int32_t mask = -1;
    if (contains_any_case(pre_str, "jina-v2-de") || contains_any_case(pre_str, "jina-v2-es") ||
        contains_any_case(pre_str, "jina-v2-code") || contains_any_case(arch, "nomic-bert-moe") ||
        contains_any_case(arch, "jina-bert-v3"))
        mask = find_text(vocab, "<mask>");
    else if (contains_any_case(name, "modern-bert"))
        mask = find_text(vocab, "[MASK]");
    else if (contains_any_case(name, "phi-3") || contains_any_case(name, "phi3")) {
        for (uint32_t id = 0; id < vocab->n; id++)
            if (vocab->type[id] == QN_TOKEN_CONTROL || vocab->type[id] == QN_TOKEN_UNKNOWN ||
                vocab->type[id] == QN_TOKEN_USER)
                vocab->flags[id] |= QN_TOKEN_RSTRIP;
        static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
        for (size_t i = 0; i < QN_LEN(plain); i++) {
            int32_t id = find_text(vocab, plain[i]);
            if (id >= 0)
                vocab->flags[id] &= (uint8_t)~QN_TOKEN_RSTRIP;
        }
    }
    if (mask >= 0)
        vocab->flags[mask] |= QN_TOKEN_LSTRIP;
    return QUERN_OK;
}

/* ---- trie ---- */

static uint32_t child(const struct qn_specials *sp, uint32_t node, uint8_t byte)
{
    const struct qn_pair_slot *edge = qn_pairmap_get(&sp->edges, node, byte);
    return edge ? edge->value[0] : 0;
}

static bool add_node(const struct quern_callbacks *cb, struct qn_specials *sp, uint32_t parent, uint8_t byte,
                     uint32_t *node)
{
    if (sp->n_nodes >= UINT32_MAX - 1 ||
        !qn_grow(cb, &sp->nodes, &sp->cap_nodes, sp->n_nodes + 1, sizeof *sp->nodes))
        return false;
    *node = (uint32_t)sp->n_nodes;
    uint32_t depth = sp->n_nodes > 0 ? sp->nodes[parent].depth + 1 : 0;
    sp->nodes[sp->n_nodes++] = (struct qn_special_node){parent, 0, 0, -1, depth, byte};
    return depth == 0 || qn_pairmap_add(cb, &sp->edges, parent, byte, *node, 0);
}

static bool add_text(const struct quern_callbacks *cb, struct qn_specials *sp, struct qn_str text,
                     int32_t order)
{
    uint32_t node = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t next = child(sp, node, (uint8_t)text.data[i]);
        if (next == 0 && !add_node(cb, sp, node, (uint8_t)text.data[i], &next))
            return false;
        node = next;
    }
    sp->first[(uint8_t)text.data[0]] = true;
    if (sp->nodes[node].order < 0)
        sp->nodes[node].order = order;
    return true;
}

static void link_node(struct qn_specials *sp, uint32_t node)
{
    struct qn_special_node *v = &sp->nodes[node];
    if (v->depth < 2)
        return;
    uint32_t f = sp->nodes[v->parent].fail, next;
    while ((next = child(sp, f, v->byte)) == 0 && f != 0)
        f = sp->nodes[f].fail;
    v->fail = next;
    v->suffix = sp->nodes[next].order >= 0 ? next : sp->nodes[next].suffix;
}

/* Failure links, nodes in the order of their depth. */
static bool link_nodes(const struct quern_callbacks *cb, struct qn_specials *sp)
{
    size_t n = sp->n_nodes, deepest = 0;
    for (size_t i = 0; i < n; i++)
        deepest = sp->nodes[i].depth > deepest ? sp->nodes[i].depth : deepest;
    uint32_t *at = qn_zalloc(cb, deepest + 2, sizeof *at);
    uint32_t *sorted = qn_alloc(cb, n, sizeof *sorted);
    if (at && sorted) {
        for (size_t i = 0; i < n; i++)
            at[sp->nodes[i].depth + 1]++;
        for (size_t d = 1; d < deepest + 2; d++)
            at[d] += at[d - 1];
        for (size_t i = 0; i < n; i++)
            sorted[at[sp->nodes[i].depth]++] = (uint32_t)i;
        for (size_t i = 0; i < n; i++)
            link_node(sp, sorted[i]);
    }
    bool ok = at && sorted;
    qn_free(cb, at);
    qn_free(cb, sorted);
    return ok;
}

/* Longest first, then by id: a stable merge sort of ids by length. */
static void sort_longest(const struct qn_vocab *vocab, int32_t *order, int32_t *room, size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t start = 0; start < n; start += 2 * width) {
            size_t mid = start + width < n ? start + width : n,
                   end = start + 2 * width < n ? start + 2 * width : n;
            for (size_t i = start, j = mid, k = start; k < end; k++) {
                bool left = j == end || (i < mid && qn_token_text(vocab, (uint32_t)order[i]).len >=
                                                        qn_token_text(vocab, (uint32_t)order[j]).len);
                room[k] = left ? order[i++] : order[j++];
            }
        }
        memcpy(order, room, n * sizeof *order);
    }
}

static bool build_trie(const struct quern_callbacks *cb, struct qn_vocab *vocab)
{
    struct qn_specials *sp = &vocab->specials;
    size_t n = 0;
    for (uint32_t id = 0; id < vocab->n; id++)
        n += vocab->type[id] == QN_TOKEN_CONTROL || vocab->type[id] == QN_TOKEN_UNKNOWN ||
             vocab->type[id] == QN_TOKEN_USER;
    if (n == 0)
        return true;
    sp->order = qn_alloc(cb, n, sizeof *sp->order);
    int32_t *room = qn_alloc(cb, n, sizeof *room);
    uint32_t root;
    bool ok = sp->order && room && qn_pairmap_init(cb, &sp->edges, n * 8) && add_node(cb, sp, 0, 0, &root);
    for (uint32_t id = 0; ok && id < vocab->n; id++)
        if ((vocab->type[id] == QN_TOKEN_CONTROL || vocab->type[id] == QN_TOKEN_UNKNOWN ||
             vocab->type[id] == QN_TOKEN_USER) &&
            qn_token_text(vocab, id).len > 0)
            sp->order[sp->n++] = (int32_t)id;
    if (ok)
        sort_longest(vocab, sp->order, room, sp->n);
    for (uint32_t i = 0; ok && i < sp->n; i++)
        ok = add_text(cb, sp, qn_token_text(vocab, (uint32_t)sp->order[i]), (int32_t)i);
    qn_free(cb, room);
    return ok && link_nodes(cb, sp);
}

enum quern_status qn_specials_load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                                   const struct qn_gguf *gguf, struct quern_error *err)
{
    int32_t eom = -1;
    set_defaults(vocab);
    enum quern_status status = read_roles(cb, vocab, gguf, &eom, err);
    if (status != QUERN_OK)
        return status;
    find_ends(vocab, eom);
    status = set_strips(vocab, gguf, err);
    if (status == QUERN_OK && !build_trie(cb, vocab))
        status = qn_fail_memory(err, "the special tokens");
    return status;
}

void qn_specials_finish(const struct quern_callbacks *cb, struct qn_specials *specials)
{
    qn_free(cb, specials->order);
    qn_free(cb, specials->nodes);
    qn_pairmap_finish(cb, &specials->edges);
    *specials = (struct qn_specials){0};
}

/* ---- cutting ---- */

/* Marks which special tokens occur in the text at all; false: none. */
static bool find_present(const struct qn_specials *sp, const char *text, size_t len, bool *present)
{
    bool any = false;
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (node == 0 && !sp->first[byte])
            continue;
        uint32_t next;
        while ((next = child(sp, node, byte)) == 0 && node != 0)
            node = sp->nodes[node].fail;
        node = next;
        /* a marked token's suffixes are marked too */
        for (uint32_t hit = sp->nodes[node].order >= 0 ? node : sp->nodes[node].suffix;
             hit != 0 && !present[sp->nodes[hit].order]; hit = sp->nodes[hit].suffix)
            any = present[sp->nodes[hit].order] = true;
    }
    return any;
}

static const char *find_bytes(const char *text, size_t len, struct qn_str what)
{
    while (len >= what.len) {
        const char *at = memchr(text, what.data[0], len - what.len + 1);
        if (!at || memcmp(at, what.data, what.len) == 0)
            return at;
        len -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool add_fragment(const struct quern_callbacks *cb, struct qn_fragments *fragments, size_t start,
                         size_t len, int32_t token)
{
    if (len == 0)
        return true;
    if (!qn_grow(cb, &fragments->at, &fragments->cap, fragments->n + 1, sizeof *fragments->at))
        return false;
    fragments->at[fragments->n++] = (struct qn_fragment){start, len, token};
    return true;
}

/* Whether any of the bytes are input. */
static bool in_input(const struct qn_cut *cut, size_t begin, size_t end)
{
    size_t low = 0, high = cut->n_input; /* the first span that ends after `begin` */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (cut->input[mid].end > begin)
            high = mid;
        else
            low = mid + 1;
    }
    return low < cut->n_input && cut->input[low].begin < end && begin < cut->input[low].end;
}

/* First place from `pos` on where the token may stand, or NULL. */
static const char *find_token(const struct qn_vocab *vocab, const struct qn_cut *cut, size_t pos, size_t end,
                              int32_t token)
{
    struct qn_str what = qn_token_text(vocab, (uint32_t)token);
    const char *at;
    while ((at = find_bytes(cut->text + pos, end - pos, what)) != NULL) {
        size_t hit = (size_t)(at - cut->text);
        if (vocab->type[token] == QN_TOKEN_USER || !in_input(cut, hit, hit + what.len))
            break;
        pos = hit + 1;
    }
    return at;
}

/* Copies a fragment of plain text to `out`, cut at each place where the token stands. */
static bool cut_fragment(const struct quern_callbacks *cb, const struct qn_vocab *vocab,
                         const struct qn_cut *cut, struct qn_fragment fragment, int32_t token,
                         struct qn_fragments *out)
{
    struct qn_str what = qn_token_text(vocab, (uint32_t)token);
    const char *text = cut->text, *at;
    size_t pos = fragment.start, end = fragment.start + fragment.len;
    while ((at = find_token(vocab, cut, pos, end, token)) != NULL) {
        size_t hit = (size_t)(at - text), left_end = hit;
        if (vocab->flags[token] & QN_TOKEN_LSTRIP)
            while (left_end > pos && is_blank(text[left_end - 1]))
                left_end--;
        if (!add_fragment(cb, out, pos, left_end - pos, -1) || !add_fragment(cb, out, hit, what.len, token))
            return false;
        pos = hit + what.len;
        if (vocab->flags[token] & QN_TOKEN_RSTRIP)
            while (pos < end && is_blank(text[pos]))
                pos++;
    }
    return add_fragment(cb, out, pos, end - pos, -1);
}

bool qn_specials_cut(const struct quern_callbacks *cb, const struct qn_vocab *vocab, const struct qn_cut *cut,
                     struct qn_fragments *fragments)
{
    const struct qn_specials *sp = &vocab->specials;
    *fragments = (struct qn_fragments){0};
    struct qn_fragments next = {0};
    bool *present = sp->n > 0 ? qn_zalloc(cb, sp->n, sizeof *present) : NULL;
    bool ok = (sp->n == 0 || present) && add_fragment(cb, fragments, 0, cut->len, -1);
    uint32_t n = ok && present && find_present(sp, cut->text, cut->len, present) ? sp->n : 0;
    for (uint32_t i = 0; ok && i < n; i++) {
        if (!present[i] || (!cut->control && vocab->type[sp->order[i]] != QN_TOKEN_USER))
            continue;
        next.n = 0;
        for (size_t k = 0; ok && k < fragments->n; k++) {
            struct qn_fragment fragment = fragments->at[k];
            ok = fragment.token >= 0 ? add_fragment(cb, &next, fragment.start, fragment.len, fragment.token)
                                     : cut_fragment(cb, vocab, cut, fragment, sp->order[i], &next);
        }
        struct qn_fragments old = *fragments;
        *fragments = next;
        next = old;
    }
    qn_free(cb, present);
    qn_free(cb, next.at);
    if (!ok) {
        qn_free(cb, fragments->at);
        *fragments = (struct qn_fragments){0};
    }
    return ok;
}
