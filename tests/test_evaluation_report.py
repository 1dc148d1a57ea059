"""The pages, tables and figures of evaluations and agreements."""

import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from evaluation.made import box, dot, labelled, many_pictures, picture
from fncells import evaluation_report as pages
from fncells.evaluation import EvaluateSettings, agree, compare
from fncells.evaluation.tables import comparison_rows, difference_table, latex_table, markdown_table
from fncells.overlay import FOUND, MISSED, WRONG
from page_checks import HOSTILE, page_of

SETTINGS = EvaluateSettings(distance=6, bootstrap=30)


def worse(images, share=0.4):
    rng = np.random.default_rng(0)
    return [replace(one, cells=tuple(cell for cell in one.cells if rng.random() > share)) for one in images]


@pytest.fixture(scope="module")
def compared():
    truth, prediction = many_pictures(51, 24)
    truth[0], prediction[0] = replace(truth[0], name=f"{HOSTILE}.png"), replace(prediction[0], name=f"{HOSTILE}.png")
    predictions = {"first & best": prediction, "second_one": worse(prediction, 0.6)}
    people = {name: worse(truth, 0.2) for name in "xy"}
    found = compare(truth, predictions, SETTINGS, annotators=people, both_rules=True)
    return found, pages.draw_worst(found, truth, predictions, {})


def test_an_evaluation_is_written_as_page_tables_figures_and_overlays(compared, tmp_path):
    page = page_of(pages.evaluation_report(tmp_path, *compared))
    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert written >= {
        *("report.html", "evaluation.json", "pictures.csv", "table2.md", "table2.tex", "table2.csv"),
        *(
            "differences.md",
            "differences.csv",
            "differences.svg",
            "curve.svg",
            "bland_altman_1.png",
            "bland_altman_2.svg",
        ),
    }
    drawn = [one for one in compared[0].evaluations["second_one"].per_picture if one.n_true + one.n_predicted]
    assert len([name for name in written if name.startswith("overlays/second_one/")]) == len(drawn) > 9
    text = " ".join(page.texts)
    for told in ("Table 2", "Which is better?", "first & best", "Beside the published rule", "not one-to-one", HOSTILE):
        assert told in text
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == compared[0].as_dict()
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]


def test_the_worst_pictures_come_first(compared, tmp_path):
    text = pages.evaluation_report(tmp_path, *compared).read_text(encoding="utf-8")
    body = text[text.index("second_one: every picture") : text.index("second_one: where it went wrong")]
    scores = sorted(compared[0].evaluations["second_one"].per_picture, key=pages._badness)
    places = [
        body.index(">" + score.picture.replace("<", "&lt;").replace('"', "&#34;").replace(">", "&gt;"))
        for score in scores
    ]
    assert places == sorted(places)
    errors = [
        score.segmentation.fp + score.segmentation.fn + score.detection.fp + score.detection.fn for score in scores
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]
    filled = [score.picture for score in scores if score.n_true + score.n_predicted]
    assert [one.score.picture for one in compared[1]["second_one"]] == filled


def test_a_page_has_the_same_bytes_again(compared, tmp_path):
    for folder in ("a", "b"):
        pages.evaluation_report(tmp_path / folder, *compared)
    names = [file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file()]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_overlays_are_files_within_the_folder_whatever_a_picture_is_called(tmp_path):
    truth = [picture(box(1, 1, 9, 9), name="../../outside.png")]
    found = compare(truth, {"../up": truth}, replace(SETTINGS, bootstrap=0))
    pages.evaluation_report(tmp_path / "in" / "here", found, pages.draw_worst(found, truth, {"../up": truth}, {}))
    assert [file.name for file in (tmp_path / "in" / "here" / "overlays").iterdir()] == ["01_outside.png"]
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_found_missed_and_wrong_cells_have_colours_of_their_own():
    truth = [picture(box(5, 5, 15, 15), box(40, 5, 50, 15))]
    prediction = [picture(box(5, 5, 15, 15), box(5, 40, 15, 50))]
    found = compare(truth, {"a": prediction}, replace(SETTINGS, bootstrap=0))
    [overlay] = pages.draw_worst(found, truth, {"a": prediction}, {})["a"]
    scale = overlay.pixels.shape[0] // 64

    def seen(x, y):
        patch = overlay.pixels[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale].reshape(-1, 3)
        return tuple(int(one) for one in patch[patch.sum(axis=1).argmax()])

    assert [seen(10, 5), seen(45, 5), seen(10, 40), seen(30, 30)] == [FOUND, MISSED, WRONG, (0, 0, 0)]


def test_overlays_are_drawn_upon_the_pictures_at_hand_and_others_are_passed_over(tmp_path):
    pixels = np.full((64, 64), 200, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    cv2.imwrite(str(tmp_path / "b.tif"), pixels[:50])
    truth = [
        picture(box(5, 5, 15, 15), name=f"{name}.png", shape=shape) for name, shape in (("a", None), ("b", (64, 64)))
    ]
    found = compare(truth, {"p": truth[:1]}, replace(SETTINGS, bootstrap=0))
    images = {"a.tif": tmp_path / "a.tif", "b.tif": tmp_path / "b.tif"}
    [overlay] = pages.draw_worst(found, truth, {"p": truth[:1]}, images)["p"]
    assert overlay.score.picture == "a.png"
    assert overlay.pixels[-20:, -20:].min() > 100


def test_dots_and_empty_pictures_make_a_page_too(tmp_path):
    truth, prediction = [picture(dot(5, 5)), picture(name="b.png")], [picture(dot(6, 5)), picture(name="b.png")]
    found = compare(truth, {"p": prediction}, SETTINGS, both_rules=True)
    overlays = pages.draw_worst(found, truth, {"p": prediction}, {})
    page = page_of(pages.evaluation_report(tmp_path, found, overlays))
    assert len(overlays["p"]) == 1
    assert "1 found, 0 missed, 0 none there ·" in page.texts
    assert "–" in page.texts


def test_what_is_missing_failed_or_odd_stands_on_top(tmp_path):
    truth, prediction = many_pictures(52, 3)
    prediction[1] = prediction[1].with_shape((64, 63))
    found = compare(truth, {"p": prediction[1:]}, SETTINGS)
    texts = " ".join(page_of(pages.evaluation_report(tmp_path, found)).texts)
    assert "1 true picture has no prediction and is scored as if nothing had been found: 000.png" in texts
    assert "expected the size of its prediction 001.png" in texts


# --- agreement


def test_an_agreement_is_written_as_page_tables_and_figures(tmp_path):
    truth, prediction = many_pictures(53, 5)
    people = {"Ann": truth, f"B {HOSTILE}": prediction, "C": worse(truth)}
    people["C"] = people["C"][1:]
    found = agree(people, SETTINGS)
    page = page_of(pages.agreement_report(tmp_path, found))
    written = {file.name for file in tmp_path.iterdir()}
    figures = {f"{name}.{kind}" for name in ("pairs", "counts") for kind in ("svg", "png")}
    assert written == {
        "report.html",
        "agreement.json",
        "pictures.csv",
        "table2.md",
        "table2.tex",
        "table2.csv",
        *figures,
    }
    text = " ".join(page.texts)
    for told in ("Each with each", "majority of the others", "What STAPLE makes of each", HOSTILE, "C: not annotated"):
        assert told in text
    assert json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8")) == found.as_dict()
    with (tmp_path / "pictures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["C"] == ""
    assert int(float(rows[1]["Ann"])) == len(truth[1].cells)


# --- tables and figures


def test_table_2_is_the_same_in_markdown_latex_and_csv(compared, tmp_path):
    rows = comparison_rows(compared[0])
    assert [row.label for row in rows] == [
        *("first & best", "second_one", "first & best (published rule)", "second_one (published rule)"),
        *("people against this truth, mean of 2", "people against each other, mean of 1 pair"),
    ]
    markdown = [line.strip("|").split(" | ") for line in markdown_table(rows).splitlines()[2:]]
    latex = [line for line in latex_table(rows).splitlines() if "\\\\" in line][-len(rows) :]
    for ours, theirs in zip(markdown, latex, strict=True):
        figures = theirs.replace("\\%", "%").replace("--", "–").replace("\\\\", "").split(" & ")[-9:]
        assert [one.strip() for one in figures] == [one.strip() for one in ours[1:]]
    assert latex[0].startswith("first \\& best & ")
    assert latex[1].startswith("second\\_one & ")
    pages.evaluation_report(tmp_path, *compared)
    with (tmp_path / "table2.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for line, row in zip(table, rows, strict=True):
        assert float(line["segmentation_f1"]) == row.scores["segmentation"]["f1"]
        assert float(line["segmentation_f1_low"]) == row.intervals["segmentation"]["f1"][0]
        assert line["rule"] == row.rule


def test_the_table_of_differences_names_the_better_one(compared):
    lines = difference_table(compared[0].differences).splitlines()
    assert len(lines) == 2 + 7
    assert lines[2].startswith("| second_one − first & best | F1 of segmentation | -0.")
    assert lines[2].endswith("| first & best |")


def test_figures_are_whole_undated_and_reproducible(compared):
    found = compared[0]
    people = list(found.people.against_truth.values())
    one = found.evaluations["second_one"]
    for draw in (
        lambda: pages.curve_figure(found.evaluations, people),
        lambda: pages.bland_altman_figure(one),
        lambda: pages.difference_figure(found.differences),
    ):
        drawing = draw()
        assert drawing == draw()
        assert ElementTree.fromstring(drawing.svg).tag.endswith("svg")  # noqa: S314 - our own file
        assert b"dc:date" not in drawing.svg
        assert cv2.imdecode(np.frombuffer(drawing.png, np.uint8), cv2.IMREAD_COLOR).std() > 5
    single = compare([labelled(np.eye(9, dtype=np.uint8))], {"a": [labelled(np.eye(9, dtype=np.uint8))]}, SETTINGS)
    assert pages.bland_altman_figure(single.evaluations["a"]).png
