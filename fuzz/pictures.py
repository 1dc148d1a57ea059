"""Fuzz the reading of pictures: whatever the bytes, they end in a picture that survives as PNG, or in one line.

::

    python fuzz/pictures.py tiff -max_total_time=600 corpus/

The further words are libFuzzer's. Needs the package atheris. A finding is written to the working folder; kept ones lie in
``tests/images/findings``, where a test reads each. Real pictures make good seeds: copies of them in the corpus's folder.
"""

import io
import random
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fncells", "tifffile"]):
    from fncells.errors import InputError
    from fncells.images import Plane, picture_shape, read_picture, tags_json, tags_text, write_png

import cv2
import numpy as np
import tifffile
from PIL import Image

LONGEST = 5.0  # seconds
MOST_PIXELS = 2**20  # larger pictures are not decoded here: their sizes are honest, and it takes long

RANDOM = np.random.default_rng(1)
GREY = RANDOM.integers(0, 65536, (12, 16), dtype=np.uint16)
RGB = RANDOM.integers(0, 256, (12, 16, 3), dtype=np.uint8)
PLANES = (Plane(), Plane(channel="2"), Plane(z="max"), Plane(page=2), Plane(scene=2))


def exif() -> bytes:
    """Give a block with directories below it."""
    tags = Image.Exif()
    tags[271], tags[274], tags[306] = "NIKON", 6, "0000:00:00 00:00:00"
    tags.get_ifd(0x8769)[0x927C] = bytes(range(64))
    tags.get_ifd(0x8825)[1] = "N"
    return tags.tobytes()


def tiffs() -> Iterator[bytes]:
    """Give small TIFFs of every kind."""
    imagej = "ImageJ=1.53t\nimages=3\nslices=3\nunit=um\n"
    metamorph = '<MetaData><prop id="spatial-calibration-state" value="on"/></MetaData>'
    stack = np.stack([GREY] * 4).reshape(2, 2, 12, 16)
    kinds = (
        (GREY, {}),
        (RGB, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
        (RGB, {"photometric": "rgb", "compression": "jpeg", "bigtiff": True}),
        (GREY, {"byteorder": ">", "compression": "zlib", "tile": (16, 16), "description": imagej, "metadata": None}),
        (GREY, {"compression": "zstd", "description": metamorph, "metadata": None}),
        (stack, {"imagej": True, "metadata": {"axes": "ZCYX", "unit": "um", "Info": "a"}, "resolution": (2, 2)}),
        (stack, {"ome": True, "metadata": {"axes": "ZCYX", "PhysicalSizeX": 0.5}, "photometric": "minisblack"}),
        (GREY, {"extratags": [(65326, 12, 1, 0.5, True), (65332, 7, 12, b'<a value="1"', True)], "metadata": None}),
        (
            GREY,
            {"extratags": [(34412, 1, 60, struct.pack("<Ii", 0x400494C, 60).ljust(60, b"\0"), True)], "metadata": None},
        ),
    )
    for array, options in kinds:
        file = io.BytesIO()
        tifffile.imwrite(file, array, **options)
        yield file.getvalue()
    for mode, options in (("1", {"compression": "group4"}), ("P", {}), ("CMYK", {}), ("LA", {})):
        yield saved(Image.fromarray(RGB).convert(mode), "TIFF", **options)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """Give a picture as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpegs() -> Iterator[bytes]:
    """Give small JPEGs with every sort of segment."""
    image = Image.fromarray(RGB)
    yield saved(image, "JPEG", exif=exif(), comment=b"a comment", xmp=b"<x/>", icc_profile=bytes(200))
    yield saved(image.convert("L"), "JPEG", progressive=True)
    yield saved(image.convert("CMYK"), "JPEG")


def pngs() -> Iterator[bytes]:
    """Give small PNGs of every kind."""
    image = Image.fromarray(RGB)
    yield saved(image, "PNG", exif=exif(), icc_profile=bytes(200), dpi=(300, 300))
    yield saved(image.convert("P"), "PNG", transparency=1)
    yield saved(image.convert("LA"), "PNG")
    yield saved(Image.fromarray(GREY > 1000), "PNG")
    yield cv2.imencode(".png", GREY)[1].tobytes()


def mended(data: bytes) -> bytes:
    """Give the chunks of a PNG their right checksums, so that a change is seen by more than the check."""
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
        place += 12 + size
    return b"".join(parts)


TARGETS = {"tiff": (tiffs, "a.tif"), "jpeg": (jpegs, "a.jpg"), "png": (pngs, "a.png")}


def one_input(file: str) -> Callable[[bytes], None]:
    """Make the function that reads some bytes as a picture, writes it as PNG and reads that."""
    folder = Path(tempfile.mkdtemp(prefix="fncells-fuzz-"))
    path, written = folder / file, folder / "written.png"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        start = time.process_time()
        try:
            height, width = picture_shape(path)
            if height * width <= MOST_PIXELS:
                survives(path, written)
        except InputError as error:
            if "\n" in str(error):
                raise RuntimeError("an error of several lines") from error
        if time.process_time() - start > LONGEST:
            raise RuntimeError("too slow")

    return read


def survives(path: Path, written: Path) -> None:
    """Check that what was read is the same when it has been written and read again."""
    plane = PLANES[path.stat().st_size % len(PLANES)]
    try:
        picture = read_picture(path, plane=plane)
    except InputError:
        if plane == PLANES[0]:
            raise
        picture = read_picture(path)
    write_png(written, picture)
    again = read_picture(written)
    same = {
        "pixels": np.array_equal(again.pixels, picture.pixels),
        "exif": again.exif == picture.exif,
        "blocks": again.blocks == picture.blocks,
        "pixel size": again.pixel_size == picture.pixel_size,
    }
    lost = [name for name, good in same.items() if not good]
    if lost:
        message = f"lost on the way through PNG: {lost}"
        raise RuntimeError(message)
    tags_json(picture), tags_text(picture)


def main() -> None:
    """Fuzz the target that the command line names."""
    target = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if target not in TARGETS:
        usage = "usage: python fuzz/pictures.py TARGET [libFuzzer's options] [CORPUS]; targets:"
        raise SystemExit(" ".join([usage, *TARGETS]))
    seeds, file = TARGETS[target]
    corpus = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
    if corpus is None:
        corpus = Path(tempfile.mkdtemp(prefix=f"fncells-corpus-{target}-"))
        sys.argv.append(str(corpus))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(data)

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        changed = atheris.Mutate(data, largest)
        honest = target == "png" and random.Random(seed).random() < 0.9  # noqa: S311
        return mended(changed)[:largest] if honest else changed

    atheris.Setup(sys.argv, one_input(file), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
