"""YAML read strictly: plain lists, mappings and texts, and nothing that could be a trap."""

from pathlib import Path
from typing import Any

import yaml

from fncells.documents.place import Place, quoted, read_text

__all__ = ["read_yaml"]

_LONGEST = 2**26  # bytes
_MOST_EVENTS = 2**20
_DEEPEST = 32
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where PyYAML was built with it: many times faster

Value = str | list[Any] | dict[str, Any]


def read_yaml(path: Path) -> Value:
    """Read a YAML file of one document.

    Parameters
    ----------
    path
        The file, UTF-8.

    Returns
    -------
    str, list or dict
        Every scalar is the text that stands there, whatever YAML would take it for (``no``, ``1e3`` and ``2026-11-24`` stay
        what they are); tags are passed over. An empty document is an empty text.

    Raises
    ------
    InputError
        If the file is no YAML, holds several documents, anchors or aliases, repeats a key or has one that is no text, or is
        larger or nested deeper than lists of names are.
    """
    place = Place(path)
    if path.is_file() and path.stat().st_size > _LONGEST:
        place.refuse(f"a file of at most {_LONGEST} bytes", f"one of {path.stat().st_size}")
    text = read_text(path)
    builder = _Builder(place)
    try:
        for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            if number >= _MOST_EVENTS:
                place.refuse(f"at most {_MOST_EVENTS} values", "more")
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        _at(place, error.problem_mark).refuse("YAML", error.problem or "something else")
    except yaml.YAMLError as error:
        place.refuse("YAML", str(error).splitlines()[0])
    return builder.value


class _Builder:
    """Builds a value out of the events that a YAML parser gives.

    Parameters
    ----------
    place
        The file, for refusals.
    """

    def __init__(self, place: Place) -> None:
        self.value: Value = ""
        self._place = place
        self._open: list[list[Any] | dict[str, Any]] = []
        self._keys: list[str | None] = []  # of each open container: the key whose value comes next
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._at(event).refuse("YAML without anchors and aliases", quoted(str(event.anchor)))
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._at(event).refuse("one document", "a second")
        elif isinstance(event, yaml.ScalarEvent):
            if not str(event.value).isascii() and any("\ud800" <= letter <= "\udfff" for letter in event.value):
                self._at(event).refuse("Unicode text", "half of a surrogate pair")
            self._put(str(event.value), event)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) >= _DEEPEST:
                self._at(event).refuse("YAML", "values nested too deep")
            inner: list[Any] | dict[str, Any] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            self._put(inner, event)
            self._open.append(inner)
            self._keys.append(None)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()

    def _put(self, value: Value, event: yaml.Event) -> None:
        if not self._open:
            self.value = value
            return
        container, key = self._open[-1], self._keys[-1]
        if isinstance(container, list):
            container.append(value)
        elif key is not None:
            container[key] = value
            self._keys[-1] = None
        elif not isinstance(value, str):
            self._at(event).refuse("a text as key", "a list or a mapping")
        elif value in container:
            self._at(event).refuse("each key once", f"the key {quoted(value)} twice")
        else:
            self._keys[-1] = value

    def _at(self, event: yaml.Event) -> Place:
        return _at(self._place, event.start_mark)


def _at(place: Place, mark: Any) -> Place:
    return place if mark is None else place.at(f"line {mark.line + 1}, column {mark.column + 1}")
