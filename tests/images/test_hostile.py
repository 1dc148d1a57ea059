"""Pictures that lie, are broken or mean harm end in one line, and quickly."""

import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fncells.errors import InputError
from fncells.images import MOST_PIXELS, picture_shape, read_picture, write_png
from fncells.images import directories as directories_room
from fncells.images import picture as picture_room
from images.mutation import mutated

GREY = np.random.default_rng(4).integers(0, 256, (24, 32), dtype=np.uint8)
FINDINGS = Path(__file__).with_name("findings")
LONGEST = 10.0  # seconds of computing, on a machine that does other things as well


def outcome(path):
    """What reading came to: the picture, or the one line; anything else is an error of ours."""
    try:
        picture = read_picture(path)
    except InputError as error:
        return None, str(error)
    return picture, ""


def check(path, folder):
    start = time.process_time()
    picture, line = outcome(path)
    assert "\n" not in line
    if picture is not None and picture.pixels.size < 2**22:
        write_png(folder / "written.png", picture)
        again = read_picture(folder / "written.png")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        assert (again.exif, again.blocks, again.pixel_size) == (picture.exif, picture.blocks, picture.pixel_size)
    assert time.process_time() - start < LONGEST
    return picture is not None


def samples(data):
    """Real files of every kind, none so large that a mutant of it takes long."""
    found = [
        *sorted((data / "raw/exif_samples").iterdir()),
        *sorted((data / "bbbc039/images").iterdir())[:1],
        *sorted((data / "bbbc039/masks").iterdir())[:1],
        *sorted((data / "dsb2018/images").iterdir())[:2],
    ]
    assert len(found) >= 9
    return found


def mutants(data, tmp_path, number, seed):
    paths, rng = samples(data), random.Random(seed)
    contents = {path: path.read_bytes() for path in paths}
    read = 0
    for index in range(number):
        path = paths[index % len(paths)]
        target = tmp_path / f"mutant{path.suffix}"
        target.write_bytes(mutated(contents[path], rng))
        read += check(target, tmp_path)
    return read


def test_mutants_of_real_files_end_in_a_picture_or_a_line(data, tmp_path, capfd):
    read = mutants(data, tmp_path, 150, seed=1)
    assert 10 < read < 140
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_five_thousand_mutants_of_real_files_end_in_a_picture_or_a_line(data, tmp_path):
    assert 300 < mutants(data, tmp_path, 5000, seed=2) < 4700


@pytest.mark.parametrize("path", sorted(FINDINGS.iterdir()) if FINDINGS.exists() else [], ids=lambda path: path.name)
def test_what_fuzzing_found_stays_mended(tmp_path, path):
    check(path, tmp_path)


def tiff_chain(*links, order="<", big=False):
    """Directories of one entry each; each is followed by the one of that number, or by none."""
    number, entry, link, start = ("Q", 20, "Q", 16) if big else ("H", 12, "I", 8)
    size = struct.calcsize(order + number) + entry + struct.calcsize(order + link)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, start) if big else struct.pack(order + "I", start)
    body = b""
    for following in links:
        place = 0 if following is None else start + size * following
        body += struct.pack(order + number, 1) + struct.pack(order + "HH", 256, 4).ljust(entry, b"\0")
        body += struct.pack(order + link, place)
    return head + body


@pytest.mark.parametrize("links", [(0,), (1, 0), (1, 2, 1), (1, 2, 3, 4, 2)], ids=str)
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
def test_directories_that_lead_back_to_themselves_are_refused(tmp_path, links, order, big):
    # tifffile looks for such loops only where it loads a hundred at once; read one by one, it runs for ever.
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_chain(*links, order=order, big=big))
    for read in (read_picture, picture_shape):
        with pytest.raises(InputError, match="lead back to themselves"):
            read(path)


def test_more_directories_than_any_film_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(directories_room, "MOST_DIRECTORIES", 3)
    path = tmp_path / "a.tif"
    for number in (3, 4):
        tifffile.imwrite(path, np.stack([GREY] * number), photometric="minisblack", metadata=None)
        picture, line = outcome(path)
        assert (picture is None) == (number == 4)
        assert ("more than 3 directories" in line) == (number == 4)


def test_a_directory_that_claims_too_many_tags_says_so(tmp_path):
    count = 5000
    entries = b"".join(struct.pack("<HHI4s", 40000 + number, 2, 4, b"abc\0") for number in range(count))
    block = b"II*\x00" + struct.pack("<IH", 8, count) + entries + bytes(4)
    from fncells.images.directories import exif_tags

    tags, notes = exif_tags(block)
    assert len(tags) == 4096
    assert notes == ["a directory claims 5000 tags; those after 4096 were left out"]


def test_a_picture_that_memory_cannot_hold_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    import zlib

    # 20,000 x 20,000 pixels of nothing, in half a megabyte.
    path = tmp_path / "a.png"
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(20_001 * 100)) for _ in range(200)) + rows.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(each)) + kind + each + struct.pack(">I", zlib.crc32(kind + each)) for kind, each in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(picture_room, "_memory", lambda: 1e9)
    picture, line = outcome(path)
    assert picture is None
    assert (
        "a picture of 20000 x 20000 pixels, which takes 1.2 GB of memory; cut it into parts: this machine has 1.0 GB"
        in line
    )


def test_the_machines_memory_is_known_or_taken_for_endless(monkeypatch):
    assert picture_room._memory() > 2**28
    monkeypatch.delattr(picture_room.os, "sysconf")
    assert picture_room._memory() == float("inf")
    assert picture_room.checked_shape(2**15, MOST_PIXELS // 2**15, 2) == (2**15, 2**15)


def test_libraries_say_nothing_on_standard_error(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, extratags=[(65000, 2, 9, b"some text", True)])
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        raw[file.pages[0].tags[65000].offset + 2] = 99  # a type that there is not
    (tmp_path / "a.tif").write_bytes(bytes(raw))
    capfd.readouterr()
    picture = read_picture(tmp_path / "a.tif")
    assert any("unknown type 99" in note for note in picture.notes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
def test_lzw_without_a_clear_code_is_not_given_to_the_decoder(tmp_path, tile):
    """imagecodecs' decoder falls over some of it, and takes the process along."""
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, compression="lzw", tile=tile, rowsperstrip=None if tile else 12)
    assert outcome(path)[0] is not None
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[last : last + 2] = b"\x00\x7b"
    path.write_bytes(data)
    assert "found LZW that begins with 00 7b instead of a clear code; save it anew" in outcome(path)[1]
