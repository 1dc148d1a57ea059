"""Broken variants of a valid XML document: for the tests that no file, however broken, ends in a traceback."""

import copy
import random
from xml.etree import ElementTree

JUNK = [
    "",
    " ",
    "x",
    "-1",
    "0",
    "3",
    "1.5",
    "1e308",
    "1e999",
    "NaN",
    "Infinity",
    "9" * 400,
    "../x",
    "null",
    "[1,2]",
    '{"a":[]}',
    '"',
    "rect",
    "point",
    "outer",
    "\t\n",
    "1_000",
    "٣",
]
NAMES = [
    "x",
    "y",
    "pt",
    "object",
    "name",
    "value",
    "polygon",
    "bndbox",
    "dot",
    "score",
    "source_shape",
    "filename",
    "x1",
]


def xml_mutants(text, count, seed):
    """Yield XML as bytes: an element emptied, renamed, removed, repeated or moved, or single bytes changed."""
    rng = random.Random(seed)
    document = ElementTree.fromstring(text)  # noqa: S314
    for index in range(count):
        if index % 4 == 3:
            data = bytearray(text.encode())
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.choice([0, 34, 38, 47, 60, 62, 45, 46, 48, 57, 255])
            yield bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
            continue
        changed = copy.deepcopy(document)
        for _ in range(rng.randint(1, 2)):
            _mutate(changed, rng)
        yield ElementTree.tostring(changed, encoding="utf-8")


def _mutate(document, rng):
    parents = [element for element in document.iter() if len(element)]
    parent = rng.choice(parents)
    child = rng.choice(list(parent))
    way = rng.random()
    if way < 0.5:
        child.text = rng.choice(JUNK)
        if rng.random() < 0.2:
            del child[:]
    elif way < 0.65:
        parent.remove(child)
    elif way < 0.8:
        parent.append(copy.deepcopy(child))
    elif way < 0.9:
        child.tag = rng.choice(NAMES)
    else:
        rng.choice(parents).append(copy.deepcopy(child))
