"""Fuzz the reader of one annotation format: whatever the bytes, it ends in cells or in one line.

::

    python fuzz/readers.py coco -max_total_time=600 corpus/

The further words are libFuzzer's. Needs the package atheris. A finding is written to the working folder; kept ones lie in
``tests/formats/findings``, where a test reads each.
"""

import contextlib
import gzip
import json
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

with atheris.instrument_imports(include=["fncells", "roifile", "tifffile", "yaml"]):
    from fncells.cells import AnnotatedImage, Cell
    from fncells.errors import InputError
    from fncells.formats import CODECS

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import tifffile  # noqa: E402

from formats.label_maps import drawn_map  # noqa: E402
from formats.mutation import mutated  # noqa: E402

LONGEST = 5.0  # seconds
MOST_PIXELS = 2**22  # larger pictures are read, but not drawn

# Target: format, and the name that the bytes get.
TARGETS = {
    "masks": ("masks", "a.png"),
    "masks-tiff": ("masks", "a.tif"),
    "labels": ("labels", "a.tif"),
    "rle": ("rle", "a.json"),
    "rle-pickle": ("rle", "a.pickle"),
    "coco": ("coco", "a.json"),
    "voc": ("voc", "a.xml"),
    "via": ("via", "a.json"),
    "via-csv": ("via-csv", "a.csv"),
    "yolo": ("yolo", "a.txt"),
    "yolo-data": ("yolo", "data.yaml"),
    "geojson": ("geojson", "a.geojson"),
    "geojson-gz": ("geojson", "a.geojson.gz"),
    "imagej": ("imagej", "a.zip"),
    "imagej-roi": ("imagej", "a.roi"),
}


def images() -> list[AnnotatedImage]:
    """Give cells of every kind: with holes, parts, overlaps, dots, attributes."""
    square = np.array([(2.0, 2), (9, 2), (9, 9.5), (2, 9)])
    rich = AnnotatedImage(
        "a.png",
        (40, 50),
        (
            Cell((square + 20,), number=7, marker="CTb", score=0.5, attributes={"note": "grün", "deep": {"a": [1]}}),
            Cell((np.array([[30.5, 3.0]]),), source_shape="point"),
            Cell((square, square / 2 + 2)),
            Cell((square + np.array((25, 0)), square + np.array((35, 3))), marker="c-FOS"),
            Cell((square + 22,), source_shape="rect"),
        ),
    )
    return [rich, AnnotatedImage.from_labels("a.png", drawn_map(3))]


def seeds(name: str, file: str, folder: Path) -> Iterator[bytes]:
    """Give valid files of a format, also in the published dialect."""
    codec = CODECS[name]
    if file.endswith(".tif"):
        for kind in (np.uint8, np.uint16, np.int32, np.float32):
            for compression in (None, "zlib", "lzw"):
                tifffile.imwrite(folder / file, drawn_map(3).astype(kind), compression=compression)
                yield (folder / file).read_bytes()
        return
    for number, image in enumerate(images()):
        for variant in filter(None, (codec, codec.published)):
            target = folder / f"{number}-{variant is codec}"
            with contextlib.suppress(InputError):
                variant.write(target / file if codec.one_file else target, [image])
            for path in target.rglob(f"*{Path(file).suffix}"):
                if path.name != "fncells-run.json":
                    yield path.read_bytes()


def one_input(name: str, file: str) -> Callable[[bytes], None]:
    """Make the function that reads some bytes as a file of a format."""
    codec, folder = CODECS[name], Path(tempfile.mkdtemp(prefix="fncells-fuzz-")) / "in"
    folder.mkdir()
    pictures = folder.with_name("pictures")
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), np.zeros((40, 50), dtype=np.uint8))
    if file == "a.txt":
        (folder / "data.yaml").write_text("names: [cell, other]\n")
    elif file == "data.yaml":
        (folder / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.2 0.2 0.3 0.2 0.3 0.3\n")
    path = folder / file
    there = {file} | {entry.name for entry in folder.iterdir()}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        start = time.process_time()
        try:
            codec.recognises(path if codec.one_file else folder)
            for unread in codec.find(path if codec.one_file else folder, pictures if file != "data.yaml" else None):
                with contextlib.suppress(InputError):
                    image = unread.read()
                    if image.shape is not None and image.shape[0] * image.shape[1] <= MOST_PIXELS:
                        _ = image.labels, image.centres, image.boxes
        except InputError as error:
            if "\n" in str(error):
                raise RuntimeError("an error of several lines") from error
        if time.process_time() - start > LONGEST:
            raise RuntimeError("too slow")
        if {entry.name for entry in folder.iterdir()} != there or len(list(folder.parent.iterdir())) > 2:
            raise RuntimeError("a file that should not be")

    return read


def mutator(file: str) -> Callable[[bytes, int, int], bytes] | None:
    """Mutate JSON by its values as well as by its bytes; packed files by what is in them."""
    compressed = file.endswith(".gz")
    if not compressed and not file.endswith((".json", ".geojson")):
        return None

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311
        try:
            text = gzip.decompress(data) if compressed else data
            if rng.random() < 0.7:
                document = json.loads(text)
                for _ in range(rng.randint(1, 3)):
                    document = mutated(document, rng)
                text = json.dumps(document, ensure_ascii=False).encode("utf-8", errors="surrogatepass")
            else:
                text = atheris.Mutate(text, largest)
        except (ValueError, RecursionError, EOFError, OSError, zlib.error):
            return atheris.Mutate(data, largest)
        return (gzip.compress(text, mtime=0) if compressed else text)[:largest]

    return mutate


def main() -> None:
    """Fuzz the target that the command line names."""
    target = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if target not in TARGETS:
        usage = "usage: python fuzz/readers.py TARGET [libFuzzer's options] [CORPUS]; targets:"
        raise SystemExit(" ".join([usage, *TARGETS]))
    name, file = TARGETS[target]
    corpus = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
    if corpus is None:
        corpus = Path(tempfile.mkdtemp(prefix=f"fncells-corpus-{target}-"))
        sys.argv.append(str(corpus))
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(name, file, Path(folder))):
            (corpus / f"seed-{number}").write_bytes(data)
    custom = mutator(file)
    atheris.Setup(sys.argv, one_input(name, file), **({"custom_mutator": custom} if custom else {}))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
