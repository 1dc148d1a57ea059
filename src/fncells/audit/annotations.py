"""Annotations on their own: a file or folder of any format, with or without the pictures."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fncells.audit.finding import Finding, in_order
from fncells.audit.likeness import Portrait, duplicate_findings
from fncells.audit.outlines import cell_findings, hole_findings, part_findings
from fncells.audit.rasters import mask_findings
from fncells.audit.records import is_plausible
from fncells.audit.sizes import Measured, size_findings
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.files import find_pictures
from fncells.formats import read_annotations, recognise
from fncells.formats.pictures import PictureFolder
from fncells.images import Picture, read_picture

__all__ = ["audit_annotations"]

_RASTERS = ("masks", "labels")


@dataclass(eq=False)
class _Audit:
    """What has been found, and what is kept of each picture to compare it with the others."""

    path: Path
    format_name: str
    pictures: PictureFolder | None
    findings: list[Finding] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    portraits: list[Portrait] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)


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
        The most serious first; files are relative to the folder that holds `path`, or to `path` if that is a folder, and
        pictures to `images` where that is given.

    Raises
    ------
    InputError
        If there is nothing of that name, or no format fits.
    """
    audit = _Audit(path, recognise(path), PictureFolder(images) if images is not None else None)
    try:
        for image in read_annotations(path, audit.format_name):
            _look(image, audit)
    except InputError as error:
        audit.findings.append(_unreadable(path.name, error))
    findings = [*audit.findings, *size_findings(None, audit.measured), *duplicate_findings(audit.portraits)]
    if images is not None:
        findings += _unannotated(path.name, images, audit.seen)
    return in_order(findings)


def _look(image: AnnotatedImage, audit: _Audit) -> None:
    """Judge what is said of one picture."""
    file = audit.path.name if audit.path.is_file() else image.name
    placed, size, pictures, found = _placed(file, image, audit)
    # What was traced from pixels cannot cross itself or leave its picture.
    if audit.format_name in _RASTERS:
        pictures = pictures or (image.name,)
        found += _raster_findings(audit, placed)
    else:
        found += cell_findings(file, placed)
    audit.findings += [replace(one, pictures=pictures) if one.points else one for one in found]
    if placed.shape is not None:
        audit.measured.append(Measured.of(file, placed, size, pictures))


def _placed(
    file: str, image: AnnotatedImage, audit: _Audit
) -> tuple[AnnotatedImage, float | None, tuple[str, ...], list[Finding]]:
    """Give the annotations the shape of their picture, the picture's pixel size and its name."""
    if audit.pictures is None:
        return image, None, (), []
    source = audit.pictures.find(image.name)
    if source is None:
        return image, None, (), [_without_picture(file, image.name)]
    audit.seen.add(source.path)
    try:
        picture = read_picture(source.path)
    except InputError as error:
        return image, None, (), [_unreadable(source.name, error)]
    audit.portraits.append(_portrait(source.name, picture))
    height, width = picture.pixels.shape[:2]
    known = picture.pixel_size
    size = known.um if known is not None and is_plausible(known) else None
    if image.shape not in (None, (height, width)):
        return image, size, (), [_wrong_size(file, image, (height, width))]
    return image.with_shape((height, width)), size, (source.name,), []


def _portrait(name: str, picture: Picture) -> Portrait:
    digest = hashlib.sha256(repr(picture.pixels.shape).encode() + np.ascontiguousarray(picture.pixels).tobytes())
    return Portrait(name, "", "", digest.hexdigest(), Portrait.features_of(picture.pixels))


def _raster_findings(audit: _Audit, image: AnnotatedImage) -> Iterator[Finding]:
    yield from hole_findings(image.name, image)
    if audit.format_name == "masks":
        path = audit.path / image.name if audit.path.is_dir() else audit.path
        yield from mask_findings(image.name, read_picture(path).pixels)
    elif image.shape is not None:
        yield from part_findings(image.name, image)


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
