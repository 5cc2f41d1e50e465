"""The corpus, the tokenizer, the writer of model files and a very short training."""
import collections
import itertools
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

TRAIN = pathlib.Path(os.environ["QUERN_SOURCE"]) / "tools" / "train"
sys.path[:0] = [str(TRAIN), str(TRAIN.parents[1] / "tests" / "cli")]

import cli  # noqa: E402
import corpus  # noqa: E402
import tokenizer  # noqa: E402

# What an answer may add to the words of its story and its question.
GLUE = set("began ended found got heard learn lost made met saw took used wanted went wished "
           "first was were is had felt because it they them he she there of to the a an in at on by up some not led".split())


def stories(split, n):
    seed = {"train": 0, "held-out": 1}[split]
    return [corpus.story(random.Random(2 * i + seed)) for i in range(n)]


def python_with(*modules):
    """An interpreter that has these modules: this one, or the system's."""
    for exe in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run([exe, "-c", "import " + ", ".join(modules)], capture_output=True, check=False)
        if done.returncode == 0:
            return exe
    raise cli.Skip(f"Python has no {' or no '.join(modules)} (tools/packages train)")


def call(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the corpus ----

def test_documents_depend_on_split_and_number_only():
    first = list(itertools.islice(corpus.documents("train", 100), 20))
    assert first == [corpus.document("train", 100 + i) for i in range(20)]
    assert first != [corpus.document("held-out", 100 + i) for i in range(20)]


def test_stories_are_distinct_and_splits_do_not_meet():
    train, held_out = ([str(s) for s in stories(split, 10000)] for split in ("train", "held-out"))
    assert len(set(train)) == len(train)
    assert not set(train) & set(held_out)


def test_stories_are_clean():
    for s in stories("held-out", 3000):
        text = str(s)
        assert text.isascii() and not re.search(r"[{}\[\]|]|  | [.,!?]", text), text
        assert not re.search(r"(^|[.!?] )[a-z]", text), text
        assert re.search(r'[.!?]"?$', text), text


def test_answers_are_in_the_story():
    kinds = collections.Counter()
    for s in stories("held-out", 3000):
        story = set(re.findall(r"[a-z]+", str(s).lower()))
        for kind, question, answer in s.facts:
            kinds[kind] += 1
            new = set(re.findall(r"[a-z]+", answer.lower())) - story - GLUE - set(re.findall(r"[a-z]+", question.lower()))
            assert not new, (str(s), question, answer, new)
    assert {"who", "where", "colour", "many", "first"} <= set(kinds), kinds


def test_a_question_has_one_answer():
    for s in stories("held-out", 3000):
        answers = dict((question, answer) for _, question, answer in s.facts)
        for _, question, answer in s.facts:
            assert answers[question] == answer, (str(s), question)


def test_unknown_questions_are_not_about_the_story():
    rng = random.Random(1)
    for s in stories("held-out", 300):
        words = corpus.unknown_question(rng, s).rstrip("?").split()
        assert sum(word in str(s).split() for word in words) < len(words)


def test_command_prints_documents():
    out = call(sys.executable, TRAIN / "corpus.py", "--count", 3, "--first", 7, "--split", "held-out")
    expected = "\n\n".join("".join(text for text, _ in corpus.document("held-out", 7 + i)) for i in range(3))
    assert out.strip() == expected.strip()


# ---- the tokenizer ----

SMALL = tokenizer.train(400, 300)


def test_tokenizer_round_trip():
    for pieces in itertools.islice(corpus.documents("held-out"), 50):
        for text, _ in pieces:
            assert SMALL.decode(SMALL.encode(text)) == text
    assert SMALL.decode(SMALL.encode("na\u00efve \u2603")) == "na\u00efve \u2603"


def test_tokenizer_agrees_with_quern():
    exe = python_with("numpy", "torch")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "vocab.gguf"
        write = ("import sys; sys.path.insert(0, sys.argv[1])\n"
                 "import export, gguf, model, tokenizer\n"
                 "tokens = tokenizer.train(400, 300)\n"
                 "gguf.write(sys.argv[2], export.metadata(model.CONFIGS['draft'], tokens, 'F16'), [])\n")
        call(exe, "-c", write, TRAIN, path)
        for pieces in itertools.islice(corpus.documents("held-out"), 20):
            text = "".join(text for text, _ in pieces[1:])
            expected = [SMALL.id[corpus.TEXT_END]] + [i for part, _ in pieces[1:] for i in SMALL.encode(part)]
            got = cli.quern("tokenize", "-m", path, "--special", "--add-bos", stdin=text.encode()).text.split()
            assert [int(i) for i in got] == expected, text


# ---- training ----

def test_training_stops_resumes_and_exports():
    """Two short runs of the small model: the second goes on from the first, and the file that is written predicts a text
    as the checkpoint does."""
    exe = python_with("numpy", "torch")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for minutes in (0.1, 0.3):
            call(exe, TRAIN / "train.py", "--config", "draft", "--out", folder, "--minutes", minutes)
        rows = (folder / "draft" / "loss.csv").read_text().splitlines()
        steps = [int(row.split(",")[0]) for row in rows[1:]]
        assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 2, steps
        text = folder / "text"
        text.write_text(call(sys.executable, TRAIN / "evaluate.py", "text", "--count", 12))
        expected = float(re.search(r"PPL = ([0-9.]+)", call(exe, TRAIN / "evaluate.py", "perplexity", "--config", "draft",
                                                            "--out", folder, text)).group(1))
        for kind, tolerance in (("F16", 0.005), ("Q8_0", 0.01), ("Q5_0", 0.03)):
            model = folder / f"{kind}.gguf"
            call(exe, TRAIN / "export.py", "--config", "draft", "--out", folder, "--type", kind, model)
            got = cli.quern("perplexity", "-m", model, "-f", text, "--json").json()["perplexity"]
            assert abs(got / expected - 1) < tolerance, (kind, got, expected)


if __name__ == "__main__":
    cli.main(globals())
