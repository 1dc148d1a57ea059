"""What the commands are given: folders and files become sides with names, groups and pixel sizes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fncells import files
from fncells.errors import InputError
from fncells.evaluation.annotations import Annotation, picture_key, read_groups, read_side
from fncells.evaluation.settings import EvaluateSettings
from fncells.images import read_picture

__all__ = ["Sources", "agreement_sources", "distinct_names", "evaluation_sources"]


@dataclass(frozen=True, eq=False)
class Sources:
    """Everything that a comparison needs.

    Attributes
    ----------
    truth
        The true cells, or the given consensus; empty where there is none.
    predictions, annotators
        By the names they are told by.
    groups, pixel_sizes
        By the pictures' names without suffix.
    pictures
        The pictures by name.
    settings
        What the results depend on, for the record.
    inputs
        SHA-256 of every file that was given.
    """

    truth: Sequence[Annotation] = ()
    predictions: Mapping[str, Sequence[Annotation]] = field(default_factory=dict)
    annotators: Mapping[str, Sequence[Annotation]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    pixel_sizes: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


def evaluation_sources(
    truth: Path,
    predictions: Sequence[Path],
    annotators: Sequence[Path],
    settings: EvaluateSettings,
    *,
    images: Path | None = None,
    groups: Path | None = None,
) -> Sources:
    """Find what ``fncells evaluate`` is to compare.

    Parameters
    ----------
    truth, predictions, annotators
        Annotations in any format. One mask or label picture against another one is a pair whatever their names.
    settings
        How to compare.
    images
        The folder of the pictures.
    groups
        A table of the pictures' groups.

    Raises
    ------
    InputError
        If something of it cannot be read.
    """
    true = read_side(truth, images, workers=settings.workers)
    found = {
        name: read_side(path, images, settings.ending, settings.workers)
        for name, path in distinct_names(predictions).items()
    }
    for name, path in distinct_names(predictions).items():
        if _single(truth, true) and _single(path, found[name]):
            found[name] = [replace(found[name][0], name=true[0].name)]
    people = {
        name: read_side(path, images, workers=settings.workers) for name, path in distinct_names(annotators).items()
    }
    given = {"truth": truth, **{f"prediction/{name}": path for name, path in distinct_names(predictions).items()}}
    given |= {f"annotator/{name}": path for name, path in distinct_names(annotators).items()}
    return _sources(true, settings, images, groups, given, predictions=found, annotators=people)


def agreement_sources(
    annotators: Sequence[Path],
    consensus: Path | None,
    settings: EvaluateSettings,
    *,
    images: Path | None = None,
    groups: Path | None = None,
) -> Sources:
    """Find what ``fncells agree`` is to compare; parameters as :func:`evaluation_sources` takes them."""
    named = distinct_names(annotators)
    people = {name: read_side(path, images, settings.ending, settings.workers) for name, path in named.items()}
    truth = read_side(consensus, images, workers=settings.workers) if consensus else []
    given = {f"annotator/{name}": path for name, path in named.items()} | (
        {"consensus": consensus} if consensus else {}
    )
    return _sources(truth, settings, images, groups, given, annotators=people)


def distinct_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name files and folders as shortly as tells them apart: by their last part, or by the parts in which they differ.

    Raises
    ------
    InputError
        If one is given twice.
    """
    resolved = [path.resolve() for path in paths]
    twice = next((path for place, path in enumerate(paths) if resolved[place] in resolved[:place]), None)
    if twice is not None:
        raise InputError(twice, expected="each file or folder once", found="it given twice")
    names = [path.stem if path.is_file() else path.name for path in resolved]
    if len(set(names)) < len(names):
        parts = [path.parts for path in resolved]
        head = _shared(parts)
        tail = min(_shared([one[::-1] for one in parts]), min(map(len, parts)) - head - 1)
        names = ["/".join(one[head : len(one) - tail]) for one in parts]
    return dict(zip(names, paths, strict=True))


def _shared(parts: Sequence[tuple[str, ...]]) -> int:
    """How many parts all begin with."""
    same = [len(set(column)) == 1 for column in zip(*parts, strict=False)]
    return same.index(False) if False in same else len(same)


def _single(path: Path, side: Sequence[Annotation]) -> bool:
    return path.is_file() and len(side) == 1 and side[0].place is not None


def _sources(
    truth: Sequence[Annotation],
    settings: EvaluateSettings,
    images: Path | None,
    groups: Path | None,
    given: Mapping[str, Path],
    **sides: Mapping[str, Sequence[Annotation]],
) -> Sources:
    pictures = {source.name: source.path for source in files.find_pictures([images])} if images else {}
    known: dict[str, Any] = asdict(settings)
    known.pop("workers")
    hashes = {name: digest for label, path in given.items() for name, digest in _hashes(label, path)}
    return Sources(
        truth,
        groups=read_groups(groups) if groups else {},
        pixel_sizes=_pixel_sizes(pictures) if settings.distance_um is not None and settings.pixel_size is None else {},
        pictures=pictures,
        settings=known,
        inputs=hashes | ({"groups": files.sha256(groups)} if groups else {}),
        **sides,
    )


def _pixel_sizes(pictures: Mapping[str, Path]) -> dict[str, float]:
    sizes = {picture_key(name): read_picture(path).pixel_size for name, path in pictures.items()}
    return {key: size.um for key, size in sizes.items() if size is not None}


def _hashes(label: str, path: Path) -> Iterable[tuple[str, str]]:
    if path.is_file():
        yield label, files.sha256(path)
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield f"{label}/{file.relative_to(path).as_posix()}", files.sha256(file)
