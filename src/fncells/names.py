"""What a picture's original name says about the specimen.

The rule of the collections (Clissa et al., FNC v2, footnote 1) is
``<animal_id>_S<sample_id>C<column_id>R<row_id>_<brain_area>_<zoom>_<collection_id>``. Real names stray from it, and all
that is known to be out there is understood: no underscore after the animal, any mixture of cases, zoom ``20`` for
``200x``, ``o`` for yellow, missing parts, ``u`` for what the person at the microscope did not know, bare numbers,
several file suffixes, and rats, whose names carry a region code of the raphe pallidus instead of an area.

What a name does not say is None; nothing is guessed, and no name raises an error. A lab whose names follow another rule
gives it as a `NamePattern`.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from fncells.errors import InputError

__all__ = ["NamePattern", "Specimen", "format_name", "group_keys", "parse_name", "slice_key"]

Name = TypeVar("Name", bound=Hashable)

_COLLECTION_OF_LETTER = {"g": "green", "o": "yellow", "r": "red", "y": "yellow"}
_LETTER_OF_COLLECTION = {"green": "g", "red": "r", "yellow": "y"}
_AREAS = {area.lower(): area for area in ("DM", "DMH", "LH", "PVH", "RPa", "VLPAG")}
_RAPHE_PALLIDUS = "RPa"
_REGIONS = {"1": "dorsal", "2": "ventral", "a": "dorsal", "b": "ventral"}

_SUFFIXES = re.compile(
    r"(\.(png|tiff?|jpe?g|bmp|nd2|czi|lif|lsm|dv|ims|oi[bf]|sldy|stk|vsi|zvi))+$", re.IGNORECASE | re.ASCII
)
# Four digits at most: an index is small, and a name of a thousand digits must stay an odd name, not become an error.
_INDEX = r"[0-9]{1,4}|u"
_POSITION = rf"(?:s(?P<sample>{_INDEX}))?c(?P<column>{_INDEX})r(?P<row>{_INDEX})"
# The order of the alternatives matters: in "S1C10R2" nothing stands before the position, there is no animal "S1".
_HEADS = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"(?:u_)?{_POSITION}(?=_|$)",
        rf"(?P<animal>[a-z]+[0-9]+[a-z]?)_?{_POSITION}(?=_|$)",
        r"(?P<animal>(?:mar|marvin|rt)[0-9]+[a-z]?)(?=_|$)",
        r"(?:[0-9]+|u)(?=_|$)",
    )
)
_ZOOM = re.compile(r"([1-9][0-9]{1,3})x?", re.IGNORECASE | re.ASCII)
_REGION = re.compile(r"([gory]?)([12ab])", re.IGNORECASE | re.ASCII)
_AREA = re.compile(r"[a-z][a-z0-9]+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Specimen:
    """What a picture shows and where it comes from; None where that is unknown.

    Parameters
    ----------
    species
        ``mouse`` or ``rat``.
    animal
        The animal's identifier, spelled as in the name (``Mar22b``, ``MAR38``, ``RT353``).
    sample, column, row
        Place of the slice on the slides (the numbers after ``S``, ``C`` and ``R``).
    area
        Brain area without its side: ``VLPAG``, ``DM``, ``DMH``, ``LH``, ``PVH``, ``RPa``, or another as it was written.
    side
        ``l`` or ``r``.
    zoom
        Magnification of the whole microscope, such as ``200x``.
    collection
        ``green``, ``red`` or ``yellow``.
    region
        Code of a rat's picture for the part of the raphe pallidus: ``1`` or ``a`` dorsal, ``2`` or ``b`` ventral.
    """

    species: str | None = None
    animal: str | None = None
    sample: int | None = None
    column: int | None = None
    row: int | None = None
    area: str | None = None
    side: str | None = None
    zoom: str | None = None
    collection: str | None = None
    region: str | None = None

    @property
    def animal_key(self) -> str | None:
        """The animal in one spelling: ``MAR38``, ``Mar38`` and ``Marvin38`` are the same mouse."""
        return None if self.animal is None else re.sub(r"^marvin(?=[0-9])", "mar", self.animal.lower())

    @property
    def region_name(self) -> str | None:
        """``dorsal`` or ``ventral``, where the name has a region code."""
        return None if self.region is None else _REGIONS.get(self.region)


@dataclass(frozen=True)
class NamePattern:
    """A lab's own rule for its file names: a regular expression whose named groups are fields of a `Specimen`.

    The groups may be ``species``, ``animal``, ``sample``, ``column``, ``row``, ``area``, ``side``, ``zoom``, ``collection``
    and ``region``. ``sample``, ``column`` and ``row`` are whole numbers; ``side`` is told by its first letter (l, r, also
    "left", "RIGHT"); ``collection`` may be its letter (g, o, r, y) or its name; the others are taken as they stand. An empty
    group, ``u``, and an index that is no number are unknown.

    The expression must cover the whole name, without its suffix: that of the file, or, where it fits, the path below the
    folder of pictures with forward slashes. Case does not matter.

    Parameters
    ----------
    text
        The regular expression, as Python's ``re`` has it.

    Raises
    ------
    InputError
        If it is no regular expression, has no named group, or one of another name.

    Examples
    --------
    >>> pattern = NamePattern(r"(?P<animal>[^_]+)_slide(?P<sample>[0-9]+)_(?P<area>[A-Z0-9]+)(?P<side>L|R).*")
    >>> specimen = parse_name("WT-12_slide3_CA1L_488.tif", pattern)
    >>> specimen.animal, specimen.sample, specimen.area, specimen.side
    ('WT-12', 3, 'CA1', 'l')
    """

    text: str

    def __post_init__(self) -> None:
        fields = tuple(Specimen.__dataclass_fields__)
        advice = "write it like (?P<animal>[^_]+)_(?P<area>[A-Z]+)(?P<side>[lr]).*"
        try:
            groups = tuple(self.regex.groupindex)
        except (re.error, OverflowError, RecursionError) as error:
            expected = "a regular expression"
            raise InputError(
                "name pattern", expected=expected, found=f"{self.text!r} ({error})", advice=advice
            ) from error
        strange = [group for group in groups if group not in fields]
        if strange or not groups:
            found = f"the group {strange[0]!r}" if strange else "no named group"
            expected = f"named groups out of {', '.join(fields)}"
            raise InputError("name pattern", expected=expected, found=found, advice=advice)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled expression."""
        return re.compile(self.text, re.IGNORECASE)

    def match(self, original_name: str) -> re.Match[str] | None:
        """Match the path without suffix, or else the file name without suffix; None where neither fits."""
        path = _SUFFIXES.sub("", original_name.replace("\\", "/").strip())
        return self.regex.fullmatch(path) or self.regex.fullmatch(path.rpartition("/")[2])

    def read(self, match: re.Match[str]) -> Specimen:
        """Give what a matching name tells."""
        said = {group: (text or "").strip() for group, text in match.groupdict().items()}
        known: dict[str, str] = {group: text for group, text in said.items() if text and text.lower() != "u"}
        sample, column, row = (_whole(known.pop(name, None)) for name in ("sample", "column", "row"))
        if (side := known.pop("side", "")[:1].lower()) in ("l", "r"):
            known["side"] = side
        for name in known.keys() & {"species", "collection"}:
            known[name] = known[name].lower()
        if "collection" in known:
            known["collection"] = _COLLECTION_OF_LETTER.get(known["collection"], known["collection"])
        return Specimen(sample=sample, column=column, row=row, **known)


def parse_name(original_name: str, pattern: NamePattern | None = None) -> Specimen:
    """Read what the original name of a picture tells.

    Parameters
    ----------
    original_name
        File name with or without suffixes; folders before it are ignored, but by a pattern that asks for them.
    pattern
        A lab's own rule, which then holds alone; None is the rule of the collections.

    Returns
    -------
    Specimen
        All None for a name that follows no known rule.

    Examples
    --------
    >>> parse_name("MAR38S1C3R1_LHR_20_o.png.tiff")  # doctest: +NORMALIZE_WHITESPACE
    Specimen(species='mouse', animal='MAR38', sample=1, column=3, row=1, area='LH', side='r', zoom='200x',
             collection='yellow', region=None)
    """
    if pattern is not None:
        match = pattern.match(original_name)
        return Specimen() if match is None else pattern.read(match)
    stem = _stem(original_name)
    head = next((match for pattern in _HEADS if (match := pattern.match(stem))), None)
    if head is None:
        return Specimen()
    known = head.groupdict()
    animal = known.get("animal")
    species = _species(animal)
    parts: dict[str, str] = {}
    for field in filter(None, stem[head.end() :].split("_")):
        for key, value in _read_field(field, is_rat=species == "rat").items():
            parts.setdefault(key, value)
    if "region" in parts:
        parts.setdefault("area", _RAPHE_PALLIDUS)
    return Specimen(
        species=species,
        animal=animal,
        sample=_index(known.get("sample")),
        column=_index(known.get("column")),
        row=_index(known.get("row")),
        **parts,
    )


def format_name(specimen: Specimen) -> str:
    """Write the name by the rule of the collections, without suffix; what is unknown is ``u`` or left out.

    Parameters
    ----------
    specimen
        As `parse_name` gives it; ``parse_name(format_name(specimen)) == specimen``.

    Returns
    -------
    str
        The canonical name.

    Examples
    --------
    >>> format_name(parse_name("Mar22bS1C2R1_VLPAGl_200x_y.TIF"))
    'Mar22b_S1C2R1_VLPAGl_200x_y'
    >>> format_name(parse_name("MAR32C2R3_PVHr_20_r"))
    'MAR32_SuC2R3_PVHr_200x_r'
    """
    place = (specimen.sample, specimen.column, specimen.row)
    fields = [specimen.animal or "u"]
    if specimen.animal is not None or any(index is not None for index in place):
        fields.append("".join(f"{letter}{_written(index)}" for letter, index in zip("SCR", place, strict=True)))
    # A rat's region code implies its area, and real names leave it out.
    if specimen.area is not None and not (specimen.region and specimen.area == _RAPHE_PALLIDUS):
        fields.append(specimen.area + (specimen.side or ""))
    if specimen.zoom is not None:
        fields.append(specimen.zoom)
    mark = _LETTER_OF_COLLECTION.get(specimen.collection or "", "") + (specimen.region or "")
    return "_".join([*fields, mark] if mark else fields)


def slice_key(original_name: str, pattern: NamePattern | None = None, told: Specimen | None = None) -> str:
    """Give pictures of one field of view of one slice the same key, whatever their filter, zoom and spelling.

    The two pictures of a double-marked slice differ in the collection letter alone and must never be told apart by a
    split of the data. The zoom is left out too: the same cells under two objectives are the same cells.

    Parameters
    ----------
    original_name
        File name with or without suffixes; folders before it are ignored, but by a pattern that asks for them.
    pattern
        A lab's own rule, which then holds alone; None is the rule of the collections. Where its groups tell no place on the
        slides, the name without its collection is the key.
    told
        What the index or the lab's metadata say; it is taken where the name follows no rule and this tells column or row.

    Returns
    -------
    str
        A lower-case key. A name of no known rule is its own key, without a collection letter at its end.

    Examples
    --------
    >>> slice_key("MAR38S1C3R1_LHR_20_o.png.tiff") == slice_key("Mar38_S1C3R1_LHr_200x_g.TIF")
    True
    """
    specimen = parse_name(original_name, pattern)
    if pattern is not None and all(index is None for index in _place(specimen)):
        return _without_collection(original_name, pattern)
    if pattern is None and told is not None and not _has_place(specimen) and _has_place(told):
        specimen = told
    if pattern is None and not _has_place(specimen):
        key = re.sub(r"(?<=.)_[gory]$", "", _stem(original_name).lower())
        return re.sub(r"(?<=.)_[gory](?=[12ab]$)", "_", key) if specimen.region else key
    place = "".join(f"{letter}{_written(index)}" for letter, index in zip("SCR", _place(specimen), strict=True))
    area = (specimen.area or "u") + (specimen.side or "") + (specimen.region or "")
    return "_".join((specimen.animal_key or "u", place, area)).lower()


def group_keys(slices: Mapping[Name, str], animals: Mapping[Name, str | None]) -> dict[Name, str]:
    """Give pictures of one animal the same key, and of one slice in any case.

    Parameters
    ----------
    slices
        Each picture's `slice_key`.
    animals
        Each picture's animal in one spelling; that of a slice is that of any of its pictures, and without one the slice stands
        for itself.

    Examples
    --------
    >>> group_keys({"1": "a", "2": "a", "3": "b"}, {"1": None, "2": "mar3", "3": None})
    {'1': 'animal mar3', '2': 'animal mar3', '3': 'b'}
    """
    known: dict[str, str] = {}
    for picture, name in slices.items():
        if animal := animals[picture]:
            known.setdefault(name, animal)
    return {picture: f"animal {known[name]}" if name in known else name for picture, name in slices.items()}


def _without_collection(original_name: str, pattern: NamePattern) -> str:
    match = pattern.match(original_name)
    if match is None:
        return _stem(original_name).lower()
    start, end = match.span("collection") if "collection" in pattern.regex.groupindex else (-1, -1)
    return (match.string if start < 0 else match.string[:start] + match.string[end:]).lower()


def _stem(original_name: str) -> str:
    """Return the file name without folders and suffixes, its fields parted by single underscores."""
    name = re.split(r"[/\\]", original_name)[-1].strip()
    return re.sub(r"[\s_-]+", "_", _SUFFIXES.sub("", name))


def _species(animal: str | None) -> str | None:
    prefix = re.match(r"mar(vin)?(?=[0-9])|rt(?=[0-9])", animal.lower()) if animal else None
    if prefix is None:
        return None
    return "rat" if prefix[0] == "rt" else "mouse"


def _read_field(field: str, *, is_rat: bool) -> dict[str, str]:
    """Read one field after the position; a field that is not understood says nothing."""
    if field.lower() in _COLLECTION_OF_LETTER:
        return {"collection": _COLLECTION_OF_LETTER[field.lower()]}
    if is_rat and (match := _REGION.fullmatch(field)):
        mark = {"region": match[2].lower()}
        return mark | ({"collection": _COLLECTION_OF_LETTER[match[1].lower()]} if match[1] else {})
    if match := _ZOOM.fullmatch(field):
        # Two digits are the objective alone; the ocular multiplies it by ten.
        return {"zoom": f"{match[1]}{'0' if len(match[1]) == 2 else ''}x"}
    return _read_area(field) if _AREA.fullmatch(field) else {}


def _read_area(field: str) -> dict[str, str]:
    """Split an area from its side, the last letter.

    In an area nobody has listed, a capital L or R counts as the side only when the whole field is in capitals:
    ``MnR`` is the median raphe.
    """
    lower = field.lower()
    if lower in _AREAS:
        return {"area": _AREAS[lower]}
    if lower[:-1] in _AREAS and lower[-1] in "lr":
        return {"area": _AREAS[lower[:-1]], "side": lower[-1]}
    if len(field) > 2 and (field[-1] in "lr" or (field.isupper() and field[-1] in "LR")):
        return {"area": field[:-1], "side": lower[-1]}
    return {"area": field}


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _index(text: str | None) -> int | None:
    return None if text is None or text.lower() == "u" else int(text)


def _written(index: int | None) -> str:
    return "u" if index is None else str(index)


def _has_place(specimen: Specimen) -> bool:
    return specimen.column is not None or specimen.row is not None


def _place(specimen: Specimen) -> tuple[int | None, int | None, int | None]:
    return specimen.sample, specimen.column, specimen.row
