"""Models with random weights (tests/support/random_model): of every kind and family; the answer is of finite numbers."""
import math
import os
import struct
import subprocess
import tempfile

import cli
from cli import quern

TYPES = ["q4_k_m", "q5_k_m", "f32", "f16", "q4_0", "q8_0", "q3_k", "iq2_xs", "iq1_m", "iq4_nl", "tq1_0", "mxfp4", "nvfp4",
         "q1_0"]


def make(folder, *args):
    path = os.path.join(folder, "model.gguf")
    subprocess.run([os.environ["QUERN_RANDOM_MODEL"], args[0], args[1], path, *args[2:]], check=True,
                   stdout=subprocess.DEVNULL)
    return path


def check_logits(path, what):
    data = quern("logits", "-m", path, "--tokens", "-", "-o", "-", "--device", "cpu", stdin=b"1 300 301 40").out
    values = struct.unpack(f"<{len(data) // 4}f", data)
    mean = math.sqrt(sum(x * x for x in values) / len(values))
    assert all(map(math.isfinite, values)) and 0.01 < mean < 10, (what, mean)
    assert len(set(values)) > len(values) // 2, what


def test_types():
    with tempfile.TemporaryDirectory() as folder:
        for i, type in enumerate(TYPES):
            check_logits(make(folder, ["tiny", "tiny-moe"][i % 2], type, "--layers", "1"), type)


def test_families():
    with tempfile.TemporaryDirectory() as folder:
        for family in ["llama", "qwen2", "qwen3"]:
            check_logits(make(folder, "tiny", "q4_k_m", "--family", family, "--tied", "1", "--layers", "9"), family)
        for family in ["llama", "qwen3moe", "olmoe"]:
            check_logits(make(folder, "tiny-moe", "q4_k_m", "--family", family, "--ff", "96"), family)


def test_text_and_seed():
    text = "Here, some words: 1 + 2 \u00e4."
    with tempfile.TemporaryDirectory() as folder:
        path = make(folder, "tiny", "q8_0", "--vocabulary", "7000")
        with open(path, "rb") as file:
            first = file.read()
        ids = quern("tokenize", "-m", path, stdin=text.encode()).text.strip()
        assert len(ids.split()) < len(text)
        assert quern("tokenize", "-m", path, "--detokenize", stdin=ids.encode()).text.strip() == text
        make(folder, "tiny", "q8_0", "--vocabulary", "7000")
        with open(path, "rb") as file:
            assert file.read() == first
        make(folder, "tiny", "q8_0", "--vocabulary", "7000", "--seed", "2")
        with open(path, "rb") as file:
            assert file.read() != first


if __name__ == "__main__":
    cli.main(globals())
