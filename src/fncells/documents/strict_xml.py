"""XML read strictly: a small tree of elements and texts, without anything in a document that could do more than that.

Document types, and with them entities of their own, are refused, as is nesting deeper than annotations ever are. So no
document takes more time and memory than its length allows.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from fncells.documents.place import Place, quoted
from fncells.errors import InputError

__all__ = ["MOST_ELEMENTS", "Element", "fits_xml", "parse_xml", "read_xml", "xml_text"]

_DEEPEST = 32  # levels; annotations have five
MOST_ELEMENTS = 1_000_000
"""Elements that a document may have: they take some two seconds and a quarter of a gigabyte."""
_LARGEST = 2**27  # bytes
# What XML 1.0 cannot hold in any way, not even as a reference.
_CHANGED = re.compile("[\t\n\r\x7f-\x9f]")  # what reading or rewriting may turn into something else
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})


@dataclass(slots=True)
class Element:
    """An element of a document.

    Parameters
    ----------
    name
        Its name. Its XML attributes are not kept.
    place
        The document, for refusals.
    line, column
        Where it begins, counted from 1.
    text
        The text in it as it stands there; empty where it holds elements.
    children
        The elements in it.
    """

    name: str
    place: Place
    line: int
    column: int
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, name: str) -> list["Element"]:
        """Give the elements of that name which it holds itself."""
        return [child for child in self.children if child.name == name]

    def one(self, name: str) -> "Element | None":
        """Give the one element of that name which it holds itself, or None.

        Raises
        ------
        InputError
            If there are several.
        """
        found = self.all(name)
        if len(found) > 1:
            found[1].refuse(f"one {name} in {self.name}", f"another one than on line {found[0].line}")
        return found[0] if found else None

    def value(self) -> str:
        """Give the text of an element that holds nothing else, without the line breaks around it.

        Raises
        ------
        InputError
            If it holds elements.
        """
        if self.children:
            self.refuse(f"a text in {self.name}", f"an element {quoted(self.children[0].name)}")
        return self.text.strip() if "\n" in self.text else self.text

    def refuse(self, expected: str, found: str) -> NoReturn:
        """Raise the InputError that names the place where the element begins."""
        self.place.at(f"line {self.line}, column {self.column}").refuse(expected, found)


def read_xml(path: Path) -> Element:
    """Read an XML file strictly; see :func:`parse_xml`."""
    place = Place(path)
    if not path.is_file():
        place.refuse("a file", "a folder" if path.is_dir() else "nothing of that name")
    if path.stat().st_size > _LARGEST:
        place.refuse(f"XML of at most {_LARGEST >> 20} MiB", f"{path.stat().st_size >> 20} MiB")
    return parse_xml(path.read_bytes(), place)


def parse_xml(data: bytes, place: Place) -> Element:
    """Parse XML strictly.

    Parameters
    ----------
    data
        The document, in UTF-8, UTF-16, or the encoding of single bytes that it declares.
    place
        Where it stands, for refusals.

    Returns
    -------
    Element
        The outermost one.

    Raises
    ------
    InputError
        If the document is not well-formed XML, has a document type or entities, is nested deeper than 32 elements, or
        holds more than a million.

    Examples
    --------
    >>> parse_xml(b"<size><width>5</width></size>", Place(None)).one("width").text
    '5'
    """
    if not data.strip():
        place.refuse("annotations", "an empty file")
    builder = _Builder(place)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        where = place.at(f"line {error.lineno}, column {error.offset + 1}")
        where.refuse("well-formed XML", expat.ErrorString(error.code))
    except (LookupError, ValueError):  # as Python says of encodings that it does not know, or not for XML
        place.at("line 1").refuse("XML in UTF-8, UTF-16 or an encoding of single bytes", "another encoding")
    # Taken out, so that the tree does not live as long as the circle of parser and builder.
    return builder.top.children.pop()


def fits_xml(text: str) -> bool:
    """Whether XML can hold every character of a text, and gives it back as it is."""
    return _IMPOSSIBLE.search(text) is None and text.strip() == text and not _CHANGED.search(text)


def xml_text(text: str, what: str) -> str:
    """Escape a text for an element.

    Parameters
    ----------
    text
        The text.
    what
        What it is, for the refusal.

    Raises
    ------
    InputError
        If it holds a character that XML cannot hold, such as most control characters.
    """
    fault = _IMPOSSIBLE.search(text)
    if fault:
        found = f"the character U+{ord(fault.group()):04X} in {text[:60]!a}"
        raise InputError(None, expected=f"{what} in characters that XML can hold", found=found)
    return text.translate(_ESCAPES)


class _Builder:
    """Builds the tree from what the parser comes across."""

    def __init__(self, place: Place) -> None:
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.top = Element("", place, 1, 1)
        self._open = [self.top]
        self._texts: list[str] = []
        self._count = 0
        self._place = place

    def _start(self, name: str, attributes: object) -> None:
        parser = self.parser
        element = Element(name, self._place, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)
        if len(self._open) > _DEEPEST:
            element.refuse(f"elements nested at most {_DEEPEST} deep", "more")
        self._count += 1
        if self._count > MOST_ELEMENTS:
            element.refuse(f"at most {MOST_ELEMENTS} elements", "more")
        self._open[-1].children.append(element)
        self._open.append(element)
        self._texts.clear()

    def _end(self, name: str) -> None:
        element = self._open.pop()
        if not element.children:
            element.text = "".join(self._texts)
        self._texts.clear()

    def _text(self, text: str) -> None:
        self._texts.append(text)

    def _doctype(self, name: str, *rest: object) -> None:
        here = Element("", self._place, self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1)
        here.refuse("XML without a document type, as annotations have none", f"<!DOCTYPE {name[:60]}")
