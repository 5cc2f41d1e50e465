/* The inside of a vocabulary, shared by the files of text/ only. */
#ifndef QN_TEXT_VOCAB_H
#define QN_TEXT_VOCAB_H

#include "base/strmap.h"
#include "text/pairmap.h"
#include "text/pre.h"
#include "text/templates.h"
#include "text/text.h"

enum qn_vocab_kind {
    QN_VOCAB_SPM,
    QN_VOCAB_BPE,
    QN_VOCAB_WPM,
};

/* tokenizer.ggml.token_type */
enum qn_token_type {
    QN_TOKEN_NORMAL = 1,
    QN_TOKEN_UNKNOWN = 2,
    QN_TOKEN_CONTROL = 3,
    QN_TOKEN_USER = 4,
    QN_TOKEN_UNUSED = 5,
    QN_TOKEN_BYTE = 6,
};

enum qn_token_flags {
    QN_TOKEN_END = 1,    /* ends a generation */
    QN_TOKEN_LSTRIP = 2, /* swallows white space before it when written out in a text */
    QN_TOKEN_RSTRIP = 4, /* swallows white space after it */
};

/* Trie with failure links (Aho and Corasick, 1975) over the texts of control, unknown and user-defined
 * tokens. */
struct qn_special_node {
    uint32_t parent;
    uint32_t fail;   /* longest proper suffix that is a node */
    uint32_t suffix; /* nearest node on the failure path that ends a token; 0: none */
    int32_t order;   /* index into `order` of the token that ends here, or -1 */
    uint32_t depth;
    uint8_t byte;
};

struct qn_specials {
    int32_t *order; /* special tokens, longest text first, then by id */
    uint32_t n;
    struct qn_special_node *nodes; /* 0 is the root */
    size_t n_nodes, cap_nodes;
    struct qn_pairmap edges; /* (node, byte) -> node */
    bool first[256];         /* bytes that begin a special token */
};

struct qn_vocab {
    struct quern_callbacks cb; /* for PCRE2, which keeps a pointer to it */
    enum qn_vocab_kind kind;
    uint32_t n;
    char *blob;           /* all texts, one after another */
    size_t *offset;       /* [n + 1] into blob */
    uint8_t *type;        /* [n] enum qn_token_type */
    uint8_t *flags;       /* [n] enum qn_token_flags */
    float *score;         /* [n]; SPM only */
    struct qn_strmap map; /* text -> id; BPE: also the symbols that only occur in merges, from n on */
    size_t longest;       /* bytes of the longest text */
    struct qn_vocab_special special;
    struct qn_specials specials;
    int32_t byte_token[256]; /* the token of a single byte, or -1 */
    struct qn_templates templates;

    bool add_space_prefix;         /* SPM */
    bool remove_extra_whitespaces; /* SPM */
    bool words_apart;              /* SPM: no token has a space mark after another character */

    struct qn_pre pre;         /* BPE */
    struct qn_pairmap merges;  /* BPE: (symbol, symbol) -> rank, symbol */
    uint32_t n_symbols;        /* BPE: tokens and symbols without a token */
    char *extra_blob;          /* BPE: texts of the symbols without a token */
    uint32_t byte_symbol[256]; /* BPE */
};

static inline struct qn_str qn_token_text(const struct qn_vocab *vocab, uint32_t id)
{
    return (struct qn_str){vocab->blob + vocab->offset[id], vocab->offset[id + 1] - vocab->offset[id]};
}

/* The byte that "<0xXX>" stands for, or -1. */
int qn_byte_of_text(struct qn_str text);

#define QN_SPACE_MARK "\xE2\x96\x81" /* U+2581, a space in SPM and WPM vocabularies */
enum { QN_SPACE_MARK_LEN = 3 };

/* ---- merging ---- */

struct qn_symbol {
    uint32_t start, len; /* bytes of the text */
    uint32_t id;         /* UINT32_MAX: none */
    int32_t prev, next;  /* -1: none */
};

/* How well two neighbours merge: the lower, the earlier. False: not at all. */
typedef bool qn_merge_rule(const struct qn_vocab *vocab, const char *text, const struct qn_symbol *left,
                           const struct qn_symbol *right, uint32_t *rank, uint32_t *merged);

struct qn_merge_entry {
    uint64_t key; /* rank, then position: the lowest first */
    int32_t right;
    uint32_t len; /* of both together: tells entries that are out of date */
    uint32_t merged;
};

/* What one call of qn_encode() works with. */
struct qn_encoder {
    const struct quern_callbacks *cb;
    const struct qn_vocab *vocab;
    struct qn_ids *ids;
    struct quern_error *err;

    struct qn_symbol *symbols;
    size_t n_symbols, cap_symbols;
    struct qn_merge_entry *heap;
    size_t n_heap, cap_heap;
    char *buf; /* the text rewritten for the vocabulary */
    size_t n_buf, cap_buf;
    struct qn_splitter splitter;
};

enum { QN_MERGE_SHORT = 32 }; /* up to here a plain search beats the heap */

bool qn_encoder_push(struct qn_encoder *encoder, int32_t id);
/* Appends bytes to buf. */
bool qn_encoder_put(struct qn_encoder *encoder, const char *text, size_t len);
/* Appends a symbol after the last one. */
bool qn_encoder_symbol(struct qn_encoder *encoder, uint32_t start, uint32_t len, uint32_t id);
/* Merges the symbols until no rule applies; the first stays in place, walk by `next`. False: memory is out.
 * n log n for any input. `plain_limit`: QN_MERGE_SHORT outside of tests. */
bool qn_merge(struct qn_encoder *encoder, const char *text, qn_merge_rule *rule, size_t plain_limit);
/* The tokens of single bytes, or the unknown token, or nothing where the vocabulary has neither. */
bool qn_encoder_bytes(struct qn_encoder *encoder, const char *text, size_t len);

/* ---- the three algorithms: append the tokens of a text that holds no special token ---- */

enum quern_status qn_spm_encode(struct qn_encoder *encoder, const char *text, size_t len, bool after_special);
enum quern_status qn_bpe_encode(struct qn_encoder *encoder, const char *text, size_t len);
enum quern_status qn_wpm_encode(struct qn_encoder *encoder, const char *text, size_t len);

/* Reads scores and `tokenizer.ggml.*` switches; fills byte_token. */
enum quern_status qn_spm_load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                              const struct qn_gguf *gguf, struct quern_error *err);
/* Reads merges and makes the splitting rule `pre`. */
enum quern_status qn_bpe_load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                              const struct qn_gguf *gguf, const char *pre, size_t pre_len,
                              struct quern_error *err);

/* ---- special tokens ---- */

/* Roles, ends and strip rules by key and by well-known texts; then the trie. */
enum quern_status qn_specials_load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                                   const struct qn_gguf *gguf, struct quern_error *err);
void qn_specials_finish(const struct quern_callbacks *cb, struct qn_specials *specials);

/* A part of a text: a special token, or (token -1) what lies between. */
struct qn_fragment {
    size_t start, len;
    int32_t token;
};

struct qn_fragments {
    struct qn_fragment *at;
    size_t n, cap;
};

/* A text to cut. */
struct qn_cut {
    const char *text;
    size_t len;
    bool control;                    /* control and unknown tokens too, not only user-defined ones */
    const struct quern_range *input; /* [n_input] but not where they would touch these */
    size_t n_input;
};

/* Cuts a text at special tokens: longer tokens first over the whole text, each from the left. The caller
 * frees fragments->at. False: memory is out. */
bool qn_specials_cut(const struct quern_callbacks *cb, const struct qn_vocab *vocab, const struct qn_cut *cut,
                     struct qn_fragments *fragments);

#endif
