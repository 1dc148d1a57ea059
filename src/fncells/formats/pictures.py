"""The folder of the pictures that annotations belong to: their names, sizes and file sizes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fncells.cells import AnnotatedImage
from fncells.documents import Place, quoted
from fncells.errors import InputError
from fncells.files import Source, find_pictures
from fncells.images import picture_shape

__all__ = ["FILE_SIZE", "RESERVED", "Once", "PictureFolder", "own_attributes"]

RESERVED = "fncells."
"""Attributes whose names begin so are fncells's own notes about a source; they are never written as they are."""

FILE_SIZE = f"{RESERVED}file_size"
"""Attribute of a picture: the size of its file in bytes, as VIA notes it."""


def own_attributes(attributes: Mapping[str, object]) -> dict[str, object]:
    """Give the attributes that come from the source, without fncells's own notes."""
    return {key: value for key, value in attributes.items() if not key.startswith(RESERVED)}


class Once:
    """Refuses the second picture of one name, where a file names each once.

    Parameters
    ----------
    place
        The file.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen: set[str] = set()

    def check(self, name: str) -> None:
        """Note a name, or raise InputError if it has been noted before."""
        if name in self._seen:
            self._place.refuse(
                "each picture once", f"{quoted(name)} twice", "merge the two, or rename one of the pictures"
            )
        self._seen.add(name)


class PictureFolder:
    """Finds the picture that an annotation names.

    A picture is found by its relative path, then by that without the suffix, then by its bare file name, and then by
    that without the suffix.

    Parameters
    ----------
    folder
        The folder of the pictures, or one picture; None finds nothing.

    Raises
    ------
    InputError
        If the folder does not exist, or two of its pictures differ in the suffix alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._by_key: dict[str, list[Source]] = {}
        for source in find_pictures([folder]) if folder is not None else ():
            for key in _keys(source.name):
                self._by_key.setdefault(key, []).append(source)

    def find(self, name: str) -> Source | None:
        """Give the picture of that name, or None; several that fit equally well are refused."""
        for key in _keys(name):
            fitting = self._by_key.get(key, [])
            if len(fitting) > 1:
                found = f"{fitting[0].name} and {fitting[1].name}"
                raise InputError(
                    self.folder, expected="one picture that fits", found=found, place=f"picture {quoted(name)}"
                )
            if fitting:
                return fitting[0]
        return None

    def complete(self, image: AnnotatedImage, *, rename: bool = False) -> AnnotatedImage:
        """Add what the picture itself tells: its shape, its file size and, where asked, its name.

        Parameters
        ----------
        image
            Cells whose picture may lie in the folder; if it does not, they are given back as they are.
        rename
            Whether to take the picture's own name: for label pictures, which are named after the picture they belong to.

        Raises
        ------
        InputError
            If the annotations say that the picture has another shape.
        """
        source = self.find(image.name)
        if source is None:
            return image
        shape = picture_shape(source.path)
        if image.shape not in (None, shape):
            raise InputError(
                source.path,
                expected=f"a picture of {_said(image.shape)}, as the annotations of {quoted(image.name)} say",
                found=_said(shape),
            )
        attributes = {**image.attributes}
        if attributes.get(FILE_SIZE, -1) in (-1, "-1"):
            attributes[FILE_SIZE] = source.path.stat().st_size
        return replace(image, name=source.name if rename else image.name, shape=shape, attributes=attributes)


def _keys(name: str) -> tuple[str, ...]:
    """Names to look a picture up by, the closest first; each kind has a mark of its own, so that kinds never meet."""
    path = PurePosixPath(name.replace("\\", "/"))
    stem = path.with_suffix("") if path.name else path
    return f"path {path}", f"path stem {stem}", f"name {path.name}", f"name stem {stem.name}"


def _said(shape: tuple[int, int] | None) -> str:
    return "unknown size" if shape is None else f"{shape[1]} x {shape[0]} pixels"
