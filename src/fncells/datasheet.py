"""The data sheet of an archive: what people must know of a dataset before they use it.

Sections and questions follow Gebru et al., Datasheets for Datasets (2021), as the published archive's do. What the archive
itself tells is filled in; what only the lab can tell comes from its ``about.toml``; what nobody has said is said not to be
recorded.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fncells import files
from fncells.about import ABOUT_NAME, QUESTIONS, About
from fncells.archive import INDEX_NAME, LABELLED, PARTITIONS, Archive
from fncells.measure import Table1, table1_markdown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATASHEET_NAME", "datasheet", "write_datasheet"]

DATASHEET_NAME = "datasheet.md"

# Columns of the index worth summing up, where an archive has them, and what to call them.
_COLUMNS = {
    "species": "species",
    "area": "areas",
    "region": "regions",
    "marker": "markers",
    "structure": "structures",
    "zoom": "magnifications",
    "camera": "cameras",
    "microscope": "microscopes",
}
_MOST_NAMED = 12


def write_datasheet(path: Path, archive: Archive, about: About | None = None, table: Table1 | None = None) -> None:
    """Write what `datasheet` gives; the bytes depend on the archive's content alone."""
    files.write_text(path, datasheet(archive, about, table))


def datasheet(archive: Archive, about: About | None = None, table: Table1 | None = None) -> str:
    """Fill the data sheet of an archive in Markdown.

    Parameters
    ----------
    archive
        The archive.
    about
        What the lab says of it.
    table
        Table 1 of its cells (:func:`fncells.measure.table1`), to be shown.

    Returns
    -------
    str
    """
    about = about or About()
    sections = {
        "Motivation": [_asked(about, "purpose"), _creators(about), _asked(about, "funding")],
        "Composition": [
            _instances(archive),
            _known_of_each(archive),
            _labels(archive, table),
            _partitions(archive),
            _defects(archive, about),
        ],
        "Collection process": [
            _asked(about, key) for key in ("animals", "ethics", "staining", "acquisition", "sampling")
        ],
        "Preprocessing, cleaning, labelling": [
            _preprocessing(archive),
            _asked(about, "annotators"),
            _asked(about, "annotation_protocol"),
        ],
        "Uses": [_asked(about, "uses"), _asked(about, "not_for")],
        "Distribution": [_distribution(about), _citation(about)],
        "Maintenance": [_asked(about, "maintenance")],
    }
    title = about.name or f"Fluorescence microscopy cells: {', '.join(archive.collections)}"
    lines = [f"# Data sheet: {title}", ""]
    if about.description:
        lines += [about.description, ""]
    for section, answers in sections.items():
        lines += [f"## {section}", ""]
        for question, answer in answers:
            lines += [f"### {question}", "", answer, ""]
    return "\n".join(lines).rstrip() + "\n"


Answer = tuple[str, str]


def _asked(about: About, key: str) -> Answer:
    return QUESTIONS[key], about.answers.get(key) or _unknown(f"answers.{key}")


def _unknown(key: str) -> str:
    return f"Not recorded. (`{key}` in {ABOUT_NAME})"


def _creators(about: About) -> Answer:
    return "Who created the dataset?", ", ".join(about.creators) or _unknown("creators")


def _instances(archive: Archive) -> Answer:
    counts = Counter((sample.collection, sample.partition) for sample in archive.samples())
    numbers = {name: [counts[name, part] for part in PARTITIONS] for name in archive.collections}
    if len(numbers) > 1:
        numbers["all"] = [sum(column) for column in zip(*numbers.values(), strict=True)]
    table = _table(["collection", *PARTITIONS, "total"], [[name, *row, sum(row)] for name, row in numbers.items()])
    return "What are the instances, and how many are there?", f"Fluorescence-microscopy pictures (PNG).\n\n{table}"


def _known_of_each(archive: Archive) -> Answer:
    index = archive.index
    lines = [f"`{INDEX_NAME}` has a row for every picture." if (archive.root / INDEX_NAME).exists() else "No index."]
    for name, rows in index.groupby(index["dataset"].astype("object"), sort=True):
        facts = [*_extent(rows), *_values(rows)]
        if facts:
            lines.append(f"- **{name}**: {'; '.join(facts)}.")
    return "What is known of each instance?", "\n".join([lines[0], "", *lines[1:]]).rstrip()


def _extent(rows: "pd.DataFrame") -> list[str]:
    """Sizes in pixels and in µm; a size in µm only where the pictures' own pixel size is known."""
    facts = []
    sizes = Counter(f"{width} x {height}" for width, height in rows[["width", "height"]].dropna().to_numpy())
    if sizes:
        facts.append(f"pixels: {_told(sizes, len(rows))}")
    known = rows["pixel_size_um"].dropna()
    if len(known):
        spread = f"{known.min():.4g}" if known.min() == known.max() else f"{known.min():.4g} to {known.max():.4g}"
        sources = ", ".join(sorted({str(source) for source in rows["pixel_size_source"].dropna()}))
        facts.append(f"pixel size {spread} µm, known of {len(known)} of {len(rows)} ({sources or 'source unknown'})")
    elif len(rows):
        facts.append("pixel size not known")
    animals = rows["animal"].dropna().nunique()
    return facts + ([f"{animals} {'animal' if animals == 1 else 'animals'}"] if animals else [])


def _values(rows: "pd.DataFrame") -> list[str]:
    facts = []
    for column, title in _COLUMNS.items():
        if column in rows:
            counts = Counter(str(value) for value in rows[column].dropna())
            if counts:
                facts.append(f"{title}: {_told(counts, len(rows))}")
    return facts


def _told(counts: Mapping[str, int], total: int) -> str:
    """Name values, the most frequent first, with their numbers where there are several."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1 and ordered[0][1] == total:
        return ordered[0][0]
    named = ", ".join(f"{value} ({number})" for value, number in ordered[:_MOST_NAMED])
    left, unknown = len(ordered) - _MOST_NAMED, total - sum(counts.values())
    return named + (f" and {left} more" if left > 0 else "") + (f", unknown ({unknown})" if unknown > 0 else "")


def _labels(archive: Archive, table: Table1 | None) -> Answer:
    question = "Is there a label or target with each instance?"
    folders = sorted(
        {
            folder.name
            for name in archive.collections
            for part in LABELLED
            for folder in (archive.root / name / part / "ground_truths").glob("*/")
        }
    )
    said = f"The cells of every picture in {' and '.join(LABELLED)}, as {', '.join(folders) or 'nothing'} in `ground_truths/`."
    return question, said if table is None else f"{said}\n\n{table1_markdown(table).rstrip()}"


def _partitions(archive: Archive) -> Answer:
    question = "Are there recommended partitions?"
    record = files.read_record(archive.root) or {}
    settings = record.get("settings")
    if record.get("command") != "build" or not isinstance(settings, dict):
        return question, "As the folders have it; how they were drawn is not recorded."
    share, seed, group = (settings.get(name) for name in ("test_share", "seed", "group"))
    within = " of every species" if settings.get("balance") == "species" else ""
    return question, (
        f"`test` is a random share of the labelled pictures{within} (wished for: {share}; seed {seed}). Pictures of "
        f"one {group} are never torn apart, and partitions that the lab gave stand."
    )


def _defects(archive: Archive, about: About) -> Answer:
    samples = archive.samples()
    bare = sum(sample.partition in LABELLED and sample.mask_path is None for sample in samples)
    orphans = len(archive.unpaired_masks())
    facts = [
        f"{number} {what}."
        for number, what in ((bare, "labelled pictures have no mask"), (orphans, "masks belong to no picture"))
        if number
    ]
    said = about.answers.get("missing")
    return QUESTIONS["missing"], "\n\n".join([*facts, *([said] if said else [])]) or _unknown("answers.missing")


def _preprocessing(archive: Archive) -> Answer:
    question = "What was done to the pictures and annotations?"
    record = files.read_record(archive.root) or {}
    if record.get("command") != "build":
        return question, "Not recorded."
    return question, (
        f"fncells {record.get('fncells', '')} converted the microscope's files to PNG without loss and without scaling or "
        "rotation, kept their metadata in the PNG and as text, and drew the annotators' outlines as masks. The archive's "
        f"`{files.RECORD_NAME}` has the settings and the checksums of all that it was made from."
    )


def _distribution(about: About) -> Answer:
    facts: Sequence[tuple[str, Any]] = (
        ("Version", about.version),
        ("Published", about.date_published),
        ("By", about.publisher),
        ("At", about.url),
        ("DOI", about.doi),
        ("Licence", about.licence),
    )
    known = [f"- {title}: {value}" for title, value in facts if value]
    if not about.licence:
        known.append(f"- Licence: {_unknown('licence')} Without one, nobody may use it.")
    return "Where is it, and under which terms?", "\n".join(known)


def _citation(about: About) -> Answer:
    return "How is it cited?", f"```\n{about.citation}\n```" if about.citation else _unknown("citation")


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---', *['---:'] * (len(heads) - 1)])} |"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
