"""Plots: each function writes one kind of story into a world.Story and notes what can be asked about it.

A plot names its hero {a}, mostly a friend {b}, a place {p} and a thing {t}. Causes come before effects, nobody knows what
has not happened yet, and every fact is said in the story in so many words."""
from world import (COUNTED, DAYS, FOUND, GIVEN, HELPERS, NUMBERS, PLACES, SOFT_SPOTS, SPOTS, TREASURES, WEATHER, Character,
                   article)

PLOTS = []
WATER = ["lake", "river", "beach"]
OPEN = ["hill", "meadow", "beach", "valley"]
FIELDS = ["garden", "farm", "meadow", "valley", "park", "hill", "village"]
SKILLS = {  # what can be learnt -> where
    "swim": WATER, "skate": ["lake", "river"], "fly a kite": OPEN, "climb trees": ["forest", "park", "orchard", "garden"],
    "ride a bike": ["park", "village", "farm"], "sing": PLACES, "whistle": PLACES, "dance": PLACES, "paint": PLACES,
    "read": PLACES,
}
BUILDINGS = [  # what can be built, of what it does not last, of what it does
    (["a hut", "a little house", "a tower"], ["paper", "leaves", "sand", "grass"], ["wood", "stones", "strong branches"]),
    (["a boat", "a raft"], ["paper", "leaves", "grass"], ["wood", "strong branches"]),
    (["a swing", "a bridge"], ["paper", "leaves", "grass"], ["rope", "wood"]),
]


def plot(function):
    PLOTS.append(function)
    return function


# ---- what many stories share ----

def opening(s, like=None):
    a = s.character("a", like)
    s.say("Once upon a time there was {a.desc} named {a}.", "Once there was {a.desc} named {a}.",
          "There once was {a.desc} who was called {a}.", "{a} was {a.desc}.",
          "This is a story about {a.desc} named {a}.", "Long ago there lived {a.desc} named {a}.")
    s.topics.append(article(a.kind) if s.rng.random() < 0.7 else a.name)
    return a


def day(s):
    s.names["day"] = s.rng.choice(DAYS)
    return s.names["day"]


def weather(s, chance=0.35):
    s.maybe(chance, *WEATHER)


def meet_friend(s):
    """A second character, who is introduced where {a} meets them."""
    b = s.character("b", s.names["a"])
    s.say("On the way {a.he} met {b.desc} named {b}.", "There {a.he} met {b.desc} named {b}.",
          "Just then {b.desc} named {b} came along.", "Then {b}, {b.desc}, came by.")
    s.fact("who", "Who did {a} meet?", "{a} met {b}.")
    return b


def grown_up(s, slot="g"):
    kind = s.pick(HELPERS)
    he = HELPERS[kind]
    s.names[slot] = Character("the " + kind, kind, he)
    return s.names[slot]


def happy_end(s, who="a"):
    feeling = s.rng.choice(["happy", "proud", "glad", "cheerful"])
    s.say("{x} felt [very|so|] {f} [that day|that night|]." if s.rng.random() < 0.5 else
          "In the end {x} felt {f}.", x=s.names[who], f=feeling)
    s.feel(s.names[who], feeling)
    s.maybe(0.4, "{a} and {b} were good friends from that day on." if "b" in s.names else
            "{a} never forgot that day.", "It was a [very|] good day.", "Then it was time to go home.",
            "That night {a} slept well.", "Everyone was glad.")


def topic_thing(s, thing):
    s.topics.append(thing.a if s.rng.random() < 0.4 else article(thing.noun))


# ---- the plots ----

@plot
def lost_and_found(s):
    opening(s)
    t, p = s.thing(), s.place()
    topic_thing(s, t)
    s.say("{a} had {t.a} and loved it [very much|more than anything|].", "{a.he} had {t.a} from {a.his} grandmother.",
          "{a.his} best thing was {t.a}.")
    day(s)
    s.say("{day} {a} took {t.the} {p.to}.", "{day} {a} went {p.to} with {t.the}.")
    weather(s)
    s.say("But [on the way home|soon] {a} lost {t.the}.", "{a.he} played all day and lost {t.the}.")
    s.first("{a} lost {t.the}.")
    s.say("{a} was sad because {t.the} was gone.")
    s.feel(s.names["a"], "sad", "{t.the} was gone.")
    meet_friend(s)
    s.say('"[Why are you sad|What is wrong]?" asked {b}. "I lost {t.the}," said {a}.',
          '"I lost {t.the}," said {a}. "I will help you [look for it|]," said {b}.')
    s.name(w=s.pick(SPOTS), v=s.pick(SPOTS))
    s.maybe(0.7, "They looked {v}, but it was not there.", "First they looked {v}. It was not there.")
    s.say("Then {b} found {t.the} {w}.", "At last {b} looked {w}, and there was {t.the}!",
          "Then {b} saw something {t.colour} {w}. It was {t.the}!")
    s.fact("who", "Who found {t.the}?", "{b} found {t.the}.")
    s.fact("where", "Where was {t.the}?", "{t.the} was {w}.")
    s.fact("where", "Where did {a} go?", "{a} went {p.to}.")
    s.say('"Thank you, {b}!" said {a}.', "{a} thanked {b} and gave {b.him} a big hug.", '{a} laughed. "You are a good friend," said {a}.')
    happy_end(s)


@plot
def sharing_food(s):
    opening(s)
    p = s.place()
    n, k = s.rng.randint(5, 10), s.rng.randint(2, 3)
    s.name(f=s.pick(FOUND), n=NUMBERS[n - 1], k=NUMBERS[k - 1], r=NUMBERS[n - k - 1])
    s.topics.append(s.names["f"])
    day(s)
    s.say("{day} {a} went {p.to} and [found|picked up|got] {n} {f}.", "{day} {a} found {n} {f} {p.at}.")
    s.first("{a} found {n} {f}.")
    s.fact("many", "How many {f} did {a} find?", "{a} found {n} {f}.")
    s.fact("where", "Where did {a} find the {f}?", "{a} found the {f} {p.at}.")
    weather(s)
    s.say('"I will eat them all," said {a}.', "{a} put the {f} into a basket.", '"What a lot of {f}!" said {a}.')
    b = meet_friend(s)
    s.say("{b} was sad because {b.he} was hungry.", "{b} had nothing to eat and was sad because {b.he} was hungry.")
    s.feel(b, "sad", "{b.he} was hungry.")
    s.say("{a} gave {k} of the {f} to {b}.", "So {a} gave {b} {k} of the {f}.")
    s.fact("who", "Who gave food to {b}?", "{a} gave food to {b}.")
    s.fact("many", "How many {f} did {a} give to {b}?", "{a} gave {k} to {b}.")
    s.say("Now {a} had {r} {f} left.", "After that {a} still had {r} {f}.")
    s.fact("many", "How many {f} did {a} have at the end?", "{a} had {r} {f}.")
    s.say('"You are [so|very] kind," said {b}.', '"Thank you," said {b}. "They taste so good!"')
    s.say("They sat down and ate together.", "They ate [under a tree|by the fire|in the sun] and told stories.")
    happy_end(s, s.rng.choice("ab"))


@plot
def rescue(s):
    opening(s)
    p = s.place()
    day(s)
    s.say("{day} {a} went for a walk {p.at}.", "{day} {a} was walking {p.at}.")
    weather(s)
    s.name(hole=s.rng.choice(["in a deep hole", "in the mud", "in a net", "between two rocks", "in the cold water"]))
    b = s.character("b", s.names["a"])
    s.topics.append(article(b.kind))
    s.say('Then {a.he} heard a [small|] voice. "Help! Help!"', "{a.he} heard somebody cry [for help|].")
    s.say("{b}, {b.desc}, was stuck {hole}.", "It was {b.desc} named {b}, who was stuck {hole}.")
    s.first("{a} heard somebody cry." if "cry" in s.sentences[-2] else "{a} heard a voice.")
    s.fact("who", "Who was stuck?", "{b} was stuck.")
    s.fact("where", "Where was {b} stuck?", "{b} was stuck {hole}.")
    s.say("{b} was scared because {b.he} could not get out.")
    s.feel(b, "scared", "{b.he} could not get out.")
    s.name(tool=s.pick(["a long rope", "a strong branch", "a ladder", "a long stick", "an old blanket"]))
    s.say('"Do not be afraid," said {a}. {a.he} ran home and came back with {tool}.',
          "{a} looked around and found {tool}.", '"Wait for me!" said {a}. Soon {a.he} came back with {tool}.')
    s.fact("tool", "What did {a} use to help {b}?", "{a} used {tool}.")
    s.say("With {tool} {a} pulled {b} out.", "{a} pulled [and pulled|hard], and at last {b} was free.")
    s.fact("who", "Who helped {b}?", "{a} helped {b}.")
    if s.rng.random() < 0.6:
        t = s.thing(nouns=TREASURES)
        topic_thing(s, t)
        s.say('"Take this," said {b}, and gave {a} {t.a}.', "To say thank you, {b} gave {a} {t.a}.")
        s.fact("gift", "What did {b} give to {a}?", "{b} gave {a} {t.a}.")
    else:
        s.say('"You saved me!" said {b}. "I will never forget it."', '"Thank you!" said {b}. "You are so brave."')
    happy_end(s)


@plot
def storm(s):
    a = opening(s)
    b = s.character("b", a)
    play, where = s.rng.choice([("play", list(PLACES)), ("look for shells", WATER), ("fly a kite", OPEN),
                                ("pick flowers", ["meadow", "garden", "forest", "valley", "hill"])])
    s.place(among=where)
    s.say("{a.his} best friend was {b}, {b.desc}.", "{a} had a friend, {b.desc} named {b}.")
    day(s)
    s.say("{day} {a} and {b} went {p.to} to {x}.", x=play)
    s.first("{a} and {b} went {p.to}.")
    s.fact("where", "Where did {a} and {b} go?", "{a} and {b} went {p.to}.")
    s.topics.append("a storm")
    s.say("[Soon|Then|All at once] the sky grew dark and a [big|great|] storm came.",
          "After a while black clouds came, and a storm began.")
    s.say("{b} was scared because the thunder was loud.")
    s.feel(b, "scared", "the thunder was loud.")
    s.name(h=s.pick(["in a cave", "in an old barn", "under a big tree", "in a small hut", "under the bridge", "in a mill"]))
    s.say('"Come with me!" said {a}. They hid {h}.', '"We must hide!" said {a}. They ran fast and hid {h}.')
    s.fact("where", "Where did they hide?", "They hid {h}.")
    s.say("{a} [sang a song|told a funny story|held {b.his} hand] until {b} was not scared any more.",
          'To make {b} laugh, {a} told a funny story.')
    s.say("When the rain stopped, they saw a [big|bright|beautiful] rainbow.",
          "At last the sun came back, and there was a rainbow in the sky.")
    s.fact("see", "What did they see after the storm?", "They saw a rainbow.")
    happy_end(s, s.rng.choice("ab"))


@plot
def birthday_cake(s):
    a = opening(s)
    b = s.character("b", a)
    g = grown_up(s)
    s.topics.append("a cake")
    s.say("It was the birthday of {b}, {b.desc}.", "{a} had a friend, {b.desc} named {b}, and it was {b.his} birthday.")
    s.fact("who", "Whose birthday was it?", "It was the birthday of {b}.")
    s.say("{a} wanted to make a cake for {b.him}.", '"I will make a cake for {b}," said {a}.')
    s.fact("who", "Who wanted to make a cake?", "{a} wanted to make a cake.")
    s.name(m=s.pick(["milk", "butter", "sugar", "honey", "flour", "cream"]))
    s.say("But there was no {m} in the house.", "{a} looked everywhere, but there was no {m}.")
    s.first("{a} wanted to make a cake.")
    s.say("{a} was worried because there was no {m}.")
    s.feel(a, "worried", "there was no {m}.")
    s.say('So {a.he} went to {g}. "Can you give me some {m}?" asked {a}.',
          '{a.he} ran to {g} and asked for {m}.')
    s.say('"[Of course|Yes]," said {g}, and gave {a} some {m}.', "{g} smiled and gave {a.him} some {m}.")
    s.fact("who", "Who gave {m} to {a}?", "{g} gave {m} to {a}.")
    s.fact("gift", "What did {g} give to {a}?", "{g} gave {a} some {m}.")
    n = NUMBERS[s.rng.randint(3, 9)]
    s.name(n=n)
    s.say("Soon the cake was ready, and {a} put {n} candles on it.", "{a} made a fine cake with {n} candles.")
    s.fact("many", "How many candles were on the cake?", "There were {n} candles on the cake.")
    s.say('"Happy birthday!" said {a}. {b} [laughed|smiled|danced] with joy.', '"This is the best cake of all!" said {b}.')
    happy_end(s, "b")


@plot
def race(s):
    a = opening(s)
    b = s.character("b", a)
    p, q = s.place("p"), s.place("q")
    t = s.thing(nouns=TREASURES)
    s.topics.append("a race")
    s.say("{day} {a} said to {b}, {b.desc}, \"Let us have a race [{q.to}|].\"" if s.rng.random() < 0.5 else
          '{day} {a} met {b}, {b.desc}. "I am faster than you," said {b}.', day=day(s))
    s.say("They began to run from the {p} to the {q}.", "So they ran a race from the {p} to the {q}.")
    s.first("they began a race.")
    s.fact("where", "Where did the race begin?", "The race began {p.at}.")
    s.fact("where", "Where did the race end?", "The race ended {q.at}.")
    s.say("The prize was {t.a}.", "The winner would get {t.a}.")
    topic_thing(s, t)
    s.fact("gift", "What was the prize?", "The prize was {t.a}.")
    s.say("At first {b} was far ahead.", "{b} was very fast and was soon out of sight.")
    s.name(why=s.pick(["stopped to sleep under a tree", "stopped to eat berries", "stopped to drink some water",
                       "fell over a stone", "lost the way"]))
    s.say("But then {b} {why}.", "After a while {b} {why}.")
    s.say("{a} did not stop and ran on and on.", "{a} kept running [step by step|all the time].")
    s.say("So {a} won the race [and got {t.the}|].", "{a} came first and won the race.")
    s.fact("who", "Who won the race?", "{a} won the race.")
    s.fact("why", "Why did {b} lose the race?", "{b} lost the race because {b.he} {why}.")
    s.say('"Well done!" said {b}.', '{b} was sad at first, but then {b.he} said, "Well done, {a}!"')
    happy_end(s)


@plot
def strange_noise(s):
    a = opening(s)
    s.names["b"] = b = s.character("b", a)
    s.topics.append("the night")
    s.name(h=s.pick(["in a small house by the sea", "in a house on a hill", "in an old mill", "in a little hut", "in a tall tower"]))
    s.say("{a} lived {h}.", "{a.he} lived {h} [with {a.his} family|].")
    s.fact("where", "Where did {a} live?", "{a} lived {h}.")
    s.say("One [dark|cold|] night {a} heard a [strange|loud] noise.", "One night there was a noise at the door, and {a} woke up.")
    s.first("{a} heard a noise.")
    s.say("{a} was scared because it was dark.")
    s.feel(a, "scared", "it was dark.")
    t = s.thing(nouns=["lamp", "lantern", "blanket", "coat"])
    s.say("{a.he} took {t.a} and went to look.", "But {a.he} was brave, took {t.a} and went out.")
    s.fact("tool", "What did {a} take?", "{a} took {t.a}.")
    topic_thing(s, t)
    s.name(w=s.pick(SPOTS))
    s.say("There, {w}, sat {b}, {b.desc}.", "{a} looked around and found {b}, {b.desc}, {w}.")
    s.fact("who", "Who made the noise?", "{b} made the noise.")
    s.fact("where", "Where was {b}?", "{b} was {w}.")
    s.say('"I am cold and I lost my way," said {b}.', '"I am so hungry," said {b}. "I only wanted some bread."')
    s.say("{a} laughed and let {b} in.", '"Come in!" said {a}, and made some [soup|warm milk|tea].')
    s.say("They sat by the fire until morning.", "They talked [and laughed|] all night.")
    happy_end(s, s.rng.choice("ab"))


@plot
def quarrel(s):
    a = opening(s)
    b = s.character("b", a)
    t = s.thing()
    topic_thing(s, t)
    s.say("{a.his} friend was {b}, {b.desc}.", "{a} often played with {b}, {b.desc}.")
    s.name(w=s.pick(SPOTS))
    s.say("{day} they found {t.a} {w}.", day=day(s))
    s.first("they found {t.a}.")
    s.fact("where", "Where did they find {t.the}?", "They found {t.the} {w}.")
    s.say('"It is mine!" said {a}. "No, it is mine!" said {b}.', "{a} wanted it, and {b} wanted it too.")
    s.say("They pulled and pulled until {t.the} broke.", "{a} pulled, {b} pulled, and {t.the} broke.")
    s.say("{b} was angry because {t.the} was broken.")
    s.feel(b, "angry", "{t.the} was broken.")
    s.say('Then {a} said, "I am sorry. Let us mend it."', '"I am sorry," said {a}. "We can mend it."')
    s.fact("who", "Who said sorry first?", "{a} said sorry first.")
    g = grown_up(s)
    s.say("They took it to {g}, who helped them.", "{g} gave them some [glue|string], and they worked together.")
    s.fact("who", "Who helped {a} and {b}?", "{g} helped {a} and {b}.")
    s.say("Soon {t.the} was as good as new.", "It was not easy, but at last it was done.")
    s.say("From then on they shared it.", '"Let us share it," said {b}.', "Now they played with it together.")
    happy_end(s)


@plot
def treasure(s):
    a = opening(s)
    p = s.place()
    t = s.thing(nouns=["box", "bag", "basket", "cup"])
    topic_thing(s, t)
    s.name(w=s.pick(SOFT_SPOTS), v=s.pick(["in an old book", "in a bottle", "under the bed", "in the pocket of a coat"]))
    s.say("{day} {a} found a map {v}.", day=day(s))
    s.first("{a} found a map.")
    s.fact("where", "Where did {a} find the map?", "{a} found the map {v}.")
    b = s.character("b", a)
    s.say("{a} showed it to {b}, {b.desc}.", '"Look at this!" {a} said to {b}, {b.desc}.')
    s.say("The map led them {p.to}.", "They followed the map {p.to}.")
    s.fact("where", "Where did the map lead?", "The map led {p.to}.")
    weather(s)
    s.say("They began to dig {w}, and there was {t.a}!", "{w} they found {t.a}.")
    s.name(n=s.pick(NUMBERS[1:]), c=s.pick(["gold coins", "silver coins", "shells", "rings", "old coins"]))
    s.say("In {t.the} there were {n} {c}.", "{b} opened it. There were {n} {c} in it.")
    s.fact("many", "How many {c} were in {t.the}?", "There were {n} {c} in {t.the}.")
    g = grown_up(s)
    s.say("They gave the {c} to {g}, who had [lost them long ago|no money].",
          '"They belong to {g}," said {b}, and they gave them back.')
    s.fact("who", "Who got the {c}?", "{g} got the {c}.")
    s.say("{g} thanked them and gave them [a big cake|warm bread|hot soup].", "{g} was so glad that {g.he} danced.")
    happy_end(s, s.rng.choice("ab"))


@plot
def garden(s):
    a = opening(s)
    s.place(among=FIELDS)
    plants = s.pick(["roses", "beans", "carrots", "peas", "pumpkins", "tulips"])
    n = s.pick(NUMBERS[2:])
    colour = s.pick(["red", "yellow", "white", "purple", "pink", "orange", "green"])
    s.name(f=plants, n=n, c=colour, d=s.pick(NUMBERS[1:]))
    s.topics.append(plants)
    s.say("{day} {a} planted {n} {f} {p.at}.", "{day} {a.he} went {p.to} and planted {n} {f}.", day=day(s))
    s.first("{a} planted {n} {f}.")
    s.fact("many", "How many {f} did {a} plant?", "{a} planted {n} {f}.")
    s.fact("where", "Where did {a} plant the {f}?", "{a} planted the {f} {p.at}.")
    s.say("But no rain came for {d} days.", "Then it was hot and dry for {d} days.")
    s.fact("many", "How many days was there no rain?", "There was no rain for {d} days.")
    s.say("{a} was worried because the {f} were dry.")
    s.feel(a, "worried", "the {f} were dry.")
    b = s.character("b", a)
    s.say('"I will bring water," said {b}, {b.desc}.', "But {b}, {b.desc}, came with water from the [well|river|lake].")
    s.fact("who", "Who brought water?", "{b} brought water.")
    s.say("Every day they gave water to the {f}.", "They worked from morning to night.")
    s.say("Then one morning the {f} were big and {c}.", "At last the {f} grew big and {c}.")
    s.fact("colour", "What colour were the {f}?", "The {f} were {c}.")
    s.say('"How beautiful!" said {b}.', '"We did it!" said {a}.', "{a} and {b} danced around them.")
    happy_end(s, s.rng.choice("ab"))


@plot
def way_home(s):
    a = opening(s)
    p, q = s.place("p"), s.place("q")
    b = s.character("b", a)
    s.say("{day} {a} found {b}, {b.desc}, all alone {p.at}.", day=day(s))
    s.topics.append(article(b.kind))
    s.first("{a} found {b}.")
    s.fact("where", "Where did {a} find {b}?", "{a} found {b} {p.at}.")
    s.say('"I want to go home," said {b}.', '"Where is my mother?" asked {b}.')
    s.say("{b} was sad because {b.he} had lost {b.his} mother.")
    s.feel(b, "sad", "{b.he} had lost {b.his} mother.")
    s.say('"I will take you home," said {a}.', '"Do not cry," said {a}. "We will find her."')
    if s.rng.random() < 0.6:
        t = s.thing()
        topic_thing(s, t)
        s.say("{a} gave {b} {t.a} to [hold|carry|make {b.him} smile].")
        s.fact("gift", "What did {a} give to {b}?", "{a} gave {b} {t.a}.")
    h = s.pick(["a crow", "an owl", "a duck", "a frog", "an old goat", "a snail"])
    s.name(h=h)
    s.say("They asked {h}, who knew the way.", "They did not know the way, but {h} showed it to them.")
    s.fact("who", "Who knew the way?", "{h} knew the way.")
    s.say("They walked [a long way|all day] until they came {q.to}.", "So they went on and came {q.to}.")
    s.say("There stood the mother of {b}!", "There {b} saw {b.his} mother and ran to her.")
    s.fact("where", "Where was the mother of {b}?", "The mother of {b} was {q.at}.")
    s.say('"Thank you for your help," said the mother.', "The mother hugged {b} and thanked {a}.")
    happy_end(s, s.rng.choice("ab"))


@plot
def parcel(s):
    a = opening(s)
    t = s.thing()
    topic_thing(s, t)
    g = grown_up(s)
    p = s.place()
    s.say("{day} {g} gave {a} {t.a}. \"Take it to my sister {p.at},\" said {g}.",
          '{day} {g} said, "Please take {t.the} to my sister {p.at}." It was {t.a}.', day=day(s))
    s.first("{g} gave {a} {t.a}.")
    s.fact("who", "Who gave {t.the} to {a}?", "{g} gave {t.the} to {a}.")
    s.fact("where", "Where did {a} take {t.the}?", "{a} took {t.the} {p.to}.")
    s.say("So {a} walked [and walked|for a long time|over the fields].", "{a} [ran|hurried|set out] at once.")
    bad = s.pick(["the bridge was broken", "a tree lay across the road", "the gate was shut", "the path was full of snow",
                  "the river was too deep"])
    s.name(bad=bad)
    s.say("But {bad}.", "Then {a} had to stop. Oh no, {bad}!")
    s.say("{a} was worried because {bad}.")
    s.feel(a, "worried", bad + ".")
    b = s.character("b", a)
    s.say('"I can help you," said {b}, {b.desc}, and showed {a.him} another way.',
          "But {b}, {b.desc}, knew another way and went with {a.him}.")
    s.fact("who", "Who helped {a}?", "{b} helped {a}.")
    s.say("Before night they were {p.at}.", "Soon they came {p.to} and gave {t.the} to the sister.")
    n = s.pick(NUMBERS[1:])
    s.name(n=n, c=s.pick(GIVEN))
    s.say("The sister thanked them and gave them {n} {c}.", '"Thank you!" said the sister, and she gave them {n} {c}.')
    s.fact("many", "How many {c} did the sister give them?", "The sister gave them {n} {c}.")
    happy_end(s)


@plot
def building(s):
    a = opening(s)
    b = s.character("b", a)
    s.place()
    what, weak, strong = (s.rng.choice(words) for words in s.rng.choice(BUILDINGS))
    s.name(x=what, m=weak, k=strong)
    s.topics.append(what)
    s.say("{day} {a} and {b}, {b.desc}, wanted to build {x} {p.at}.", day=day(s))
    s.fact("where", "Where did they want to build {x}?", "They wanted to build {x} {p.at}.")
    s.say("First they made it of {m}.", "{a} took {m}, and they began to work.")
    s.first("they made {x} of {m}.")
    s.say("But the [wind|rain|water] came and [broke it|took it away].", "But it was too weak and fell down.")
    s.say("{a} was angry because it did not last.")
    s.feel(a, "angry", "it did not last.")
    s.say('"Let us try again," said {b}. "We will use {k}."', '"We need {k}," said {b}.')
    s.fact("who", "Who wanted to try again?" if "try" in s.sentences[-1] else "Who said that they needed {k}?",
           "{b} wanted to try again." if "try" in s.sentences[-1] else "{b} said that they needed {k}.")
    s.say("They worked for [three|two|four] days.", "They worked hard and helped each other.")
    s.say("This time it was strong.", "Now it was made of {k} and did not break.")
    s.fact("tool", "What did they use the second time?", "They used {k}.")
    if s.rng.random() < 0.6:
        c = s.pick(["red", "blue", "green", "yellow", "white"])
        s.name(c=c)
        s.say("They painted it {c}.", "{b} painted it {c}.")
        s.fact("colour", "What colour did they paint it?", "They painted it {c}.")
    happy_end(s)


@plot
def learning(s):
    a = opening(s)
    b = s.character("b", a)
    what = s.pick(list(SKILLS))
    s.name(x=what, n=NUMBERS[s.rng.randint(1, 9)])
    s.place(among=SKILLS[what])
    s.say("{a} wanted to learn to {x}.", "More than anything {a} wanted to {x}.", "All the others could {x}, but {a} could not.")
    s.fact("learn", "What did {a} want to learn?", "{a} wanted to learn to {x}.")
    day(s)
    s.say("{day} {a.he} went {p.to} and tried it.", "{day} {a} tried it {p.at}.")
    s.fact("where", "Where did {a} try it?", "{a} tried it {p.at}.")
    s.first("{a} wanted to learn to {x}.")
    s.say("{a.he} tried {n} times, but it did not work.", "{n} times {a.he} tried, but it did not work.")
    s.fact("many", "How many times did {a} try?", "{a} tried {n} times.")
    s.say("{a} was sad because it was so hard.")
    s.feel(a, "sad", "it was so hard.")
    s.say('"I will show you," said {b}, {b.desc}.', "Then {b}, {b.desc}, came to help.")
    s.fact("who", "Who helped {a}?", "{b} helped {a}.")
    s.say('"Do it slowly," said {b}. "You must not be afraid."', '"Try it once more," said {b}, "and do not think too much."',
          "They tried it together, again and again.")
    s.say("And then {a} could {x}!", "At last it worked. {a} could {x}!")
    if s.rng.random() < 0.5:
        t = s.thing()
        s.say("{b} was so glad that {b.he} gave {a} {t.a}.")
        s.fact("gift", "What did {b} give to {a}?", "{b} gave {a} {t.a}.")
        topic_thing(s, t)
    happy_end(s)


@plot
def trading(s):
    a = opening(s)
    s.topics.append("the market")
    t, u = s.thing("t"), s.thing("u")
    topic_thing(s, u)
    g, h = grown_up(s, "g"), grown_up(s, "h")
    day(s)
    s.say("{day} {a} went to the market with {t.a}.", "{day} {a} went to the market and took {t.a} along.")
    s.first("{a} went to the market.")
    s.fact("what", "What did {a} take to the market?", "{a} took {t.a} to the market.")
    weather(s)
    s.say('"That is a fine {t}," said {g}. "I will give you {u.a} for it."', "{g} liked {t.the} and gave {a} {u.a} for it.")
    s.fact("who", "Who gave {a} {u.a}?", "{g} gave {a} {u.a}.")
    s.name(n=s.pick(NUMBERS[2:]), c=s.pick(COUNTED))
    s.say("Then {h} saw {u.the} and gave {a.him} {n} {c} for it.", 'Then {h} said, "I need {u.a}. Take these {n} {c} for it."')
    s.fact("many", "How many {c} did {a} get?", "{a} got {n} {c}.")
    s.fact("who", "Who wanted {u.the}?", "{h} wanted {u.the}.")
    s.say("{a} took the {c} home.", "{a} ran home with the {c}.")
    s.name(m=s.rng.choice(["mother", "father", "grandmother", "brother", "sister"]))
    s.say('"What a clever trade!" said {a.his} {m}.', "{a.his} {m} laughed and hugged {a.him}.")
    happy_end(s)


@plot
def wish(s):
    a = opening(s)
    p = s.place()
    t = s.thing(nouns=["ring", "stone", "lamp", "feather", "shell", "bottle", "coin"])
    topic_thing(s, t)
    s.say("{day} {a} found {t.a} {p.at}.", day=day(s))
    s.first("{a} found {t.a}.")
    s.fact("where", "Where did {a} find {t.the}?", "{a} found {t.the} {p.at}.")
    s.say('"I am magic," said {t.the}. "You have one wish."', 'A voice said, "You may wish for one thing."')
    w, bad = s.rng.choice([("a mountain of sweets", "had a bad tummy"), ("snow in summer", "was very cold"),
                           ("wings like a bird", "was alone in the sky"), ("a house of gold", "had no soft bed"),
                           ("a very long nose", "could not get into the house"), ("a hundred toys", "had no room to sleep"),
                           ("a day without end", "was very tired")])
    s.name(w=w, bad=bad)
    s.say('"I wish for {w}," said {a}.', "{a} thought for a while and wished for {w}.")
    s.fact("wish", "What did {a} wish for?", "{a} wished for {w}.")
    s.say("At first it was fun.", "Oh, how {a} laughed!", "And there it was!")
    s.say("But soon {a} {bad}.")
    s.say("{a} was unhappy because {a.he} {bad}.")
    s.feel(a, "unhappy", "{a.he} {bad}.")
    b = s.character("b", a)
    s.say('"Give the magic back," said {b}, {b.desc}.', "Then {b}, {b.desc}, came by. \"Give it back,\" said {b}.")
    s.fact("who", "Who told {a} to give it back?", "{b} told {a} to give it back.")
    s.say("So {a} threw {t.the} into the [sea|well|river], and all was as before.", "{a} put {t.the} back, and everything was as before.")
    happy_end(s)
