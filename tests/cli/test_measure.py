"""quern logits, perplexity, bench, profile."""
import csv
import io
import json
import math
import os
import struct
import tempfile

import cli
from cli import fails, quern


def logits(*args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "out.f32")
        quern("logits", "-m", cli.model(), "--tokens", cli.TOKENS, "-o", path, "-c", "256", "--kv-type", "f32", *args)
        with open(path, "rb") as file:
            data = file.read()
    return struct.unpack(f"<{len(data) // 4}f", data)


def distance(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def test_logits():
    n = len(cli.TOKENS.read_text().split())
    tensors = quern("inspect", cli.model(), "--json", "--tensors").json()["tensors"]
    n_vocab = next(t["shape"][1] for t in tensors if t["name"] == "token_embd.weight")
    whole = logits()
    assert len(whole) == n * n_vocab
    data = (cli.GOLDEN / "golden" / "llama.logits.f32").read_bytes()
    assert distance(whole, struct.unpack(f"<{len(data) // 4}f", data)) < 1e-3
    assert distance(whole, logits("--batch", "1")) < 1e-4
    assert distance(whole, logits("--batch", "7", "-t", "1")) < 1e-4
    assert distance(whole, logits("--exact", "--no-mmap")) < 1e-3
    assert whole == logits("--no-repack")
    piped = quern("logits", "-m", cli.model(), "--tokens", "-", "-o", "-", stdin=b"1 2 3").out
    assert len(piped) == 3 * n_vocab * 4


def test_logits_faults():
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.f32")
        fails(1, "logits", "-m", cli.model(), "--tokens", "-", "-o", out, stdin=b"1 2 x", says=["x"])
        fails(1, "logits", "-m", cli.model(), "--tokens", "-", "-o", out, stdin=b"", says=["no token ids"])
        fails(1, "logits", "-m", cli.model(), "--tokens", "-", "-o", out, stdin=b"1 99999999", says=["99999999"])
        fails(1, "logits", "-m", cli.model(), "--tokens", "-", "-o", out, "-c", "4", stdin=b"1 2 3 4 5 6 7 8")
        assert not os.path.exists(out)
        fails(1, "logits", "-m", cli.model(), "--tokens", "-", "-o", os.path.join(folder, "no", "out"), stdin=b"1")
    fails(2, "logits", "-m", cli.model(), "--tokens", "-")


def test_perplexity():
    text = " ".join(f"word {i} and {i * 7 % 13}" for i in range(60)).encode()
    args = ["perplexity", "-m", cli.model(), "-c", "32", "--kv-type", "f32"]
    out = quern(*args, "--json", stdin=text).json()
    ids = [int(x) for x in quern("tokenize", "-m", cli.model(), "--add-bos", stdin=text).text.split()]
    assert out["n_tokens"] == len(ids) and out["n_chunks"] == len(ids) // 32
    assert out["n_scored"] == out["n_chunks"] * 15
    assert abs(math.exp(out["nll"]) - out["perplexity"]) < 1e-6 * out["perplexity"]

    # the same from the logits of each window
    begin = ids[0] if ids[1:] == [int(x) for x in quern("tokenize", "-m", cli.model(), stdin=text).text.split()] else None
    total = 0.0
    for chunk in range(out["n_chunks"]):
        window = ids[chunk * 32:chunk * 32 + 32]
        if begin is not None:
            window[0] = begin
        data = quern("logits", "-m", cli.model(), "--tokens", "-", "-o", "-", "-c", "32", "--kv-type", "f32",
                     stdin=" ".join(map(str, window)).encode()).out
        n_vocab = len(data) // 4 // 32
        rows = struct.unpack(f"<{len(data) // 4}f", data)
        for i in range(16, 31):
            row = rows[i * n_vocab:(i + 1) * n_vocab]
            total += math.log(sum(math.exp(x - max(row)) for x in row)) + max(row) - row[window[i + 1]]
    assert abs(total / out["n_scored"] - out["nll"]) < 1e-4
    line = quern(*args, stdin=text).text
    assert line.startswith(f"Final estimate: PPL = {out['perplexity']:.4f} +/- ")
    assert quern(*args, "--chunks", "1", "--json", stdin=text).json()["n_scored"] == 15
    fails(1, *args, stdin=b"short", says=["-c"])


BENCH = ["-p", "16,8", "-n", "4", "-r", "3"]


def test_bench_json():
    args = ["bench", "-m", cli.model(), *BENCH, "-pg", "8,4", "-d", "0,16", "-t", "1,2"]
    rows = quern(*args, "-o", "json").json()
    tests = [(r["n_threads"], r["n_depth"], r["n_prompt"], r["n_gen"]) for r in rows]
    assert tests == [(t, d, p, g) for t in (1, 2) for d in (0, 16) for p, g in ((16, 0), (8, 0), (0, 4), (8, 4))]
    for row in rows:
        for key in ("build_commit", "cpu_info", "backends", "model_filename", "model_type", "model_size",
                    "model_n_params", "n_batch", "type_k", "type_v", "test_time", "avg_ns", "stddev_ns", "stddev_ts"):
            assert key in row, key
        assert len(row["samples_ns"]) == len(row["samples_ts"]) == 3
        n = row["n_prompt"] + row["n_gen"]
        assert abs(row["samples_ts"][0] - n * 1e9 / row["samples_ns"][0]) < 1e-6 * row["samples_ts"][0]
        assert abs(sum(row["samples_ts"]) / 3 - row["avg_ts"]) < 1e-6 * row["avg_ts"]


def test_bench_default_model():
    text = cli.quern("bench", *BENCH, "-t", "1").text
    assert "tg" in text and "pp" in text, text


def test_bench_forms():
    args = ["bench", "-m", cli.model(), *BENCH, "-o"]
    lines = [json.loads(line) for line in quern(*args, "jsonl").text.splitlines()]
    assert len(lines) == 3 and lines[2]["n_gen"] == 4
    table = list(csv.DictReader(io.StringIO(quern(*args, "csv").text)))
    assert len(table) == 3 and table[0]["n_prompt"] == "16" and float(table[0]["avg_ts"]) > 0
    rows = quern(*args, "md").text.splitlines()
    heads = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert heads == ["model", "size", "params", "backend", "threads", "test", "t/s"]
    assert len(rows) == 5 and all(row.count("|") == 8 for row in rows)
    assert "pp16" in rows[2] and "tg4" in rows[4] and "\u00b1" in rows[4]
    assert "type_k" in quern(*args, "md", "-ctk", "f32,f16", "-ctv", "f32").text.splitlines()[0]


def test_bench_start():
    args = ["bench", "-m", cli.model(), "--device", "cpu", "--start"]
    parts = {row["part"]: row for row in quern(*args, "-o", "json").json()}
    behind = ["lay out weights"] if "lay out weights" in parts else []  # where it has begun
    assert list(parts) == behind + ["open model", "first token", "all"], parts
    for when in ("cold_ns", "warm_ns"):
        assert 0 < parts["open model"][when] < parts["all"][when]
    assert "first token" in quern(*args).text and quern(*args, "-o", "csv").text.startswith("model_filename,devices,part,")
    assert len(quern(*args, "-o", "jsonl").text.splitlines()) in (3, 4)


def test_profile():
    out = quern("profile", cli.model(), "-p", "8", "-n", "3", "--json").json()
    assert [p["phase"] for p in out["phases"]] == ["prefill", "decode"]
    for phase, steps in zip(out["phases"], (1, 3)):
        assert abs(sum(g["share"] for g in phase["by_op"]) - 1) < 1e-6
        assert sum(g["ns"] for g in phase["by_op"]) == sum(g["ns"] for g in phase["by_layer"]) == phase["node_ns"]
        assert phase["node_ns"] <= phase["wall_ns"] * 1.01
        assert {"matmul", "attention", "norm"} <= {g["op"] for g in phase["by_op"]}
        assert next(g["calls"] for g in phase["by_op"] if g["op"] == "embed") == steps
    memory, = out["memory"]
    assert memory["device"] == "cpu" and memory["mapped"] > 0 and memory["kv"] > 0 and memory["activations"] > 0
    assert memory["planned"] == sum(memory[key] for key in ("weights", "kv", "activations", "staging"))
    text = quern("profile", "-m", cli.model(), "-p", "8", "-n", "3").text
    assert "PLANNED" in text and "cpu" in text.splitlines()[-1]
    assert "OPERATION" in text and "LAYER" in text and "GB/S" in text
    nodes = quern("profile", cli.model(), "-p", "8", "-n", "0", "--by", "node", "--json").json()["phases"]
    assert len(nodes) == 1 and list(nodes[0])[-1] == "by_node"


if __name__ == "__main__":
    cli.main(globals())
