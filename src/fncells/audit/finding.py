"""One thing that is wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Point", "Severity", "in_order", "places"]

Severity = Literal["serious", "minor", "note"]
Point = tuple[float, float]

_SEVERITIES: tuple[Severity, ...] = ("serious", "minor", "note")
_SHOWN = 3  # places named in a finding; of more only the number is told


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes
    ----------
    severity
        ``serious``: results drawn from it are wrong; ``minor``: somewhat off; ``note``: worth knowing.
    kind
        What it is, in a word or two with hyphens, such as ``size-mismatch``; the same for all of its kind.
    file
        Path relative to what was audited, with forward slashes.
    place
        Where in the file; None where it is the whole.
    why
        What was found, and why it matters.
    advice
        What to do about it.
    pictures
        Pictures that show it, relative as `file` is, or to the folder of the pictures where there is one.
    points
        Where in the first of them, x and y in pixels.
    """

    severity: Severity
    kind: str
    file: str
    place: str | None
    why: str
    advice: str
    pictures: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings, the most serious first, then by file and kind."""
    return sorted(
        findings, key=lambda one: (_SEVERITIES.index(one.severity), one.file, one.kind, one.place or "", one.why)
    )


def places(points: Sequence[Point]) -> str:
    """Name the first few places of a picture, x and y in pixels, and how many more there are."""
    named = "; ".join(f"x {x:.0f}, y {y:.0f}" for x, y in points[:_SHOWN])
    rest = len(points) - _SHOWN
    return f"{named}; and {rest} more" if rest > 0 else named
