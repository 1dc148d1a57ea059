"""What every annotation format offers: pictures one by one to read, a place to add them to, and what is lost on the way."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fncells.cells import AnnotatedImage

__all__ = ["Add", "Codec", "Finder", "Unread"]


class Unread(NamedTuple):
    """A picture's annotations that have been found and not read yet.

    Reading is a step of its own, so that a picture whose annotations are broken does not take the others with it.

    Parameters
    ----------
    name
        The picture, or the file of its annotations.
    read
        Reads them; raises InputError where they are not as the format has them.
    """

    name: str
    read: Callable[[], AnnotatedImage]


Finder = Callable[[Path, Path | None], Iterator[Unread]]
Add = Callable[[AnnotatedImage], None]


@dataclass(frozen=True)
class Codec:
    """An annotation format.

    Parameters
    ----------
    name
        What the user calls it.
    find
        Takes the file or folder, and the folder of the pictures where the user gives it; finds the pictures' annotations.
        What is wrong with the whole is raised here, what is wrong with one picture when that one is read.
    find_foreign
        The same as a reader does that knows the format and not fncells: it is how losses are measured.
    writing
        Takes the file or folder to make; gives the way to add pictures to it. A picture that cannot be added raises
        InputError and leaves no trace, and others can be added after it. The file is whole when the block ends.
    recognises
        Whether a file or folder looks like this format; raises InputError where a part that would decide it is broken.
    one_file
        Whether the format is one file, else a folder.
    loses
        What other readers of the format cannot see of the cells, in words.
    published
        The format as the published archive has it, where that is another: it is read by `find` all the same.
    compressed
        The format with packed files, where other readers take them: read by `find` all the same.
    """

    name: str
    find: Finder
    find_foreign: Finder
    writing: Callable[[Path], AbstractContextManager[Add]]
    recognises: Callable[[Path], bool]
    one_file: bool
    loses: tuple[str, ...]
    published: "Codec | None" = None
    compressed: "Codec | None" = None

    def read(self, path: Path, images: Path | None = None) -> Iterator[AnnotatedImage]:
        """Read all pictures' cells in the order of the source; what is wrong with one is raised when it is its turn."""
        return (unread.read() for unread in self.find(path, images))

    def read_foreign(self, path: Path, images: Path | None = None) -> Iterator[AnnotatedImage]:
        """Read as a reader does that does not know fncells."""
        return (unread.read() for unread in self.find_foreign(path, images))

    def write(self, path: Path, images: Iterable[AnnotatedImage]) -> None:
        """Write pictures' cells as they come; InputError, and no file, if one cannot be held."""
        with self.writing(path) as add:
            for image in images:
                add(image)
