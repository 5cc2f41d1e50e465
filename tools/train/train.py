#!/usr/bin/env python3
"""Trains an embedded model from nothing: tokenizer, weights, loss curve.

    train.py [--config moe|draft] [--out DIR] [--minutes N]

Everything goes to DIR/CONFIG: checkpoint.pt (every 5 minutes and at the end), loss.csv, tokenizer.json. Called again, it
goes on from the checkpoint. Needs PyTorch; on a CPU two threads and OpenBLAS (Debian: python3-torch,
libopenblas0-pthread). The learning rate falls with the time that is left, so a run ends when it is told to."""
import argparse
import csv
import json
import math
import os
import pathlib
import random
import sys
import time

import torch
from torch.nn import functional as F

import tokenizer
from corpus import document
from model import CONFIGS, Model

WEIGHT = {"special": 0.2, "user": 0.5, "story": 1.0, "talk": 1.0, "answer": 3.0}  # of a token in the loss
BALANCE = 0.03         # weight of the experts' load balancing
BATCH_TOKENS = 8192
POOL = 32              # batches whose documents are sorted by length together
CHECKPOINT_SECONDS = 300
WARMUP_STEPS = 40


# ---- data ----

def encode(tokens, pieces):
    """Ids of a document, and the weight of each as a target."""
    ids, weights = [], []
    for text, kind in pieces:
        part = tokens.encode(text)
        ids += part
        weights += [WEIGHT[kind]] * len(part)
    return ids, weights


def batches(tokens, n_ctx, pool):
    """The batches of the pool-th stretch of the corpus, in random order: documents of similar lengths side by side."""
    docs, number, total = [], pool * POOL * 64, 0
    while total < POOL * BATCH_TOKENS and number < (pool + 1) * POOL * 64:
        ids, weights = encode(tokens, document("train", number))
        number += 1
        if len(ids) <= n_ctx:
            docs.append((ids, weights))
            total += len(ids)
    docs.sort(key=lambda doc: len(doc[0]))
    groups, group = [], []
    for doc in docs:
        if group and len(doc[0]) * (len(group) + 1) > BATCH_TOKENS:
            groups.append(group)
            group = []
        group.append(doc)
    random.Random(pool).shuffle(groups)
    return groups


def tensors(group, device):
    """ids [B, T + 1] and the weights [B, T] of the targets; what is beyond a document's end has none."""
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for i, (row, weight) in enumerate(group):
        ids[i, :len(row)] = torch.tensor(row)
        weights[i, :len(row)] = torch.tensor(weight)
    return ids.to(device), weights[:, 1:].to(device)


# ---- optimiser ----

def orthogonalise(g, steps=4):
    """The nearest semi-orthogonal matrices to g [..., m, n], roughly: a quintic Newton-Schulz iteration whose singular
    values end near 1 (Jordan et al. 2024, "Muon")."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = g.transpose(-2, -1) if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(-2, -1)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.transpose(-2, -1) if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised: for weight matrices, alone or one for each expert."""

    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"]
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(mean, group["momentum"]))
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[-2] / p.shape[-1]) ** 0.5)


def optimisers(model):
    matrices = [p for n, p in model.named_parameters() if p.dim() > 1 and n != "embed" and not n.endswith("router")]
    routers = [p for n, p in model.named_parameters() if n.endswith("router")]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    adam = torch.optim.AdamW([{"params": [model.embed], "lr": 4e-3}, {"params": routers, "lr": 1e-3},
                              {"params": vectors, "lr": 2e-3}], betas=(0.9, 0.97), weight_decay=0.0)
    found = [adam, Muon(matrices, lr=0.02)]
    for group in (g for o in found for g in o.param_groups):
        group["base"] = group["lr"]
    return found


def rate(step, share):
    """Of the learning rate: up over the first steps, level, and down to nothing over the last half of the time."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * min(1.0, max(0.0, 2 * (1 - share)) + 0.005)


# ---- training ----

class Run:
    """A training run and what of it is kept in the checkpoint."""

    def __init__(self, options):
        self.options = options
        self.dir = pathlib.Path(options.out) / options.config
        self.dir.mkdir(parents=True, exist_ok=True)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(options.seed)
        self.model = Model(CONFIGS[options.config]).to(self.device)
        self.optimisers = optimisers(self.model)
        self.step, self.pool, self.done, self.seconds, self.n_tokens = 0, 0, 0, 0.0, 0
        self.tokens = self.load_tokenizer()
        self.load()
        self.saved = self.began = time.monotonic()

    def load_tokenizer(self):
        path = self.dir.parent / "tokenizer.json"
        if not path.exists():
            merges = tokenizer.train(CONFIGS[self.options.config].n_vocab).merges
            path.write_text(json.dumps({"merges": merges}, indent=0))
        return tokenizer.Tokenizer(json.loads(path.read_text())["merges"])

    def load(self):
        path = self.dir / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        self.step, self.pool, self.done, self.seconds, self.n_tokens = state["progress"]
        print(f"going on from step {self.step}", file=sys.stderr)

    def save(self):
        path = self.dir / "checkpoint.pt"
        torch.save({"model": self.model.state_dict(), "optimisers": [o.state_dict() for o in self.optimisers],
                    "progress": (self.step, self.pool, self.done, self.seconds, self.n_tokens)},
                   path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        self.saved = time.monotonic()

    def train_step(self, group, share):
        ids, weights = tensors(group, self.device)
        logits = self.model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(weights.shape)
        n = (weights > 0).sum()
        total = (loss * weights).sum() / weights.sum()
        experts = self.model.experts()
        balance = sum(e.balance for e in experts) / max(1, len(experts))
        (total + BALANCE * balance).backward()
        for optimiser in self.optimisers:
            for g in optimiser.param_groups:
                g["lr"] = g["base"] * rate(self.step, share)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        answers = weights == WEIGHT["answer"]
        self.step += 1
        self.n_tokens += int(n)
        return {"step": self.step, "tokens": self.n_tokens, "minutes": round(self.seconds / 60, 2),
                "loss": round((loss * (weights > 0)).sum().item() / int(n), 4),
                "answer_loss": round(loss[answers].mean().item(), 4) if answers.any() else "",
                "balance": round(float(balance), 4)}

    def run(self):
        budget = self.options.minutes * 60
        fresh = self.step == 0
        with open(self.dir / "loss.csv", "w" if fresh else "a", newline="") as file:
            log = csv.DictWriter(file, ["step", "tokens", "minutes", "loss", "answer_loss", "balance"])
            if fresh:
                log.writeheader()
            while self.seconds < budget:
                groups = batches(self.tokens, self.model.config.n_ctx, self.pool)
                for group in groups[self.done:]:
                    begin = time.monotonic()
                    row = self.train_step(group, self.seconds / budget)
                    self.seconds += time.monotonic() - begin
                    self.done += 1
                    log.writerow(row)
                    self.progress(row, budget)
                    if self.seconds >= budget:
                        break
                    if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                        file.flush()
                        self.save()
                else:
                    self.pool, self.done = self.pool + 1, 0
        self.save()

    def progress(self, row, budget):
        """A line that is written over on a terminal, now and then a line elsewhere."""
        if not math.isfinite(row["loss"]):
            raise SystemExit(f"step {self.step}: the loss is {row['loss']}")
        if not sys.stderr.isatty() and self.step % 20:
            return
        left = max(0, budget - self.seconds) / 60
        print(f"step {row['step']}  {row['tokens'] / 1e6:.2f} M tokens  loss {row['loss']:.3f}  answers "
              f"{row['answer_loss']}  balance {row['balance']:.2f}  {row['tokens'] / max(1e-9, self.seconds):.0f} t/s  "
              f"{left:.0f} min left ", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def with_environment():
    """Starts again with settings of the libraries below that more than double the speed on a CPU: an allocator that keeps
    freed memory instead of asking the system for every large tensor's pages anew, and idle threads that sleep instead of
    keeping the processors from those that work (OpenMP's and OpenBLAS's threads take turns)."""
    wanted = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**27),
              "OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "8"}
    if not wanted.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=sorted(CONFIGS), default="moe")
    parser.add_argument("--out", default="build/train", help="folder of runs")
    parser.add_argument("--minutes", type=float, default=80, help="time of training in all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with_environment()
    torch.set_num_threads(options.threads)
    run = Run(options)
    try:
        run.run()
    except KeyboardInterrupt:
        run.save()
        sys.exit("stopped and saved; the same command goes on from here")


if __name__ == "__main__":
    main()
