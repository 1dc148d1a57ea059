"""An archive of collections as it lies on disk, and the index that tells what each picture is.

The layout is that of the published collections (Clissa et al., FNC v2, figure 4 and Data Records)::

    metadata_v2.xlsx                                              the index: one row a picture
    <collection>/{trainval,test}/images/<number>.png
    <collection>/{trainval,test}/metadata/<number>.txt                KEY<tab>VALUE; <number>.json beside it holds every byte
    <collection>/{trainval,test}/ground_truths/                   masks and the other formats; see `fncells.truths`
    <collection>/unlabelled/{images,metadata}/

The folders decide which picture belongs to which partition; the index adds what it knows and need not be there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.files import read_record
from fncells.formats import CODECS, codec_named
from fncells.images import Picture, PixelSize, picture_shape, read_picture
from fncells.index import (
    INDEX_COLUMNS,
    INDEX_NAME,
    INDEX_SUFFIXES,
    LABELLED,
    PARTITIONS,
    index_frame,
    index_records,
    read_index,
    specimen_told,
    write_index,
)
from fncells.names import NamePattern, parse_name, slice_key
from fncells.truths import PARTITION_TRUTHS, PICTURE_TRUTHS, truth_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "INDEX_COLUMNS",
    "INDEX_NAME",
    "LABELLED",
    "PARTITIONS",
    "Archive",
    "Sample",
    "index_frame",
    "path_of",
    "read_index",
    "write_index",
]

_FILES = {
    "images": "images/{number}.png",
    "metadata": "metadata/{number}.txt",
    "sidecar": "metadata/{number}.json",
    **{kind: f"ground_truths/{truth.path}" for kind, truth in PICTURE_TRUTHS.items()},
}


def path_of(kind: str, collection: str, partition: str, stem: str) -> PurePosixPath:
    """Tell where a picture's file lies, relative to the archive.

    Parameters
    ----------
    kind
        ``images``, ``metadata``, ``sidecar``, or one of :data:`fncells.truths.PICTURE_TRUTHS`.
    collection, partition, stem
        Whose file; ``stem`` is the picture's name in the archive without suffix.

    Returns
    -------
    pathlib.PurePosixPath
        Relative path with forward slashes.
    """
    return PurePosixPath(collection, partition, _FILES[kind].format(number=stem))


@dataclass(frozen=True)
class Sample:
    """One picture of an archive with its ground truth; files are read when they are asked for.

    Parameters
    ----------
    root
        The archive's folder.
    collection, partition
        Where it belongs; ``partition`` is ``trainval``, ``test`` or ``unlabelled``.
    name
        File name in the archive, such as ``128.png``.
    pixel_size
        From the index; None where it does not tell.
    original_name
        Name of the raw picture, from the index.
    slice
        Key of the field of view that it shows, see `fncells.names.slice_key`; None without an original name.
    animal
        The animal in one spelling, from the index or the original name.
    """

    root: Path
    collection: str
    partition: str
    name: str
    pixel_size: PixelSize | None = None
    original_name: str | None = None
    slice: str | None = None
    animal: str | None = None

    @property
    def picture_path(self) -> Path:
        """The picture's file."""
        return self._path("images")

    @property
    def mask_path(self) -> Path | None:
        """The binary mask's file; None where there is none."""
        return self._path_if_there("masks")

    @property
    def labels_path(self) -> Path | None:
        """The label picture's file; None where there is none."""
        return self._path_if_there("labels")

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that `read_cells` can take the cells from, its own choice first."""
        return tuple(self._truths())

    def read_picture(self) -> Picture:
        """Read the picture; the index's pixel size stands in where the picture has none itself."""
        picture = read_picture(self.picture_path, self.name)
        return picture if picture.pixel_size is not None else replace(picture, pixel_size=self.pixel_size)

    def read_cells(self, format_name: str | None = None) -> AnnotatedImage:
        """Read the annotated cells, as the format's own reader does; the published archive's files are known by themselves.

        Their mask, labels, boxes, centres, outlines and number are those of the value that is given back. What a format does
        not hold is not in it: masks and the published run lengths know 8-connected regions, and the published COCO files have
        outlines cut to 50 points.

        Parameters
        ----------
        format_name
            One of `formats`: ``masks``, ``labels``, ``rle``, ``coco``, ``voc``, ``via`` and so on. None takes the label picture
            where there is one, else the mask, else the first of the others.

        Returns
        -------
        AnnotatedImage
            Named and sized as the picture; without cells where the annotators found none.

        Raises
        ------
        InputError
            If the picture has no ground truth, or none in that format, or the file is broken.
        """
        truths = self._truths()
        chosen = next(iter(truths), None) if format_name is None else codec_named(format_name).name
        if chosen is None or chosen not in truths:
            raise InputError(
                self.picture_path,
                expected="a picture with ground truth" + (f" as {format_name}" if format_name else ""),
                found=f"{', '.join(truths) or 'none'} in {self.collection}/{self.partition}",
                advice="choose one of these" if truths else "choose the partitions trainval and test",
            )
        path = truths[chosen]
        image = self._of_partition(path, chosen) if chosen in PARTITION_TRUTHS else next(CODECS[chosen].read(path))
        return replace(image, name=self.name, shape=image.shape or picture_shape(self.picture_path))

    def _of_partition(self, path: Path, format_name: str) -> AnnotatedImage:
        status = path.stat()
        found = _partition_cells(path, format_name, (status.st_mtime_ns, status.st_size)).get(self._number)
        if found is None:
            advice = "run `fncells check` on the archive"
            raise InputError(path, expected=f"annotations of {self.name}", found="none", advice=advice)
        if isinstance(found, InputError):
            raise found.with_traceback(None)
        return found

    @property
    def _number(self) -> str:
        return PurePosixPath(self.name).stem

    def _path(self, kind: str) -> Path:
        return self.root / path_of(kind, self.collection, self.partition, self._number)

    def _path_if_there(self, kind: str) -> Path | None:
        path = self._path(kind)
        return path if path.exists() else None

    def _truths(self) -> dict[str, Path]:
        """Where the cells can be read, by format, the default first; of two files of one format the one that tells more."""
        truths: dict[str, Path] = {}
        for truth in (PICTURE_TRUTHS["labels"], *PICTURE_TRUTHS.values(), *PARTITION_TRUTHS.values()):
            path = self.root / truth_path(truth, self.collection, self.partition, self._number)
            if path.exists():
                truths.setdefault(truth.format, path)
        return truths


_FILES_KEPT = 8  # of whole partitions, so that going through all of an archive takes no more memory than a few of them


@lru_cache(maxsize=_FILES_KEPT)
def _partition_cells(path: Path, format_name: str, _state: tuple[int, int]) -> dict[str, AnnotatedImage | InputError]:
    """Read a file of a whole partition once: cells by the pictures' names without suffix, or why they cannot be read."""
    found: dict[str, AnnotatedImage | InputError] = {}
    for unread in CODECS[format_name].find(path, None):
        try:
            found[PurePosixPath(unread.name).stem] = unread.read()
        except InputError as error:
            found[PurePosixPath(unread.name).stem] = error
    return found


@dataclass(frozen=True, eq=False)
class Archive:
    """Collections of pictures with ground truth, as published or as `fncells build` makes them.

    Parameters
    ----------
    root
        The archive's folder.
    collections
        Names of the collections in it, sorted.
    given_index
        The index, where it is known; None reads it when it is asked for.
    """

    root: Path
    collections: tuple[str, ...]
    given_index: "pd.DataFrame | None" = None

    @classmethod
    def open(cls, path: Path | str, index: "pd.DataFrame | None" = None) -> "Archive":
        """Open an archive, or one collection of it.

        Parameters
        ----------
        path
            The folder that holds the collections, or the folder of one collection.
        index
            Its index, where it is known; None reads it when it is asked for.

        Returns
        -------
        Archive
            Nothing is read yet but the names of the folders.

        Raises
        ------
        InputError
            If there is no collection: no folder with ``trainval``, ``test`` or ``unlabelled`` pictures in it.
        """
        root = Path(path)
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing of that name"
            raise InputError(root, expected="the folder of an archive", found=found)
        if _is_collection(root):
            resolved = root.resolve()
            return cls(resolved.parent, (resolved.name,), index)
        collections = tuple(sorted(folder.name for folder in root.iterdir() if _is_collection(folder)))
        if not collections:
            raise InputError(
                root,
                expected="collections, folders that hold trainval/images, test/images or unlabelled/images",
                found="none",
                advice="make an archive with `fncells build`, or get the published one with `fncells fetch`",
            )
        return cls(root, collections, index)

    @cached_property
    def index(self) -> "pd.DataFrame":
        """One row a picture with at least `INDEX_COLUMNS`; what is unknown is NA.

        Without ``metadata_v2.xlsx``, or one of the same name as ``.csv`` or ``.parquet``, it holds what the folders tell:
        name, collection and partition.
        """
        if self.given_index is not None:
            return self.given_index
        for path in (self.root / Path(INDEX_NAME).with_suffix(suffix) for suffix in INDEX_SUFFIXES):
            if path.exists():
                return read_index(path, required=("image_name", "dataset"))
        rows = [
            {"image_name": picture.name, "dataset": collection, "partition": partition}
            for collection in self.collections
            for partition in PARTITIONS
            for picture in self._pictures(collection, partition)
        ]
        return index_frame(rows)

    def samples(self, collection: str | None = None, partition: str | None = None) -> tuple[Sample, ...]:
        """Give the pictures, by collection, partition and number; nothing of them is read yet.

        Parameters
        ----------
        collection, partition
            Only these; None takes all.

        Returns
        -------
        tuple of Sample
            Masks without a picture are not among them (see `unpaired_masks`).

        Raises
        ------
        InputError
            If there is no such collection or partition, or the index cannot be read.
        """
        collections = _chosen(self.root, "collection", collection, self.collections)
        partitions = _chosen(self.root, "partition", partition, PARTITIONS)
        return tuple(
            self._sample(one, part, picture)
            for one in collections
            for part in partitions
            for picture in self._pictures(one, part)
        )

    def unpaired_masks(self) -> list[Path]:
        """List masks that belong to no picture; the published green collection has one."""
        return [
            mask
            for collection in self.collections
            for partition in LABELLED
            for mask in _by_number(self.root / collection / partition / "ground_truths" / "masks")
            if not (self.root / path_of("images", collection, partition, mask.stem)).exists()
        ]

    def _pictures(self, collection: str, partition: str) -> list[Path]:
        return _by_number(self.root / collection / partition / "images")

    @cached_property
    def name_pattern(self) -> NamePattern | None:
        """The lab's own rule of the original names, where the archive was built by one; None is that of the collections."""
        settings = (read_record(self.root) or {}).get("settings")
        text = settings.get("name_pattern") if isinstance(settings, dict) else None
        return NamePattern(text) if isinstance(text, str) else None

    @cached_property
    def _known(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What the index knows of a sample by collection and stem: some indexes name pictures without the suffix."""
        known = {}
        for row in index_records(self.index):
            if row["dataset"] is not None and row["image_name"] is not None:
                known[row["dataset"].lower(), _stem(row["image_name"])] = self._told(row)
        return known

    def _told(self, row: Mapping[str, Any]) -> dict[str, Any]:
        specimen, um, original = specimen_told(row), row["pixel_size_um"], row["original_name"]
        size = None if um is None else PixelSize(um, row["pixel_size_source"] or "index")
        if original is None:
            return {"pixel_size": size, "animal": specimen.animal_key}
        return {
            "pixel_size": size,
            "original_name": original,
            "slice": slice_key(original, self.name_pattern, specimen),
            "animal": specimen.animal_key or parse_name(original, self.name_pattern).animal_key,
        }

    def _sample(self, collection: str, partition: str, picture: Path) -> Sample:
        told = self._known.get((collection.lower(), picture.stem), {})
        return Sample(self.root, collection, partition, picture.name, **told)


def _is_collection(folder: Path) -> bool:
    return any((folder / partition / "images").is_dir() for partition in PARTITIONS)


def _stem(name: str) -> str:
    return name[:-4] if name.lower().endswith(".png") else name


def _by_number(folder: Path) -> list[Path]:
    """PNG files of a folder, numbers in their own order (2 before 10) and before other names."""

    def key(path: Path) -> tuple[bool, int, str]:
        numbered = path.stem.isdecimal() and path.stem.isascii()
        return not numbered, int(path.stem[:18]) if numbered else 0, path.name

    found = folder.glob("*.png") if folder.is_dir() else ()
    return sorted((path for path in found if not path.name.startswith(".")), key=key)


def _chosen(root: Path, what: str, chosen: str | None, known: Sequence[str]) -> Sequence[str]:
    if chosen is None:
        return known
    if chosen not in known:
        raise InputError(root, expected=f"a {what} out of {', '.join(known)}", found=repr(chosen))
    return (chosen,)
