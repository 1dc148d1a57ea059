"""What every annotation format offers: one way to read, one way to write, and what is lost on the way."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fncells.cells import AnnotatedImage

__all__ = ["Codec", "Reader", "Writer"]

Reader = Callable[[Path, Path | None], Iterator[AnnotatedImage]]
Writer = Callable[[Path, Iterable[AnnotatedImage]], None]


@dataclass(frozen=True)
class Codec:
    """An annotation format.

    Parameters
    ----------
    name
        What the user calls it.
    read
        Takes the file or folder, and the folder of the pictures where the user gives it; yields the pictures' cells.
    read_foreign
        The same as a reader does that knows the format and not fncells: it is how losses are measured.
    write
        Takes the file or folder to make, and the pictures' cells.
    recognises
        Whether a file or folder looks like this format; raises InputError where a part that would decide it is broken.
    one_file
        Whether the format is one file, else a folder.
    loses
        What other readers of the format cannot see of the cells, in words.
    """

    name: str
    read: Reader
    read_foreign: Reader
    write: Writer
    recognises: Callable[[Path], bool]
    one_file: bool
    loses: tuple[str, ...]
