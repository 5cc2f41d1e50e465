/* Completion scripts and the manual page, written from the option tables when the command is built. */
#include "out.h"
#include "verbs.h"

#include <string.h>

/* "device list" -> "device"; true where the verb has two words. */
static bool first_word(const struct verb *verb, char word[32])
{
    size_t n = strcspn(verb->name, " ");
    snprintf(word, 32, "%.*s", (int)n, verb->name);
    return verb->name[n] == ' ';
}

static void each_option(const struct verb *verb,
                        void (*each)(FILE *out, const struct verb *verb, const struct arg_option *option),
                        FILE *out)
{
    for (size_t t = 0; t < VERB_TABLES; t++)
        for (size_t i = 0; i < verb->tables[t].n; i++)
            if (!verb->tables[t].options[i].hidden)
                each(out, verb, &verb->tables[t].options[i]);
}

static void put_name(void *user, const char *name, size_t length)
{
    fprintf(user, " %.*s", (int)length, name);
}

static void put_names(FILE *out, const struct verb *verb, const struct arg_option *option)
{
    arg_each_name(option, put_name, out);
}

/* Words separated by '|' become separated by blanks. */
static void put_choices(FILE *out, const char *words)
{
    for (; *words; words++)
        fputc(*words == '|' ? ' ' : *words, out);
}

/* The words that a verb's further arguments may be. */
static void put_rest(FILE *out, const struct verb *verb)
{
    if (strcmp(verb->rest, "VERB") != 0) {
        put_choices(out, verb->rest);
        return;
    }
    for (size_t v = 0; v < N_VERBS; v++)
        fprintf(out, "%s%s", v > 0 ? " " : "", verbs[v]->name);
}

/* ---- bash ---- */

struct pattern {
    FILE *out;
    size_t n;
};

static void put_pattern(void *user, const char *name, size_t length)
{
    struct pattern *p = user;
    fprintf(p->out, "%s%.*s", p->n++ > 0 ? "|" : "", (int)length, name);
}

static void bash_case(FILE *out, const struct verb *verb, const struct arg_option *option)
{
    if (option->kind == ARG_FLAG)
        return;
    struct pattern pattern = {.out = out};
    fputs("                ", out);
    arg_each_name(option, put_pattern, &pattern);
    fputs(") ", out);
    if (option->kind == ARG_CHOICE) {
        fputs("COMPREPLY=($(compgen -W '", out);
        put_choices(out, option->meta);
        fputs("' -- \"$cur\")); return ;;\n", out);
    } else if (option->kind == ARG_FILE) {
        fputs("COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", out);
    } else {
        fputs("return ;;\n", out);
    }
}

static void write_bash(FILE *out)
{
    fputs("# bash completion for quern\n_quern() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '",
          out);
    char word[32];
    for (size_t i = 0; i < N_VERBS; i++) {
        first_word(verbs[i], word);
        fprintf(out, "%s%s", i > 0 ? " " : "", word);
    }
    fputs("' -- \"$cur\"))\n        return\n    fi\n    case $verb in\n", out);
    for (size_t i = 0; i < N_VERBS; i++) {
        const struct verb *verb = verbs[i];
        bool two = first_word(verb, word);
        fprintf(out, "        %s)\n", word);
        if (two)
            fprintf(out,
                    "            if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
                    "                COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return\n            fi\n",
                    verb->name + strlen(word) + 1);
        fputs("            case $prev in\n", out);
        each_option(verb, bash_case, out);
        fputs("            esac\n            if [[ $cur == -* ]]; then\n"
              "                COMPREPLY=($(compgen -W '--help",
              out);
        each_option(verb, put_names, out);
        fputs("' -- \"$cur\"))\n", out);
        if (verb->rest && strcmp(verb->rest, "FILE") == 0)
            fputs("            else\n                COMPREPLY=($(compgen -f -- \"$cur\"))\n", out);
        else if (verb->rest) {
            fputs("            else\n                COMPREPLY=($(compgen -W '", out);
            put_rest(out, verb);
            fputs("' -- \"$cur\"))\n", out);
        }
        fputs("            fi ;;\n", out);
    }
    fputs("    esac\n}\ncomplete -o filenames -F _quern quern\n", out);
}

/* ---- zsh ---- */

/* Text within single quotes of a specification: ' and what _arguments gives a meaning are escaped. */
static void zsh_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (strchr("[]:\\", *text))
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

struct zsh_name {
    FILE *out;
    const struct arg_option *option;
};

static void zsh_spec(void *user, const char *name, size_t length)
{
    const struct zsh_name *z = user;
    FILE *out = z->out;
    fprintf(out, " \\\n                '%s%.*s[", z->option->kind == ARG_LIST ? "*" : "", (int)length, name);
    zsh_text(out, z->option->help);
    fputc(']', out);
    if (z->option->kind != ARG_FLAG) {
        fputc(':', out);
        zsh_text(out, z->option->kind == ARG_CHOICE ? "kind" : z->option->meta);
        fputc(':', out);
        if (z->option->kind == ARG_FILE)
            fputs("_files", out);
        if (z->option->kind == ARG_CHOICE) {
            fputc('(', out);
            put_choices(out, z->option->meta);
            fputc(')', out);
        }
    }
    fputc('\'', out);
}

static void zsh_option(FILE *out, const struct verb *verb, const struct arg_option *option)
{
    struct zsh_name z = {out, option};
    arg_each_name(option, zsh_spec, &z);
}

static void write_zsh(FILE *out)
{
    char word[32];
    fputs("#compdef quern\n_quern() {\n    local -a verbs\n    verbs=(\n", out);
    for (size_t i = 0; i < N_VERBS; i++) {
        first_word(verbs[i], word);
        fprintf(out, "        '%s:", word);
        zsh_text(out, verbs[i]->summary);
        fputs("'\n", out);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe verb verbs\n        return\n    fi\n"
          "    local verb=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $verb in\n",
          out);
    for (size_t i = 0; i < N_VERBS; i++) {
        bool two = first_word(verbs[i], word);
        fprintf(out, "        %s)\n            _arguments '--help[show the options]'", word);
        each_option(verbs[i], zsh_option, out);
        if (two)
            fprintf(out, " \\\n                '1:verb:(%s)'", verbs[i]->name + strlen(word) + 1);
        else if (verbs[i]->rest && strcmp(verbs[i]->rest, "FILE") == 0)
            fputs(" \\\n                '1:model:_files'", out);
        else if (verbs[i]->rest) {
            fputs(" \\\n                '*:word:(", out);
            put_rest(out, verbs[i]);
            fputs(")'", out);
        }
        fputs(" ;;\n", out);
    }
    fputs("    esac\n}\n_quern \"$@\"\n", out);
}

/* ---- fish ---- */

static void fish_name(void *user, const char *name, size_t length)
{
    if (name[1] == '-')
        fprintf(user, " -l %.*s", (int)length - 2, name + 2);
    else if (length == 2)
        fprintf(user, " -s %c", name[1]);
    else
        fprintf(user, " -o %.*s", (int)length - 1, name + 1);
}

static void fish_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++)
        fprintf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
    fputc('\'', out);
}

static void fish_option(FILE *out, const struct verb *verb, const struct arg_option *option)
{
    char word[32];
    first_word(verb, word);
    fprintf(out, "complete -c quern -n '__fish_seen_subcommand_from %s'", word);
    arg_each_name(option, fish_name, out);
    if (option->kind == ARG_CHOICE) {
        fputs(" -x -a '", out);
        put_choices(out, option->meta);
        fputc('\'', out);
    } else if (option->kind == ARG_FILE) {
        fputs(" -r -F", out);
    } else if (option->kind != ARG_FLAG) {
        fputs(" -x", out);
    }
    fputs(" -d ", out);
    fish_text(out, option->help);
    fputc('\n', out);
}

static void write_fish(FILE *out)
{
    char word[32];
    fputs("# fish completion for quern\ncomplete -c quern -f\n", out);
    for (size_t i = 0; i < N_VERBS; i++) {
        bool two = first_word(verbs[i], word);
        fprintf(out, "complete -c quern -n __fish_use_subcommand -a %s -d ", word);
        fish_text(out, verbs[i]->summary);
        fputc('\n', out);
        if (two)
            fprintf(out, "complete -c quern -n '__fish_seen_subcommand_from %s' -a '%s'\n", word,
                    verbs[i]->name + strlen(word) + 1);
        if (verbs[i]->rest && strcmp(verbs[i]->rest, "FILE") == 0) {
            fprintf(out, "complete -c quern -n '__fish_seen_subcommand_from %s' -F\n", word);
        } else if (verbs[i]->rest) {
            fprintf(out, "complete -c quern -n '__fish_seen_subcommand_from %s' -a '", word);
            put_rest(out, verbs[i]);
            fputs("'\n", out);
        }
        each_option(verbs[i], fish_option, out);
    }
}

/* ---- the manual page ---- */

/* Text of a roff line: backslashes, and dots at its start, mean themselves. */
static void man_text(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

static void man_option(FILE *out, const struct verb *verb, const struct arg_option *option)
{
    fputs(".TP\n.B ", out);
    man_text(out, option->names);
    if (option->meta) {
        fputs(" \\fI", out);
        man_text(out, option->meta);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    man_text(out, option->help);
    fputc('\n', out);
}

static void write_man(FILE *out)
{
    fprintf(out, ".TH QUERN 1 \"\" \"quern %s\"\n.SH NAME\nquern \\- runs GGUF language models\n",
            quern_version());
    fputs(".SH SYNOPSIS\n.B quern\n.I VERB\n[options]\n.SH VERBS\n", out);
    for (size_t i = 0; i < N_VERBS; i++) {
        fputs(".SS \"quern ", out);
        fprintf(out, "%s", verbs[i]->name);
        fputs("\"\n", out);
        man_text(out, verbs[i]->summary);
        fputs("\n.PP\nUsage: quern ", out);
        man_text(out, verbs[i]->name);
        fputc(' ', out);
        man_text(out, verbs[i]->synopsis);
        fputc('\n', out);
        each_option(verbs[i], man_option, out);
        if (verbs[i]->details) {
            fputs(".PP\n", out);
            man_text(out, verbs[i]->details);
            fputc('\n', out);
        }
    }
    fputs(".SH ENVIRONMENT\n.TP\n.B QUERN_MODEL\nstands for \\-\\-model of run and chat where that is not "
          "given\n"
          ".TP\n.B QUERN_DEVICE\nstands for \\-\\-device\n"
          ".TP\n.B QUERN_THREADS\nstands for \\-\\-threads\n"
          ".TP\n.B QUERN_CACHE_DIR\nfolder of the cache in place of the user\\(aqs; off: none\n"
          ".TP\n.B QUERN_HELPER_SECONDS\nmost that a trial of a device\\(aqs driver may take\n"
          ".TP\n.B QUERN_VK_VALIDATE\n1: the validation layer of Vulkan is on\n"
          ".TP\n.B QUERN_VK_DISABLE\noptional features that Vulkan devices do without, with commas\n"
          ".TP\n.B QUERN_VK_SHADERS\nfolder of GLSL from which the kernels of Vulkan devices are compiled\n"
          ".TP\n.B QUERN_CPU_ISA\nlimits the instruction sets of the processor that are used\n"
          ".SH EXIT STATUS\n0 done, 1 fault while running, 2 wrong usage, 130 interrupted before there was a "
          "result\n",
          out);
}

bool write_generated(const char *what, FILE *out)
{
    static const struct {
        const char *name;
        void (*write)(FILE *out);
    } kinds[] = {{"bash", write_bash}, {"zsh", write_zsh}, {"fish", write_fish}, {"man", write_man}};
    for (size_t i = 0; i < ARG_N(kinds); i++)
        if (strcmp(kinds[i].name, what) == 0) {
            kinds[i].write(out);
            return true;
        }
    return false;
}
