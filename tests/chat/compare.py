#!/usr/bin/env python3
"""Holds the chat templates' interpreter to Python's Jinja, set up as the programs do for which templates are written.

usage: compare.py RENDER corpus             renders the corpus beside this file with both, compares, and compares with
                                            the stored NAME.txt
       compare.py RENDER store              writes the stored NAME.txt from Jinja's answers
       compare.py RENDER random [N [SEED]]  compares N generated expressions
       compare.py RENDER stored             compares with the stored NAME.txt only; needs no Jinja

Ends with 77 where Jinja is needed and missing. RENDER is the program of render.c.
"""
import copy
import datetime
import json
import os
import pathlib
import random
import subprocess
import sys
import warnings

HERE = pathlib.Path(__file__).resolve().parent
SYSTEM_PYTHON = pathlib.Path("/usr/bin/python3")
SEPARATOR = "\n======== {}\n"


# ---- Python's Jinja ----

def environment():
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """{% generation %} marks the model's own words, and here does nothing but open a scope."""
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

        def _run(self, caller):
            return caller()

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    warnings.simplefilter("ignore", SyntaxWarning)  # of code that Jinja makes of odd expressions
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def expected(env, source, case):
    """("ok", prompt) or ("error", sentence) of Jinja."""
    def strftime_now(form):
        return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=case.get("now", 0))).strftime(form)

    case = copy.deepcopy(case)  # there are filters of Jinja's that change their argument
    variables = {"messages": case.get("messages", []), "tools": case.get("tools"), "documents": None,
                 "add_generation_prompt": case.get("add_generation_prompt", True),
                 "bos_token": case.get("bos", ""), "eos_token": case.get("eos", "")}
    variables.update(case.get("variables") or {})
    env.globals["strftime_now"] = strftime_now
    try:
        return "ok", env.from_string(source).render(**variables)
    except Exception as error:  # whatever a template does wrong
        return "error", f"{type(error).__name__}: {error}"


# ---- ours ----

class Renderer:
    """The program of render.c, running."""

    def __init__(self, path):
        self.program = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, case):
        """("ok", prompt) or ("error", sentence)."""
        def as_json(key):
            return None if case.get(key) is None else json.dumps(case[key], ensure_ascii=False)

        texts = [source, json.dumps(case.get("messages", []), ensure_ascii=False), as_json("tools"),
                 as_json("variables"), case.get("bos"), case.get("eos")]
        data = [None if text is None else text.encode("utf-8") for text in texts]
        numbers = [-1 if one is None else len(one) for one in data]
        numbers += [case.get("now", 0), int(case.get("add_generation_prompt", True))]
        self.program.stdin.write(" ".join(map(str, numbers)).encode() + b"\n" + b"".join(one or b"" for one in data))
        self.program.stdin.flush()
        stream = self.program.stdout
        line = stream.readline()
        if line.startswith(b"ok "):
            text = stream.read(int(line[3:]))
            stream.read(1)
            return "ok", text.decode("utf-8")
        if line.startswith(b"error "):
            return "error", line[6:].decode("utf-8", "replace").rstrip("\n")
        raise SystemExit(f"FAILED: render ended at {source!r} with {line!r}")

    def close(self):
        self.program.stdin.close()
        self.program.stdout.close()
        return self.program.wait()


# ---- the corpus ----

def corpus():
    for template in sorted(HERE.glob("*.jinja")):
        yield template, template.with_suffix(".json"), template.with_suffix(".txt")


def in_file(answers):
    """What is stored: prompts as they are, errors without their words, which are each interpreter's own."""
    return "".join(SEPARATOR.format(kind) + (text if kind == "ok" else "") for kind, text in answers)


def show(what, want, got):
    print(f"FAILED {what}\n  expected {want!r}\n  got      {got!r}")


def run_corpus(renderer, mode):
    env = environment() if mode != "stored" else None
    n_cases = faults = 0
    for template, cases_file, stored in corpus():
        cases = json.loads(cases_file.read_text(encoding="utf-8"))
        source = template.read_text(encoding="utf-8")
        answers = [renderer.render(source, case) for case in cases]
        n_cases += len(cases)
        if env:
            wanted = [expected(env, source, case) for case in cases]
            for number, (want, got) in enumerate(zip(wanted, answers)):
                if want[0] != got[0] or (want[0] == "ok" and want[1] != got[1]):
                    show(f"{template.name} case {number}", want, got)
                    faults += 1
            if mode == "store":
                stored.write_text(in_file(wanted), encoding="utf-8", newline="\n")
        with open(stored, encoding="utf-8", newline="") as file:
            want = file.read()
        if want != in_file(answers):
            show(stored.name, want, in_file(answers))
            faults += 1
    print("FAILED" if faults else "ok", f"{n_cases} cases of {len(list(corpus()))} templates")
    return 1 if faults or n_cases == 0 else 0


# ---- generated expressions ----

CASE = {
    "messages": [
        {"role": "user", "content": " Hello W\u00f6rld "},
        {"role": "assistant", "content": "a<b\nc", "n": 3, "f": 2.5, "none": None},
        {"role": "user", "content": "x, y, x", "n": 1, "list": ["B", "a", "C"]}],
    "variables": {"s": "abc", "t": "\u00c9A, b\u00df", "w": "  two words\n", "i": 7, "j": -2, "f": -1.5, "y": True,
                  "l": [3, 1, 2, 1], "m": ["b", "A", "c", ""], "d": {"k": "v", "a": 1, "items": [1]}, "e": [],
                  "deep": {"x": {"y": [1, {"z": "end"}]}}, "q": "it's \"q\"\t\\"},
    "bos": "<s>", "eos": "</s>",
}
ATOMS = ["s", "t", "w", "i", "j", "f", "y", "l", "m", "d", "e", "q", "u", "none", "true", "false", "0", "1", "2", "3",
         "-1", "10", "255", "0.5", "2.5", "1e3", "1e20", "''", "'a'", "'b '", "'%s|%d'", "'x-y z'", "'12'", "' 7.5 '",
         "'0x1f'", "'a,b,,c'", "'\u4f60\u597d'", "[]", "[1, 'a', none]", "(1, 2)", "('a',)", "{}", "{'a': 1, 2: [3]}",
         "messages", "messages[0]", "messages[1].content", "messages[-1]['content']", "messages[1].n", "d['items']", "deep.x.y[1].z", "range(4)", "range(5, 0, -2)", "bos_token", "loop", "messages[1].none",
         "1_000", "'tab\\tnew\\nline'", "d.missing", "'\\u00e9'", "3.0", "-0.0", "'a' 'b'", "{'b': 2, 'A': 1, 'c': 0}"]
STRING_CALLS = ["strip()", "strip('ab ')", "lstrip()", "rstrip()", "rstrip('c')", "split()", "split(',')",
                "split(' ', 1)", "split(maxsplit=1)", "rsplit(',', 1)", "rsplit(None, 1)", "splitlines()",
                "splitlines(true)", "startswith('a')", "startswith(('x', 'a'))", "endswith('c')", "endswith('b', 0, 2)",
                "replace('a', 'X')", "replace('', '-')", "replace('b', '', 1)", "upper()", "lower()", "title()",
                "capitalize()", "swapcase()", "casefold()", "find('b')", "find('b', 1)", "rfind('a')", "index('a')",
                "count('a')", "count('')", "count('a', 1)", "format(1, 2)", "isdigit()", "isalpha()", "isalnum()",
                "isspace()", "isupper()", "islower()", "isnumeric()", "isascii()", "removeprefix('a')",
                "removesuffix('c')", "zfill(6)", "ljust(8, '.')", "rjust(8)", "center(9, '*')", "join(m)", "join('xyz')",
                "partition(',')", "rpartition(' ')", "join(l)", "isdecimal()", "rindex('zz')", "nothing()"]
OTHER_CALLS = ["items()", "keys()", "values()", "get('k')", "get('zz')", "get('zz', 5)", "get('a').foo", "count(1)",
               "index(1)", "index(99)", "append(1)", "update({})", "copy()", "k", "a", "zz", "0", "x.y"]
FILTERS = ["abs", "attr('upper')", "attr('k')", "batch(2)|list", "batch(3, 'x')|list", "batch(0)|list", "batch(-1, 2)|list", "capitalize", "count", "d('x')",
           "default('x', true)", "dictsort", "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "e",
           "escape", "first", "float", "float(3)", "format(1, 'a')", "format('z')", "groupby('role')|list",
           "groupby('n', default=0)|list", "indent", "indent(2, true)", "indent('> ', blank=true)", "int", "int(5)",
           "int(base=16)", "int(default=none)", "items|list", "join", "join(', ')", "join(attribute='role')",
           "join('-', 'n')", "last", "length", "list", "lower", "map('upper')|list", "map(attribute='role')|list",
           "map(attribute='n', default=0)|list", "map('int')|list", "map('default', 'q')|list", "max", "min",
           "max(attribute='n')", "min(true)", "reject('odd')|list", "rejectattr('n')|list",
           "rejectattr('role', 'equalto', 'user')|list", "replace('a', 'b')", "replace('', '.')", "replace('a', 'b', 1)",
           "reverse", "reverse|list", "round", "round(1)", "round(0, 'ceil')", "round(1, 'floor')", "round(-1)", "safe",
           "select|list", "select('string')|list", "select('gt', 1)|list", "selectattr('n', 'defined')|list",
           "selectattr('role', '==', 'user')|map(attribute='content')|join('|')", "slice(2)|list", "slice(3, 'f')|list",
           "sort", "sort(true)", "sort(reverse=true, case_sensitive=true)", "sort(attribute='role')",
           "sort(attribute='n,role')", "string", "sum", "sum(attribute='n')", "sum(start=2.5)", "title", "tojson",
           "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))",
           "tojson(indent=0)", "trim", "trim('a')", "truncate(5)", "truncate(5, true, '', 0)", "truncate(3, end='.')",
           "truncate(8, false, '..', 1)", "unique|list", "unique(true)|list", "upper", "urlencode", "wordcount",
           "center(9)", "list|length", "map('nothing')|list", "forceescape", "items"]
TESTS = ["boolean", "callable", "defined", "divisibleby 2", "divisibleby(3)", "eq(1)", "equalto 'abc'", "even", "false",
         "float", "ge 1", "gt(2)", "in [1, 'abc']", "in('abc')", "integer", "iterable", "le 3", "lower", "lt 'b'", "mapping",
         "ne none", "none", "number", "odd", "sameas true", "sequence", "string", "true", "undefined", "upper",
         "not defined", "not none", "not string", "escaped", "filter", "test"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
SLICES = ["0", "-1", "1", "'a'", "'k'", "5", "-9", "true", "1.0", "none", ":", "1:", ":2", "::-1", ":-1", "-2:", "::2",
          "1:9:2", "5:1:-1", "none:none", "-1:0:-2", "::0", "'a':", "i:"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def expression(self, depth):
        pick, make = self.random.choice, lambda: self.expression(depth - 1)
        kind = self.random.randrange(13) if depth > 0 else 0
        if kind == 0:
            return pick(ATOMS)
        if kind in (1, 2, 3):
            return f"{self.operand(depth)}|{pick(FILTERS)}"
        if kind in (4, 5):
            return f"{self.operand(depth)}.{pick(STRING_CALLS)}"
        if kind == 6:
            return f"{self.operand(depth)}.{pick(OTHER_CALLS)}"
        if kind == 7:
            return f"{self.operand(depth)}[{pick(SLICES)}]"
        if kind in (8, 9):
            return f"{self.operand(depth)} {pick(BINARY)} {self.operand(depth)}"
        if kind == 10:
            return f"{self.operand(depth)} is {pick(TESTS)}"
        if kind == 11:
            return pick([f"not {make()}", f"-{make()}", f"{make()} if {make()} else {make()}", f"{make()} if {make()}",
                         f"{make()} ** {pick(['2', '0', '-1', '0.5'])}", f"{make()} {pick(BINARY)} {make()}",
                         f"{make()} < {make()} < {make()}"])
        return pick([f"[{make()}, {make()}]", f"({make()}, {make()})", f"{{{make()}: {make()}}}", f"dict(a={make()})",
                     f"'%s %5.1f|%-4d' % ({make()}, {make()}, {make()})", f"'{{}}-{{:>4}}'.format({make()}, {make()})",
                     f"'%r' % ({make()},)", f"range({make()})", f"namespace(a={make()}).a"])

    def operand(self, depth):
        text = self.expression(depth - 1)
        return f"({text})" if self.random.random() < 0.6 else text

    def template(self):
        text = self.expression(self.random.choice([1, 1, 2, 2, 3]))
        kind = self.random.randrange(12)
        if kind == 0:
            return f"{{% for x in {text} %}}{{{{ loop.index }}}}{{{{ x }}}}{{% if not loop.last %}},{{% endif %}}{{% else %}}-{{% endfor %}}"
        if kind == 1:
            return f"{{% if {text} %}}yes{{% else %}}no{{% endif %}}"
        if kind == 2:
            return f"{{% set a, b = {text} %}}{{{{ a }}}}/{{{{ b }}}}"
        return f"{{{{ {text} }}}}"


def comparable(want, got):
    """Leaves out what only Python can answer: big integers, complex numbers, addresses."""
    # constants that cannot be sliced are undefined to Jinja, which folds them; variables are an error to both
    unlike = ("beyond 64 bits", "not supported", "more than ", "cannot round", "sliced", "slice indices", "slice step",
              "which is no mapping")
    if got[0] == "error" and any(word in got[1] for word in unlike):
        return False
    if want[0] == "ok" and "there is no " in got[1]:  # it folded away what names a filter or test that is not there
        return False
    if want[0] == "ok" and (" at 0x" in want[1] or " object" in want[1] or "<bound" in want[1] or "<built-in" in want[1] or "<function" in want[1]
                            or "<class" in want[1]):
        return False
    return "range() result has too many" not in want[1]


def run_random(renderer, n, seed):
    env, faults, compared = environment(), 0, 0
    generator = Generator(seed)
    for _ in range(n):
        source = generator.template()
        got, want = renderer.render(source, CASE), expected(env, source, CASE)
        if not comparable(want, got):
            continue
        compared += 1
        if want[0] != got[0] or (want[0] == "ok" and want[1] != got[1]):
            show(source, want, got)
            faults += 1
    print("FAILED" if faults else "ok", f"{compared} expressions of {n} compared, {faults} differ (seed {seed})")
    return 1 if faults or compared == 0 else 0


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ("corpus", "store", "stored", "random"):
        print(__doc__, file=sys.stderr)
        return 2
    render, mode = sys.argv[1:3]
    if mode != "stored":
        try:
            import jinja2  # noqa: F401
        except ImportError:
            if pathlib.Path(sys.executable).resolve() != SYSTEM_PYTHON.resolve() and SYSTEM_PYTHON.exists():
                os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])  # which has the system's packages
            print("SKIPPED: python3-jinja2 is not here", file=sys.stderr)
            return 77
    renderer = Renderer(render)
    if mode == "random":
        n, seed = (list(map(int, sys.argv[3:])) + [3000, 1][len(sys.argv) - 3:])[:2]
        code = run_random(renderer, n, seed)
    else:
        code = run_corpus(renderer, mode)
    return renderer.close() or code


if __name__ == "__main__":
    sys.exit(main())
