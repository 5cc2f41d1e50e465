"""Byte-level BPE as GPT-2 has it: training on the corpus, and encoding.

The splitting rule is the one that `tokenizer.ggml.pre` calls "gpt-2"; the corpus is ASCII, for which the character
classes below are the same as Unicode's."""
import collections
import itertools
import re

from corpus import SPECIAL, documents

SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def byte_names():
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = itertools.count(0x100)
    return {b: chr(b) if b in printable else chr(next(others)) for b in range(256)}


BYTE = byte_names()


def spell(text):
    return "".join(BYTE[b] for b in text.encode())


def merge(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


class Tokenizer:
    """tokens: the special ones, the bytes, then one for each merge, in this order."""

    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.tokens = SPECIAL + list(BYTE.values()) + [a + b for a, b in self.merges]
        self.id = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self.known = {}

    def word(self, word):
        if word not in self.known:
            symbols = list(spell(word))
            while True:
                pairs = [p for p in itertools.pairwise(symbols) if p in self.rank]
                if not pairs:
                    break
                symbols = merge(symbols, min(pairs, key=self.rank.get))
            self.known[word] = [self.id[s] for s in symbols]
        return self.known[word]

    def encode(self, text):
        if text in SPECIAL:
            return [self.id[text]]
        return [i for word in SPLIT.findall(text) for i in self.word(word)]

    def decode(self, ids):
        byte = {name: b for b, name in BYTE.items()}
        return b"".join(self.tokens[i].encode() if i < len(SPECIAL) else bytes(byte[c] for c in self.tokens[i])
                        for i in ids).decode(errors="replace")


def train(size, n_documents=20000):
    """A tokenizer of `size` tokens from the first documents of the training split."""
    words = collections.Counter()
    for pieces in itertools.islice(documents("train"), n_documents):
        for text, _ in pieces:
            if text not in SPECIAL:
                assert text.isascii()
                words.update(SPLIT.findall(text))
    spelled = {word: list(spell(word)) for word in words}
    merges = []
    while len(SPECIAL) + len(BYTE) + len(merges) < size:
        pairs = collections.Counter()
        for word, symbols in spelled.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] < 2:
            raise ValueError(f"the corpus has merges for {len(merges)} tokens only")
        merges.append(best)
        for word, symbols in spelled.items():
            if best[0] in symbols:
                spelled[word] = merge(symbols, best)
    return Tokenizer(merges)
