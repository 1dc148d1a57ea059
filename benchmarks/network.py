"""A picture to its cells on the processor: the network, and the parting of its heat map."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import scenes
from benchmarks.timing import Row, compare, medians, report
from fncells.inference import Model, normalise
from fncells.separation import separate

# Random weights take as long as trained ones.
CARD = {
    "name": "random weights",
    "version": "1",
    "normalisation": "brightness",
    "diameter_px": 25.0,
    "threshold": 0.5,
    "licence": "Apache-2.0",
}


def run() -> None:
    torch = scenes.imported("torch")
    if torch is None:
        print("\n## Picture to cells\n\ntorch: not installed; it is the peer here, and makes the network to time")
        return
    look = _look(torch)
    part = _part()
    peers = {
        name: None if a is None or b is None else a + b
        for (name, a), b in zip(look.peers.items(), part.peers.values(), strict=True)
    }
    whole = Row("picture to cells, 300 cells", look.ours + part.ours, peers, look.limit + part.limit)
    report(
        "Picture to cells on the processor, 1600x1200",
        "for the network its arithmetic at the rate of a large matrix product in the same run (the share of the peak); "
        "for the parting one distance transform; peers: eager torch, and scikit-image's peaks and watershed",
        [look, part, whole],
    )


def _look(torch: Any) -> Row:
    """Time picture to heat map."""
    from fncells.network.cresunet import CResUnet
    from fncells.network.export import export_onnx

    torch.manual_seed(0)
    network = CResUnet().eval()
    pixels = scenes.picture(scenes.labels(300))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(network, path, CARD)
        model = Model.load(path, torch.get_num_threads())

    def eager() -> NDArray[np.float32]:
        with torch.inference_mode():
            picture = torch.from_numpy(normalise(pixels, "brightness").transpose(2, 0, 1)[None].copy())
            return np.asarray(network(picture)[0, 0].numpy())

    difference = np.abs(model.heat_map(pixels) - eager()).max()
    if difference > 1e-3:
        raise SystemExit(f"the two networks differ by {difference:.2g}: nothing to time")
    side = 4096
    one, other = torch.rand(side, side), torch.rand(side, side)
    found = medians({"ours": lambda: model.heat_map(pixels), "eager": eager, "product": lambda: one @ other}, 5)
    flops = _flops(torch, CResUnet)
    rate = 2 * side**3 / (found["product"] or 1.0)
    print(
        f"\n({flops / 1e9:.0f} GFLOP a picture; matrix product {rate / 1e9:.0f} GFLOP/s; {torch.get_num_threads()} threads)"
    )
    return Row("picture to heat map", found["ours"] or 0.0, {"peer": found["eager"]}, flops / rate)


def _flops(torch: Any, network: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network().eval()(torch.empty(1, 3, *scenes.SHAPE))
    return int(counter.get_total_flops())


def _part() -> Row:
    """Time heat map to cells."""
    import cv2

    heat = scenes.heat_map(scenes.labels(300))
    mask = (heat > 0.5).view(np.uint8)
    return compare(
        "heat map to 300 cells",
        lambda: separate(heat),
        {"peer": _peaks_and_watershed(heat)},
        lambda: cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
    )


def _peaks_and_watershed(heat: NDArray[np.float32]) -> Callable[[], object] | None:
    feature = scenes.imported("skimage.feature")
    morphology = scenes.imported("skimage.morphology")
    segmentation = scenes.imported("skimage.segmentation")
    if feature is None or morphology is None or segmentation is None:
        return None

    def peer() -> NDArray[np.int32]:
        from scipy import ndimage

        mask = morphology.remove_small_objects(morphology.remove_small_holes(heat > 0.5, max_size=50), max_size=29)
        distance = ndimage.distance_transform_edt(mask)
        parts, _ = ndimage.label(mask)
        peaks = feature.peak_local_max(distance, min_distance=8, labels=parts)
        markers = np.zeros(heat.shape, np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return np.asarray(segmentation.watershed(-distance, markers, mask=mask))

    return peer
