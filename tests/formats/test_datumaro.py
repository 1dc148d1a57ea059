"""What datumaro reads of our files. It needs an environment of its own: FNCELLS_DATUMARO names a Python that has it."""

import json
import os
import subprocess

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fncells.cells import AnnotatedImage
from fncells.formats import coco
from formats.label_maps import drawn_map

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
import datumaro
import numpy as np
found = {}
for item in datumaro.Dataset.import_from(sys.argv[1], "coco_instances"):
    found[item.id] = [
        (one.group, one.type.name, np.flatnonzero(one.image).tolist() if one.type.name == "mask" else list(one.points))
        for one in item.annotations
    ]
print(json.dumps(found))
"""


@pytest.fixture
def datumaro():
    python = os.environ.get("FNCELLS_DATUMARO")
    if not python:
        pytest.skip("FNCELLS_DATUMARO names no Python that has datumaro")
    return python


def test_datumaro_finds_every_cells_pixels_in_a_coco_file(tmp_path, datumaro):
    images = [AnnotatedImage.from_labels(f"{seed}.png", drawn_map(seed)) for seed in range(30)]
    (tmp_path / "images" / "train").mkdir(parents=True)
    for image in images:
        cv2.imwrite(str(tmp_path / "images" / "train" / image.name), np.zeros(image.shape, dtype=np.uint8))
    coco.CODEC.write(tmp_path / "annotations" / "instances_train.json", images)
    done = subprocess.run([datumaro, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for image in images:
        cells = {}
        for group, kind, values in found[image.stem]:
            mask = cells.setdefault(group, np.zeros(image.shape, dtype=np.uint8))
            if kind == "mask":
                mask.reshape(-1)[values] = 1
            elif kind == "polygon":
                mask |= coco_mask.decode(coco_mask.frPyObjects([values], *image.shape))[:, :, 0]
        for mask, pixels in zip([cells[group] for group in sorted(cells)], image.pixels, strict=True):
            np.testing.assert_array_equal(np.flatnonzero(mask), pixels)
