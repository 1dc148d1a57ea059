"""JSON too large to be held at once: a list in it is read item by item."""

import codecs
import re
from collections.abc import Iterator
from typing import Protocol

from fncells.documents.place import Place

__all__ = ["Bytes", "JsonItems"]

_CHUNK = 2**20  # bytes
_LONGEST = 2**24  # characters of one item, and of anything else that has to be looked at in one piece
_LONGEST_REST = 2**24  # characters of all that is no item
_MOST_BRACES = 2**20  # in one item
_MOST_TOKENS = 2**18  # strings and brackets outside the items

_STRING = r'"(?:[^"\\]++|\\.)*+'  # without its end, so that one that is cut off can be told
_TOKEN = re.compile(rf'{_STRING}("?)|[\[\]{{}}]', re.DOTALL)
_TO_BRACE = re.compile(rf'[^"{{}}]*+(?:{_STRING}"[^"{{}}]*+)*+([{{}}]?)', re.DOTALL)
_COLON = re.compile(r"\s*:\s*")


class Bytes(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Give at most that many bytes; none at the end."""
        ...


class JsonItems:
    """The objects in a list of a JSON document, one by one as text; and the document without them.

    The document is such a list itself, or an object that has it under a key. Nothing is parsed here: what is yielded is
    text from one brace to its partner, and what is wrong with it, or with the rest, shows when that is parsed.

    Parameters
    ----------
    file
        The document, UTF-8 with or without a byte-order mark.
    key
        The list's key, where the document is an object.
    place
        The file, for refusals.
    """

    def __init__(self, file: Bytes, key: str, place: Place) -> None:
        self.count = 0
        self._file, self._key, self._place = file, f'"{key}"', place
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self._bytes_read = 0
        self._rest: list[str] = []
        self._rest_length = 0

    @property
    def rest(self) -> str:
        """The document once all items have been read: each is 0 in it, its line breaks kept, so that line numbers hold."""
        return "".join(self._rest)

    def __iter__(self) -> Iterator[str]:
        """Yield each item's text.

        Raises
        ------
        InputError
            If the bytes are no UTF-8, or a part of the document is larger than any such part should be.
        """
        depth, items_depth = 0, 0  # the latter that of the list, while in it
        done, last, tokens = False, "", 0
        while found := self._next_token():
            before, mark = found
            if mark == "{" and depth == items_depth and depth:
                text = self._to_partner()
                self.count += 1
                yield text
                self._keep("0" + "\n" * text.count("\n"))
                continue
            if mark == "{" and depth == 1:
                self._keep(self._to_partner())
                continue
            self._keep(mark)
            tokens += 1
            if tokens > _MOST_TOKENS:
                self._place.refuse(f"at most {_MOST_TOKENS} values outside the list {self._key}", "more")
            if mark in "{[":
                depth += 1
                named = depth == 2 and last == self._key and _COLON.fullmatch(before) is not None
                if mark == "[" and not done and (depth == 1 or named):
                    items_depth = depth
            elif mark in "}]":
                depth -= 1
                if depth < items_depth:
                    items_depth, done = 0, True
            last = mark

    def _next_token(self) -> tuple[str, str] | None:
        """Go past the next string or bracket; give what was before it, and it. None at the end of the document."""
        while True:
            found = _TOKEN.search(self._text, self._at)
            whole = found is not None and not (found[0].startswith('"') and not found[1])
            if found is not None and whole:
                break
            if not self._more():
                self._keep(self._text[self._at :])
                return None
        before = self._text[self._at : found.start()]
        self._keep(before)
        # A brace that opens an object stays to be read, as the way to its partner begins with it.
        self._at = found.end()
        return before, found[0]

    def _to_partner(self) -> str:
        """Go from behind an opening brace past its partner; give all from the one to the other."""
        at = self._at = self._at - 1
        depth = braces = 0
        while depth or not braces:
            found = _TO_BRACE.match(self._text, at)
            if found is None or not found[1]:
                begun = at - self._at
                if not self._more():
                    self._place.at(f"item {self.count}").refuse("JSON", "the end of the file within an object")
                at = self._at + begun
                continue
            at = found.end()
            depth += 1 if found[1] == "{" else -1
            braces += 1
            if braces > _MOST_BRACES:
                self._place.at(f"item {self.count}").refuse(f"an object with at most {_MOST_BRACES} braces", "more")
        text, self._at = self._text[self._at : at], at
        return text

    def _more(self) -> bool:
        """Read on; what has been gone past is let go. False at the end of the file."""
        kept = self._text[self._at :]
        if len(kept) > _LONGEST:
            expected = f"values of at most {_LONGEST} characters"
            self._place.at(f"item {self.count}").refuse(expected, "a longer one")
        # As much as there is, at least: so an item of many chunks is looked at a few times, not once a chunk.
        data = self._file.read(max(_CHUNK, len(kept)))
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            self._place.refuse("UTF-8 text", f"other bytes after byte {self._bytes_read + error.start}")
        self._bytes_read += len(data)
        self._text, self._at = kept + text, 0
        return bool(data)

    def _keep(self, text: str) -> None:
        self._rest_length += len(text)
        if self._rest_length > _LONGEST_REST:
            self._place.refuse(f"at most {_LONGEST_REST} characters outside the list {self._key}", "more")
        self._rest.append(text)
