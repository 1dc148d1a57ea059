"""An archive described for machines: Croissant 1.0, the format that dataset search and machine-learning loaders read.

Written by hand after the `specification <https://docs.mlcommons.org/croissant/docs/croissant-spec.html>`_; the tests hold it
against its reference reader. What is not known is left out.
"""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fncells import files
from fncells.about import About
from fncells.archive import LABELLED, PARTITIONS, Archive

__all__ = ["CROISSANT_NAME", "Distributed", "croissant", "write_croissant"]

CROISSANT_NAME = "croissant.json"

Json = dict[str, Any]

_CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".pickle": "application/octet-stream",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xml": "text/xml",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}
_OTHER_FORMAT = "application/octet-stream"
_CONTENT = {"images": "Pictures", "metadata": "Metadata of the pictures as text"}
_INDEX_TYPES = {"Int64": "sc:Integer", "Float64": "sc:Float", "boolean": "sc:Boolean"}


class Distributed(NamedTuple):
    """A file that an archive is handed out in.

    Attributes
    ----------
    name
        Its file name, relative to ``croissant.json``.
    sha256, size
        Checksum, and size in bytes.
    """

    name: str
    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> "Distributed":
        """Describe a file."""
        return cls(path.name, files.sha256(path), path.stat().st_size)


def write_croissant(
    path: Path, archive: Archive, about: About | None = None, distribution: Sequence[Distributed] = ()
) -> None:
    """Write what `croissant` gives as JSON; the bytes depend on the archive's content alone."""
    files.write_json(path, croissant(archive, about, distribution))


def croissant(archive: Archive, about: About | None = None, distribution: Sequence[Distributed] = ()) -> Json:
    """Describe an archive: its files, and a record set of the pictures and one of the masks for each collection.

    Parameters
    ----------
    archive
        The archive.
    about
        What the lab says of it.
    distribution
        The files that it is handed out in. A collection with a file ``<collection>.zip`` among them lies in that; the others
        lie beside ``croissant.json`` as in the archive's folder. ``metadata_v2.csv`` gives a record set of the index.

    Returns
    -------
    dict
        JSON-LD.
    """
    about = about or About()
    named = {one.name for one in distribution}
    folders = {name: _folders(archive.root / name) for name in archive.collections}
    sets = [one for name in archive.collections for one in _file_sets(name, folders[name], named)]
    record_sets = [one for name in archive.collections for one in _record_sets(name, folders[name])]
    if "metadata_v2.csv" in named:
        record_sets.append(_index_records(archive))
    told = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about.name or f"Fluorescence microscopy cells: {', '.join(archive.collections)}",
        "description": about.description or _description(archive),
        "version": about.version,
        "license": about.licence_address,
        "url": about.url or (f"https://doi.org/{about.doi}" if about.doi else None),
        "sameAs": f"https://doi.org/{about.doi}" if about.doi and about.url else None,
        "citeAs": about.citation,
        "datePublished": about.date_published,
        "creator": [{"@type": "sc:Person", "name": name} for name in about.creators],
        "publisher": {"@type": "sc:Organization", "name": about.publisher} if about.publisher else None,
        "keywords": list(about.keywords),
        "distribution": [*map(_file_object, distribution), *sets],
        "recordSet": record_sets,
    }
    return {key: value for key, value in told.items() if value not in (None, [])}


def _description(archive: Archive) -> str:
    samples = archive.samples()
    labelled = sum(sample.mask_path is not None for sample in samples)
    return f"{len(samples)} fluorescence-microscopy pictures, {labelled} of them with every cell outlined."


def _file_object(one: Distributed) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": one.name,
        "name": one.name,
        "contentUrl": one.name,
        "contentSize": f"{one.size} B",
        "encodingFormat": _format(PurePosixPath(one.name).suffix),
        "sha256": one.sha256,
    }


def _format(suffix: str) -> str:
    return _FORMATS.get(suffix.lower(), _OTHER_FORMAT)


def _file_sets(collection: str, folders: Mapping[str, Sequence[str]], named: set[str]) -> Iterator[Json]:
    inside = f"{collection}.zip"
    for folder, suffixes in folders.items():
        yield {
            "@type": "cr:FileSet",
            "@id": _set_id(collection, folder),
            "name": _set_id(collection, folder),
            "description": f"{_content(folder)} of the {collection} collection.",
            **({"containedIn": {"@id": inside}} if inside in named else {}),
            "encodingFormat": [_format(suffix) for suffix in suffixes],
            "includes": [f"{glob.escape(collection)}/*/{folder}/*{suffix}" for suffix in suffixes],
        }


def _folders(collection: Path) -> dict[str, list[str]]:
    """Folders of a collection's partitions, with the suffixes of the files in them."""
    found: dict[str, set[str]] = {}
    for partition in PARTITIONS:
        truths = collection / partition / "ground_truths"
        for folder in (collection / partition / "images", collection / partition / "metadata", *truths.glob("*/")):
            suffixes = {path.suffix for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
            if suffixes:
                found.setdefault(folder.relative_to(collection / partition).as_posix(), set()).update(suffixes)
    return {folder: sorted(found[folder]) for folder in sorted(found)}


def _set_id(collection: str, folder: str) -> str:
    return f"{collection}-{folder.rpartition('/')[2]}"


def _content(folder: str) -> str:
    return _CONTENT.get(folder, f"Cells as {folder.rpartition('/')[2]}")


def _record_sets(collection: str, folders: Mapping[str, Sequence[str]]) -> Iterator[Json]:
    for folder, name, what in (
        ("images", collection, "image"),
        ("ground_truths/masks", f"{collection}-true-masks", "mask"),
    ):
        if folder in folders:
            yield _pictures(collection, folder, name, what)


def _pictures(collection: str, folder: str, name: str, what: str) -> Json:
    """Describe a record a picture: its name, its partition, its content.

    Label pictures have no records, since the reference reader makes 8-bit RGB of all pictures.
    """
    source: Json = {"fileSet": {"@id": _set_id(collection, folder)}}
    partitions = "|".join(PARTITIONS if what == "image" else LABELLED)
    regex = f"(?:.*/)?{re.escape(collection)}/({partitions})/.*"
    key = _field(f"{name}/name", "File name, unique in the collection.", "sc:Text", source, fileProperty="filename")
    if what != "image":
        key["references"] = {"field": {"@id": f"{collection}/name"}}
    partition = _field(f"{name}/partition", "Recommended use.", "sc:Text", source, fileProperty="fullpath")
    partition["source"]["transform"] = {"regex": regex}
    said = "The picture." if what == "image" else "255 where there is a cell, else 0."
    content = _field(f"{name}/{what}", said, "sc:ImageObject", source, fileProperty="content")
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{_content(folder)} of the {collection} collection, a record each.",
        "key": {"@id": f"{name}/name"},
        "field": [key, partition, content],
    }


def _index_records(archive: Archive) -> Json:
    source: Json = {"fileObject": {"@id": "metadata_v2.csv"}}
    index = archive.index
    fields = [
        _field(
            f"index/{column}",
            f"Column {column} of the index.",
            _INDEX_TYPES.get(str(index[column].dtype), "sc:Text"),
            source,
            column=str(column),
        )
        for column in index.columns
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "index",
        "name": "index",
        "description": "What is known of each picture, a record each.",
        "field": fields,
    }


def _field(name: str, description: str, kind: str, source: Mapping[str, Any], **extract: str) -> Json:
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": name,
        "description": description,
        "dataType": kind,
        "source": {**source, "extract": extract},
    }
