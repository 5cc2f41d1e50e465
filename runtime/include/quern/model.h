/* Model files, vocabularies and models that are ready to run. All three are immutable: any number of threads
 * may read them. Whoever opens one destroys it; a session must not outlive its model. */
#ifndef QUERN_MODEL_H
#define QUERN_MODEL_H

#include <quern/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the file ---- */

struct quern_file;

/* Where a model comes from: a path, or a range of an open descriptor (which stays the caller's and may be
 * closed once the call returned). The first part of a split model stands for all. */
struct quern_source {
    const char *path; /* NULL: use the descriptor */
    int fd;
    uint64_t offset;
    uint64_t length; /* 0: to the end */
};
#define quern_source_path(p) ((struct quern_source){.path = (p), .fd = -1})

/* Opens a GGUF file of any architecture and checks all of its structure. */
QUERN_API enum quern_status quern_file_open(struct quern_file **file, struct quern_source source,
                                            const struct quern_callbacks *callbacks, struct quern_error *err);
QUERN_API void quern_file_destroy(struct quern_file **file);

struct quern_file_info {
    uint32_t version;
    uint32_t alignment;
    uint32_t n_parts;
    uint64_t bytes;
    uint64_t n_weights; /* parameters in all tensors */
    char architecture[64];
    char name[128];
    char type[32]; /* "Q4_K_M", as general.file_type says, or the format most weights have */
};
QUERN_API void quern_file_info(const struct quern_file *file, struct quern_file_info *info);

QUERN_API size_t quern_file_meta_count(const struct quern_file *file);
/* Entry as text: key and value are written NUL-terminated (cut to fit, valid UTF-8), type is "u32" or
 * "string[]"; arrays show their first elements. n: elements, 1 for a scalar. False when index is out of
 * range. */
QUERN_API bool quern_file_meta(const struct quern_file *file, size_t index, char *key, size_t key_size,
                               char *value, size_t value_size, char *type, size_t type_size, uint64_t *n);

struct quern_tensor_info {
    char name[128];
    enum quern_format format;
    uint32_t n_dims;
    uint64_t dim[4]; /* innermost first */
    uint64_t bytes;
    uint64_t offset; /* in its part of the file */
};
QUERN_API size_t quern_file_tensor_count(const struct quern_file *file);
QUERN_API bool quern_file_tensor(const struct quern_file *file, size_t index, struct quern_tensor_info *info);

/* ---- the vocabulary ---- */

struct quern_vocab;

struct quern_vocab_params {
    const struct quern_callbacks *callbacks; /* NULL: none */
    const char *pre;                         /* splitting rule in place of the file's, NULL: the file's */
};
#define quern_vocab_params(...) (&(struct quern_vocab_params){.callbacks = NULL, __VA_ARGS__})

/* Opens only the vocabulary of a model file (which need not contain a model). */
QUERN_API enum quern_status quern_vocab_open(struct quern_vocab **vocab, struct quern_source source,
                                             const struct quern_vocab_params *params,
                                             struct quern_error *err);
QUERN_API void quern_vocab_destroy(struct quern_vocab **vocab);

enum quern_tokenize_flags {
    QUERN_ADD_SPECIAL = 1,   /* begin (and end) tokens as the model expects them */
    QUERN_PARSE_SPECIAL = 2, /* control tokens written out in the text become those tokens */
};
/* Writes at most cap ids and sets *n to how many the text has (call again with more room when *n > cap). */
QUERN_API enum quern_status quern_tokenize(const struct quern_vocab *vocab, const char *text, size_t length,
                                           unsigned flags, int32_t *ids, size_t cap, size_t *n,
                                           struct quern_error *err);

QUERN_API uint32_t quern_vocab_size(const struct quern_vocab *vocab);
QUERN_API const char *quern_vocab_model(const struct quern_vocab *vocab); /* "spm", "bpe", "wpm" */
QUERN_API const char *quern_vocab_pre(const struct quern_vocab *vocab);   /* "" where it has none */
QUERN_API int32_t quern_vocab_bos(const struct quern_vocab *vocab);       /* -1: none */
QUERN_API int32_t quern_vocab_eos(const struct quern_vocab *vocab);
/* The token's bytes as the file has them, not NUL-terminated, living as long as the vocabulary; NULL out of
 * range. What it stands for in a text is the decoder's to say. */
QUERN_API const char *quern_vocab_token(const struct quern_vocab *vocab, int32_t id, size_t *length);
/* True for tokens that are no part of the text. */
QUERN_API bool quern_vocab_is_control(const struct quern_vocab *vocab, int32_t id);
/* True for tokens that end a generation. */
QUERN_API bool quern_vocab_is_end(const struct quern_vocab *vocab, int32_t id);

/* Tokens to text as they come; bytes of an unfinished character wait for the next token. */
struct quern_decoder;
QUERN_API enum quern_status quern_decoder_create(struct quern_decoder **decoder,
                                                 const struct quern_vocab *vocab, bool show_control,
                                                 struct quern_error *err);
/* Sets *text to the text that this token completes, valid until the next call. */
QUERN_API enum quern_status quern_decoder_put(struct quern_decoder *decoder, int32_t id, const char **text,
                                              size_t *length, struct quern_error *err);
/* What is still held back. */
QUERN_API void quern_decoder_flush(struct quern_decoder *decoder, const char **text, size_t *length);
/* Back to the state of a new decoder. */
QUERN_API void quern_decoder_reset(struct quern_decoder *decoder);
QUERN_API void quern_decoder_destroy(struct quern_decoder **decoder);

/* ---- the model ---- */

struct quern_model;

struct quern_model_params {
    const struct quern_callbacks *callbacks; /* NULL: none; copied */
    /* "auto", an id from the device list, "vulkan:part of a device's name", or several with commas, most
     * wanted first. "prefill=" or "decode=" before an id: in the other phase the device does only what no
     * other can. auto: what the helper measured to be the fastest for each phase, of the GPUs, never one that
     * software plays, and the processor; without helper or cache_dir, the processor. */
    const char *device;
    uint32_t n_ctx;     /* longest context that sessions may ask for; 0: what the model was trained for */
    uint32_t n_threads; /* of the CPU; 0: one for each fast core, as far as a container's quota goes */
    bool exact;         /* float32 arithmetic on exactly decoded weights: slow, for comparison */
    bool no_mmap;       /* read the file into memory */
    const char *pre;    /* see quern_vocab_params */
    const struct quern_setting *settings; /* for the drivers, e.g. {"isa", "avx2"} */
    uint32_t n_settings;
    const struct quern_driver *const *drivers; /* further drivers beside the built-in ones */
    uint32_t n_drivers;
    const char *cache_dir; /* what drivers work out is kept there (see quern/cache.h); NULL, "": nowhere */
    uint64_t cache_limit;  /* bytes; 0: 1 GiB */
    const char *helper;    /* tries drivers that load code of others: see struct quern_device_params */
    uint32_t helper_ms;
    /* Weights stay as the file has them. Without it, those that the CPU computes with faster in another order
     * are copied in that order, in as many bytes, while the file's pages are let go: nothing where memory has
     * no room for it, with no_mmap, or with exact. That goes on behind the first steps: between those of few
     * tokens, and in a thread of the model while none runs. The results are the same. */
    bool no_repack;
    const struct quern_profiles *profiles; /* used while the model is opened; NULL: the built-in ones */
    bool repack_first;                     /* the copies are made before the model is open */
    /* The copies are written to a file once they are made, "PATH.layouts" beside the model or, where that
     * cannot be, in cache_dir; closing the model completes that, unless the cancel callback says stop. The
     * next model with this flag maps the file in place of copies. Only from a path; what is written has the
     * model's size. */
    bool keep_layouts;
};
/* quern_model_params(.device = "cpu", .n_threads = 4) */
#define quern_model_params(...) (&(struct quern_model_params){.device = "auto", __VA_ARGS__})

/* Opens a file, checks it, builds the graph, opens devices and places the weights. `params` may be NULL. */
QUERN_API enum quern_status quern_model_open(struct quern_model **model, struct quern_source source,
                                             const struct quern_model_params *params,
                                             struct quern_error *err);
QUERN_API void quern_model_destroy(struct quern_model **model);

struct quern_model_info {
    char architecture[64];
    char name[128];
    char type[32];
    uint64_t file_bytes;
    uint64_t n_weights;
    uint32_t n_vocab;
    uint32_t n_embd;
    uint32_t n_layer;
    uint32_t n_ctx_train;
    uint32_t n_ctx; /* longest context of a session */
    uint32_t n_expert;
    uint32_t n_nodes; /* of the graph, after fusion */
};
QUERN_API void quern_model_info(const struct quern_model *model, struct quern_model_info *info);
QUERN_API const struct quern_file *quern_model_file(const struct quern_model *model);
QUERN_API const struct quern_vocab *quern_model_vocab(const struct quern_model *model);

/* Devices in use: number, and the index-th one's id and name (NULL out of range). A device that failed and
 * was dropped is no longer counted; the reason was logged. */
QUERN_API uint32_t quern_model_device_count(const struct quern_model *model);
QUERN_API const struct quern_device_desc *quern_model_device(const struct quern_model *model, uint32_t index);

/* What the index-th device in use computes, all of it or a part: bits. 0: it waits for another one to fail.
 */
enum quern_work { QUERN_WORK_DECODE = 1, QUERN_WORK_PREFILL = 2 };
QUERN_API uint32_t quern_model_device_work(const struct quern_model *model, uint32_t index);

/* What the index-th device in use has spent on getting ready so far, part by part; how many parts there are.
 */
QUERN_API uint32_t quern_model_phases(const struct quern_model *model, uint32_t index,
                                      struct quern_phase *phases, uint32_t cap);

/* ---- building applications: every architecture that can be run ---- */
QUERN_API size_t quern_architecture_count(void);
QUERN_API const char *quern_architecture_name(size_t index);

#ifdef __cplusplus
}
#endif

#endif
