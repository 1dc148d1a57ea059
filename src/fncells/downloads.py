"""Files from addresses, whole and checked, and gone on with after a break.

`pooch <https://www.fatiando.org/pooch>`_ keeps the files and verifies their checksums; what it leaves open is done here: a
download that broke off is continued where the server can, and every way that a server can go wrong is one line.
"""

import json
import logging
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fncells
from fncells import files
from fncells.errors import InputError

if TYPE_CHECKING:
    import requests

__all__ = ["UnreachableError", "download", "small_text"]

_TIMEOUT_S = (10.0, 60.0)  # to be answered at all, and between two pieces
_TRIES = 5  # in a row that bring nothing new
_WAIT_S = 1.0
_CHUNK = 2**20
_LARGEST_TEXT = 2**22
_LARGEST_FILE = 2**40
_AGAIN = "the same command goes on from there"


class UnreachableError(InputError):
    """A server that does not answer, or no longer."""


class _BrokenOffError(Exception):
    """An answer that ended early, or that may be better the next time; its text says what was found."""


def download(address: str, name: str, folder: Path, sha256: str | None = None) -> Path:
    """Bring a file from an address into a folder.

    What has come of it is kept (``NAME.part``) when the connection breaks, and the next call goes on from there, if the server
    vouches that the file is still the same or the checksum will tell. A file that is there already is not fetched again.

    Parameters
    ----------
    address
        An http, https or file address.
    name
        The file's name in the folder.
    folder
        Where it is put.
    sha256
        What it must be; None where that is not known.

    Returns
    -------
    pathlib.Path
        The whole file.

    Raises
    ------
    UnreachableError
        If the server does not answer, or breaks off again and again.
    InputError
        If the server has no such file, or gives another one than it should be.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    registry = {name: f"sha256:{sha256}" if sha256 else None}
    store = pooch.create(folder, base_url=address, registry=registry, urls={name: address})
    bring = _Download(folder / f"{name}.part", verified=sha256 is not None)
    try:
        try:
            return Path(store.fetch(name, downloader=bring))
        except ValueError:  # of pooch: it is not what it should be, and has been thrown away
            if not bring.resumed:
                raise
        # The pieces may have been of two versions.
        return Path(store.fetch(name, downloader=bring))
    except ValueError as error:
        raise InputError(
            address,
            expected=f"a file of the SHA-256 {sha256}",
            found="another content, which was thrown away",
            advice="try again; if it stays so, the file was changed or is damaged at its source",
        ) from error


def small_text(address: str) -> str:
    """Read a text of at most 4 MiB from an http, https or file address.

    Raises
    ------
    UnreachableError
        If the server does not answer.
    InputError
        If there is no such file, or it is larger.
    """
    if urlsplit(address).scheme == "file":
        path = _local(address)
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_TEXT + 1)
        except OSError as error:
            found = "nothing of that name" if isinstance(error, FileNotFoundError) else str(error.strerror)
            raise InputError(path, expected="a text file", found=found) from error
    else:
        try:
            with _failures_told(address), _asked(address, {}) as answer:
                data = answer.raw.read(_LARGEST_TEXT + 1, decode_content=True)
        except _BrokenOffError as error:
            raise UnreachableError(address, expected="a text", found=str(error)) from error
    if len(data) > _LARGEST_TEXT:
        raise InputError(address, expected=f"a text of at most {_LARGEST_TEXT >> 20} MiB", found="more")
    return bytes(data).decode("utf-8", errors="replace")


def _local(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))


class _Download:
    """Writes what is at an address to a file, as pooch's downloaders do.

    Parameters
    ----------
    part
        Where what has come is kept.
    verified
        Whether the checksum is known, and will tell pieces that do not belong together.

    Attributes
    ----------
    resumed
        Whether the file was put together from the pieces of several answers.
    """

    def __init__(self, part: Path, *, verified: bool) -> None:
        self._path, self._verified = part, verified
        self.resumed = False

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Write the whole file or raise."""
        if urlsplit(url).scheme == "file":
            try:
                shutil.copyfile(_local(url), output_file)
            except FileNotFoundError as error:
                raise InputError(_local(url), expected="a file", found="nothing of that name") from error
            return
        self.resumed = False
        part = _Part(self._path, url)
        misses = 0
        while True:
            had = part.size
            try:
                if self._go_on(url, part):
                    break
                found = f"an end after {part.size} bytes"
            except _BrokenOffError as error:
                found = f"{error} after {part.size} bytes"
            except UnreachableError:
                if part.size == 0:
                    raise
                found = f"no connection after {part.size} bytes"
            misses = 0 if part.size > had else misses + 1
            if misses >= _TRIES:
                whole = "the whole file" if part.total is None else f"{part.total} bytes"
                raise UnreachableError(url, expected=whole, found=found, advice=_AGAIN)
            time.sleep(_WAIT_S * misses)
        part.hand_over(Path(output_file))

    def _go_on(self, url: str, part: "_Part") -> bool:
        """Take what the server gives from where the part ends, and tell whether that is all."""
        asked = part.headers(self._verified)
        with _failures_told(url), _asked(url, asked, (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,)) as answer:
            whole = _whole_size(answer)
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if whole != part.size:
                    part.begin(None)
                return whole == part.size
            start = _start(answer)
            if asked and start == part.size:
                self.resumed = True
            elif start == 0:
                part.begin(_validator(answer))
            else:
                part.begin(None)
                return False  # a piece that was not asked for
            part.total = whole
            _check_room(url, part, self._path.parent)
            part.append(_pieces(answer, part, self._path.stem))
        return part.total is None or part.size == part.total


class _Part:
    """What has come of a file so far, and what tells its version."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._note, self._url = path, path.with_name(f"{path.name}.json"), url
        self.total: int | None = None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            same, self._validator = note["url"] == url, note["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if not same:
            self.begin(None)

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self._path.stat().st_size if self._path.exists() else 0

    def headers(self, verified: bool) -> dict[str, str]:
        """Ask for the rest, if it is sure to fit to what is there or a misfit would be found."""
        if self.size == 0 or not (self._validator or verified):
            return {}
        version = {"If-Range": self._validator} if self._validator else {}
        return {"Range": f"bytes={self.size}-", **version}

    def begin(self, validator: str | None) -> None:
        """Throw away what is there."""
        self._path.unlink(missing_ok=True)
        self._validator = validator
        files.write_json(self._note, {"url": self._url, "validator": validator})

    def append(self, pieces: Iterator[bytes]) -> None:
        """Put pieces behind what is there; what has come stays, whatever happens then."""
        with self._path.open("ab", buffering=0) as file:
            for piece in pieces:
                file.write(piece)

    def hand_over(self, output: Path) -> None:
        """Move the whole file."""
        self._path.touch()  # where it is empty
        self._path.replace(output)
        self._note.unlink(missing_ok=True)


def _check_room(url: str, part: _Part, folder: Path) -> None:
    room = shutil.disk_usage(folder).free
    if part.total is not None and part.total - part.size > room:
        found = f"{room >> 20} MiB in {folder}"
        raise InputError(url, expected=f"room for {(part.total - part.size) >> 20} MiB", found=found)


def _pieces(answer: "requests.Response", part: _Part, name: str) -> Iterator[bytes]:
    """Give what comes, saying how far it is."""
    if part.total is None:
        return _at_most(_LARGEST_FILE, answer)
    left = part.total - part.size
    return files.progress(_at_most(left, answer), -(-left // _CHUNK), f"{name}, MiB")


def _at_most(left: int, answer: "requests.Response") -> Iterator[bytes]:
    """Give what comes, but no more than was promised."""
    while left > 0 and (piece := answer.raw.read(min(_CHUNK, left), decode_content=False)):
        left -= len(piece)
        yield piece


def _asked(url: str, headers: Mapping[str, str], allowed: Sequence[int] = ()) -> "requests.Response":
    """Ask for an address and refuse every answer but a good one."""
    import requests

    sent = {"User-Agent": f"fncells/{fncells.__version__}", "Accept-Encoding": "identity", **headers}
    answer = requests.get(url, headers=sent, stream=True, timeout=_TIMEOUT_S)
    if urlsplit(url).scheme == "https" and urlsplit(answer.url).scheme != "https":
        answer.close()
        raise InputError(url, expected="an address that stays https", found=f"one that leads to {answer.url}")
    if answer.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, *allowed):
        return answer
    answer.close()
    found = f"the answer {answer.status_code} {answer.reason or ''}".strip()
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise _BrokenOffError(found)
    raise InputError(url, expected="a file", found=found)


@contextmanager
def _failures_told(url: str) -> Iterator[None]:
    """Turn whatever goes wrong on the way into one line, or into a break that can be gone on from."""
    import requests
    import urllib3

    try:
        yield
    except requests.exceptions.SSLError as error:
        raise InputError(url, expected="a server that can be trusted", found=str(error)) from error
    except requests.exceptions.ConnectionError as error:
        if not isinstance(error.args[0] if error.args else None, urllib3.exceptions.MaxRetryError):
            raise _BrokenOffError("an end") from error
        advice = "are you offline? The same command goes on from here"
        raise UnreachableError(url, expected="an answer", found="no connection", advice=advice) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise InputError(url, expected="an http, https or file address", found="another") from error
    except requests.exceptions.TooManyRedirects as error:
        raise InputError(url, expected="a file", found="an address that leads in circles") from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        silence = f"silence for {_TIMEOUT_S[1]:g} s"
        raise _BrokenOffError(silence) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenOffError("an end") from error


def _whole_size(answer: "requests.Response") -> int | None:
    """Tell the size of the whole file by what the server says; None where it does not."""
    ranged = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", answer.headers.get("Content-Range", ""))
    if ranged:
        return int(ranged[1])
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.status_code == HTTPStatus.OK and length.isdecimal() else None


def _start(answer: "requests.Response") -> int:
    """Tell where the piece that the server sends begins; -1 where it does not say."""
    if answer.status_code == HTTPStatus.OK:
        return 0
    ranged = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(ranged[1]) if ranged else -1


def _validator(answer: "requests.Response") -> str | None:
    """Give what tells one version of a file from the next: a strong ETag, else the date of its last change."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")
