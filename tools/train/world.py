"""What the stories are made of: characters, places, things, and a small notation for sentences.

A sentence is a template. "[walked|ran|]" is one of its alternatives, drawn at random; "{a}" is a name and "{a.he}" an
attribute of what stands for it. Everything here is plain data and pure functions over a random.Random."""
import re

GIRLS = "Mia Lily Anna Rosa Nora Ella Ruby Ivy Zoe Lucy Clara Hana Maya Tess Wren June Emma Sara Pia Olga".split()
BOYS = "Tom Ben Max Leo Sam Jack Finn Hugo Omar Noah Theo Oscar Paul Dan Kofi Ravi Emil Otto Luca Ned".split()
ANIMALS = ("fox rabbit bear mouse owl hedgehog squirrel frog duck cat dog goat badger turtle otter crow pony "
           "sheep").split()
CHILD_TRAITS = "kind brave little quiet clever young cheerful shy curious".split()
ANIMAL_TRAITS = "little small young clever brave curious shy friendly".split()
HELPERS = {  # grown-ups, and their pronouns
    "baker": "she", "farmer": "he", "fisherman": "he", "teacher": "she", "miller": "he", "doctor": "she",
    "gardener": "he", "painter": "she", "shepherd": "he", "sailor": "he", "weaver": "she",
}
PLACES = {  # name -> (where one is, where one goes)
    "forest": ("in", "to"), "park": ("in", "to"), "garden": ("in", "to"), "beach": ("on", "to"),
    "river": ("by", "to"), "hill": ("on", "up"), "market": ("at", "to"), "meadow": ("in", "to"),
    "lake": ("by", "to"), "farm": ("on", "to"), "mill": ("at", "to"), "orchard": ("in", "to"),
    "village": ("in", "to"), "harbour": ("at", "to"), "valley": ("in", "to"), "castle": ("at", "to"),
}
SPOTS = ["under a bench", "behind the barn", "in the tall grass", "under a bush", "near the well", "behind a big rock",
         "under the bridge", "beside the path", "in a hollow tree", "behind the fence", "under a pile of leaves",
         "near the gate", "behind the old wall", "between two stones"]
SOFT_SPOTS = ["behind the barn", "under a bush", "near the well", "behind a big rock", "beside the path",
              "behind the fence", "near the gate", "behind the old wall"]  # where one can dig
COLOURS = "red blue green yellow white black brown orange purple pink golden silver grey".split()
THINGS = ("kite ball hat lamp drum boat scarf book key basket bell coat cup doll cart flute ring umbrella blanket box "
          "lantern feather whistle bag ribbon mirror").split()
TREASURES = "key ring bell crown cup coin stone shell feather button".split()
COUNTED = "apples eggs pears nuts berries cookies flowers carrots buttons candles cakes plums stones shells".split()
FOUND = "apples eggs pears nuts berries carrots plums cherries".split()
GIVEN = "apples eggs pears nuts cookies cakes plums cherries".split()
NUMBERS = "one two three four five six seven eight nine ten".split()
WEATHER = ["The sun was shining.", "The sky was blue.", "The wind was cold.", "The birds were singing.",
           "It was a warm day.", "A soft wind was blowing.", "The air smelled of flowers.", "White clouds went by."]
DAYS = ["One day", "One morning", "One sunny day", "One evening", "One cold morning", "One summer day",
        "Early one morning", "One afternoon", "One windy day"]


def article(words):
    """'kite' -> 'a kite', 'orange kite' -> 'an orange kite'."""
    return ("an " if words[0] in "aeiou" else "a ") + words


class Character:
    def __init__(self, name, kind, he, trait=""):
        self.name, self.kind, self.he = name, kind, he
        self.him, self.his = ("him", "his") if he == "he" else ("her", "her")
        self.desc = article(f"{trait} {kind}".strip())
        self.is_animal = kind in ANIMALS

    def __str__(self):
        return self.name


class Place:
    def __init__(self, name):
        where, way = PLACES[name]
        self.name = name
        self.at = f"{where} the {name}"
        self.to = f"{way} the {name}"

    def __str__(self):
        return self.name


class Thing:
    def __init__(self, noun, colour):
        self.noun, self.colour = noun, colour
        self.the = f"the {noun}"
        self.full = f"{colour} {noun}"
        self.a = article(self.full)

    def __str__(self):
        return self.noun


def expand(rng, template, names):
    """One sentence of a template."""
    text = template
    while "[" in text:
        text = re.sub(r"\[([^\[\]]*)\]", lambda m: rng.choice(m.group(1).split("|")), text)
    text = re.sub(r" +(?=[ .,])", "", text.format(**names)).strip()
    return re.sub(r"(^|[.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)


class Story:
    """A story under construction: its sentences, and what can be asked about it.

    facts: (kind, question, answer); topics: noun phrases that a request for this story may name."""

    def __init__(self, rng):
        self.rng = rng
        self.names = {}
        self.sentences, self.facts, self.topics, self.used = [], [], [], set()

    # ---- drawing from the world; nothing is drawn twice ----

    def pick(self, words):
        left = [w for w in words if w not in self.used]
        word = self.rng.choice(left)
        self.used.add(word)
        return word

    def character(self, slot, like=None):
        """A child or an animal with a name; unlike `like`, so that pronouns stay clear."""
        he = self.rng.choice(("he", "she")) if like is None else ("she" if like.he == "he" else "he")
        name = self.pick(BOYS if he == "he" else GIRLS)
        if self.rng.random() < 0.5:
            who = Character(name, "boy" if he == "he" else "girl", he, self.rng.choice(CHILD_TRAITS))
        else:
            who = Character(name, self.pick(ANIMALS), he, self.rng.choice(ANIMAL_TRAITS))
            self.fact("what", "What kind of animal was {n}?", "{n} was {k}.", n=name, k=article(who.kind))
        self.names[slot] = who
        return who

    def place(self, slot="p", among=PLACES):
        self.names[slot] = Place(self.pick(among))
        return self.names[slot]

    def thing(self, slot="t", nouns=THINGS):
        thing = Thing(self.pick(nouns), self.pick(COLOURS))
        self.names[slot] = thing
        self.fact("colour", "What colour was {x.the}?", "{x.the} was {x.colour}.", x=thing)
        return thing

    def name(self, **names):
        self.names.update(names)

    # ---- writing ----

    def text(self, template, **more):
        return expand(self.rng, template, {**self.names, **more})

    def say(self, *templates, **more):
        """Appends one of the templates, each a sentence or a few."""
        self.sentences.append(self.text(self.rng.choice(templates), **more))

    def maybe(self, chance, *templates, **more):
        if self.rng.random() < chance:
            self.say(*templates, **more)

    def fact(self, kind, question, answer, **more):
        self.facts.append((kind, self.text(question, **more), self.text(answer, **more)))

    def first(self, event):
        self.fact("first", "What happened first[| in the story]?", "First, " + event)

    def feel(self, who, feeling, why=None):
        """Remembers how somebody felt, at the end or for a reason."""
        if why:
            self.fact("why", "Why was {n} {f}?", "{n} was {f} because " + why, n=who, f=feeling)
        else:
            self.fact("feel", "How did {n} feel at the end?", "{n} felt {f}.", n=who, f=feeling)

    def __str__(self):
        return " ".join(self.sentences)
