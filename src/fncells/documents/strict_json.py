"""JSON read strictly: what is not plain JSON, or says two things at once, is refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fncells.documents.place import Place, quoted, read_text
from fncells.errors import InputError

__all__ = ["json_text", "parse_json", "read_json"]


def read_json(path: Path) -> Any:
    """Read a JSON file strictly; see :func:`parse_json`."""
    return parse_json(read_text(path), Place(path))


def parse_json(text: str, place: Place) -> Any:
    """Parse JSON strictly.

    Parameters
    ----------
    text
        The JSON.
    place
        Where it stands, for refusals.

    Returns
    -------
    object
        Objects as dict in their own order, whole numbers as int, others as float.

    Raises
    ------
    InputError
        If the text is not JSON, repeats a key in an object, holds NaN, infinity or a number too large for a float, text
        that is not Unicode, or is nested too deep to be read.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unrepeated, parse_constant=_not_a_number, parse_float=_finite)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except _FaultError as fault:
        place.refuse(fault.expected, fault.found)
    except json.JSONDecodeError as error:
        place.at(f"line {error.lineno}, column {error.colno}").refuse("JSON", error.msg)
    except UnicodeEncodeError:
        place.refuse("Unicode text", "half of a surrogate pair")
    except RecursionError:
        place.refuse("JSON", "values nested too deep")
    except ValueError:  # Python refuses to read whole numbers of thousands of digits
        place.refuse("JSON", "a number too long to be read")
    return value


def json_text(value: object) -> str:
    """Give a value as JSON on one line, compact as VIA itself writes it.

    Raises
    ------
    InputError
        If the value holds what JSON cannot.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError("attributes", expected="values that JSON can hold", found=str(error)) from None


class _FaultError(Exception):
    def __init__(self, expected: str, found: str) -> None:
        self.expected, self.found = expected, found


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        fault = _FaultError("each key once", f"the key {quoted(twice)} twice in one object")
        raise fault
    return value


def _not_a_number(text: str) -> NoReturn:
    fault = _FaultError("finite numbers", text)
    raise fault


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        _not_a_number(text)
    return value


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    message = f"a value of type {type(value).__name__}"
    raise TypeError(message)
