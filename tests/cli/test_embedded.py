"""The model that comes with the program: `quern run` and `quern chat` with nothing named."""
import argparse
import re
import sys

from cli import EXE, SOURCE, main, quern

sys.path.insert(0, str(SOURCE / "tools" / "train"))
import evaluate  # noqa: E402

MODEL = SOURCE / "models" / "embedded" / "quern-story-moe.gguf"
DRAFT = SOURCE / "models" / "embedded" / "quern-story-draft.gguf"


def test_files():
    assert MODEL.stat().st_size + DRAFT.stat().st_size <= 8 << 20
    assert DRAFT.stat().st_size <= 1 << 20
    about = quern("inspect", MODEL, "--json", "--meta").json()
    assert about["architecture"] == "qwen3moe"
    ids = [quern("tokenize", "-m", m, "-p", "Once upon a time").text for m in (MODEL, DRAFT)]
    assert ids[0] == ids[1]


def test_run_tells_a_story():
    story = quern("run", "--seed", "1", "--temp", "0.7", "--no-timings").text
    assert len(story.split()) > 40 and re.search(r'[.!?]"?\s*$', story), story
    assert story == quern("run", "--seed", "1", "--temp", "0.7", "--no-timings").text
    assert story != quern("run", "--seed", "2", "--temp", "0.7", "--no-timings").text
    draft = quern("run", "-m", DRAFT, "-p", "Once upon a time", "--temp", "0", "--no-timings").text
    assert len(draft.split()) > 20, draft


def test_chat_answers_about_a_story():
    told = ("Once there was a shy boy named Omar. One day Omar went to the lake with a green kite. "
            "But soon Omar lost the kite. Omar was sad because the kite was gone. "
            "Then a clever fox named Ruby came by. Ruby found the kite under a bush. In the end Omar felt happy.")
    questions = {"Who found the kite?": "Ruby found the kite.",
                 "What colour was the kite?": "The kite was green.",
                 "What kind of animal was Ruby?": "Ruby was a fox.",
                 "How did Omar feel at the end?": "Omar felt happy."}
    said = "\n".join([f"Here is a story. {told}", *questions]) + "\n"
    answers = quern("chat", "--temp", "0", stdin=said.encode()).text.splitlines()[1:]
    right = sum(got == want for got, want in zip(answers, questions.values(), strict=True))
    assert right >= 3, answers


def test_questions_about_held_out_stories():
    """A few of those that the model was measured with."""
    asked = list(evaluate.answers(argparse.Namespace(quern=EXE, model=str(MODEL), count=30)))
    right = sum(got == expected for _, _, _, expected, got in asked)
    assert right >= 0.8 * len(asked), f"{right} of {len(asked)}"


if __name__ == "__main__":
    main(globals())
