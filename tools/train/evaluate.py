#!/usr/bin/env python3
"""Measures the embedded models on held-out documents.

    evaluate.py text [--count N]                          held-out stories, one a line, for `quern perplexity`
    evaluate.py perplexity [--config C] [--out DIR] FILE  of the checkpoint on such a text, counted as quern does
    evaluate.py experts [--config C] [--out DIR] FILE     how much each expert is used on it
    evaluate.py agreement [--out DIR] FILE                how often the draft's best token is that of the model
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
    """Evaluates windows of n_ctx tokens, each from BOS on: (ids [n], logits [n, n_vocab], model, tokenizer)."""
    import torch  # only what needs the checkpoint needs PyTorch
    from export import load
    torch.set_num_threads(2)
    model, tokens = load(options.out, options.config)
    with open(options.file, encoding="ascii") as f:
        ids = [tokens.id[TEXT_END], *tokens.encode(f.read())]
    n = model.config.n_ctx
    if len(ids) < n:
        raise SystemExit(f"{options.file}: {len(ids)} tokens, a window has {n}")
    for at in range(0, len(ids) - n + 1, n):
        window = torch.tensor([tokens.id[TEXT_END], *ids[at + 1:at + n]])
        with torch.no_grad():
            yield window, model(window[None])[0], model, tokens


def perplexity(options):
    """As quern perplexity has it: the second half of each window is scored."""
    from torch.nn import functional as F
    total, n, n_windows = 0.0, 0, 0
    for ids, logits, _, _ in windows(options):
        half = len(ids) // 2
        total += F.cross_entropy(logits[half:-1].double(), ids[half + 1:], reduction="sum").item()
        n += len(ids) - half - 1
        n_windows += 1
    print(f"PPL = {math.exp(total / n):.4f} ({n_windows} windows, {n} scored)")


def experts(options):
    """How often each expert is chosen, as a multiple of its fair share, and the tokens for which that is highest."""
    import torch
    counts = None  # [layer][expert, token]
    for ids, _, model, tokens in windows(options):
        if not model.config.n_expert:
            raise SystemExit("this model has no experts")
        if counts is None:
            counts = [torch.zeros(model.config.n_expert, model.config.n_vocab) for _ in model.layers]
        for layer, e in zip(counts, model.experts()):
            for slot in range(model.config.n_expert_used):
                layer.index_put_((e.chosen[:, slot], ids), torch.ones(len(ids)), accumulate=True)
    shares = []
    for i, layer in enumerate(counts):
        share = layer.sum(1) / layer.sum() * len(layer)
        lift = layer / layer.sum(0).clamp(min=1) * (layer.sum(0) >= 50)
        shares += share.tolist()
        for e, best in enumerate(lift.topk(6, 1).indices.tolist()):
            print(f"layer {i}  expert {e}  {share[e]:.2f}  {' '.join(repr(tokens.decode([t])) for t in best)}")
    print(f"least {min(shares):.2f}, most {max(shares):.2f} of the fair share")


def agreement(options):
    """Of the tokens that greedy speculation would take from the draft; the text's second halves of windows."""
    same = n = 0
    pair = (windows(argparse.Namespace(**{**vars(options), "config": name})) for name in ("moe", "draft"))
    for (ids, large, _, _), (_, small, _, _) in zip(*pair):
        half = len(ids) // 2
        same += (large[half:].argmax(1) == small[half:].argmax(1)).sum().item()
        n += len(ids) - half
    print(f"{same} of {n} best tokens are the same: {100 * same / n:.1f} %")


# ---- the command ----

def quern(options, prompt, *more):
    command = [options.quern, "run", "--json", "-p", prompt.replace("\\", "\\\\"), *more]
    if options.model:
        command += ["-m", options.model]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return json.loads(done.stdout)["text"]


def answers(options):
    """One question a story, of all kinds in turn as far as the stories have them: (story, kind, question, expected, got)"""
    asked = collections.Counter()
    for rng, s in held_out(options.count):
        facts = questions(rng, s, len(s.facts))
        kind, question, answer = min(facts, key=lambda fact: asked[fact[0]])
        asked[kind] += 1
        got = quern(options, f"{USER}{s} {question}{END}{ASSISTANT}", "--temp", "0", "-n", "48").strip()
        yield s, kind, question, answer, got


def ask(options):
    """What is right is right word for word."""
    asked, right = collections.Counter(), collections.Counter()
    for s, kind, question, answer, got in answers(options):
        asked[kind] += 1
        right[kind] += got == answer
        if options.misses and got != answer:
            print(f"{s}\n  {question}\n  expected {answer}\n  got      {got}\n")
    for kind in sorted(asked):
        print(f"{kind:10} {right[kind]:4} of {asked[kind]:4}")
    n = asked.total()
    print(f"{'all':10} {right.total():4} of {n:4}  {100 * right.total() / n:.1f} %")


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
    verb("agreement", agreement, *checkpoint[1:])
    verb("questions", ask, *command, ("--count", {"type": int, "default": 200}), ("--misses", {"action": "store_true"}))
    verb("stories", tell, *command, ("--count", {"type": int, "default": 20}))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
