"""Tests of fetching: a server that breaks off, lies, and sends what it should not; archives that want out of their folder."""

import hashlib
import io
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fncells import downloads, fetching, files
from fncells.archive import Archive
from fncells.cli import run
from fncells.documents.unpacking import unpack
from fncells.downloads import UnreachableError, download
from fncells.errors import InputError
from fncells.fetching import fetch
from fncells.images import Picture, write_png

Answer = Callable[["Handler", bytes], None]


@dataclass
class Server:
    """Files by their paths, and what to do instead of sending them, request by request."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    etags: bool = True


class Handler(BaseHTTPRequestHandler):
    """Serves ranges as a good server does, unless told otherwise."""

    server_state: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        state = self.server_state
        state.asked.append((self.path, self.headers.get("Range")))
        data = state.files.get(self.path)
        if data is None:
            self.send_error(404)
        elif state.answers.get(self.path):
            state.answers[self.path].pop(0)(self, data)
        else:
            good(self, data)

    def log_message(self, *_: object) -> None:
        pass

    def start(self, code: int, headers: dict[str, object]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def etag(self, data: bytes) -> dict[str, object]:
        return {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} if self.server_state.etags else {}  # noqa: S324

    def cut(self) -> None:
        """Close the connection in mid-answer."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def good(handler: Handler, data: bytes) -> None:
    tag, wanted = handler.etag(data), re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    unchanged = handler.headers.get("If-Range") in (None, tag.get("ETag"))
    if not (wanted and unchanged):
        handler.start(200, {"Content-Length": len(data), **tag})
        handler.wfile.write(data)
        return
    begin = int(wanted[1])
    if begin >= len(data):
        handler.start(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": 0})
        return
    said = f"bytes {begin}-{len(data) - 1}/{len(data)}"
    handler.start(206, {"Content-Length": len(data) - begin, "Content-Range": said, **tag})
    handler.wfile.write(data[begin:])


def breaks_off(after: int) -> Answer:
    """Send the promised headers and so many bytes of the rest, then close."""

    def answer(handler: Handler, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        begin = int(wanted[1]) if wanted else 0
        said = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if wanted else {}
        handler.start(206 if wanted else 200, {"Content-Length": len(data) - begin, **said, **handler.etag(data)})
        handler.wfile.write(data[begin : begin + after])
        handler.cut()

    return answer


def promises(more: int) -> Answer:
    """Say another length than the file has."""

    def answer(handler: Handler, data: bytes) -> None:
        handler.start(200, {"Content-Length": len(data) + more, **handler.etag(data)})
        handler.wfile.write(data[: len(data) + more])
        handler.cut()

    return answer


def ignores_range(handler: Handler, data: bytes) -> None:
    handler.start(200, {"Content-Length": len(data)})
    handler.wfile.write(data)


def sends(other: bytes) -> Answer:
    return lambda handler, _: good(handler, other)


def redirects(place: str) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        handler.start(302, {"Location": place, "Content-Length": 0})

    return answer


def says(code: int) -> Answer:
    return lambda handler, _: handler.send_error(code)


def in_chunks(*, whole: bool) -> Answer:
    """Tell no length; end as it should, or in mid-chunk."""

    def answer(handler: Handler, data: bytes) -> None:
        handler.start(200, {"Transfer-Encoding": "chunked"})
        for at in range(0, len(data), 1000):
            piece = data[at : at + 1000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if not whole:
                handler.cut()
                return
        handler.wfile.write(b"0\r\n\r\n")

    return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": state}))
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    state.address = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr(downloads, "_WAIT_S", 0)
    monkeypatch.setattr(downloads, "_CHUNK", 1024)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


DATA = np.random.default_rng(0).bytes(10_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def offered(server: Server) -> Server:
    server.files["/a.bin"] = DATA
    return server


def get(server: Server, folder: Path, sha256: str | None = SHA) -> Path:
    return download(f"{server.address}/a.bin", "a.bin", folder, sha256)


# ----------------------------------------------------------------------------------------------------------- downloads


def test_a_download_is_whole_and_the_second_time_not_asked_for(offered: Server, tmp_path: Path) -> None:
    assert get(offered, tmp_path).read_bytes() == DATA
    assert get(offered, tmp_path).read_bytes() == DATA
    assert len(offered.asked) == 1
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("sha256", [SHA, None])
def test_a_download_that_breaks_off_goes_on_where_it_was(offered: Server, tmp_path: Path, sha256: str | None) -> None:
    offered.answers["/a.bin"] = [breaks_off(3000), breaks_off(2500)]
    assert get(offered, tmp_path, sha256).read_bytes() == DATA
    assert [asked for _, asked in offered.asked] == [None, "bytes=3000-", "bytes=5500-"]


def test_what_came_before_a_run_gave_up_is_used_by_the_next(offered: Server, tmp_path: Path) -> None:
    offered.answers["/a.bin"] = [breaks_off(4000), *[breaks_off(0)] * 5]
    with pytest.raises(
        UnreachableError, match=r"expected 10000 bytes, found an end after 4000 bytes; the same command"
    ):
        get(offered, tmp_path)
    assert get(offered, tmp_path).read_bytes() == DATA
    assert offered.asked[-1][1] == "bytes=4000-"


def test_a_file_that_changed_meanwhile_is_begun_anew(offered: Server, tmp_path: Path) -> None:
    changed = DATA[::-1]
    for sha256, etags in (
        (hashlib.sha256(changed).hexdigest(), True),
        (None, True),
        (hashlib.sha256(changed).hexdigest(), False),
    ):
        offered.etags, offered.files["/a.bin"] = etags, DATA
        offered.answers["/a.bin"] = [breaks_off(4000), *[breaks_off(0)] * 5]
        folder = tmp_path / f"{sha256}{etags}"
        with pytest.raises(UnreachableError):
            get(offered, folder, sha256)
        offered.files["/a.bin"] = changed
        # Without an ETag the pieces are put together, found not to fit, and all is fetched once more.
        assert get(offered, folder, sha256).read_bytes() == changed


def test_pieces_that_nobody_vouches_for_are_not_put_together(offered: Server, tmp_path: Path) -> None:
    offered.etags = False
    offered.answers["/a.bin"] = [breaks_off(4000)]
    assert get(offered, tmp_path, None).read_bytes() == DATA
    assert [asked for _, asked in offered.asked] == [None, None]


def test_a_server_that_ignores_ranges_or_sends_another_is_borne_with(offered: Server, tmp_path: Path) -> None:
    def other_range(handler: Handler, data: bytes) -> None:
        said = {"Content-Range": f"bytes 7-{len(data) - 1}/{len(data)}"}
        handler.start(206, {"Content-Length": len(data) - 7, **said})
        handler.wfile.write(data[7:])

    offered.answers["/a.bin"] = [breaks_off(3000), ignores_range]
    assert get(offered, tmp_path / "one").read_bytes() == DATA
    offered.answers["/a.bin"] = [breaks_off(3000), other_range]
    assert get(offered, tmp_path / "two").read_bytes() == DATA


def test_a_length_that_is_too_large_is_found_out(offered: Server, tmp_path: Path) -> None:
    offered.answers["/a.bin"] = [promises(+500)]
    assert get(offered, tmp_path / "ranges").read_bytes() == DATA  # 416 tells that there is no more
    offered.answers["/a.bin"] = [promises(+500)] * 20
    with pytest.raises(UnreachableError, match="expected 10500 bytes, found an end after 10000 bytes"):
        get(offered, tmp_path / "no ranges")


def test_a_length_that_is_too_small_is_found_out_by_the_checksum(offered: Server, tmp_path: Path) -> None:
    offered.answers["/a.bin"] = [promises(-500)] * 3
    with pytest.raises(InputError, match=f"expected a file of the SHA-256 {SHA}, found another content"):
        get(offered, tmp_path)
    assert os.listdir(tmp_path) == []


def test_wrong_bytes_are_thrown_away_and_the_right_ones_taken_the_next_time(offered: Server, tmp_path: Path) -> None:
    offered.answers["/a.bin"] = [sends(b"something else")]
    with pytest.raises(InputError, match="which was thrown away; try again"):
        get(offered, tmp_path)
    assert os.listdir(tmp_path) == []
    assert get(offered, tmp_path).read_bytes() == DATA


def test_redirects_are_followed_but_not_in_circles(offered: Server, tmp_path: Path) -> None:
    offered.files["/b.bin"] = b""
    offered.answers["/b.bin"] = [redirects("/a.bin")]
    assert download(f"{offered.address}/b.bin", "b.bin", tmp_path, SHA).read_bytes() == DATA
    offered.answers["/b.bin"] = [redirects("/b.bin")] * 100
    with pytest.raises(InputError, match="leads in circles"):
        download(f"{offered.address}/b.bin", "c.bin", tmp_path)


def test_an_address_does_not_leave_https(offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    plain = requests.get

    def downgraded(url: str, **how: object) -> requests.Response:
        return plain(url.replace("https://archive.example", offered.address), **how)  # type: ignore[arg-type]

    monkeypatch.setattr(requests, "get", downgraded)
    with pytest.raises(InputError, match="expected an address that stays https"):
        download("https://archive.example/a.bin", "a.bin", tmp_path, SHA)


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(offered: Server, tmp_path: Path) -> None:
    offered.answers["/a.bin"] = [says(503), says(429), breaks_off(9000), says(500)]
    assert get(offered, tmp_path).read_bytes() == DATA
    with pytest.raises(InputError, match=r"b\.bin: expected a file, found the answer 404 Not Found"):
        download(f"{offered.address}/b.bin", "b.bin", tmp_path)
    offered.answers["/a.bin"] = [says(503)] * 9
    with pytest.raises(
        UnreachableError, match="expected the whole file, found the answer 503 Service Unavailable after 0 bytes"
    ):
        download(f"{offered.address}/a.bin", "again.bin", tmp_path, SHA)


def test_a_server_that_falls_silent_is_given_up(
    offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(handler: Handler, data: bytes) -> None:
        handler.start(200, {"Content-Length": len(data)})
        handler.wfile.write(data[:100])
        handler.wfile.flush()
        time.sleep(0.4)
        handler.cut()

    monkeypatch.setattr(downloads, "_TIMEOUT_S", (1, 0.1))
    monkeypatch.setattr(downloads, "_TRIES", 2)
    offered.answers["/a.bin"] = [silent] * 9
    with pytest.raises(UnreachableError, match=r"found silence for 0\.1 s after"):
        get(offered, tmp_path, None)


def test_a_file_of_unknown_length_is_taken_whole_or_not(offered: Server, tmp_path: Path) -> None:
    offered.answers["/a.bin"] = [in_chunks(whole=False), in_chunks(whole=True)]
    assert get(offered, tmp_path, None).read_bytes() == DATA
    offered.files["/a.bin"] = b""
    assert download(f"{offered.address}/a.bin", "empty", tmp_path).read_bytes() == b""


def test_a_file_larger_than_the_disk_is_not_begun(offered: Server, tmp_path: Path) -> None:
    def endless(handler: Handler, data: bytes) -> None:
        handler.start(200, {"Content-Length": 2**60})
        handler.cut()

    offered.answers["/a.bin"] = [endless]
    with pytest.raises(InputError, match="expected room for 1099511627776 MiB"):
        get(offered, tmp_path)


def test_addresses_that_lead_nowhere_are_one_line(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(UnreachableError, match="found no connection; are you offline"):
            download(f"http://127.0.0.1:{port}/a", "a", tmp_path)
    for address in ("gopher://x/a", "http://"):
        with pytest.raises(InputError, match="expected an http, https or file address"):
            download(address, "a", tmp_path)
    with pytest.raises(InputError, match="gone: expected a file, found nothing of that name"):
        download((tmp_path / "gone").as_uri(), "a", tmp_path)
    with pytest.raises(InputError, match="expected a text file, found nothing of that name"):
        downloads.small_text((tmp_path / "gone").as_uri())


def test_texts_are_small(offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_LARGEST_TEXT", 100)
    (tmp_path / "a").write_bytes(DATA)
    for address in (f"{offered.address}/a.bin", (tmp_path / "a").as_uri()):
        with pytest.raises(InputError, match="found more"):
            downloads.small_text(address)
    offered.answers["/a.bin"] = [says(500)]
    with pytest.raises(UnreachableError, match="found the answer 500"):
        downloads.small_text(f"{offered.address}/a.bin")


def test_how_far_it_is_is_told(offered: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.show_progress(True)
    try:
        get(offered, tmp_path)
    finally:
        files.show_progress(False)
    assert "a.bin, MiB: 10 of 10" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- unpacking


def zipped(members: dict[str, bytes], **entry: int) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            for key, value in entry.items():
                setattr(info, key, value)
            archive.writestr(info, content, compress_type=zipfile.ZIP_DEFLATED)
    return data.getvalue()


def bomb() -> bytes:
    """A mebibyte that unpacks to a gibibyte."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("green/zeros", "w") as member:
        block = bytes(2**22)
        for _ in range(2**8):
            member.write(block)
    return data.getvalue()


def twice() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    return data.getvalue()


def with_bits(data: bytes, *, flags: int = 0, method: int | None = None, size: int | None = None) -> bytes:
    """Change the first member's record in the directory: its flags, its method or its size."""
    at = data.index(b"PK\x01\x02")
    changed = bytearray(data)
    if flags:
        struct.pack_into("<H", changed, at + 8, flags)
    if method is not None:
        struct.pack_into("<H", changed, at + 10, method)
    if size is not None:
        struct.pack_into("<I", changed, at + 24, size)
    return bytes(changed)


SMALL = {"green/a.txt": b"hello" * 100}
EVIL = {
    "../": (lambda: zipped({"../evil": b"x"}), "leads upward"),
    "deep ../": (lambda: zipped({"green/../../evil": b"x"}), "leads upward"),
    "..\\": (lambda: zipped({"..\\evil": b"x"}), "leads upward"),
    "absolute": (lambda: zipped({"/tmp/evil": b"x"}), "an absolute path"),
    "drive": (lambda: zipped({"C:\\evil": b"x"}), "an absolute path"),
    "link": (lambda: zipped({"green/l": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16), "a link"),
    "device": (lambda: zipped({"green/l": b""}, external_attr=(stat.S_IFCHR | 0o777) << 16), "a device"),
    "control": (lambda: zipped({"green/a\nb": b"x"}), "a name that cannot be"),
    "long": (lambda: zipped({f"green/{'x' * 256}": b"x"}), "too long"),
    "bomb": (bomb, "unpack to at most 256 MiB, found 1024 MiB"),
    "twice": (twice, "another of that name"),
    "folder and file": (lambda: zipped({"a": b"1", "a/b": b"2"}), "in the place of another"),
    "encrypted": (lambda: with_bits(zipped(SMALL), flags=1), "an encrypted one"),
    "method": (lambda: with_bits(zipped(SMALL), method=99), "method 99"),
    "size too small": (lambda: with_bits(zipped(SMALL), size=5), "cannot be unpacked"),
    "size too large": (lambda: with_bits(zipped(SMALL), size=5000), "500"),
    "damaged": (lambda: zipped(SMALL).replace(zipped(SMALL)[41:50], b"x" * 9, 1), "cannot be unpacked"),
    "cut": (lambda: zipped(SMALL)[:-10], "cannot be opened"),
    "no zip": (lambda: b"<html>no such page</html>", "cannot be opened"),
    "empty": (lambda: b"", "cannot be opened"),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_archive_that_wants_more_than_its_folder_is_refused(kind: str, tmp_path: Path) -> None:
    make, says = EVIL[kind]
    (tmp_path / "a.zip").write_bytes(make())
    with pytest.raises(InputError, match=re.escape(says)) as refused:
        unpack(tmp_path / "a.zip", tmp_path / "deep" / "out")
    assert str(refused.value).count("\n") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_bomb_of_overlapping_members_is_refused(tmp_path: Path) -> None:
    """Many directory records of one member, as in the bombs of Fifield (2019)."""
    data = zipped({"a": bytes(2**22)})
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    records = b"".join(
        data[at : at + 46].replace(struct.pack("<H", 1), struct.pack("<H", 4), 0)[:28]
        + struct.pack("<H", 4)
        + data[at + 30 : at + 46]
        + f"{number:04d}".encode()
        for number in range(200)
    )
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 200, 200, len(records), at)
    (tmp_path / "a.zip").write_bytes(data[:at] + records + bytes(tail))
    with pytest.raises(InputError, match="unpack to at most 256 MiB, found 800 MiB"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_an_honest_archive_is_unpacked_with_the_checksum_of_every_file(tmp_path: Path) -> None:
    members = {
        "green/a.txt": b"hello",
        "green/sub/b": bytes(2**21),
        "__MACOSX/green/._a": b"x",
        "green/.DS_Store": b"x",
    }
    (tmp_path / "a.zip").write_bytes(zipped(members | {"green/empty/": b""}))
    found = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert found == {name: hashlib.sha256(members[name]).hexdigest() for name in ("green/a.txt", "green/sub/b")}
    assert all((tmp_path / "out" / name).read_bytes() == members[name] for name in found)
    with pytest.raises(InputError, match="found a folder"):
        unpack(tmp_path / "out", tmp_path / "other")
    with pytest.raises(InputError, match="nothing of that name"):
        unpack(tmp_path / "gone", tmp_path / "other")


# ------------------------------------------------------------------------------------------------------------ fetching


def collection(name: str, seed: int = 0) -> dict[str, bytes]:
    """A collection of one labelled picture and one unlabelled, as its zip holds it."""
    made = {}
    rng = np.random.default_rng(seed)
    for partition, number in (("trainval", 1), ("unlabelled", 2)):
        path = Path(f"{name}/{partition}/images/{number}.png")
        made[path.as_posix()] = png(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    made[f"{name}/trainval/ground_truths/masks/1.png"] = png(np.eye(20, 30, dtype=np.uint8) * np.uint8(255))
    return made


def png(pixels: np.ndarray) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_png(Path(folder) / "a.png", Picture("a.png", pixels))
        return (Path(folder) / "a.png").read_bytes()


@pytest.fixture
def packed(server: Server) -> Server:
    """A server with what pack makes: zips, texts, checksums."""
    server.files |= {
        "/data/green.zip": zipped(collection("green")),
        "/data/red.zip": zipped(collection("red", 1)),
        "/data/raw_data.zip": zipped({"raw/green/a.tif": b"x", "raw/red/b.tif": b"y"}),
        "/data/datasheet.md": b"Licence: CC BY-SA 4.0\n",
    }
    relist(server)
    return server


def relist(server: Server) -> None:
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {path.removeprefix('/data/')}\n"
        for path, data in server.files.items()
        if not path.endswith("checksums.sha256")
    ]
    server.files["/data/checksums.sha256"] = "".join(lines).encode()


def states(summary: fetching.FetchSummary) -> dict[str, str]:
    return {one.file: one.status for one in summary.fetched}


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_packed_archive_is_fetched_and_opens(packed: Server, tmp_path: Path) -> None:
    summary = fetch([], tmp_path / "to", f"{packed.address}/data")
    assert states(summary) == {"datasheet.md": "fetched", "green.zip": "fetched", "red.zip": "fetched"}
    assert summary.licences == {"datasheet.md": ("CC BY-SA 4.0",)}
    assert {one.checksum for one in summary.fetched} == {"known"}
    archive = Archive.open(tmp_path / "to")
    assert archive.collections == ("green", "red")
    assert [len(archive.samples(name)) for name in archive.collections] == [2, 2]
    listed = (tmp_path / "to" / "checksums.sha256").read_text()
    there = everything(tmp_path / "to")
    assert set(there) == {line.split("  ")[1] for line in listed.splitlines()} | {"checksums.sha256"}
    for line in listed.splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(there[name]).hexdigest() == digest
    before = len(packed.asked)
    again = fetch(["green"], tmp_path / "to", f"{packed.address}/data")
    assert states(again) == {"datasheet.md": "present", "green.zip": "present"}
    assert len(packed.asked) == before + 1  # the list alone
    assert everything(tmp_path / "to") == there
    more = fetch(["raw"], tmp_path / "to", f"{packed.address}/data/")
    assert states(more) == {"datasheet.md": "present", "raw_data.zip": "fetched"}
    assert (tmp_path / "to" / "raw" / "red" / "b.tif").read_bytes() == b"y"
    assert Archive.open(tmp_path / "to").collections == ("green", "red")


def test_what_is_missing_is_put_back_and_what_was_changed_is_not_overwritten(packed: Server, tmp_path: Path) -> None:
    to, source = tmp_path / "to", f"{packed.address}/data"
    fetch([], to, source)
    there = everything(to)
    mask = to / "green" / "trainval" / "ground_truths" / "masks" / "1.png"
    mask.unlink()
    (to / "datasheet.md").unlink()
    assert states(fetch([], to, source)) == {"datasheet.md": "fetched", "green.zip": "fetched", "red.zip": "present"}
    assert everything(to) == there
    mask.write_bytes(b"corrected by hand")
    (to / "green" / "notes.txt").write_text("mine")
    packed.files["/data/green.zip"] = zipped(collection("green", 5))
    packed.files["/data/red.zip"] = zipped({**collection("red", 1), "red/new.txt": b"new"})
    relist(packed)
    summary = fetch([], to, source)
    assert states(summary) == {"datasheet.md": "present", "green.zip": "failed", "red.zip": "fetched"}
    assert "changed since" in summary.failures["green.zip"]
    assert mask.read_bytes() == b"corrected by hand"
    assert (to / "red" / "new.txt").exists()


def test_a_folder_that_was_not_fetched_is_not_touched(packed: Server, tmp_path: Path) -> None:
    own = tmp_path / "to" / "green" / "mine.txt"
    files.write_text(own, "mine")
    files.write_text(tmp_path / "to" / "datasheet.md", "mine")
    summary = fetch(["green"], tmp_path / "to", f"{packed.address}/data")
    assert set(summary.failures) == {"datasheet.md", "green.zip"}
    assert "one that was not fetched" in summary.failures["green.zip"]
    assert own.read_text() == "mine"
    assert (tmp_path / "to" / "datasheet.md").read_text() == "mine"
    # An archive that claims the folder of another is refused like any other stranger.
    packed.files["/data/red.zip"] = zipped(collection("green", 9))
    relist(packed)
    fetch(["green"], tmp_path / "new", f"{packed.address}/data")
    there = everything(tmp_path / "new" / "green")
    assert "not fetched" in fetch(["red"], tmp_path / "new", f"{packed.address}/data").failures["red.zip"]
    assert everything(tmp_path / "new" / "green") == there


@pytest.mark.parametrize("kind", ["../", "bomb", "link", "no zip"])
def test_a_bad_archive_stops_no_other_and_leaves_nothing(kind: str, packed: Server, tmp_path: Path) -> None:
    packed.files["/data/green.zip"] = EVIL[kind][0]()
    relist(packed)
    summary = fetch([], tmp_path / "to", f"{packed.address}/data")
    assert states(summary) == {"datasheet.md": "fetched", "green.zip": "failed", "red.zip": "fetched"}
    assert EVIL[kind][1] in summary.failures["green.zip"]
    assert sorted(os.listdir(tmp_path / "to")) == ["checksums.sha256", "datasheet.md", "fncells-run.json", "red"]
    assert os.listdir(tmp_path) == ["to"]


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"trainval/images/1.png": b"x", "test/images/2.png": b"y"}, "green/trainval/images/1.png"),
        ({"a.txt": b"x"}, "green/a.txt"),
        ({"other/a.txt": b"x"}, "other/a.txt"),
    ],
    ids=["no folder of its own", "files alone", "another folder"],
)
def test_an_archive_unpacks_to_one_folder(
    members: dict[str, bytes], place: str, packed: Server, tmp_path: Path
) -> None:
    packed.files["/data/green.zip"] = zipped(members)
    relist(packed)
    fetch(["green"], tmp_path / "to", f"{packed.address}/data")
    assert (tmp_path / "to" / place).read_bytes() == b"x"


@pytest.mark.parametrize(
    "members", [{}, {".hidden/a": b"x"}, {".fncells-downloads/lock": b"x"}, {"fncells-run.json/a": b"x"}]
)
def test_an_archive_of_nothing_or_of_hidden_files_is_refused(
    members: dict[str, bytes], packed: Server, tmp_path: Path
) -> None:
    packed.files["/data/green.zip"] = zipped(members)
    relist(packed)
    summary = fetch(["green"], tmp_path / "to", f"{packed.address}/data")
    assert "expected an archive with a folder of files" in summary.failures["green.zip"]


def test_a_full_disk_is_told_and_the_next_run_goes_on(
    packed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as crowded:
        crowded.setattr(fetching, "unpack", full)
        summary = fetch(["green"], tmp_path / "to", f"{packed.address}/data")
    assert "with room, found No space left on device" in summary.failures["green.zip"]
    assert not (tmp_path / "to" / "green").exists()
    asked = len(packed.asked)
    assert fetch(["green"], tmp_path / "to", f"{packed.address}/data").failures == {}
    assert len(packed.asked) == asked + 1  # the list alone: the zip had come whole


def test_what_is_not_offered_is_named_with_what_is(packed: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"something out of green, red, raw, found 'blue'"):
        fetch(["blue"], tmp_path / "to", f"{packed.address}/data")
    with pytest.raises(
        InputError, match=r"something out of green, red, yellow, raw, annotations, statistics, found '\.\./x'"
    ):
        fetch(["../x"], tmp_path / "to")
    with pytest.raises(InputError, match=r"expected what `fncells pack` made"):
        fetch([], tmp_path / "to", f"{packed.address}/nowhere")
    with pytest.raises(InputError, match=r"expected what `fncells pack` made"):
        fetch([], tmp_path / "to", str(tmp_path))
    packed.files["/data/checksums.sha256"] = b"no checksums\n"
    with pytest.raises(InputError, match=r"checksums\.sha256, line 1: expected a SHA-256"):
        fetch([], tmp_path / "to", f"{packed.address}/data")
    assert not (tmp_path / "to").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="found a file"):
        fetch([], tmp_path / "file", f"{packed.address}/data")


def test_two_runs_in_one_folder_do_not_disturb_each_other(packed: Server, tmp_path: Path) -> None:
    with fetching._alone(tmp_path), pytest.raises(InputError, match="another `fncells fetch` at work"):
        fetch([], tmp_path, f"{packed.address}/data")
    assert fetch([], tmp_path, f"{packed.address}/data").failures == {}


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The published archive's addresses on a local server, with the checksums of what it serves there."""
    base = "/id/eprint/7347/"
    content = {
        "28/green.zip": zipped(collection("green")),
        "27/yellow.zip": zipped(collection("yellow", 1)),
        "29/red.zip": zipped(collection("red", 2)),
        "33/raw_data.zip": zipped({"raw_data/a.tif": b"x"}),
        "30/metadata_v2.xlsx": b"index",
        "19/datasheet.md": b"licence CC BY-SA 4.0",
        "31/README.md": b"under CC-BY 4.0",
    }
    server.files |= {f"{base}{place}": data for place, data in content.items()}
    links = [f'<a href="{place}">x</a>' for place in ("33/raw_data.zip", f"{base}30/metadata_v2.xlsx")]
    evil = '<a href="http://elsewhere.example/annotations.zip">x</a><a>x</a>'
    server.files[base] = f"<html><p>{evil}{''.join(links)}".encode()
    listed = {
        name: fetching._Listed(one.place, hashlib.sha256(content[one.place]).hexdigest() if one.sha256 else None)
        for name, one in fetching._PUBLISHED.items()
    }
    monkeypatch.setattr(fetching, "_PUBLISHED", listed)
    monkeypatch.setattr(fetching, "PUBLISHED_ADDRESS", f"{server.address}{base}")
    return server


def test_the_published_archive_is_fetched_by_its_addresses(published: Server, tmp_path: Path) -> None:
    summary = fetch(["green", "raw", "annotations"], tmp_path)
    assert {one.file: one.checksum for one in summary.fetched if one.status == "fetched"} == {
        "metadata_v2.xlsx": "recorded",
        "datasheet.md": "recorded",
        "README.md": "recorded",
        "green.zip": "known",
        "raw_data.zip": "recorded",
    }
    assert "a link to annotations.zip on the page" in summary.failures["annotations.zip"]
    assert summary.licences == {"datasheet.md": ("CC BY-SA 4.0",), "README.md": ("CC BY 4.0",)}
    assert (tmp_path / "metadata_v2.xlsx").read_bytes() == b"index"
    # What was recorded is known from now on.
    (tmp_path / "raw_data" / "a.tif").unlink()
    published.files["/id/eprint/7347/33/raw_data.zip"] = zipped({"raw_data/a.tif": b"other"})
    assert "another content" in fetch(["raw"], tmp_path).failures["raw_data.zip"]
    # Everything that is there stays usable without the server.
    published.files.clear()
    asked = len(published.asked)
    assert states(fetch(["green"], tmp_path))["green.zip"] == "present"
    assert len(published.asked) == asked


def test_the_published_addresses_and_checksums_are_as_recorded() -> None:
    assert fetching.PUBLISHED_ADDRESS == "https://amsacta.unibo.it/id/eprint/7347/"
    known = {name: one for name, one in fetching._PUBLISHED.items() if one.sha256}
    assert {name: one.place for name, one in known.items()} == {
        "green.zip": "28/green.zip",
        "yellow.zip": "27/yellow.zip",
        "red.zip": "29/red.zip",
    }
    assert all(re.fullmatch("[0-9a-f]{64}", one.sha256 or "") for one in known.values())
    assert {one.sha256[:8] for one in known.values()} == {"7760c3c5", "08048f5c", "0a9a2ac9"}


def test_offline_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], published: Server
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr(fetching, "PUBLISHED_ADDRESS", f"http://127.0.0.1:{nobody.getsockname()[1]}/")
        assert run(["fetch", "--to", str(tmp_path / "to")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "no connection; are you offline?" in captured.err
    assert not (tmp_path / "to").exists()


def test_a_connection_that_goes_away_leaves_the_rest_untried(published: Server, tmp_path: Path) -> None:
    published.answers["/id/eprint/7347/28/green.zip"] = [breaks_off(500), *[breaks_off(0)] * 9]
    summary = fetch(["green", "red"], tmp_path)
    assert "found an end after 500 bytes" in summary.failures["green.zip"]
    assert summary.failures["red.zip"].startswith("not tried: ")
    published.answers.clear()
    assert fetch(["green", "red"], tmp_path).failures == {}
    assert ("/id/eprint/7347/28/green.zip", "bytes=500-") in published.asked


def test_the_command_tells_what_it_did(published: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = str(tmp_path / "to")
    assert run(["fetch", "green", "annotations", "--to", to, "--json", "--quiet"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert [one["status"] for one in told["files"]] == ["fetched"] * 4 + ["failed"]
    assert captured.err.startswith("failed: annotations.zip: ")
    assert run(["fetch", "green", "--to", to]) == 0
    assert "licence, as datasheet.md says: CC BY-SA 4.0" in capsys.readouterr().out
    assert run(["check", to, "--quiet"]) in (0, 1)
    published.files.clear()
    assert run(["fetch", "green", "--to", str(tmp_path / "other"), "--quiet"]) == 2


def test_a_killed_fetch_goes_on_and_ends_with_the_same_bytes(packed: Server, tmp_path: Path) -> None:
    big = {f"green/trainval/images/{number}.png": np.random.default_rng(number).bytes(20_000) for number in range(200)}
    packed.files["/data/green.zip"] = zipped(big)
    relist(packed)
    source = f"{packed.address}/data"
    fetch([], tmp_path / "fresh", source)
    program = "import sys; from fncells.cli import run; sys.exit(run(['fetch', *sys.argv[1:], '--quiet']))"
    words = [sys.executable, "-c", program, "--to", str(tmp_path / "to"), "--source", source]
    for delay in (0.0, 0.02, 0.05, 0.1):
        with subprocess.Popen(words) as fetcher:
            until = time.monotonic() + 20
            while not (tmp_path / "to").exists() and fetcher.poll() is None and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(delay)
            fetcher.send_signal(signal.SIGKILL)
        for name, data in everything(tmp_path / "to").items() if (tmp_path / "to").exists() else ():
            if name.startswith("green/"):
                assert data == big[name]
    assert fetch([], tmp_path / "to", source).failures == {}
    assert everything(tmp_path / "to") == everything(tmp_path / "fresh")


def test_a_kill_between_any_two_steps_is_mended_by_the_next_run(
    packed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename and each written file once fails; the same call again ends as an undisturbed one."""
    source = f"{packed.address}/data"
    fetch([], tmp_path / "fresh", source)
    plain, left = Path.replace, [0]

    def dies(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    for step in range(1, 40):
        left[0] = step
        to = tmp_path / str(step)
        try:
            fetch([], to, source)
        except KeyboardInterrupt:
            left[0] = 0
            assert fetch([], to, source).failures == {}
            assert everything(to) == everything(tmp_path / "fresh")
        else:
            break
    assert step > 8
