"""Annotations on their own: a file or folder of any format, with or without the pictures."""

from collections.abc import Iterator
from pathlib import Path

from fncells.audit.finding import Finding, in_order
from fncells.audit.outlines import Measured, cell_findings, hole_findings, size_findings
from fncells.audit.rasters import mask_findings
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.files import find_pictures
from fncells.formats import read_annotations, recognise
from fncells.formats.pictures import PictureFolder
from fncells.images import read_picture

__all__ = ["audit_annotations"]

_RASTERS = ("masks", "labels")


def audit_annotations(path: Path, images: Path | None = None) -> list[Finding]:
    """Find what is wrong in annotations.

    Parameters
    ----------
    path
        A file or folder in any format that `fncells.formats` knows.
    images
        The folder of the annotated pictures; without it, what needs their sizes or names is left out.

    Returns
    -------
    list of Finding
        The most serious first; files are relative to the folder that holds `path`, or to `path` if that is a folder.

    Raises
    ------
    InputError
        If there is nothing of that name, or no format fits.
    """
    format_name = recognise(path)
    pictures = PictureFolder(images) if images is not None else None
    findings: list[Finding] = []
    measured: list[Measured] = []
    seen: set[Path] = set()
    try:
        for image in read_annotations(path, format_name):
            file = path.name if path.is_file() else image.name
            placed, size, found = _placed(file, image, pictures, seen)
            findings += found
            # What was traced from pixels cannot cross itself or leave its picture.
            raster = format_name in _RASTERS
            findings += _raster_findings(path, format_name, placed) if raster else cell_findings(file, placed)
            if placed.shape is not None:
                measured.append(Measured.of(file, placed, size))
    except InputError as error:
        findings.append(_unreadable(path.name, error))
    if images is not None:
        findings += _unannotated(path.name, images, seen)
    findings += size_findings(None, measured)
    return in_order(findings)


def _placed(
    file: str, image: AnnotatedImage, pictures: PictureFolder | None, seen: set[Path]
) -> tuple[AnnotatedImage, float | None, list[Finding]]:
    """Give the annotations the shape of their picture, and the picture's pixel size."""
    if pictures is None:
        return image, None, []
    source = pictures.find(image.name)
    if source is None:
        return image, None, [_without_picture(file, image.name)]
    seen.add(source.path)
    try:
        picture = read_picture(source.path)
    except InputError as error:
        return image, None, [_unreadable(source.name, error)]
    height, width = picture.pixels.shape[:2]
    size = None if picture.pixel_size is None else picture.pixel_size.um
    if image.shape not in (None, (height, width)):
        return image, size, [_wrong_size(file, image, (height, width))]
    return image.with_shape((height, width)), size, []


def _raster_findings(path: Path, format_name: str, image: AnnotatedImage) -> Iterator[Finding]:
    yield from hole_findings(image.name, image)
    if format_name == "masks":
        yield from mask_findings(image.name, read_picture(path / image.name if path.is_dir() else path).pixels)


def _unannotated(file: str, images: Path, seen: set[Path]) -> Iterator[Finding]:
    rest = [source.name for source in find_pictures([images]) if source.path not in seen]
    if rest:
        yield Finding(
            "note",
            "picture-without-annotations",
            file,
            None,
            f"{len(rest)} of the pictures have no annotations, the first is {rest[0]}: unlabelled, or forgotten",
            "annotate them; a picture without cells gets an empty entry",
        )


def _without_picture(file: str, name: str) -> Finding:
    return Finding(
        "serious",
        "annotations-without-picture",
        file,
        name,
        "no picture of that name is in the folder: it was renamed, or is missing",
        "name the picture as the annotations do, or remove them",
    )


def _wrong_size(file: str, image: AnnotatedImage, shape: tuple[int, int]) -> Finding:
    height, width = image.shape or (0, 0)
    return Finding(
        "serious",
        "size-mismatch",
        file,
        image.name,
        f"the annotations are for {width} x {height} pixels, the picture has {shape[1]} x {shape[0]}: they do not match",
        "find the picture that was annotated",
    )


def _unreadable(file: str, error: InputError) -> Finding:
    why = f"expected {error.expected}, found {error.found}"
    return Finding(
        "serious", "unreadable", file, error.place, why, error.advice or "get the file again, or save it anew"
    )
