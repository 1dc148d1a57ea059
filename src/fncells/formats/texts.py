"""Values of attributes as text: for the formats whose attributes are texts and not JSON."""

from typing import Any

from fncells.documents import Place, json_text, parse_json
from fncells.errors import InputError

__all__ = ["plain_text", "value_in"]


def value_in(text: str) -> Any:
    """Give the value that a text stands for: what it says as JSON, else the text itself.

    Examples
    --------
    >>> value_in("0.5"), value_in("left"), value_in('"0.5"'), value_in("NaN")
    (0.5, 'left', '0.5', 'NaN')
    """
    try:
        return parse_json(text, Place(None))
    except InputError:
        return text


def plain_text(value: object) -> str:
    """Write a value as text, such that :func:`value_in` gives it back: texts as they stand, where that cannot mislead.

    Raises
    ------
    InputError
        If the value is nothing that JSON can hold.

    Examples
    --------
    >>> plain_text("left"), plain_text("0.5"), plain_text(0.5)
    ('left', '"0.5"', '0.5')
    """
    if isinstance(value, str) and value and value.strip() == value and value_in(value) is value:
        return value
    return json_text(value)
