#!/usr/bin/env python3
"""The corpus that the embedded models are trained on: short stories, and conversations about them.

    corpus.py [--first N] [--count N] [--split train|held-out] [--kind story|chat|all] [--json]

prints documents. A document is a function of its split and its number: the same number gives the same document, and the
two splits never share a seed. Everything is written by the rules in plots.py and world.py and by nothing else."""
import argparse
import itertools
import json
import random
import sys

import plots
from world import BOYS, COUNTED, GIRLS, THINGS, Story

USER, ASSISTANT, SYSTEM, END, TEXT_END = "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"
SPECIAL = [TEXT_END, USER, ASSISTANT, SYSTEM, END]

SYSTEMS = ["You tell stories.", "You are a kind helper.", "You tell short stories and answer questions.",
           "Be kind and clear."]
TALK = [
    (["Hello!", "Hello.", "Hi!", "Good morning!"], ["Hello! Would you like to hear a story?"]),
    (["Who are you?", "What are you?", "What is your name?"], ["I am Quern, a very small teller of stories."]),
    (["Thank you!", "Thank you.", "Thanks!"], ["You are welcome!"]),
    (["Goodbye!", "Bye!", "Good night!"], ["Goodbye!"]),
    (["How are you?", "How do you do?"], ["I am well, thank you. Would you like to hear a story?"]),
    (["What can you do?", "Help!", "Can you help me?"],
     ["I can tell you a story and answer questions about it."]),
]
UNKNOWN = "The story does not say."


def story(rng):
    s = Story(rng)
    rng.choice(plots.PLOTS)(s)
    return s


def unknown_question(rng, s):
    """A question about somebody or something that the story does not mention."""
    text = str(s)
    thing = rng.choice([t for t in THINGS if t not in text])
    name = rng.choice([n for n in GIRLS + BOYS if n not in text])
    things = rng.choice([c for c in COUNTED if c not in text])
    return rng.choice([f"What colour was the {thing}?", f"Who found the {thing}?", f"Where did {name} go?",
                       f"Where was the {thing}?", f"How many {things} were there?", f"Why was {name} sad?"])


def questions(rng, s, n):
    """n different questions with their answers: (kind, question, answer)."""
    facts = list(s.facts)
    rng.shuffle(facts)
    chosen = []
    for fact in facts:
        if len(chosen) < n and all(fact[1] != other[1] for other in chosen):
            chosen.append(fact)
    return [("unknown", unknown_question(rng, s), UNKNOWN) if rng.random() < 0.06 else fact for fact in chosen]


def request(rng, s):
    """An instruction to tell this story."""
    topics = list(dict.fromkeys(s.topics))
    rng.shuffle(topics)
    tell = rng.choice(["Tell me a story", "Tell a story", "Please tell me a story", "Can you tell me a story",
                       "Write a story"])
    stop = "?" if tell.startswith("Can") else "."
    if rng.random() < 0.3 or not topics:
        return tell + stop
    return f"{tell} about {' and '.join(topics[:rng.choice((1, 1, 2, 2))])}{stop}"


def story_turns(rng, s):
    """How a story comes into a conversation: told by the user, told on request, or begun by one and finished by the
    other."""
    text, way = str(s), rng.random()
    if way < 0.45:
        ask = rng.choice(["Here is a story. ", "Read this story. ", "Listen to this story. ", ""])
        facts = questions(rng, s, rng.randint(3, 7))
        if rng.random() < 0.3:
            return [(ask + text, "That is a nice story. What would you like to know?", "talk")], facts
        (_, question, answer), rest = facts[0], facts[1:]
        return [(f"{ask}{text} {question}", answer, "answer")], rest
    if way < 0.85:
        return [(request(rng, s), text, "story")], questions(rng, s, rng.randint(2, 6))
    cut = rng.randint(2, max(2, len(s.sentences) // 2))
    begin, end = " ".join(s.sentences[:cut]), " ".join(s.sentences[cut:])
    ask = rng.choice(["Finish this story: ", "Please finish this story: ", "How does this story end? ",
                      "Go on with this story: "])
    return [(ask + begin, end, "story")], questions(rng, s, rng.randint(1, 4))


def chat(rng):
    """A conversation: [(user, assistant, kind)], kind "answer", "story" or "talk"."""
    turns = []
    if rng.random() < 0.12:
        said, replies = rng.choice(TALK)
        turns.append((rng.choice(said), rng.choice(replies), "talk"))
    for _ in range(2 if rng.random() < 0.12 else 1):
        told, asked = story_turns(rng, story(rng))
        turns += told + [(question, answer, "answer") for _, question, answer in asked]
    if rng.random() < 0.12:
        said, replies = rng.choice(TALK)
        turns.append((rng.choice(said), rng.choice(replies), "talk"))
    return {"system": rng.choice(SYSTEMS) if rng.random() < 0.1 else None, "turns": turns}


def chat_pieces(conversation):
    """(text, kind) of a conversation in the order of its text; special tokens stand alone."""
    if conversation["system"]:
        yield from ((SYSTEM, "special"), (conversation["system"], "user"), (END, "special"))
    for user, assistant, kind in conversation["turns"]:
        yield from ((USER, "special"), (user, "user"), (END, "special"), (ASSISTANT, "special"))
        yield from ((assistant, kind), (END, kind))


def document(split, number, kind="all"):
    """The number-th document of a split: pieces (text, kind), the first one being the token that begins a text."""
    rng = random.Random(2 * number + {"train": 0, "held-out": 1}[split])
    as_chat = rng.random() < 0.8 if kind == "all" else kind == "chat"
    if as_chat:
        return [(TEXT_END, "special"), *chat_pieces(chat(rng))]
    n_stories = 3 if kind == "all" and rng.random() < 0.06 else 1
    return [(TEXT_END, "special"), ("\n".join(str(story(rng)) for _ in range(n_stories)), "story"),
            (TEXT_END, "special")]


def documents(split, first=0, kind="all"):
    """Documents from a number on, without end."""
    return (document(split, number, kind) for number in itertools.count(first))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="number of the first document")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--split", choices=["train", "held-out"], default="train")
    parser.add_argument("--kind", choices=["all", "story", "chat"], default="all")
    parser.add_argument("--json", action="store_true", help="one array of [text, kind] a line")
    options = parser.parse_args()
    for _, pieces in zip(range(options.count), documents(options.split, options.first, options.kind)):
        if options.json:
            json.dump(pieces, sys.stdout)
            print()
        else:
            print("".join(text for text, _ in pieces), end="\n\n")


if __name__ == "__main__":
    main()
