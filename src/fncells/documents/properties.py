"""Properties as Java writes and reads them: a line of key, colon and value each, as ImageJ keeps them with a ROI.

ImageJ reads escapes as Java does, and takes other letters than those of ASCII only from escapes; but it writes keys and
values as they are. So both are read here, and what is written here is read by ImageJ as it was meant.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

__all__ = ["parse_properties", "properties_text"]

_ENDS_OF_KEYS = " :=#!"


def parse_properties(text: str) -> Iterator[tuple[str, str, str]]:
    r"""Read properties.

    Yields
    ------
    tuple of str
        Key, value, and the value as it stands, which is the true one where a program wrote it without escapes.

    Examples
    --------
    >>> list(parse_properties("a\\ b: \\u00e4\nc d: e\n"))
    [('a b', 'ä', '\\u00e4'), ('c d', 'e', 'e')]
    """
    for line in re.split(r"\r\n|\r|\n", text):
        found = re.fullmatch(r"((?:[^\\:]|\\.)*):(.*)", line)
        if found:
            value = found[2].strip()
            yield _unescaped(found[1]).strip(), _unescaped(value), value


def properties_text(properties: Mapping[str, str]) -> str:
    r"""Write properties in ASCII.

    Examples
    --------
    >>> properties_text({"a b": "ä"})
    'a\\ b: \\u00e4\n'
    """
    return "".join(f"{_escaped(key, _ENDS_OF_KEYS)}: {_escaped(value)}\n" for key, value in properties.items())


def _unescaped(text: str) -> str:
    plain = re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", _meant, text)
    # Two escapes may be the halves of one letter.
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _meant(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(code, code)


def _escaped(text: str, marked: str = "") -> str:
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2").tolist()
    return "".join(
        f"\\u{unit:04x}" if not 32 <= unit < 127 else f"\\{chr(unit)}" if chr(unit) in f"\\{marked}" else chr(unit)
        for unit in units
    )
