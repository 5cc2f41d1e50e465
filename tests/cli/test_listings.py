"""quern inspect, tokenize, device list."""
import cli
from cli import fails, quern


def test_inspect():
    path = cli.model("qllama.Q4_K_M.gguf")
    text = quern("inspect", path).text
    for word in ("architecture  llama", "type          Q4_K_M", "general.architecture", "token_embd.weight", "Q6_K"):
        assert word in text, word
    assert "TENSOR " not in quern("inspect", path, "--meta").text
    assert "KEY " not in quern("inspect", "-m", path, "--tensors").text
    assert all(line == line.rstrip("\n") and "\x1b" not in line for line in text.splitlines())


def test_inspect_json():
    path = cli.model("qllama.Q4_K_M.gguf")
    out = quern("inspect", path, "--json").json()
    assert out["architecture"] == "llama" and out["type"] == "Q4_K_M"
    assert out["bytes"] == path.stat().st_size and out["n_tensors"] == len(out["tensors"])
    weights = 0
    for tensor in out["tensors"]:
        n = 1
        for dim in tensor["shape"]:
            n *= dim
        weights += n
        assert 0 < tensor["offset"] <= out["bytes"] - tensor["bytes"]
    assert weights == out["n_weights"]
    meta = {item["key"]: item for item in out["metadata"]}
    assert meta["general.architecture"]["value"] == "llama"
    assert isinstance(meta["llama.block_count"]["value"], int)
    assert meta["tokenizer.ggml.tokens"]["type"] == "string[]" and meta["tokenizer.ggml.tokens"]["n"] > 1
    assert "metadata" not in quern("inspect", path, "--json", "--tensors").json()


def test_inspect_other_architecture():
    path = cli.GOLDEN / "malformed" / "44-unknown-arch.gguf"
    if not path.exists():
        raise cli.Skip(f"{path} is not here")
    assert quern("inspect", path, "--json").json()["tensors"]
    assert "can be run    no" in quern("inspect", path).text
    fails(1, "run", "-m", path, "-p", "x", says=["44-unknown-arch.gguf"])


def test_tokenize():
    model = ["tokenize", "-m", cli.model()]
    text = "Hello there,\n world é 日本\n".encode()
    line = quern(*model, stdin=text).text
    assert line.endswith("\n") and line.count("\n") == 1
    ids = [int(x) for x in line.split()]
    out = quern(*model, "--json", stdin=text).json()
    assert out["ids"] == ids and out["n"] == len(ids)
    assert quern(*model, "--detokenize", stdin=line.encode()).out == text
    assert quern(*model, "--detokenize", "--json", stdin=line.encode()).json()["text"] == text.decode()
    with_begin = [int(x) for x in quern(*model, "--add-bos", stdin=text).text.split()]
    assert with_begin[1:] == ids and quern(*model, "--detokenize", stdin=str(with_begin[0]).encode()).out == b""
    shown = quern(*model, "--detokenize", "--special", stdin=str(with_begin[0]).encode()).out
    assert shown and quern(*model, "--special", stdin=shown).text.split() == [str(with_begin[0])]
    assert quern(*model, stdin=b"").text == "\n"
    assert quern(*model, stdin=b"\xff\xfe\x80 a").code == 0


def test_detokenize_faults():
    model = ["tokenize", "-m", cli.model(), "--detokenize"]
    fails(1, *model, stdin=b"1 two 3", says=["two"])
    fails(1, *model, stdin=b"1 -2", says=["-2"])
    fails(1, *model, stdin=b"1\0 2")
    fails(1, *model, stdin=b"99999999", says=["99999999"])


def test_devices():
    devices = quern("device", "list", "--json").json()
    assert any(d["id"].startswith("cpu") and d["type"] == "cpu" for d in devices)
    text = quern("device", "list").text
    assert all(d["id"] in text for d in devices)
    fails(1, "run", "-m", cli.model(), "-p", "x", "--device", "no-such-device", says=["no-such-device"])


if __name__ == "__main__":
    cli.main(globals())
