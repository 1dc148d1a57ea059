"""An archive of collections as it lies on disk, and the index that tells what each picture is.

The layout is that of the published collections (Clissa et al., FNC v2, figure 4 and Data Records)::

    metadata_v2.xlsx                                              the index: one row a picture
    <collection>/{trainval,test}/images/<number>.png
    <collection>/{trainval,test}/metadata/<number>.txt                KEY<tab>VALUE; <number>.json beside it holds every byte
    <collection>/{trainval,test}/ground_truths/                   masks and the other formats; see `fncells.truths`
    <collection>/unlabelled/{images,metadata}/

The folders decide which picture belongs to which partition; the index adds what it knows and need not be there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.images import Picture, PixelSize, read_picture
from fncells.index import (
    INDEX_COLUMNS,
    INDEX_NAME,
    INDEX_SUFFIXES,
    LABELLED,
    PARTITIONS,
    index_frame,
    read_index,
    write_index,
)
from fncells.truths import PICTURE_TRUTHS

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
    """One picture of an archive with its ground truth.

    Parameters
    ----------
    collection, partition
        Where it belongs; ``partition`` is ``trainval``, ``test`` or ``unlabelled``.
    name
        File name in the archive, such as ``128.png``.
    picture_path
        The picture.
    mask_path, labels_path
        Binary mask and label picture; None where there is none.
    pixel_size
        From the index; None where it does not tell.
    original_name
        Name of the raw picture, from the index.
    """

    collection: str
    partition: str
    name: str
    picture_path: Path
    mask_path: Path | None = None
    labels_path: Path | None = None
    pixel_size: PixelSize | None = None
    original_name: str | None = None

    def read_picture(self) -> Picture:
        """Read the picture; the index's pixel size stands in where the picture has none itself."""
        picture = read_picture(self.picture_path, self.name)
        return picture if picture.pixel_size is not None else replace(picture, pixel_size=self.pixel_size)

    def read_cells(self) -> AnnotatedImage:
        """Read the annotated cells: the label picture's where there is one, else the mask's 8-connected components.

        Returns
        -------
        AnnotatedImage
            Without cells where the mask is empty.

        Raises
        ------
        InputError
            If the picture has no ground truth, or its file is no picture of one channel.
        """
        if self.labels_path is not None:
            return AnnotatedImage.from_labels(self.name, read_picture(self.labels_path).pixels)
        if self.mask_path is None:
            raise InputError(
                self.picture_path,
                expected="a picture with ground truth",
                found=f"no mask of that name in {self.collection}/{self.partition}",
                advice="choose the partitions trainval and test, and run `fncells check` on the archive",
            )
        values = read_picture(self.mask_path).pixels
        flat = values.max(axis=2) if values.ndim == 3 else values
        # Half of what is there, so that 0/1, 0/255 and 0/65535 are all read alike.
        return AnnotatedImage.from_mask(self.name, flat > np.float64(flat.max(initial=0)) / 2)


@dataclass(frozen=True, eq=False)
class Archive:
    """Collections of pictures with ground truth, as published or as `fncells build` makes them.

    Parameters
    ----------
    root
        The archive's folder.
    collections
        Names of the collections in it, sorted.
    """

    root: Path
    collections: tuple[str, ...]

    @classmethod
    def open(cls, path: Path | str) -> "Archive":
        """Open an archive, or one collection of it.

        Parameters
        ----------
        path
            The folder that holds the collections, or the folder of one collection.

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
            return cls(resolved.parent, (resolved.name,))
        collections = tuple(sorted(folder.name for folder in root.iterdir() if _is_collection(folder)))
        if not collections:
            raise InputError(
                root,
                expected="collections, folders that hold trainval/images, test/images or unlabelled/images",
                found="none",
                advice="make an archive with `fncells build`, or get the published one with `fncells fetch`",
            )
        return cls(root, collections)

    @cached_property
    def index(self) -> "pd.DataFrame":
        """One row a picture with at least `INDEX_COLUMNS`; what is unknown is NA.

        Without ``metadata_v2.xlsx``, or one of the same name as ``.csv`` or ``.parquet``, it holds what the folders tell:
        name, collection and partition.
        """
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

    def samples(self, collection: str | None = None, partition: str | None = None) -> list[Sample]:
        """List the pictures, by collection, partition and number.

        Parameters
        ----------
        collection, partition
            Only these; None takes all.

        Returns
        -------
        list of Sample
            Masks without a picture are not among them (see `unpaired_masks`).

        Raises
        ------
        InputError
            If there is no such collection or partition, or the index cannot be read.
        """
        collections = _chosen(self.root, "collection", collection, self.collections)
        partitions = _chosen(self.root, "partition", partition, PARTITIONS)
        return [
            self._sample(one, part, picture)
            for one in collections
            for part in partitions
            for picture in self._pictures(one, part)
        ]

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
    def _known(self) -> dict[tuple[str, str], tuple[str | None, PixelSize | None]]:
        """Original name and pixel size by collection and stem: some indexes name pictures without the suffix."""
        import pandas as pd

        known = {}
        columns = ("dataset", "image_name", "original_name", "pixel_size_um", "pixel_size_source")
        for dataset, image, original, um, source in self.index[list(columns)].itertuples(index=False, name=None):
            if pd.isna(dataset) or pd.isna(image):
                continue
            size = None if pd.isna(um) else PixelSize(float(um), "index" if pd.isna(source) else str(source))
            known[str(dataset).lower(), _stem(str(image))] = (None if pd.isna(original) else str(original), size)
        return known

    def _sample(self, collection: str, partition: str, picture: Path) -> Sample:
        mask = self.root / path_of("masks", collection, partition, picture.stem)
        labels = self.root / path_of("labels", collection, partition, picture.stem)
        original, size = self._known.get((collection.lower(), picture.stem), (None, None))
        return Sample(
            collection=collection,
            partition=partition,
            name=picture.name,
            picture_path=picture,
            mask_path=mask if mask.exists() else None,
            labels_path=labels if labels.exists() else None,
            pixel_size=size,
            original_name=original,
        )


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
