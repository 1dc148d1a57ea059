"""Which number and which partition each picture gets."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from fncells.building.keys import Key, Place
from fncells.building.lab import UNKNOWN_SPECIES, Lab
from fncells.building.settings import BuildSettings, Share
from fncells.index import LABELLED
from fncells.names import group_keys

__all__ = ["plan", "shares", "split"]

_LEAST_GAIN = 1e-6  # pictures squared; so that rounding moves no group to and fro for ever


def plan(lab: Lab, reserved: Mapping[Key, Place], settings: BuildSettings) -> tuple[dict[Key, Place], list[str]]:
    """Give every picture its number and its partition.

    Parameters
    ----------
    lab
        The pictures, and what the lab tells of them.
    reserved
        Places that were given before; they stay, unless a picture was annotated since.
    settings
        How to split.

    Returns
    -------
    places : dict
        By picture.
    warnings : list of str
        What was meant otherwise, one line each.
    """
    warnings: list[str] = []
    decided: dict[Key, str] = {}
    for key in lab.pictures:
        wish = lab.value(key, "partition")
        given = reserved[key].partition if key in reserved else None
        if key not in lab.cells and key not in lab.broken:
            decided[key] = "unlabelled"
            if wish in LABELLED or given in LABELLED:
                warnings.append(f"{key}: meant for {wish or given}, but without annotations; unlabelled")
        elif given in LABELLED:
            decided[key] = given
            if wish not in (None, given):
                warnings.append(f"{key}: {wish} in the metadata, but already in {given}; kept there")
        elif wish is not None:
            decided[key] = wish
            if wish == "unlabelled":
                warnings.append(f"{key}: annotated, but unlabelled in the metadata; its annotations are not used")
    # Pictures whose raw file is gone still hold their group together.
    gone = {key: place.partition for key, place in reserved.items() if key not in lab.pictures}
    fixed = {key: part for key, part in (decided | gone).items() if part in LABELLED}
    labelled = {key for key in lab.pictures if decided.get(key) != "unlabelled"}
    groups = _groups(labelled | set(fixed), lab, settings.group)
    species = {key: lab.species_of(key) for key in groups} if settings.balance else None
    if species and (unknown := [key for key in species if species[key] == UNKNOWN_SPECIES]):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        warnings.append(f"{min(unknown)}{more}: of no known species; split as one species of their own")
    partitions = decided | split(groups, fixed, settings.test_share, settings.seed, species)
    warnings += _torn(groups, partitions)
    numbers = _numbers(lab.pictures, reserved)
    return {key: Place(numbers[key], partitions[key]) for key in lab.pictures}, warnings


def _groups(keys: Iterable[Key], lab: Lab, group: str) -> dict[Key, str]:
    slices = {key: lab.slice_of(key) for key in sorted(keys)}
    return group_keys(slices, {key: lab.animal_of(key) for key in slices}) if group == "animal" else slices


def _torn(groups: Mapping[Key, str], partitions: Mapping[Key, str]) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for key, group in groups.items():
        parts[group].add(partitions[key])
    return [f"{group}: in trainval and in test, as given" for group in sorted(parts) if len(parts[group]) > 1]


def _numbers(pictures: Iterable[Key], reserved: Mapping[Key, Place]) -> dict[Key, int]:
    last = Counter({key.collection: 0 for key in pictures})
    for key, place in reserved.items():
        last[key.collection] = max(last[key.collection], place.number)
    numbers = {}
    for key in sorted(pictures):
        if key in reserved:
            numbers[key] = reserved[key].number
        else:
            last[key.collection] += 1
            numbers[key] = last[key.collection]
    return numbers


def split(
    groups: Mapping[Key, str],
    fixed: Mapping[Key, str],
    test_share: float = 0.25,
    seed: int = 10,
    species: Mapping[Key, str] | None = None,
) -> dict[Key, str]:
    """Draw the partitions of labelled pictures, group by group.

    Groups come in an order that depends on the seed and on their own names alone, so that new pictures do not reshuffle
    the old ones. A group goes to ``test``, or comes back from there, where that brings the shares nearer to the wished one, by
    the sum of squared distances over all collections, until none does. Where no group spans collections, each collection
    (each species in it) is then off by half of its largest group at most.

    Parameters
    ----------
    groups
        Group of every labelled picture; a group may span collections.
    fixed
        Partitions that are already decided; groups with such a picture follow it.
    test_share
        Wished share of ``test`` in each collection.
    seed
        Another seed draws other groups.
    species
        Of every picture, where the share is to be kept in each species of a collection; None keeps it in each collection.

    Returns
    -------
    dict
        ``trainval`` or ``test`` for every picture of `groups`.
    """
    members: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(groups):
        members[groups[key]].append(key)
    partitions: dict[Key, str] = {}
    drawn: dict[str, bool] = {}  # whether a group that is not decided is in test
    for group, keys in members.items():
        decided = [fixed[key] for key in keys if key in fixed]
        if decided:
            partitions.update((key, fixed.get(key, decided[0])) for key in keys)
        else:
            drawn[group] = False
    part = {key: (key.collection, species[key] if species else "") for key in groups}
    sizes = {group: Counter(part[key] for key in members[group]) for group in drawn}
    beyond: dict[tuple[str, str], float] = {one: -test_share * total for one, total in Counter(part.values()).items()}
    for key, partition in partitions.items():
        beyond[part[key]] += partition == "test"
    order = sorted(drawn, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())

    def moved(group: str) -> bool:
        sign = -1 if drawn[group] else 1
        change = sum(n * (n + 2 * sign * beyond[one]) for one, n in sizes[group].items())
        if change > -_LEAST_GAIN:
            return False
        drawn[group] = not drawn[group]
        for one, n in sizes[group].items():
            beyond[one] += sign * n
        return True

    while any([moved(group) for group in order]):
        pass
    for group, in_test in drawn.items():
        partitions.update(dict.fromkeys(members[group], "test" if in_test else "trainval"))
    return partitions


def shares(shown: Mapping[Key, Place], lab: Lab, settings: BuildSettings) -> Iterator[Share]:
    """Tell how the share of ``test`` was kept in each collection, and in each species of it where that was asked for."""
    for collection in sorted({key.collection for key in shown}):
        parts: dict[str | None, list[bool]] = {None: []}
        for key, place in shown.items():
            if key.collection == collection and place.partition in LABELLED:
                for part in (None, lab.species_of(key)) if settings.balance else (None,):
                    parts.setdefault(part, []).append(place.partition == "test")
        for species in sorted(parts, key=lambda name: name or ""):
            yield Share(collection, species, settings.test_share, sum(parts[species]), len(parts[species]))
