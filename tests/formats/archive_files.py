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


def coco(masks, split="trainval", category=2):
    """Write one annotation a picture, of parallel lists; polygons cut to 50 points, boxes made of what is left."""
    images, annotations = [], []
    for stem, mask in masks.items():
        cut = [contour[:MOST_POINTS] for contour in contours_of(mask)]
        path = f"dataset/yellow/{split}/images/{stem}.png"
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


def via(masks):
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
        entries[f"{stem}.png123"] = {"filename": f"{stem}.png", "size": 123, "regions": regions, "file_attributes": {}}
    return json.dumps(entries)
