"""Which picture it is, and where it lies in the archive."""

from typing import NamedTuple

__all__ = ["Key", "Place"]


class Key(NamedTuple):
    """Identity of a picture: its collection, and its original name relative to the collection's raw folder."""

    collection: str
    name: str

    def __str__(self) -> str:
        return f"{self.collection}/{self.name}"


class Place(NamedTuple):
    """Where a picture lies in the archive."""

    number: int
    partition: str
