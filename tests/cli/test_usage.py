"""Options, help, version, completions."""
import subprocess

import cli
from cli import fails, quern

VERBS = ["run", "chat", "inspect", "tokenize", "logits", "perplexity", "bench", "profile", "device list", "device show", "device forget", "cache", "version", "help"]


def test_no_verb():
    result = quern(code=2)
    assert result.out == b"" and b"Usage: quern VERB" in result.err


def test_help():
    for args in (["help"], ["--help"], ["-h"]):
        text = quern(*args).text
        for verb in VERBS:
            assert verb in text
    for verb in VERBS:
        text = quern("help", *verb.split()).text
        assert text.startswith(f"Usage: quern {verb}") and "--help" in text
        assert quern(*verb.split(), "--help").text == text
    fails(2, "help", "nothing")


def test_version():
    text = quern("version").text
    assert text.startswith("quern ") and text.count("\n") == 1
    assert quern("--version").text == text
    described = quern("version", "--json").json()
    assert text == f"quern {described['version']}\n"
    assert "llama" in described["architectures"]


def test_unknown():
    fails(2, "rum", says=["did you mean run"])
    fails(2, "device", "lst", says=["did you mean device list"])
    fails(2, "device")
    fails(2, "zzzzzz")
    fails(2, "run", "--temprature", "1", says=["--temprature", "did you mean --temperature"])
    fails(2, "run", "--zzzzzzzz", says=["--zzzzzzzz"])
    fails(2, "run", "-ngl", "99", says=["-ngl"])
    fails(2, "version", "surplus", says=["surplus"])


def test_values():
    model = ["run", "-m", "x.gguf", "-p", "x"]
    fails(2, *model, "-n", "many", says=["-n", "many"])
    fails(2, *model, "-n", says=["needs a value"])
    fails(2, *model, "--temp=-1", says=["--temp", "from 0 to"])
    fails(2, *model, "--top-p", "1.5", says=["--top-p", "from 0 to 1"])
    fails(2, *model, "--top-k=", says=["--top-k"])
    fails(2, *model, "--kv-type", "q3", says=["--kv-type", "f32|f16|bf16|q8_0|q4_0"])
    fails(2, *model, "--ignore-eos=yes", says=["takes no value"])
    fails(2, *model, "--stop", "", says=["--stop"])
    fails(2, *model, "--logit-bias", "12", says=["--logit-bias"])
    fails(2, *model, "--n-probs", "3", says=["--json"])
    fails(2, *model, "-f", "x", says=["-p and -f"])
    fails(2, "inspect")
    fails(2, "bench", "-m", "x", "-p", "12,x")
    fails(2, "bench", "-m", "x", "-pg", "12")
    fails(2, "bench", "-m", "x", "-o", "xml")
    fails(2, "profile", "-m", "a", "b")


def test_missing_file():
    for args in (["run", "-p", "x", "-m"], ["chat", "-m"], ["inspect"], ["tokenize", "-p", "x", "-m"], ["bench", "-m"],
                 ["profile"], ["perplexity", "-p", "x", "-m"], ["logits", "-o", "o", "--tokens", cli.TOKENS, "-m"]):
        fails(1, *args, "not/here.gguf", says=["quern: not/here.gguf: "])
    fails(1, "run", "-m", cli.model(), "-f", "not/here.txt", says=["quern: not/here.txt: "])


def test_completions():
    for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
        script = quern("help", "--completion", shell).out
        for word in (b"perplexity", b"top-k", b"q8_0"):
            assert word in script, (shell, word)
        try:
            done = subprocess.run([*check, "/dev/stdin"], input=script, capture_output=True, check=False)
        except FileNotFoundError:
            continue  # a shell that is not installed
        assert done.returncode == 0, (shell, done.stderr)
    fails(2, "help", "--completion", "csh")


def test_completion_works():
    """What bash offers for a few beginnings."""
    script = quern("help", "--completion", "bash").out.decode()

    def offers(*words):
        ask = script + f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _quern\n"
        ask += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, check=True)
        return done.stdout.decode().split()

    assert offers("quern", "pe") == ["perplexity"]
    assert offers("quern", "ch") == ["chat"]
    assert offers("quern", "chat", "--chat") == ["--chat-template"]
    assert offers("quern", "chat", "--overflow", "d") == ["drop"]
    assert offers("quern", "device", "l") == ["list"]
    assert offers("quern", "cache", "c") == ["clear"]
    assert offers("quern", "run", "--top-") == ["--top-k", "--top-p"]
    assert offers("quern", "run", "--kv-type", "q") == ["q8_0", "q4_0"]
    assert "perplexity" in offers("quern", "help", "p")


def test_manual_page():
    page = quern("help", "--man").text
    assert page.startswith(".TH QUERN 1") and "quern device list" in page


if __name__ == "__main__":
    cli.main(globals())
