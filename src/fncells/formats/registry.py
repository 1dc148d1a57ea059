"""All formats by name, and the telling of one from the other."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import coco, geojson, imagej, labels, masks, rle, via, via_csv, voc, yolo
from fncells.formats.codec import Codec, Unread

__all__ = ["CODECS", "codec_named", "find_annotations", "read_annotations", "recognise", "write_annotations"]

CODECS: dict[str, Codec] = {
    "masks": masks.CODEC,
    "labels": labels.CODEC,
    "rle": rle.CODEC,
    "coco": coco.CODEC,
    "voc": voc.CODEC,
    "via": via.CODEC,
    "via-csv": via_csv.CODEC,
    "yolo": yolo.CODEC,
    "geojson": geojson.CODEC,
    "imagej": imagej.CODEC,
}


DIALECTS = ("published",)


def codec_named(name: str, dialect: str | None = None, *, compressed: bool = False) -> Codec:
    """Give the codec of that name.

    Parameters
    ----------
    name
        One of :data:`CODECS`.
    dialect
        ``published`` gives the format as the published archive has it; None the format as its readers want it.
    compressed
        Whether files are packed.

    Raises
    ------
    InputError
        If there is none; names those that there are.
    """
    if name not in CODECS:
        raise InputError("format", expected=f"one out of {', '.join(CODECS)}", found=repr(name))
    if dialect is None and not compressed:
        return CODECS[name]
    if dialect is not None and dialect not in DIALECTS:
        raise InputError("dialect", expected=f"one out of {', '.join(DIALECTS)}", found=repr(dialect))
    if dialect is not None and compressed:
        raise InputError("compress", expected="a format's own dialect", found=f"the dialect {dialect}")
    kind = "compressed" if compressed else "published"
    variant: Codec | None = getattr(CODECS[name], kind)
    if variant is None:
        having = ", ".join(key for key, codec in CODECS.items() if getattr(codec, kind) is not None)
        raise InputError("format", expected=f"one that can be {kind} ({having})", found=name)
    return variant


def recognise(path: Path) -> str:
    """Tell the format of an annotation file or folder by its content.

    A folder of pictures is ``masks`` if no picture holds another value than 0 and one out of 1, 255 and 65535 (colours and
    JPEGs count as masks, too), else ``labels``: a label picture of one cell alone does not decide, its whole folder does.
    Where all label pictures of a folder hold one cell of value 1 at most, cells are the same either way unless one has
    several parts.

    Raises
    ------
    InputError
        If there is nothing of that name, a picture that would decide is broken, or no format fits.
    """
    if not path.exists():
        raise InputError(path, expected="annotations", found="nothing of that name")
    # Pictures lie beside the files of other formats, as in YOLO's data sets: those that are pictures come last.
    for name in sorted(CODECS, key=("masks", "labels").__contains__):
        if CODECS[name].recognises(path):
            return name
    raise InputError(
        path,
        expected=f"annotations in one of the formats {', '.join(CODECS)}",
        found="a folder of something else" if path.is_dir() else "a file of another kind",
        advice="if it is one of these, say which with --from",
    )


def find_annotations(path: Path, format_name: str | None = None, images: Path | None = None) -> Iterator[Unread]:
    """Find annotations, each picture's to be read on its own; see :func:`read_annotations`."""
    codec = codec_named(recognise(path) if format_name is None else format_name)
    if not path.exists():
        raise InputError(path, expected="annotations", found="nothing of that name")
    if codec.one_file and path.is_dir():
        raise InputError(path, expected=f"one file, as {codec.name} is", found="a folder")
    return codec.find(path, images)


def read_annotations(
    path: Path, format_name: str | None = None, images: Path | None = None
) -> Iterator[AnnotatedImage]:
    """Read annotations, picture by picture.

    Parameters
    ----------
    path
        A file or folder, as the format has it.
    format_name
        One of :data:`CODECS`; recognised by the content if not given.
    images
        The folder of the pictures, where the format does not hold their shapes.

    Returns
    -------
    iterator of AnnotatedImage
        Reading goes on as pictures are asked for, and what is wrong with one is raised then.

    Raises
    ------
    InputError
        If there is no such file, format or folder, or it is not as the format has it.
    """
    return (unread.read() for unread in find_annotations(path, format_name, images))


def write_annotations(
    path: Path, images: Iterable[AnnotatedImage], format_name: str, dialect: str | None = None
) -> None:
    """Write annotations; every file is written whole.

    Parameters
    ----------
    path
        The file or folder to make, as the format has it.
    images
        Pictures and cells; they are written as they come.
    format_name
        One of :data:`CODECS`.
    dialect
        ``published`` for the format as the published archive has it.

    Raises
    ------
    InputError
        If there is no such format, or the format cannot hold a picture's name or lacks its shape.
    """
    codec = codec_named(format_name, dialect)
    if codec.one_file and path.is_dir():
        raise InputError(path, expected=f"the name of one file, as {codec.name} is", found="a folder")
    codec.write(path, images)
