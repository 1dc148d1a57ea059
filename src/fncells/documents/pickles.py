"""Pickles of plain values, read without unpickling.

Unpickling a stranger's file can run code and, by a single hostile number, ask for all memory. Here the instructions of a
pickle are only listed (`pickletools.genops` runs none of them), and the few that build texts, bytes, whole numbers, lists,
tuples and dictionaries are followed. Every other one is refused.
"""

import pickletools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from fncells.documents.place import Place

__all__ = ["read_pickle"]

_LARGEST = 2**28  # bytes
_VALUES = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "INT", "SHORT_BINUNICODE", "BINUNICODE", "UNICODE"}
    | {"SHORT_BINBYTES", "BINBYTES", "SHORT_BINSTRING", "BINSTRING"}
)
_PASSED = frozenset({"PROTO", "FRAME"})


def read_pickle(path: Path) -> Any:
    """Read a pickle of texts, bytes, whole numbers, lists, tuples and dictionaries.

    Parameters
    ----------
    path
        The file. Bytes are plain values from protocol 3 on, which Python 3 has always written by itself.

    Returns
    -------
    object
        The value.

    Raises
    ------
    InputError
        If the file is no whole pickle, is larger than 256 MiB, or holds an instruction for anything else, such as to
        import or to call something.
    """
    place = Place(path)
    if not path.is_file():
        place.refuse("a file", "a folder" if path.is_dir() else "nothing of that name")
    if path.stat().st_size > _LARGEST:
        place.refuse(f"a pickle of at most {_LARGEST >> 20} MiB", f"{path.stat().st_size >> 20} MiB")
    machine = _Machine(place)
    try:
        for opcode, argument, position in pickletools.genops(BytesIO(path.read_bytes())):
            machine.follow(opcode.name, argument, place.at(f"byte {position}"))
    except (ValueError, UnicodeError, RecursionError, OverflowError, IndexError) as error:
        place.refuse("a whole pickle", f"one that cannot be read ({str(error)[:100]})")
    return machine.stack[0]


class _Machine:
    """The stack that a pickle's instructions work on."""

    def __init__(self, place: Place) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._marks: list[int] = []
        self._place = place

    def follow(self, name: str, argument: Any, place: Place) -> None:
        """Do one instruction, or refuse it."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _BUILDERS:
            _BUILDERS[name](self, argument)
        elif name not in _PASSED:
            said = f"the instruction {name}" + (f" ({str(argument)[:60]})" if argument is not None else "")
            place.refuse("a pickle of plain values", said, "nothing of it has been run")

    def mark(self) -> None:
        self._marks.append(len(self.stack))

    def put(self, key: int | None) -> None:
        self._memo[len(self._memo) if key is None else key] = self.stack[-1]

    def get(self, key: int) -> None:
        if key not in self._memo:
            self._place.refuse("a whole pickle", "a reference to a value that is not there")
        self.stack.append(self._memo[key])

    def marked(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        start = self._marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def take(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self._marks[-1] if self._marks else 0):
            raise IndexError("values that are not there")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def extend(self, values: list[Any]) -> None:
        """Put values into the list below them."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("values for a list that is none")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        """Put keys and values into the dictionary below them."""
        keys = values[::2]
        if not isinstance(self.stack[-1], dict) or len(values) % 2 or not all(isinstance(key, str) for key in keys):
            raise ValueError("keys and values for a dictionary that is none")
        self.stack[-1].update(zip(keys, values[1::2], strict=True))


def _stop(machine: _Machine, _: Any) -> None:
    if len(machine.stack) != 1:
        raise ValueError("not one value at the end")


def _dictionary(machine: _Machine, _: Any) -> None:
    values = machine.marked()
    machine.stack.append({})
    machine.update(values)


_Builder = Callable[[_Machine, Any], None]
_BUILDERS: dict[str, _Builder] = {
    "MARK": lambda machine, _: machine.mark(),
    "DICT": _dictionary,
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "LIST": lambda machine, _: machine.stack.append(machine.marked()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.take(3))),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "SETITEM": lambda machine, _: machine.update(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.marked()),
    "MEMOIZE": lambda machine, _: machine.put(None),
    "BINPUT": lambda machine, key: machine.put(key),
    "LONG_BINPUT": lambda machine, key: machine.put(key),
    "PUT": lambda machine, key: machine.put(int(key)),
    "BINGET": lambda machine, key: machine.get(key),
    "LONG_BINGET": lambda machine, key: machine.get(key),
    "GET": lambda machine, key: machine.get(int(key)),
    "STOP": _stop,
}
