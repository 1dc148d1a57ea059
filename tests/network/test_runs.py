"""Tests of making a model of a training run."""

from pathlib import Path

import pytest

from fncells.errors import InputError
from fncells.files import write_json
from fncells.inference import Model
from fncells.network.cresunet import CResUnet
from fncells.network.runs import export_run, run_card
from fncells.network.training import _save


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "yellow"
    folder.mkdir()
    settings = {"loss": "dice", "epochs": 3, "seed": 10, "crops": {"normalisation": "brightness"}}
    used = {"learning_rate": 0.001, "suggested": None, "diameter_px": 21.5}
    write_json(
        folder / "settings.json", {"settings": settings, "training": ["a", "b"], "validation": ["c"], "used": used}
    )
    _save(CResUnet(), folder)
    return folder


def test_a_run_becomes_a_model_that_tells_how_it_was_trained(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "model.onnx", {"threshold": 0.4})
    card = Model.load(tmp_path / "model.onnx").card
    assert (card["name"], card["normalisation"], card["diameter_px"]) == ("yellow", "brightness", 21.5)
    assert card["threshold"] == 0.4
    assert card["training"]["pictures"] == 2


def test_a_run_that_knew_no_cells_has_the_usual_diameter(run: Path, tmp_path: Path) -> None:
    for name in ("settings.json",):
        text = (run / name).read_text().replace("21.5", "null")
        (tmp_path / name).write_text(text)
    assert run_card(tmp_path)["diameter_px"] == 30.0


@pytest.mark.parametrize("content", [None, "", "{"], ids=["no file", "empty", "cut short"])
def test_what_is_no_run_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(InputError, match="the folder of a training run"):
        run_card(tmp_path)
