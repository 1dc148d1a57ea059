"""From a lab's folder to an archive: the tour, synthetic labs, building."""

from pathlib import Path
from typing import Annotated

from fncells.commands.common import AS_USUAL, FLAT, Common, name_failures, warn
from fncells.errors import InputError
from fncells.ingest import BuildSettings, Share
from fncells.ingest import build as build_archive
from fncells.plane import Plane

__all__ = ["build", "demo", "synth"]

FLAT(Plane)  # within the settings: --channel rather than --plane.channel


def demo(
    folder: Path = Path("demo"), /, *, pictures: int = 12, seed: int = 1, workers: int = 2, common: Common = AS_USUAL
) -> int:
    """The whole tour on a small synthetic collection, with pictures to look at.

    Makes a lab folder, builds an archive of it, checks and describes it, trains a small network, evaluates it beside the
    packaged model, counts cells and writes the reports. Open index.html in the folder afterwards.

    Example: fncells demo

    Parameters
    ----------
    folder
        Where everything goes.
    pictures
        Pictures of each collection.
    seed
        Seed of everything random.
    workers
        Processes to work with.
    """
    from fncells.demo import tour

    page = tour(folder, pictures=pictures, seed=seed, workers=workers, say=common.say)
    common.result({"report": page.as_posix()}, f"Open {page} in a browser.")
    return 0


def synth(
    folder: Path,
    /,
    *,
    pictures: int,
    seed: int,
    collections: str = "green,red,yellow",
    size: str = "1600x1200",
    crowding: float = 1.0,
    artefacts: float = 1.0,
    contrast: float = 1.0,
    hue: float = 1.0,
    ambiguity: float = 1.0,
    subjectivity: float = 1.0,
    annotators: int = 1,
    workers: int = 1,
    common: Common = AS_USUAL,
) -> int:
    """Make a synthetic lab folder: raw pictures, annotations, metadata and truth.

    The dials from crowding to subjectivity make the pictures easier or harder: 1 is as in the published collections, 0 is
    none of it, 2 twice as much.

    Example: fncells synth lab --pictures 20 --seed 1

    Parameters
    ----------
    folder
        Where it goes.
    pictures
        Pictures of each collection.
    seed
        The same seed gives the same bytes.
    collections
        Out of green, red and yellow, with commas between.
    size
        Width and height of the pictures in pixels.
    crowding
        How many cells lie side by side.
    artefacts
        How many spots, filaments, stripes, bright edges and rods there are.
    contrast
        How far pictures differ in the brightness of background and cells.
    hue
        How far they differ in hue.
    ambiguity
        How many cells are left unmarked, and how bright those are.
    subjectivity
        How far annotators differ in what they mark and how.
    annotators
        How many people mark every picture, each in an own way (annotators/2, annotators/3...).
    workers
        Processes to work with.
    """
    from fncells.synthetic import Challenges, synthesise

    chosen = tuple(name.strip() for name in collections.split(","))
    dials = Challenges(crowding, artefacts, contrast, hue, ambiguity, subjectivity)
    synthesise(folder, pictures, seed, chosen, _size(size), workers, dials, annotators)
    made = {"folder": folder.as_posix(), "collections": list(chosen), "pictures": pictures * len(chosen), "seed": seed}
    common.result(made, f"{made['pictures']} pictures are in {folder}.")
    return 0


def build(
    raw: Path,
    archive: Path,
    /,
    *,
    settings: Annotated[BuildSettings, FLAT] = BuildSettings(),  # noqa: B008 - frozen
    common: Common = AS_USUAL,
) -> int:
    """Make an archive from a lab's raw pictures, annotations and metadata.

    Example: fncells build lab archive --group animal --balance species

    Parameters
    ----------
    raw
        Folder with raw/COLLECTION/, annotations/ and metadata.xlsx.
    archive
        The archive to make. Numbers and partitions once given never change.
    settings
        How to build.
    """
    summary = build_archive(raw, archive, settings)
    warn(summary.warnings)
    name_failures(dict(summary.failed))
    text = "\n".join(
        f"{collection}: {', '.join(f'{number} {partition}' for partition, number in partitions.items())}"
        f"; {', '.join(_share(share) for share in summary.shares if share.collection == collection)}"
        for collection, partitions in summary.pictures.items()
    )
    told = f"{summary.converted} converted, {summary.unchanged} unchanged, {len(summary.failed)} failed"
    common.result(summary.as_dict(), f"{text}\n{told}")
    return summary.exit_code


def _share(share: Share) -> str:
    whose = "test" if share.species is None else share.species
    reached = "nothing labelled" if share.reached is None else f"{100 * share.reached:.1f} %"
    return f"{whose} {reached} of {100 * share.wished:g} % wished"


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.lower().partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and int(width) >= 32 and int(height) >= 32):
        argument = "--size"
        raise InputError(argument, expected="width x height in pixels, each at least 32, like 1600x1200", found=text)
    return int(width), int(height)
