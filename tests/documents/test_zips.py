import io
import struct
import tracemalloc
import zipfile
from time import process_time

import pytest

from fncells.documents import zips
from fncells.documents.zips import open_zip
from fncells.errors import InputError
from fncells.files import write_zip


def packed(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def read(path):
    with open_zip(path) as archive:
        return dict(archive.read(archive.names))


def refused(path, data, said):
    path.write_bytes(data)
    start = process_time()
    with pytest.raises(InputError, match=said) as refusal:
        read(path)
    assert process_time() - start < 5
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_members_come_in_their_order_with_the_comment(tmp_path):
    write_zip(tmp_path / "a.zip", [("b", b"1"), ("sub/", b""), ("sub/a", b""), ("c", b"x" * 5000)], comment=b"note")
    with open_zip(tmp_path / "a.zip") as archive:
        assert archive.comment == b"note"
        assert archive.names == ["b", "sub/a", "c"]
        assert list(archive.read(["c", "b"])) == [("c", b"x" * 5000), ("b", b"1")]


VALID = packed([("a.roi", b"123" * 100), ("b.roi", b"")])


def changed(data, at, to):
    return data[:at] + to + data[at + len(to) :]


def everywhere(data, signature, offset, to):
    """Change a field in each local header (PK 3 4) or directory entry (PK 1 2)."""
    at = data.find(signature)
    while at >= 0:
        data = changed(data, at + offset, to)
        at = data.find(signature, at + 4)
    return data


def said_smaller(data, size):
    """Say that members unpack to less than they do."""
    field = struct.pack("<I", size)
    return everywhere(everywhere(data, b"PK\3\4", 22, field), b"PK\1\2", 24, field)


ZEROS = bytes(2**26)
HOSTILE = {
    "nothing": (b"", "a whole zip archive, found one that cannot be opened"),
    "something else": (b"no archive at all" * 10, "a whole zip archive"),
    "half of it": (VALID[: len(VALID) // 2], "a whole zip archive"),
    "without its last byte": (VALID[:-1], "a whole zip archive"),
    "an encrypted member": (everywhere(VALID, b"PK\1\2", 8, b"\1"), r"member 'a\.roi': .*an encrypted one"),
    "another way of packing": (packed([("a.roi", b"1" * 99)], zipfile.ZIP_LZMA), "packed by method 14"),
    "bzip2, which unpacks to anything": (packed([("a.roi", ZEROS)], zipfile.ZIP_BZIP2), "packed by method 12"),
    "a large member": (packed([("a.roi", ZEROS)]), "at most 16 MiB, found 64 MiB"),
    "many members": (packed([(f"{i}.roi", ZEROS[: 2**24 - i]) for i in range(18)], zipfile.ZIP_STORED), "256 MiB"),
    "a bomb": (packed([("a.roi", ZEROS[: 2**21])]), "at most 200 times its size, found 2097152 bytes out of"),
    "a bomb that says it is none": (said_smaller(packed([("a.roi", ZEROS)]), 1000), "cannot be unpacked"),
    "damaged content": (changed(VALID, 38, b"\xff\xff\xff"), "cannot be unpacked"),
    "other content than promised": (packed([("a", b"123")], zipfile.ZIP_STORED).replace(b"123", b"124", 1), "Bad CRC"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_what_is_no_whole_archive_of_a_fair_size_is_refused(tmp_path, fault):
    path = tmp_path / "a.zip"
    path.write_bytes(VALID)
    assert read(path) == {"a.roi": b"123" * 100, "b.roi": b""}
    refused(path, *HOSTILE[fault])


def test_one_name_twice_is_refused(tmp_path):
    data = packed([("a.roi", b"1"), ("b.roi", b"2")]).replace(b"b.roi", b"a.roi")
    refused(tmp_path / "a.zip", data, r"expected each member once, found 'a\.roi' twice")


def test_what_is_not_asked_for_is_not_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(packed([("a.roi", b"1"), ("b.tif", ZEROS)]))
    with open_zip(tmp_path / "a.zip") as archive:
        assert list(archive.read(["a.roi"])) == [("a.roi", b"1")]


def test_a_bomb_takes_no_memory(tmp_path):
    data = said_smaller(packed([("a.roi", ZEROS)]), 1000)
    tracemalloc.start()
    try:
        refused(tmp_path / "a.zip", data, "cannot be unpacked")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_directories_of_hundreds_of_thousands_are_refused(tmp_path, monkeypatch):
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = zips._LARGEST_DIRECTORY // len(entry) + 1
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, count * len(entry), 0, 0)
    refused(tmp_path / "a.zip", entry * count + end, "a directory of members too large to be one")
    (tmp_path / "b.zip").write_bytes(VALID)
    monkeypatch.setattr(zips, "_MOST_MEMBERS", 1)
    with pytest.raises(InputError, match="at most 1 members, found 2"):
        read(tmp_path / "b.zip")


def test_missing_files_and_folders_are_refused(tmp_path):
    for path, said in ((tmp_path, "a folder"), (tmp_path / "b", "nothing of that name")):
        with pytest.raises(InputError, match=said):
            read(path)
