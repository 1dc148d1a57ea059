"""Cells that another tool has found, matched to the pictures they belong to."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.files import Source
from fncells.formats import CODECS, read_annotations, recognise
from fncells.formats.rasters import looks_like_mask

__all__ = ["ENDINGS", "Prediction", "Predictions"]

ENDINGS = (
    *("", "_cp_masks", "_masks", "_mask", "_labels", "_label", "_label_image", "_instances", "_predictions"),
    *("_Object Identities", "_Object-Identities", "_Object_Identities", "_Objects", "_objects"),
)
"""What Cellpose, StarDist, ilastik and CellProfiler users append to the picture's name."""


class Prediction(NamedTuple):
    """What another tool says of one picture: a label picture, a mask, or cells that have been read already.

    Attributes
    ----------
    place
        The file, or the folder of several, that says it.
    kind
        Its format, a name of :data:`fncells.formats.CODECS`.
    image
        The cells, if they have been read already; otherwise the file holds those of this picture alone.
    """

    place: Path
    kind: str
    image: AnnotatedImage | None

    def read(self, source: Source, shape: tuple[int, int]) -> AnnotatedImage:
        """Give the cells under the picture's own name.

        Parameters
        ----------
        source
            The picture.
        shape
            Its height and width in pixels.

        Raises
        ------
        InputError
            If they are of a picture of another size, or the file cannot be read.
        """
        image = self.image or next(iter(CODECS[self.kind].read(self.place, None)))
        if image.shape not in (None, shape):
            found = _said(image.shape)
            raise InputError(self.place, expected=f"{_said(shape)} pixels, as the picture has", found=found)
        return replace(image, name=source.name, shape=shape)


class Predictions:
    """Cells from another tool, found by the stems of the pictures' names.

    A label picture or mask may be named like its picture with an ending such as ``_cp_masks``.

    Parameters
    ----------
    path
        A folder of label pictures or masks, or annotations in any format.
    sources
        The pictures.

    Raises
    ------
    InputError
        If there is nothing at the path, or nothing that can be read as annotations.
    """

    def __init__(self, path: Path, sources: Sequence[Source]) -> None:
        if not path.exists():
            raise InputError(path, expected="predictions: label pictures, masks or annotations", found="nothing")
        self._path = path
        pictures = self._pictures(sources) if path.is_dir() else {}
        if pictures:
            # One picture of a folder of labels may hold a single cell of value 1; the folder as a whole tells what it is.
            kind = "masks" if all(looks_like_mask(file) for file in pictures.values()) else "labels"
            self._by_stem = {stem: Prediction(file, kind, None) for stem, file in pictures.items()}
        else:
            kind = recognise(path)
            self._by_stem = {image.stem: Prediction(path, kind, image) for image in read_annotations(path, kind)}
        self._used = {file.resolve() for file in pictures.values()}

    def _pictures(self, sources: Sequence[Source]) -> dict[str, Path]:
        there = {_stem(source.name): source.path for source in files.find_pictures([self._path])}
        found = {}
        for source in sources:
            stem = _stem(source.name)
            candidates = (there.get(f"{stem}{ending}") for ending in ENDINGS)
            fitting = (file for file in candidates if file and file.resolve() != source.path.resolve())
            if file := next(fitting, None):
                found[stem] = file
        return found

    def holds(self, source: Source) -> bool:
        """Whether this is no picture but a prediction that lies among the pictures."""
        place, folder = source.path.resolve(), self._path.resolve()
        root = place.parents[source.name.count("/")]
        return place in self._used or (folder in place.parents and root in folder.parents)

    def of(self, source: Source) -> Prediction:
        """Give what there is for a picture.

        Raises
        ------
        InputError
            If there is nothing.
        """
        prediction = self._by_stem.get(_stem(source.name))
        if prediction is None:
            raise InputError(source.path, expected=f"a prediction named {_stem(source.name)}", found="none")
        return prediction


def _said(shape: tuple[int, int] | None) -> str:
    return "unknown" if shape is None else f"{shape[1]} x {shape[0]}"


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
