"""Broken variants of a valid JSON document: for the tests that no file, however broken, ends in a traceback."""

import copy
import json
import random

JUNK = [
    None,
    True,
    -1,
    0,
    3,
    1.5,
    1e308,
    10**30,
    2**31,
    "",
    "x",
    "../x",
    "\x00",
    [],
    {},
    [[]],
    [None],
    [1, 2],
    {"": 0},
    {"name": "rect"},
]


def mutants(document, count, seed):
    """Yield JSON texts as bytes: a value replaced, removed, repeated or moved, or single bytes changed."""
    rng = random.Random(seed)
    for index in range(count):
        if index % 4 == 3:
            text = bytearray(json.dumps(document, ensure_ascii=False).encode())
            for _ in range(rng.randint(1, 3)):
                text[rng.randrange(len(text))] = rng.choice([0, 34, 44, 58, 91, 93, 123, 125, 48, 57, 45, 255])
            yield bytes(text[: rng.choice([len(text), rng.randrange(len(text))])])
            continue
        changed = copy.deepcopy(document)
        for _ in range(rng.randint(1, 2)):
            changed = mutated(changed, rng)
        yield json.dumps(changed, ensure_ascii=False).encode("utf-8", errors="surrogatepass")


def mutated(document, rng):
    """Change one place anywhere in a document."""
    places = list(_places(document))
    if not places:
        return rng.choice(JUNK)
    holder, key = rng.choice(places)
    way = rng.random()
    if way < 0.6:
        holder[key] = copy.deepcopy(rng.choice(JUNK))
    elif way < 0.75:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[rng.choice(["name", "regions", "filename", "size", "x", "cell", "ring"])] = holder.pop(key)
    return document


def _places(value):
    if isinstance(value, (dict, list)):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)
