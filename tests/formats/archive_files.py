"""Annotation files as the published archive has them, faults included, made of synthetic masks.

Written from the description of the archive alone (keys, order and faults); the programs that read them are not used here.
"""

import json
import pickle

import cv2
import numpy as np
from pycocotools import mask as coco_mask

PLACEHOLDER = "_get_segmentation_type(filename)"
MOST_POINTS = 50


def mask_with_a_ring(seed=0, shape=(90, 120)):
    """Discs, a cell inside a ring, touching discs and a long wavy cell."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=np.uint8)
    for x, y in ((15, 15), (45, 20), (58, 20), (100, 70)):
        cv2.circle(mask, (x + int(rng.integers(3)), y), int(rng.integers(4, 8)), 255, -1)
    cv2.circle(mask, (90, 25), 15, 255, 3)
    cv2.circle(mask, (90, 25), 4, 255, -1)
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius = 14 + 3 * np.sin(12 * angles)
    wavy = np.column_stack((30 + radius * np.cos(angles), 60 + radius * np.sin(angles)))
    cv2.fillPoly(mask, [wavy.astype(np.int32)], 255)
    return mask


def contours_of(mask):
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0, :].tolist() for contour in contours]


def dots_backwards(mask):
    """Centres of the 8-connected regions, listed backwards: with a cell inside a ring they are more than the contours."""
    _, _, _, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [[round(x), round(y)] for x, y in centres[:0:-1].tolist()]


def rle_pickle(mask):
    encoding = coco_mask.encode(np.asfortranarray(mask // 255))
    return pickle.dumps({"size": list(encoding["size"]), "counts": encoding["counts"]})


def coco(masks, collection="yellow", split="trainval", category=2):
    """Write one annotation a picture, of parallel lists; polygons cut to 50 points, boxes made of what is left."""
    images, annotations = [], []
    for stem, mask in masks.items():
        cut = [contour[:MOST_POINTS] for contour in contours_of(mask)]
        path = f"dataset/{collection}/{split}/images/{stem}.png"
        images.append(
            {"id": stem, "file_name": f"{stem}.png", "width": mask.shape[1], "height": mask.shape[0]}
            | {"split": split, "path": path}
        )
        annotations.append(
            {
                "image_id": stem,
                "segmentation": cut,
                "segmentation_type": PLACEHOLDER,
                "bbox": [list(cv2.boundingRect(np.array(contour))) for contour in cut],
                "area": [cv2.contourArea(np.array(contour)) for contour in cut],
                "dots": dots_backwards(mask),
                "count": len(cut),
                "category_id": category,
                "iscrowd": 0,
            }
        )
    licence = {"id": 1, "name": "CC BY-SA 4.0"}
    return json.dumps({"info": {"version": "2.0"}, "licenses": [licence], "images": images, "annotations": annotations})


def via(masks, sizes=None):
    """Write polygons alone; the sizes are those of the pictures' files in bytes."""
    entries = {}
    for stem, mask in masks.items():
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": [x for x, _ in contour],
                    "all_points_y": [y for _, y in contour],
                },
                "region_attributes": {},
            }
            for contour in contours_of(mask)
        ]
        size = sizes[stem] if sizes else 123
        entry = {"filename": f"{stem}.png", "size": size, "regions": regions, "file_attributes": {}}
        entries[f"{stem}.png{size}"] = entry
    return json.dumps(entries)


def voc(mask, name, marker, structure, collection="green", split="trainval"):
    """Write as the archive's own procedure does: dots backwards, boxes that end one pixel later, a placeholder."""
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    count, _, _, centres = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    objects = []
    for contour, centre in zip(contours, centres[1:][::-1], strict=False):
        left, top, width, height = cv2.boundingRect(contour)
        points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in contour[:, 0].tolist())
        box = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{left + width}</xmax><ymax>{top + height}</ymax>"
        dot = f"<x>{int(centre[0])}</x><y>{int(centre[1])}</y>"
        objects.append(
            f"<object><marker>{marker}</marker><marked_structure>{structure}</marked_structure>"
            f"<polygon>{points}</polygon><bndbox>{box}</bndbox><dot>{dot}</dot></object>"
        )
    return (
        f"<annotation><split>{split}</split><filename>{name}</filename><path>{collection}/{split}/images/{name}</path>"
        "<source><database>Fluorescent Neuronal Cells</database><url>https://lab</url></source><version>2</version>"
        f"<size><width>{mask.shape[1]}</width><height>{mask.shape[0]}</height><depth>3</depth></size>"
        f"<segmentation_type>{PLACEHOLDER}</segmentation_type>"
        f"<count>{count - 1}</count>{''.join(objects)}</annotation>"
    )
