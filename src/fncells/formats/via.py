"""VIA's JSON (VGG Image Annotator): VIA 2 is written; VIA 1, VIA 2 and project files are read."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fncells.cells import AnnotatedImage
from fncells.documents import Place, json_text, kind, quoted, read_json
from fncells.files import whole
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.pictures import Once, PictureFolder
from fncells.formats.regions import Entry, bare_entry_of, entry_of, file_size_fits, image_of

__all__ = ["CODEC"]

_PEEKED = 2**20  # bytes; VIA 1 may put a picture's own data before the first region


def find(path: Path, images: Path | None = None, *, tied: bool = True) -> Iterator[Unread]:
    """Find the pictures of a VIA file: the annotations of VIA 1 or VIA 2, or a project that holds them.

    Parameters
    ----------
    path
        The JSON file.
    images
        The folder of the pictures; gives their shapes, which VIA does not hold.
    tied
        Whether to join the regions that are parts or holes of one cell.

    Yields
    ------
    Unread
        In the order of the file; what is read has VIA's file size and shapes kept for the way back.

    Raises
    ------
    InputError
        If the file is not as VIA writes it; on reading, if a picture stands there twice or holds regions that are no
        shapes.
    """
    place, pictures, once = Place(path), PictureFolder(images), Once(Place(path))

    def read(key: str, value: Any) -> AnnotatedImage:
        entry = _entry(value, place.at(f"picture {quoted(key)}"))
        once.check(entry.name)
        return pictures.complete(image_of(entry, place.at(f"picture {quoted(entry.name)}"), tied=tied))

    for key, value in _pictures_in(read_json(path), place).items():
        name = value.get("filename") if isinstance(value, dict) else None
        yield Unread(name if isinstance(name, str) else key, partial(read, key, value))


def writing(path: Path) -> AbstractContextManager[Add]:
    """Write the JSON of VIA 2, one picture a line, under the key ``<filename><size>``.

    Raises
    ------
    InputError
        On adding, if two pictures have one name, or an attribute is nothing that JSON can hold.
    """
    return _writing(path, entry_of)


def writing_published(path: Path) -> AbstractContextManager[Add]:
    """Write as the published archive does: polygons, and no attributes of pictures or regions."""
    return _writing(path, bare_entry_of)


@contextmanager
def _writing(path: Path, entry_of: Callable[[AnnotatedImage], Entry]) -> Iterator[Add]:
    once, once_key = Once(Place(None)), Once(Place(None))
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        separator = "{\n"

        def add(image: AnnotatedImage) -> None:
            nonlocal separator
            entry = entry_of(image)
            key = f"{entry.name}{entry.size}"
            value = {
                "filename": entry.name,
                "size": entry.size,
                "regions": entry.regions,
                "file_attributes": entry.file_attributes,
            }
            text = f"{json_text(key)}:{json_text(value)}"
            once.check(entry.name)
            once_key.check(key)
            file.write(f"{separator}{text}")
            separator = ",\n"

        yield add
        file.write("{\n}\n" if separator == "{\n" else "\n}\n")


def recognises(path: Path) -> bool:
    """Tell by the first megabyte whether a file is VIA's JSON."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        beginning = file.read(_PEEKED)
    return b'"_via_img_metadata"' in beginning or (b'"filename"' in beginning and b'"regions"' in beginning)


def _pictures_in(document: Any, place: Place) -> dict[str, Any]:
    if not isinstance(document, dict):
        place.refuse("VIA's annotations, an object with one entry a picture", kind(document))
    if "_via_img_metadata" in document:
        document = document["_via_img_metadata"]
        if not isinstance(document, dict):
            place.at("_via_img_metadata").refuse("an object with one entry a picture", kind(document))
    elif any(key.startswith("_via_") for key in document):
        place.refuse("a VIA project with _via_img_metadata", "one without")
    elif {"metadata", "file", "view"} <= set(document):
        place.refuse("the JSON of VIA 1 or VIA 2", "a VIA 3 project")
    return document


def _entry(value: Any, place: Place) -> Entry:
    if not isinstance(value, dict):
        place.refuse("a picture's filename, size and regions", kind(value))
    name, size = value.get("filename"), value.get("size", -1)
    attributes, regions = value.get("file_attributes", {}), value.get("regions")
    if not isinstance(name, str):
        place.at("filename").refuse("text", kind(name))
    if type(size) not in (int, str) or not file_size_fits(str(size)):
        place.at("size").refuse("a whole number of bytes, or -1", kind(size))
    if not isinstance(attributes, dict):
        place.at("file_attributes").refuse("an object", kind(attributes))
    if isinstance(regions, dict):
        regions = _in_order(regions)
    if not isinstance(regions, list):
        place.at("regions").refuse("a list, or an object with one entry a region", kind(regions))
    return Entry(name, size, attributes, regions)


def _in_order(regions: dict[str, Any]) -> list[Any]:
    """VIA 1 keys regions by "0", "1", …: the order they count, even if a tool has sorted them as text."""
    if all(key.isascii() and key.isdecimal() and len(key) < 20 for key in regions):
        return [regions[key] for key in sorted(regions, key=int)]
    return list(regions.values())


_PUBLISHED = Codec(
    name="via",
    find=find,
    find_foreign=partial(find, tied=False),
    writing=writing_published,
    recognises=recognises,
    one_file=True,
    loses=("holes and parts become regions of their own", "attributes, and the sizes of pictures"),
)

CODEC = Codec(
    name="via",
    find=find,
    find_foreign=partial(find, tied=False),
    writing=writing,
    recognises=recognises,
    one_file=True,
    loses=("holes and parts become regions of their own",),
    published=_PUBLISHED,
)
