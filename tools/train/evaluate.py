#!/usr/bin/env python3
"""Measures the embedded models on held-out documents.

    evaluate.py text [--count N]                          held-out stories, one a line, for `quern perplexity`
    evaluate.py perplexity [--config C] [--out DIR] FILE  of the checkpoint on such a text, counted as quern does
    evaluate.py experts [--config C] [--out DIR] FILE     how much each expert is used on it
    evaluate.py questions [--quern EXE] [--model FILE] [--count N] [--misses]
                                                          answers of the command, greedy, to questions about stories
    evaluate.py stories [--quern EXE] [--model FILE] [--count N]   stories that the command tells at temperature 0.7
"""
import argparse
import collections
import json
import math
import random
import subprocess

from corpus import ASSISTANT, END, TEXT_END, USER, questions, story

FIRST = 10**6  # numbers of the held-out stories begin here; documents of the same split stay far below


def held_out(count):
    """(generator, story) pairs; odd seeds, which training never sees."""
    for number in range(FIRST, FIRST + count):
        rng = random.Random(2 * number + 1)
        yield rng, story(rng)


# ---- the checkpoint ----

def windows(options):
    """Logits and tokens of windows of n_ctx tokens: (logits of the second half, their targets, model)."""
    import torch  # only what needs the checkpoint needs PyTorch
    from export import load
    torch.set_num_threads(2)
    model, tokens = load(options.out, options.config)
    with open(options.file, encoding="ascii") as f:
        ids = [tokens.id[TEXT_END], *tokens.encode(f.read())]
    n = model.config.n_ctx
    for at in range(0, len(ids) - n + 1, n):
        window = torch.tensor([[tokens.id[TEXT_END], *ids[at + 1:at + n]]])
        with torch.no_grad():
            logits = model(window)[0]
        yield logits[n // 2:-1], window[0, n // 2 + 1:], model


def perplexity(options):
    from torch.nn import functional as F
    losses = [F.cross_entropy(logits, targets, reduction="none") for logits, targets, _ in windows(options)]
    n = sum(len(part) for part in losses)
    mean = sum(part.double().sum().item() for part in losses) / n
    print(f"PPL = {math.exp(mean):.4f} ({len(losses)} windows, {n} scored)")


def experts(options):
    total, n = None, 0
    for _, _, model in windows(options):
        use = [e.use for e in model.experts()]
        total = use if total is None else [a + b for a, b in zip(total, use)]
        n += 1
    if not total:
        raise SystemExit("this model has no experts, or the text is shorter than a window")
    fair = 1 / len(total[0])
    print("share of the tokens' choices that each expert got, as a multiple of the fair share")
    for i, layer in enumerate(total):
        print(f"layer {i}  " + "  ".join(f"{x.item() / n / fair:.2f}" for x in layer))
    flat = [x.item() / n / fair for layer in total for x in layer]
    print(f"least {min(flat):.2f}, most {max(flat):.2f}")


# ---- the command ----

def quern(options, prompt, *more):
    command = [options.quern, "run", "--json", "-p", prompt.replace("\\", "\\\\"), *more]
    if options.model:
        command += ["-m", options.model]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return json.loads(done.stdout)["text"]


def ask(options):
    """One question a story, of all kinds in turn as far as the stories have them; right is what is right word for word."""
    asked, right = collections.Counter(), collections.Counter()
    for rng, s in held_out(options.count):
        facts = questions(rng, s, len(s.facts))
        rare = min(facts, key=lambda fact: asked[fact[0]])
        kind, question, answer = rare
        got = quern(options, f"{USER}{s} {question}{END}{ASSISTANT}", "--temp", "0", "-n", "48").strip()
        asked[kind] += 1
        right[kind] += got == answer
        if options.misses and got != answer:
            print(f"{s}\n  {question}\n  expected {answer}\n  got      {got}\n")
    for kind in sorted(asked):
        print(f"{kind:10} {right[kind]:4} of {asked[kind]:4}")
    n = sum(asked.values())
    print(f"{'all':10} {sum(right.values()):4} of {n:4}  {100 * sum(right.values()) / n:.1f} %")


def tell(options):
    for seed in range(options.count):
        print(quern(options, f"{USER}Tell me a story.{END}{ASSISTANT}", "--temp", "0.7", "--seed", str(seed)), end="\n\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)

    def verb(name, run, *arguments):
        sub = verbs.add_parser(name)
        sub.set_defaults(run=run)
        for flag, details in arguments:
            sub.add_argument(flag, **details)

    checkpoint = [("--config", {"default": "moe"}), ("--out", {"default": "build/train"}), ("file", {})]
    command = [("--quern", {"default": "build/tools/quern/quern"}), ("--model", {"help": "default: the embedded one"})]
    verb("text", lambda o: [print(s) for _, s in held_out(o.count)], ("--count", {"type": int, "default": 500}))
    verb("perplexity", perplexity, *checkpoint)
    verb("experts", experts, *checkpoint)
    verb("questions", ask, *command, ("--count", {"type": int, "default": 200}), ("--misses", {"action": "store_true"}))
    verb("stories", tell, *command, ("--count", {"type": int, "default": 20}))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
