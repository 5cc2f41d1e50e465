#include "support/golden.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void qn_golden_path(char *path, size_t size, const char *folder, const char *file)
{
    const char *root = getenv("QUERN_SOURCE");
    snprintf(path, size, "%s/tests/golden/%s/%s", root ? root : ".", folder, file);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

size_t qn_golden_list(char (*names)[64], size_t cap)
{
    char path[1024];
    size_t n = 0;
    qn_golden_path(path, sizeof path, "models", "");
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && n < cap && (entry = readdir(dir))) {
        size_t length = strlen(entry->d_name);
        if (length < 6 || length - 5 >= sizeof *names || strcmp(entry->d_name + length - 5, ".gguf") != 0)
            continue;
        memcpy(names[n], entry->d_name, length - 5);
        names[n++][length - 5] = '\0';
    }
    if (dir)
        closedir(dir);
    qsort(names, n, sizeof *names, by_name);
    return n;
}

/* Opens golden/<name><suffix>. NULL when it is not there. */
static FILE *open_golden(const char *name, const char *suffix, const char *mode)
{
    char file[128], path[1200];
    snprintf(file, sizeof file, "%s%s", name, suffix);
    qn_golden_path(path, sizeof path, "golden", file);
    return fopen(path, mode);
}

static bool load_logits(struct qn_golden *g, const char *suffix)
{
    FILE *f = open_golden(g->name, suffix, "rb");
    if (!f)
        return false;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    g->n_vocab = (uint32_t)((size_t)size / sizeof(float) / QN_GOLDEN_TOKENS);
    g->logits = malloc((size_t)size + 1);
    bool good = g->logits && g->n_vocab > 0 && fread(g->logits, 1, (size_t)size, f) == (size_t)size;
    fclose(f);
    return good;
}

static bool load_greedy(struct qn_golden *g, const char *suffix, float small_margin)
{
    FILE *f = open_golden(g->name, suffix, "r");
    if (!f)
        return false;
    float margin = small_margin;
    while (g->n_greedy < QN_GOLDEN_GREEDY && fscanf(f, "%d %f", &g->greedy[g->n_greedy], &margin) == 2 &&
           margin >= small_margin)
        g->n_greedy++;
    fclose(f);
    return true;
}

static bool load_tokens(struct qn_golden *g)
{
    FILE *f = open_golden("tokens48", ".txt", "r");
    uint32_t n = 0;
    while (f && n < QN_GOLDEN_TOKENS && fscanf(f, "%d", &g->tokens[n]) == 1)
        n++;
    if (f)
        fclose(f);
    return n == QN_GOLDEN_TOKENS;
}

bool qn_golden_load(struct qn_golden *g, const char *name)
{
    *g = (struct qn_golden){.tolerance = strncmp(name, "gemma", 5) == 0 ? 2e-2f : 1e-3f};
    snprintf(g->name, sizeof g->name, "%s", name);
    char file[128];
    snprintf(file, sizeof file, "%s.gguf", name);
    qn_golden_path(g->model, sizeof g->model, "models", file);
    g->quantised = load_logits(g, ".exact.f32");
    bool good =
        load_tokens(g) && (g->quantised || load_logits(g, ".logits.f32")) &&
        load_greedy(g, g->quantised ? ".exact.greedy32.txt" : ".greedy32.txt", g->quantised ? 1.0f : 0.05f);
    if (!good) {
        fprintf(stderr, "reference data of %s is missing or short\n", name);
        qn_golden_finish(g);
    }
    return good;
}

void qn_golden_finish(struct qn_golden *g)
{
    free(g->logits);
    g->logits = NULL;
}

/* KL divergence of softmax(b) from softmax(a), n logits each. */
static double divergence(const float *a, const float *b, uint32_t n)
{
    double max_a = -INFINITY, max_b = -INFINITY, sum_a = 0, sum_b = 0, kl = 0;
    for (uint32_t i = 0; i < n; i++) {
        max_a = fmax(max_a, a[i]);
        max_b = fmax(max_b, b[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        sum_a += exp(a[i] - max_a);
        sum_b += exp(b[i] - max_b);
    }
    for (uint32_t i = 0; i < n; i++) {
        double log_p = a[i] - max_a - log(sum_a);
        kl += exp(log_p) * (log_p - (b[i] - max_b - log(sum_b)));
    }
    return kl;
}

struct qn_golden_diff qn_golden_compare(const struct qn_golden *g, const float *logits, uint32_t first,
                                        uint32_t rows)
{
    struct qn_golden_diff diff = {.finite = true};
    const float *want = g->logits + (size_t)first * g->n_vocab;
    size_t n = (size_t)rows * g->n_vocab;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)logits[i] - want[i]);
        diff.finite = diff.finite && isfinite(logits[i]);
        diff.rms += d * d / (double)n;
        if (d > diff.max) {
            diff.max = d;
            diff.worst_row = first + (uint32_t)(i / g->n_vocab);
        }
    }
    diff.rms = sqrt(diff.rms);
    for (uint32_t row = 0; row < rows; row++)
        diff.kl +=
            divergence(want + (size_t)row * g->n_vocab, logits + (size_t)row * g->n_vocab, g->n_vocab) / rows;
    return diff;
}

int32_t qn_golden_argmax(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}
