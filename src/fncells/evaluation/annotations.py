"""Cells of many pictures, read when they are needed, and paired by the names of the pictures.

Label pictures and masks lie in one file a picture and are read one by one, where the work on them is done. Of other formats a
file holds many pictures and is read at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import CODECS, read_annotations
from fncells.formats.rasters import ENDINGS
from fncells.workers import in_parallel

__all__ = ["Annotation", "Annotations", "as_annotations", "keyed", "picture_key", "read_groups", "read_side"]


@dataclass(frozen=True, eq=False)
class Annotation:
    """One picture's cells, in memory or in a file of their own.

    Attributes
    ----------
    name
        Name of the picture.
    image
        The cells, if they have been read already.
    place, kind
        Otherwise the file, and its format: ``masks`` or ``labels``.
    """

    name: str
    image: AnnotatedImage | None = None
    place: Path | None = None
    kind: str = "labels"

    @property
    def stem(self) -> str:
        """The name without its suffix; sub-folders stay."""
        return str(PurePosixPath(self.name).with_suffix(""))

    def read(self) -> AnnotatedImage:
        """Give the cells; a fresh value every time, so that its cached pixels go when the work on it is done.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        if self.image is not None:
            return replace(self.image)
        image = next(iter(CODECS[self.kind].read(self.place or Path(), None)))
        return replace(image, name=self.name)


Annotations = Sequence[Annotation]

_SOON = 8


def as_annotations(images: Iterable[AnnotatedImage | Annotation]) -> list[Annotation]:
    """Take cells that have been read, or are still to be read, alike."""
    return [one if isinstance(one, Annotation) else Annotation(one.name, one) for one in images]


def read_side(path: Path, images: Path | None = None, ending: str = "", workers: int = 1) -> list[Annotation]:
    """Find the annotated pictures of a file or folder, in any format.

    Parameters
    ----------
    path
        Annotations. A folder that holds pictures is one of masks or label pictures; files of it that are the very pictures of
        ``images`` are passed over.
    images
        The folder of the pictures, where the format does not hold their shapes; its names go before those of the annotations.
    ending
        Only masks and label pictures whose names end so are taken; all where it is empty.
    workers
        Processes that look whether pictures are masks or label pictures.

    Returns
    -------
    list of Annotation
        Ordered by name.

    Raises
    ------
    InputError
        If there is nothing of that name, or nothing in it that can be read as annotations.
    """
    if not path.exists():
        raise InputError(path, expected="annotations", found="nothing of that name")
    rasters = _rasters(path)
    if not rasters:
        return [Annotation(image.name, image) for image in read_annotations(path, images=images)]
    pictures = [source for source in files.find_pictures([images]) if _is_plain(source)] if images else []
    shown = {source.path.resolve() for source in pictures}
    rasters = [one for one in rasters if one.path.resolve() not in shown] or rasters
    rasters = [one for one in rasters if PurePosixPath(one.name).stem.endswith(ending)]
    if not rasters:
        raise InputError(path, expected=f"pictures whose names end in {ending}", found="none")
    kind = _kind(rasters, workers)
    names = {picture_key(source.name): source.name for source in pictures}
    return [Annotation(names.get(picture_key(one.name), one.name), None, one.path, kind) for one in rasters]


def keyed(side: Annotations, what: str, ending: str = "") -> dict[str, Annotation]:
    """Give the annotations of a side by what their pictures are called, without suffix and without a tool's ending.

    Where a side holds ``a`` and ``a_cp_masks``, as Cellpose leaves its folders, the first is the picture and is passed over.

    Parameters
    ----------
    side
        The annotations.
    what
        What to call one in an error: true, predicted…
    ending
        The ending to take off; those of well-known tools where it is empty.

    Raises
    ------
    InputError
        If two are left of one name.
    """
    found: dict[str, Annotation] = {}
    ended = {key for one in side if (key := picture_key(one.name, ending)) != one.stem}
    for one in side:
        key = picture_key(one.name, ending)
        if key == one.stem and key in ended:
            continue
        if key in found:
            raise InputError(
                one.name,
                expected=f"one {what} picture of each name, as they are paired by it",
                found=f"also {found[key].name}",
                advice="rename one, or say with --ending which are meant",
            )
        found[key] = one
    return found


def read_groups(path: Path) -> Mapping[str, str]:
    """Read which group each picture belongs to, from a CSV file with the columns ``picture`` and ``group``.

    Returns
    -------
    dict
        Groups by the pictures' names without suffix.

    Raises
    ------
    InputError
        If the file cannot be read or lacks a column.
    """
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, expected="a CSV file with the columns picture and group", found=str(error)) from error
    missing = [column for column in ("picture", "group") if not rows or column not in rows[0]]
    if missing:
        found = f"none called {' or '.join(missing)}" if rows else "an empty file"
        raise InputError(path, expected="the columns picture and group", found=found)
    return {picture_key(row["picture"]): row["group"] for row in rows if row["picture"]}


def _rasters(path: Path) -> list[files.Source]:
    """Masks or label pictures; none where the path is something else."""
    if path.is_file() and path.suffix.lower() not in files.PICTURE_SUFFIXES:
        return []
    return files.find_pictures([path])


def _is_plain(source: files.Source) -> bool:
    """Tell pictures from the masks that a tool has laid beside them."""
    return picture_key(source.name) == str(PurePosixPath(source.name).with_suffix(""))


def _kind(rasters: Sequence[files.Source], workers: int) -> str:
    """Tell masks from label pictures: the folder as a whole decides, and mostly its first pictures suffice."""
    if not all(map(_may_be_mask, rasters[:_SOON])):
        return "labels"
    return "masks" if all(in_parallel(_may_be_mask, rasters[_SOON:], workers)) else "labels"


def _may_be_mask(source: files.Source) -> bool:
    try:
        return CODECS["masks"].recognises(source.path)
    except InputError:
        return True  # a broken picture decides nothing; it is named when it is read


def picture_key(name: str, ending: str = "") -> str:
    """Give what a picture is called: its name without suffix, and without the ending of a tool."""
    stem = str(PurePosixPath(name).with_suffix("")).removesuffix(ending)
    fitting = max((one for one in ENDINGS if stem.endswith(one)), key=len, default="")
    bare = stem.removesuffix(fitting)
    return bare if bare and not bare.endswith("/") else stem
