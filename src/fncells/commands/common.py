"""What the commands share: their common words, and how they tell what went wrong."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fncells.errors import InputError, one_line

__all__ = ["AS_USUAL", "FLAT", "Common", "is_archive", "name_absent", "name_failures", "warn"]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command knows.

    Parameters
    ----------
    json
        Print a summary as JSON on standard output, and nothing else there.
    quiet
        Say nothing but errors.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    quiet: Annotated[bool, Parameter(negative="")] = False

    def say(self, line: str) -> None:
        """Tell people something in passing."""
        if not self.quiet:
            sys.stderr.write(f"{line}\n")

    def result(self, summary: object, text: str) -> None:
        """Print what came of the command: the summary as JSON where that was asked for, else the text."""
        if self.json:
            print(json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False))
        elif not self.quiet:
            print(text)


AS_USUAL = Common()
FLAT = Parameter(name="*")


def is_archive(path: Path) -> bool:
    """Whether an archive can be opened there."""
    from fncells.archive import Archive

    try:
        Archive.open(path)
    except InputError:
        return False
    return True


def name_failures(failures: Mapping[str, str]) -> None:
    """Tell on standard error what failed, and why."""
    for name, reason in failures.items():
        sys.stderr.write(f"failed: {one_line(f'{name}: {reason}')}\n")


def name_absent(whose: str, pictures: Iterable[str]) -> None:
    """Tell what somebody has not annotated."""
    for picture in pictures:
        sys.stderr.write(f"{whose}: {picture}: not annotated; left out\n")


def warn(lines: Iterable[str]) -> None:
    """Tell what is odd, a line each."""
    for line in lines:
        sys.stderr.write(f"note: {one_line(line)}\n")
