"""The makers' own formats: tiny real files through bioio's real plugins, and a stand-in where there is none."""

import json
import sys
import types

import numpy as np
import pytest

from fncells import files
from fncells.errors import InputError, MissingExtraError
from fncells.images import Plane, picture_shape, read_picture, tags_json, write_png
from fncells.images import microscopes as room
from images.makers import lif, nd2

PLANES = np.random.default_rng(9).integers(1, 65536, (2, 3, 40, 50), dtype=np.uint16)


def put_lif(path, um=0.5, names=("Green", "Red")):
    pytest.importorskip("bioio_lif")
    path.write_bytes(lif(PLANES, names, um))
    return path


def put_nd2(path, um=0.5, names=("DAPI", "GFP")):
    pytest.importorskip("bioio_nd2")
    path.write_bytes(nd2(PLANES[:, 0], um, names))
    return path


def put_czi(path, um=0.5, names=("DAPI", "GFP"), planes=PLANES):
    pytest.importorskip("bioio_czi")
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(path)) as file:
        for channel in range(len(planes)):
            for z in range(len(planes[channel])):
                pixels = planes[channel, z]
                file.write(pixels if pixels.ndim == 3 else pixels[..., None], plane={"C": channel, "Z": z, "T": 0})
        scales = {} if um is None else {"scale_x": um * 1e-6, "scale_y": um * 1e-6}
        file.write_metadata(document_name="a", channel_names=dict(enumerate(names)), **scales)
    return path


MAKERS = {"lif": (put_lif, "Leica", "Red", 3), "nd2": (put_nd2, "Nikon", "GFP", 1), "czi": (put_czi, "Zeiss", "gfp", 3)}


@pytest.mark.parametrize("suffix", MAKERS)
def test_pixels_size_and_tags_of_a_makers_format_reach_the_png(tmp_path, suffix, capfd):
    put, maker, name, depth = MAKERS[suffix]
    path = put(tmp_path / f"a.{suffix}")
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, PLANES[0, 0])
    assert (picture.pixel_size.um, picture.pixel_size.source) == (pytest.approx(0.5), maker)
    assert "2 channels (" in picture.notes[0]
    assert ("3 z planes" in picture.notes[0]) == (depth == 3)
    assert picture.tags["Microscope.metadata"]
    assert json.loads(tags_json(picture))["camera"] == maker
    assert picture_shape(path) == (40, 50)
    np.testing.assert_array_equal(read_picture(path, plane=Plane(channel=name)).pixels, PLANES[1, 0])
    np.testing.assert_array_equal(
        read_picture(path, plane=Plane(channel="2", z=str(depth))).pixels, PLANES[1, depth - 1]
    )
    brightest = read_picture(path, plane=Plane(z="max"))
    np.testing.assert_array_equal(brightest.pixels, PLANES[0, :depth].max(axis=0))
    write_png(tmp_path / "a.png", picture)
    again = read_picture(tmp_path / "a.png")
    assert (again.pixel_size, again.tags) == (picture.pixel_size, picture.tags)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", MAKERS)
def test_what_a_makers_file_does_not_hold_is_refused(tmp_path, suffix):
    path = MAKERS[suffix][0](tmp_path / f"a.{suffix}")
    for plane in (Plane(channel="3"), Plane(channel="RFP"), Plane(z="4"), Plane(scene=2), Plane(page=2), Plane(time=2)):
        with pytest.raises(InputError, match=f"expected a picture in {suffix.upper()}, found a file of .*and no"):
            read_picture(path, plane=plane)


@pytest.mark.parametrize("suffix", MAKERS)
def test_without_a_calibration_there_is_no_pixel_size(tmp_path, suffix):
    assert read_picture(MAKERS[suffix][0](tmp_path / f"a.{suffix}", um=None)).pixel_size is None


@pytest.mark.parametrize("suffix", MAKERS)
def test_a_makers_file_cut_short_or_changed_ends_in_one_line_or_a_note(tmp_path, suffix):
    path = MAKERS[suffix][0](tmp_path / f"a.{suffix}")
    data, rng = path.read_bytes(), np.random.default_rng(1)
    for size in (0, 1, 5, 100, len(data) // 2, len(data) - 9):
        path.write_bytes(data[:size])
        try:
            picture = read_picture(path)
        except InputError as error:
            line = str(error)
        else:
            line = ""
            assert picture.pixels.any() or any("0" in note for note in picture.notes)
        assert "\n" not in line
    for _ in range(15):
        changed = np.frombuffer(data, np.uint8).copy()
        changed[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(changed.tobytes())
        try:
            line = str(read_picture(path).pixels.shape)
        except InputError as error:
            line = str(error)
        assert "\n" not in line


def test_a_colour_camera_on_a_microscope(tmp_path):
    colours = np.random.default_rng(2).integers(0, 256, (1, 1, 40, 50, 3), dtype=np.uint8)
    picture = read_picture(put_czi(tmp_path / "a.czi", planes=colours, names=("TL",)))
    np.testing.assert_array_equal(picture.pixels, colours[0, 0])
    assert picture.notes == ()


def test_makers_files_are_found_in_folders(tmp_path):
    for name in ("a.nd2", "b.CZI", "c.lif", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [source.name for source in files.find_pictures([tmp_path])] == ["a.nd2", "b.CZI", "c.lif"]


@pytest.mark.parametrize(
    ("suffix", "maker", "extra"),
    [("nd2", "Nikon", "microscopes"), ("czi", "Zeiss", "zeiss"), ("lif", "Leica", "microscopes")],
)
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, suffix, maker, extra):
    monkeypatch.setitem(sys.modules, "bioio", None)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"anything")
    said = rf'{suffix.upper()} file \({maker}\).*pip install "fncells\[{extra}\]"'
    with pytest.raises(MissingExtraError, match=said):
        read_picture(path)
    with pytest.raises(MissingExtraError):
        picture_shape(path)


def test_formats_of_further_plugins_say_which(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", types.ModuleType("bioio"))
    for suffix, package in (("oib", "bioio-bioformats"), ("dv", "bioio-dv")):
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(b"anything")
        with pytest.raises(
            InputError, match=f"a further plugin of bioio; install it with: pip install bioio {package}"
        ):
            read_picture(path)


def test_nothing_of_bioio_is_imported_for_ordinary_pictures(tmp_path):
    import subprocess

    path = tmp_path / "a.png"
    write_png(path, read_picture(_grey(tmp_path)))
    code = (
        "import sys; from pathlib import Path; from fncells.images import read_picture; "
        f"read_picture(Path({str(path)!r})); print([name for name in sys.modules if name.startswith(('bioio', 'nd2', 'dask'))])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def _grey(folder):
    import tifffile

    tifffile.imwrite(folder / "a.tif", PLANES[0, 0])
    return folder / "a.tif"


class StandIn:
    """What bioio gives, for the formats of which no small file can be made."""

    def __init__(self, path, reader):
        self.dims = types.SimpleNamespace(T=2, C=1, Z=1, Y=8, X=9, **reader.more)
        self.dtype, self.scenes, self.channel_names = reader.dtype, ("one", "two"), ["Channel:0:0"]
        self.reader = reader

    def set_scene(self, index):
        self.scene = index

    def get_image_data(self, order, T, C, Z):
        shape = (8, 9) if order == "YX" else (8, 9, self.dims.S)
        return np.full(shape, 10 * self.scene + T, self.dtype)

    def __getattr__(self, name):
        raise RuntimeError(f"{name} is not to be had")


@pytest.mark.parametrize(
    ("dtype", "samples", "good"), [("u1", 4, True), ("u2", 1, True), ("f4", 1, False), ("u1", 2, False)]
)
def test_scenes_and_times_of_a_format_that_only_a_plugin_knows(tmp_path, monkeypatch, dtype, samples, good):
    reader = types.SimpleNamespace(dtype=np.dtype(dtype), more={"S": samples} if samples > 1 else {})
    library, plugin = types.ModuleType("bioio"), types.ModuleType("bioio_dv")
    library.BioImage, plugin.Reader = StandIn, reader
    monkeypatch.setitem(sys.modules, "bioio", library)
    monkeypatch.setitem(sys.modules, "bioio_dv", plugin)
    path = tmp_path / "a.dv"
    path.write_bytes(b"anything")
    if not good:
        with pytest.raises(InputError, match="where 8 or 16 bit, grey or RGB, can be read"):
            read_picture(path)
        return
    picture = read_picture(path, plane=Plane(scene=2, time=2))
    assert (picture.pixels == 11).all()
    assert picture.pixels.shape == ((8, 9, 3) if samples == 4 else (8, 9))
    assert picture.pixel_size is None
    assert picture.notes[:2] == (
        "the file holds 2 scenes; number 2 was taken",
        "the file holds 2 time points; time point 2 was taken",
    )
    assert [note for note in picture.notes if "cannot be read" in note]
    assert picture_shape(path) == (8, 9)


def test_the_formats_and_the_suffixes_are_the_same():
    in_tiff = {".lsm", ".stk"}  # Zeiss's and MetaMorph's stacks, which are TIFF inside
    assert {f".{kind.lower()}" for kind in room._FORMATS} | in_tiff == files.MICROSCOPE_SUFFIXES
