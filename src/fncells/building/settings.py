"""How an archive is made, and what came of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from fncells.errors import InputError
from fncells.names import NamePattern
from fncells.plane import Plane

__all__ = ["BuildSettings", "BuildSummary", "Share"]

GROUPS = ("slice", "animal")


@dataclass(frozen=True)
class BuildSettings:
    """How an archive is made.

    Parameters
    ----------
    test_share
        Share of the labelled pictures of each collection that goes to ``test``, from 0 to 1.
    seed
        Seed of the split.
    group
        What the split never tears apart: ``slice`` (the pictures of one field of view) or ``animal``.
    balance
        What the split keeps the share in, beside the collection as a whole: ``species``, as metadata and names tell it; None
        nothing more.
    workers
        Processes that convert pictures; the result does not depend on it.
    scheduler
        Address of a Dask scheduler whose workers convert the pictures instead; they must see the folders under the same
        paths.
    metadata
        The lab's metadata (.xlsx, .csv or .parquet); None takes ``metadata.xlsx`` of the raw folder, or .csv, or .parquet,
        if there.
    annotations
        Annotation files or folders; none takes the CSV and JSON files in ``annotations/`` of the raw folder.
    name_pattern
        The rule of the file names where it is not that of the collections: a regular expression whose named groups are
        species, animal, sample, column, row, area, side, zoom, collection, region (see docs/pictures.md).
    plane
        Which picture to take of files that hold several.
    """

    test_share: float = 0.25
    seed: int = 10
    group: Literal["slice", "animal"] = "slice"
    balance: Literal["species"] | None = None
    workers: int = 1
    scheduler: str | None = None
    metadata: Path | None = None
    annotations: tuple[Path, ...] = ()
    name_pattern: str | None = None
    plane: Plane = field(default_factory=Plane)

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 1:
            raise InputError("test share", expected="a number from 0 to 1", found=str(self.test_share))
        if self.group not in GROUPS:
            raise InputError("group", expected=" or ".join(GROUPS), found=repr(self.group))
        if self.balance not in (None, "species"):
            raise InputError("balance", expected="species, or nothing", found=repr(self.balance))
        if self.workers < 1:
            raise InputError("workers", expected="1 or more", found=str(self.workers))
        if self.name_pattern is not None:
            NamePattern(self.name_pattern)

    @property
    def recorded(self) -> dict[str, object]:
        """What the result depends on, as JSON can hold it; what is not chosen is left out."""
        chosen: dict[str, object] = {"test_share": self.test_share, "seed": self.seed, "group": self.group}
        chosen |= {"balance": self.balance} if self.balance is not None else {}
        chosen |= {"name_pattern": self.name_pattern} if self.name_pattern is not None else {}
        return chosen | ({"plane": self.plane.as_dict()} if self.plane.as_dict() else {})


@dataclass(frozen=True)
class Share:
    """How much of a collection, or of one species in it, is in ``test``.

    Parameters
    ----------
    collection, species
        Whose share; ``species`` is None for the collection as a whole.
    wished
        What was asked for, from 0 to 1.
    test, labelled
        Number of pictures in ``test``, and in ``test`` and ``trainval`` together.
    """

    collection: str
    species: str | None
    wished: float
    test: int
    labelled: int

    @property
    def reached(self) -> float | None:
        """The share there is; None of no pictures."""
        return self.test / self.labelled if self.labelled else None


@dataclass(frozen=True)
class BuildSummary:
    """What a build did.

    Parameters
    ----------
    converted, unchanged
        Number of pictures converted now, and of those that were already there as they should be.
    failed
        Name and reason of every picture that could not be converted.
    warnings
        What did not fit together, or was odd, one line each.
    pictures
        Number of pictures by collection and partition.
    shares
        Wished and reached share of ``test``: of each collection, and of each species in it where it was balanced by them. It is
        as near to the wish as groups, and partitions that were given, allow.
    """

    converted: int
    unchanged: int
    failed: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    pictures: Mapping[str, Mapping[str, int]]
    shares: tuple[Share, ...]

    @property
    def exit_code(self) -> int:
        """0 if every picture is in the archive, else 1."""
        return 1 if self.failed else 0

    @property
    def test_shares(self) -> dict[str, float | None]:
        """Reached share of ``test`` by collection."""
        return {share.collection: share.reached for share in self.shares if share.species is None}

    def as_dict(self) -> dict[str, object]:
        """Give the summary as JSON can hold it."""
        return {
            "converted": self.converted,
            "unchanged": self.unchanged,
            "failed": [{"picture": name, "reason": reason} for name, reason in self.failed],
            "warnings": list(self.warnings),
            "pictures": {collection: dict(counts) for collection, counts in self.pictures.items()},
            "test_share": self.test_shares,
            "shares": [{**asdict(share), "reached": share.reached} for share in self.shares],
        }
