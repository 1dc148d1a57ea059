import io
import itertools
import json
import random
import time
import tracemalloc

import pytest

from fncells.documents import Place
from fncells.documents.json_items import JsonItems
from fncells.errors import InputError

DOCUMENTS = [
    {"type": "F", "features": [{"a": 1}, {"b": [{"c": "}"}, "{"]}], "after": {"features": [{"no": 1}]}},
    {"before": {"features": [{"no": 1}]}, "x": [{"no": 2}, [1]], "features": [{"a": 'q"\\'}], "y": "features"},
    {"features": []},
    {"features": [1, None, "{", [{"no": 1}], {"yes": 1}]},
    {"features": {"no": 1}},
    {"type": "Feature", "geometry": {"coordinates": [[[1, 2]]]}, "z": "ü€😀"},
    [{"a": {"b": {"c": {}}}}, {"d": "\\\\"}, {"e": '\\"}{'}],
    [],
    [[{"no": 1}], {"yes": 1}],
    "text",
    3,
]


def items_of(document):
    """What should be found, by the rule: objects in the list at the top, or under the key."""
    items = document if isinstance(document, list) else document.get("features") if isinstance(document, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def without(document, items):
    """The document, each item replaced by 0."""
    if isinstance(document, list):
        return [0 if item in items else item for item in document]
    if items:
        return {**document, "features": without(document["features"], items)}
    return document


class Slowly:
    """Gives as many bytes at a time as it likes."""

    def __init__(self, data, step):
        self.file, self.step = io.BytesIO(data), step

    def read(self, size):
        return self.file.read(min(size, self.step))


def read(data, step=2**20):
    found = JsonItems(Slowly(data, step), "features", Place(None))
    texts = list(found)
    assert found.count == len(texts)
    return texts, found.rest


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10**6])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_items_and_rest_are_those_of_the_document(document, indent, step):
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    texts, rest = read(text.encode(), step)
    assert [json.loads(item) for item in texts] == items_of(document)
    assert json.loads(rest) == without(document, items_of(document))
    assert rest.count("\n") == text.count("\n")


def test_byte_order_marks_are_passed_over():
    assert read(b"\xef\xbb\xbf" + b'[{"a": 1}]', 1) == (['{"a": 1}'], "[0]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1}, {"b": {', "item 1: expected JSON, found the end of the file within an object"),
        ('[{"a": "}', "item 0: expected JSON, found the end of the file within an object"),
        ('[{"a": "\\', "item 0: expected JSON, found the end of the file within an object"),
        (b'[{"a": "\xff"}]', "UTF-8 text, found other bytes after byte 8"),
        (b'[{"a": "\xc3', "UTF-8 text"),
        ('{"features": [{"a": "' + "x" * 2**25 + '"}]}', "item 0: expected values of at most"),
        (" " * 2**26, "values of at most"),
        ('"' + "x" * 2**26, "values of at most"),
        ('["' + '","' * 2**21, "values outside the list"),
        ("[" * 2**21, "values outside the list"),
        ("[" + "1," * 2**24, "outside the list|values of at most"),
        ('[{"a": [' + "{}," * 2**21, "item 0: expected an object with at most"),
        ("[" + "{" * 2**21, "item 0: expected an object with at most"),
    ],
    ids=range(13),
)
def test_what_is_cut_off_or_has_no_end_is_refused_soon_and_takes_no_memory(text, said):
    data = text if isinstance(text, bytes) else text.encode()
    start = time.process_time()
    with pytest.raises(InputError, match=said):
        read(data)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "text", ["", "]]]", '{"features": [{}', "[{},,{}]", '{"features": [{}}]', '"', '[{}] {"a": [', "nul"]
)
def test_what_is_no_json_shows_in_the_rest_or_at_once(text):
    try:
        _, rest = read(text.encode())
    except InputError:
        return
    with pytest.raises(ValueError, match=r"."):
        json.loads(rest)


def test_random_documents_are_told_apart_however_the_bytes_come():
    rng = random.Random(5)
    for _ in range(300):
        items = [
            {rng.choice('ab"\\{}[]'): rng.choice(["{", "}", '"', "\\", [{}], {"features": []}, 1])}
            for _ in range(rng.randrange(4))
        ]
        document = rng.choice([items, {"k": rng.choice([{}, [], '"features"']), "features": items, "l": [{"m": []}]}])
        texts, rest = read(json.dumps(document, indent=rng.choice([None, 1])).encode(), rng.randint(1, 9))
        assert [json.loads(text) for text in texts] == items
        assert json.loads(rest) == without(document, items)


class Made:
    """Gives bytes as they are made."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)

    def read(self, size):
        return next(self.pieces, b"")


def test_memory_does_not_grow_with_the_document():
    item = b'{"a": "' + b"x" * 10_000 + b'"},'
    peaks = []
    for count in (1000, 10_000):
        tracemalloc.start()
        found = JsonItems(
            Made(itertools.chain([b"["], itertools.repeat(item, count), [b"0]"])), "features", Place(None)
        )
        assert sum(1 for _ in found) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1e6 < 1e7 < 10_000 * len(item)
