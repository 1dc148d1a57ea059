"""What a lab says of its dataset and no picture can tell: title, people, licence, and answers for the data sheet."""

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from fncells.errors import InputError

__all__ = ["ABOUT_NAME", "QUESTIONS", "About", "read_about"]

ABOUT_NAME = "about.toml"

QUESTIONS: Mapping[str, str] = {
    "purpose": "For what purpose was the dataset created?",
    "funding": "Who funded the creation of the dataset?",
    "animals": "Which animals are they of, and how were they kept and treated?",
    "ethics": "Who reviewed and approved the experiments?",
    "staining": "How was the tissue prepared and stained?",
    "acquisition": "With which microscope, camera, filters and settings were the pictures taken?",
    "sampling": "How were slices and areas chosen, and what do they stand for?",
    "annotators": "Who annotated, with what training, and how was their agreement checked?",
    "annotation_protocol": "By which rules was annotated?",
    "missing": "What is missing, wrong or uncertain in it?",
    "uses": "What has it been used for, and what else could it be used for?",
    "not_for": "What should it not be used for?",
    "maintenance": "Who maintains it, how are they reached, and how are errors corrected?",
}
"""Questions of the data sheet that the lab alone can answer, by their keys in ``[answers]``."""


@dataclass(frozen=True)
class About:
    """What a lab says of its dataset; what it leaves out stays unsaid.

    Attributes
    ----------
    name, description, version
        Title, a sentence or two, and which edition this is.
    licence
        SPDX identifier (``CC-BY-SA-4.0``) or the licence's address.
    creators, publisher
        Names of the people or institutions.
    url, doi
        Where it is published.
    date_published
        ISO date.
    citation
        How to cite it, best as BibTeX.
    keywords
        Words that it is found by.
    answers
        Answers to `QUESTIONS`, by their keys.
    """

    name: str | None = None
    description: str | None = None
    version: str | None = None
    licence: str | None = None
    creators: tuple[str, ...] = ()
    publisher: str | None = None
    url: str | None = None
    doi: str | None = None
    date_published: str | None = None
    citation: str | None = None
    keywords: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def licence_address(self) -> str | None:
        """Address of the licence; that of SPDX for an identifier."""
        if self.licence is None or "://" in self.licence:
            return self.licence
        return f"https://spdx.org/licenses/{self.licence}"


def read_about(path: Path) -> About:
    """Read ``about.toml``.

    Its keys are the attributes of `About`; ``[answers]`` is a table of the keys of `QUESTIONS`.

    Raises
    ------
    InputError
        If it cannot be read, or a key is unknown or holds something of another kind.
    """
    try:
        with path.open("rb") as file:
            told = tomllib.load(file)
    except OSError as error:
        found = "nothing of that name" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise InputError(path, expected="a TOML file", found=found) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, expected="a TOML file", found=f"something else ({error})") from error
    known = {one.name for one in fields(About)}
    values: dict[str, object] = {}
    for key, value in told.items():
        if key not in known:
            raise InputError(path, place=key, expected=f"keys out of {', '.join(sorted(known))}", found=repr(key))
        values[key] = _answers(path, value) if key == "answers" else _value(path, key, value)
    return About(**values)  # type: ignore[arg-type]


def _value(path: Path, key: str, value: object) -> object:
    if key in ("creators", "keywords"):
        if isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value):
            return tuple(value)
        raise InputError(path, place=key, expected="a list of texts", found=repr(value)[:100])
    if key == "date_published":
        try:
            return datetime.date.fromisoformat(str(value)).isoformat()
        except ValueError:
            raise InputError(path, place=key, expected="a date like 2024-01-31", found=repr(value)[:100]) from None
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise InputError(path, place=key, expected="a text", found=repr(value)[:100])


def _answers(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InputError(path, place="answers", expected="a table", found=repr(value)[:100])
    for key, answer in value.items():
        place = f"answers.{key}"
        if key not in QUESTIONS:
            raise InputError(path, place=place, expected=f"keys out of {', '.join(QUESTIONS)}", found=repr(key))
        if not isinstance(answer, str) or not answer.strip():
            raise InputError(path, place=place, expected="a text", found=repr(answer)[:100])
    return {key: str(value[key]).strip() for key in QUESTIONS if key in value}
