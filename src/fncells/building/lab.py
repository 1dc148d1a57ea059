"""What a lab hands in: its pictures, what it tells of them, and what its annotators have drawn, paired by names."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fncells import files
from fncells.about import ABOUT_NAME, About, read_about
from fncells.building.inputs import Inputs
from fncells.building.keys import Key
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import find_annotations, recognise
from fncells.images import Plane
from fncells.index import INDEX_COLUMNS, index_records, read_index, specimen_told
from fncells.names import NamePattern, parse_name, slice_key

__all__ = ["UNKNOWN_SPECIES", "Lab", "gather"]

UNKNOWN_SPECIES = "unknown"


@dataclass(frozen=True, eq=False)
class Lab:
    """All that the lab has handed in, paired.

    Parameters
    ----------
    pictures
        The raw pictures.
    rows
        What the metadata say, by column.
    cells
        What was annotated; a picture without annotations is not among them.
    broken
        Why the annotations of a picture cannot be read.
    inputs
        SHA-256 of metadata, annotations and ``about.toml``, by name.
    extra_columns
        Columns of the metadata beside those of the index.
    about
        What the lab says about itself.
    warnings
        What does not fit together, one line each.
    pattern
        The lab's own rule of the names.
    plane
        Which picture is taken of files that hold several.
    """

    pictures: Mapping[Key, Path]
    rows: Mapping[Key, Mapping[str, Any]]
    cells: Mapping[Key, AnnotatedImage]
    broken: Mapping[Key, str]
    inputs: Mapping[str, str]
    extra_columns: tuple[str, ...]
    about: About
    warnings: tuple[str, ...]
    pattern: NamePattern | None = None
    plane: Plane = field(default_factory=Plane)

    def value(self, key: Key, column: str) -> Any:
        """Tell what the metadata say of a picture; None where they say nothing."""
        return self.rows.get(key, {}).get(column)

    def slice_of(self, key: Key) -> str:
        """Name the field of view that a picture shows."""
        return slice_key(key.name, self.pattern, specimen_told(self.rows.get(key, {})))

    def species_of(self, key: Key) -> str:
        """Name the species, by the metadata or else by the name."""
        told = self.value(key, "species") or parse_name(key.name, self.pattern).species
        return str(told).lower() if told else UNKNOWN_SPECIES

    def animal_of(self, key: Key) -> str | None:
        """Name the animal, by the metadata or else by the name."""
        return specimen_told(self.rows.get(key, {})).animal_key or parse_name(key.name, self.pattern).animal_key


def gather(inputs: Inputs, name_pattern: str | None, plane: Plane) -> Lab:
    """Read what the lab tells of its pictures, and pair it with them.

    Parameters
    ----------
    inputs
        Where it stands.
    name_pattern
        The lab's own rule of the names, if it has one.
    plane
        Which picture to take of files that hold several.

    Returns
    -------
    Lab

    Raises
    ------
    InputError
        If metadata, annotations or what the lab says about itself cannot be read, or a picture has two of them.
    """
    raw, finder = inputs.raw, _Finder(inputs.pictures)
    names: dict[str, Path] = {}
    warnings = _outside(raw / "raw")
    rows: dict[Key, Mapping[str, Any]] = {}
    extra: tuple[str, ...] = ()
    if inputs.metadata is not None:
        table = read_index(inputs.metadata)
        extra = tuple(name for name in table.columns if name not in INDEX_COLUMNS)
        rows = _pair_rows(inputs.metadata, index_records(table), finder, warnings)
        warnings += [f"{key}: no row in {inputs.metadata.name}" for key in inputs.pictures if key not in rows]
        names[inputs.metadata.name] = inputs.metadata
    cells: dict[Key, AnnotatedImage] = {}
    broken: dict[Key, str] = {}
    found_in: dict[Key, Path] = {}
    for path in inputs.annotations:
        for key, image in _pair_annotations(path, raw / "raw", finder, warnings):
            if key in found_in:
                raise InputError(
                    path,
                    place=f"picture {key.name!r}",
                    expected="one annotation of each picture",
                    found=f"another of {key} in {found_in[key]}",
                    advice="name the files to take with --annotations",
                )
            found_in[key] = path
            if isinstance(image, InputError):
                broken[key] = str(image)
            else:
                cells[key] = image
        names[f"annotations/{path.name}"] = path
    cells = {key: _marked(image, rows.get(key, {}).get("marker")) for key, image in cells.items()}
    about = read_about(raw / ABOUT_NAME) if raw / ABOUT_NAME in inputs.told else About()
    names[ABOUT_NAME] = raw / ABOUT_NAME
    digests = {name: digest for name, path in names.items() if (digest := inputs.told.get(path))}
    pattern = None if name_pattern is None else NamePattern(name_pattern)
    if pattern is not None:
        warnings += [
            f"{key}: its name does not fit the name pattern"
            for key in inputs.pictures
            if pattern.match(key.name) is None
        ]
    return Lab(inputs.pictures, rows, cells, broken, digests, extra, about, tuple(warnings), pattern, plane)


def _marked(image: AnnotatedImage, marker: str | None) -> AnnotatedImage:
    """Give the cells the marker that the metadata tell, where the annotator has told none."""
    if marker is None:
        return image
    cells = (cell if cell.marker is not None else replace(cell, marker=marker) for cell in image.cells)
    return replace(image, cells=tuple(cells))


def _outside(root: Path) -> list[str]:
    """Pictures that lie in no collection's folder."""
    pictures = files.PICTURE_SUFFIXES | files.MICROSCOPE_SUFFIXES
    names = sorted(path.name for path in root.iterdir() if path.suffix.lower() in pictures and not path.is_dir())
    return [f"{root.name}/{name}: in no collection's folder; left out" for name in names if not name.startswith(".")]


def _pair_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], finder: "_Finder", warnings: list[str]
) -> dict[Key, Mapping[str, Any]]:
    paired: dict[Key, Mapping[str, Any]] = {}
    for row in rows:
        name, collection = row["original_name"], row["dataset"]
        said = "/".join(filter(None, (collection, name)))
        fitting = finder.find(name, collection) if name else []
        if len(fitting) != 1:
            what = "no picture" if not fitting else f"{len(fitting)} pictures fit"
            warnings.append(f"{path.name}: {what} for the row {said or 'without original_name'}")
        elif fitting[0] in paired:
            raise InputError(path, expected="one row a picture", found=f"two rows for {fitting[0]}")
        else:
            paired[fitting[0]] = row
    return paired


def _pair_annotations(
    path: Path, raw: Path, finder: "_Finder", warnings: list[str]
) -> Iterator[tuple[Key, AnnotatedImage | InputError]]:
    """Read an annotation file; one that is named after a collection speaks of that collection alone.

    Annotations that cannot be read fail their picture and no other: it must not pass for one without annotations.
    """
    words = re.split(r"[^a-z0-9]+", path.stem.lower())
    named = [collection for collection in finder.collections if collection.lower() in words]
    collection = named[0] if len(named) == 1 else None
    format_name = recognise(path)
    # VIA's outlines need no picture, and a broken picture must not stop the reading of the others' outlines.
    images = None if format_name in {"via", "via-csv"} else raw / (collection or "")
    for unread in find_annotations(path, format_name, images):
        image: AnnotatedImage | InputError
        try:
            image = unread.read()
            name = image.name
        except InputError as error:
            image, name = error, unread.name
        fitting = finder.find(name, collection)
        if len(fitting) == 1:
            yield fitting[0], image
        elif isinstance(image, InputError):
            warnings.append(f"{path.name}: {image}")
        else:
            what = "no picture" if not fitting else f"{len(fitting)} pictures fit"
            warnings.append(f"{path.name}: {what} for the annotations of {name!r}")


class _Finder:
    """Finds the raw picture that a row or an annotation names, never by a part of a name.

    First by the path below the collection's folder, then by that without suffix, then by the file name, and then by that
    without suffix; upper and lower case are the same.
    """

    def __init__(self, pictures: Iterable[Key]) -> None:
        self._keys: dict[tuple[int, str], list[Key]] = defaultdict(list)
        for key in pictures:
            for level in enumerate(_spellings(key.name)):
                self._keys[level].append(key)
        self.collections = sorted({key.collection for key in pictures})

    def find(self, name: str, collection: str | None) -> list[Key]:
        """Give the pictures that fit best, of one collection or of any."""
        for level in enumerate(_spellings(name)):
            fitting = [
                key
                for key in self._keys.get(level, ())
                if collection is None or key.collection.lower() == collection.lower()
            ]
            if fitting:
                return fitting
        return []


def _spellings(name: str) -> tuple[str, str, str, str]:
    path = name.replace("\\", "/").strip().lower()
    file = path.rpartition("/")[2]
    return path, _without_suffix(path), file, _without_suffix(file)


def _without_suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix) if suffix in files.PICTURE_SUFFIXES | files.MICROSCOPE_SUFFIXES else path
