"""Figures and pages."""

import dataclasses
import json
import math
import re
from xml.etree import ElementTree

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from fncells import report
from fncells.audit.crops import finding_pictures
from fncells.audit.finding import Finding
from fncells.cells import AnnotatedImage, Cell
from fncells.challenges import PictureChallenges
from fncells.counting import CountSettings, count
from fncells.errors import InputError
from fncells.formats import write_annotations
from fncells.images import PixelSize
from fncells.measure import PictureSummary, table1
from fncells.overlay import FOUND
from fncells.pages import number_text
from fncells.statistics import Description
from page_checks import HOSTILE, page_of
from test_counting import Brightness, save, squares


@pytest.fixture
def counted(tmp_path):
    folder = tmp_path / "in"
    save(folder / "Mar22bS1C2R1_VLPAGl_200x_y.png", squares((5, 5), (30, 30)))
    save(folder / "odd <i>&name.png", squares((5, 5), value=255))
    save(folder / "sub" / "RT353S2C1R5_r1.png", squares())
    (folder / f"{HOSTILE.replace('/', '')}.png").write_bytes(b"x")
    count([folder], tmp_path / "out", CountSettings(pixel_size=1.0), detector=Brightness())
    return tmp_path / "out"


# --- the page of counts


def test_count_page_shows_everything_and_needs_nothing_from_outside(counted):
    page = page_of(report.count_report(counted))
    text = " ".join(page.texts)
    assert "3 of 4" in text
    assert "1 picture could not be counted" in text
    assert "fncells count PICTURES --out FOLDER --pixel-size 1" in text
    assert Brightness.sha256 in text
    assert "saturated" in text
    assert {one.partition(" ·")[0] for one in page.texts if " cell" in one[:7]} == {"0 cells", "1 cell", "2 cells"}
    assert sum(tag == "figure" for tag, _ in page.tags) == 2 + 3
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object")]


def test_file_names_are_text_and_never_markup(counted):
    page = page_of(report.count_report(counted))
    assert any(HOSTILE in text for text in page.texts)
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert "odd <i>&name.png" in page.texts
    assert "i" not in [tag for tag, _ in page.tags]


def test_failures_come_first_then_remarks(counted):
    text = report.count_report(counted).read_text(encoding="utf-8")
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    order = [body.index(name) for name in ("onerror", "odd &lt;i&gt;", "Mar22b", "RT353")]
    assert order[0] < order[1]
    assert order[1] < min(order[2:])
    assert body.count('class="failed"') == 1


def test_full_size_overlays_are_found_beside_the_page(counted):
    from urllib.parse import unquote

    page = page_of(report.count_report(counted))
    linked = [unquote(address) for address in page.addresses if address.startswith("overlays/")]
    assert len(linked) == 3
    assert all((counted / address).is_file() for address in linked)


def test_count_page_has_the_same_bytes_again(counted):
    first = report.count_report(counted).read_bytes()
    assert report.count_report(counted).read_bytes() == first


def test_the_given_command_is_shown_in_place_of_the_told_one(counted):
    text = " ".join(page_of(report.count_report(counted, "fncells count pictures --out here")).texts)
    assert "fncells count pictures --out here" in text
    assert "PICTURES" not in text


def test_count_page_of_a_folder_without_record_overlays_or_cells(tmp_path):
    save(tmp_path / "in" / "a.png", squares())
    count([tmp_path / "in"], tmp_path / "out", CountSettings(overlays=False), detector=Brightness())
    (tmp_path / "out" / "fncells-run.json").unlink()
    page = page_of(report.count_report(tmp_path / "out"))
    assert sum(tag == "figure" for tag, _ in page.tags) == 1
    assert "could not be counted" not in " ".join(page.texts)


def test_count_page_where_everything_failed(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    count([tmp_path / "a.png"], tmp_path / "out", detector=Brightness())
    page = page_of(report.count_report(tmp_path / "out"))
    assert "0 of 1" in page.texts
    assert "–" in page.texts


def test_a_folder_without_counts_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"counts\.csv"):
        report.count_report(tmp_path)


def test_many_overlays_do_not_swell_the_page(counted, monkeypatch):
    monkeypatch.setattr(report, "MOST_THUMBNAILS", 1)
    page = page_of(report.count_report(counted))
    assert "2 more are in the folder" in " ".join(page.texts)
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"][-1].startswith("odd <i>")


def test_the_told_command_gives_what_differs_from_the_usual():
    settings = {"pixel_size": 0.5, "diameter": 12.0, "predictions": {}, "overlays": False}
    told = report._command({"settings": settings})
    assert told.endswith("--pixel-size 0.5 --diameter 12 --predictions FOLDER --no-overlays")
    assert report._command({}) == "fncells count PICTURES --out FOLDER"


# --- figures

COMPOSITION = {"green": {"trainval": 213, "test": 70, "unlabelled": 408}, "pink": {"trainval": 1, "other": 9}}
VALUES = {"area_um2": {"green": [50.5, 75.0, 80.25, math.nan], "yellow": []}, "cells a picture": {"": [1, 2, 2, 50]}}


def drawings():
    rng = np.random.default_rng(0)
    pictures = {
        "green": [("a", rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))],
        "red": [("b", np.eye(9, dtype=np.uint8))],
    }
    return [
        report.composition_figure(COMPOSITION),
        *report.distribution_figures(VALUES),
        report.preview_figure(pictures),
    ]


@pytest.fixture(scope="module")
def drawn():
    return drawings()


def test_figures_have_the_same_bytes_whatever_the_users_configuration(drawn):
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.facecolor": "pink"}):
        assert drawings() == drawn


def test_figures_are_whole_undated_and_named(drawn):
    for drawing in drawn:
        assert ElementTree.fromstring(drawing.svg).tag.endswith("svg")  # noqa: S314 - our own file
        assert b"dc:date" not in drawing.svg
        pixels = cv2.imdecode(np.frombuffer(drawing.png, np.uint8), cv2.IMREAD_COLOR)
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 5
        assert re.fullmatch(r"[a-z0-9_]+", drawing.name)
        assert drawing.caption


def test_empty_figures_can_be_drawn():
    assert report.composition_figure({}).png
    assert report.preview_figure({}).png
    assert report.distribution_figures({"x": {}})[0].png
    assert report.distribution_figures({"x": {"a": [2.5, 2.5, 2.5]}})[0].png


def test_bins_hold_every_value_and_are_never_too_many():
    rng = np.random.default_rng(1)
    for values in (
        rng.gamma(2, 50, 1000),
        rng.poisson(9, 300),
        np.array([7.0]),
        np.array([0.1, 0.1, 1e6]),
        np.arange(1000),
    ):
        edges = report._edges([values.astype(float), np.empty(0)])
        assert edges[0] <= values.min()
        assert edges[-1] >= values.max()
        assert 2 <= len(edges) <= report._MOST_BINS + 3


# --- statistics, audit


def description(counts="per-picture"):
    rng = np.random.default_rng(0)
    cells = rng.uniform(20, 90, (2, 3))
    summaries = [
        PictureSummary(name, "a.png", 3, 0.6449, areas, areas / 4, areas / 5, size)
        for name, areas, size in zip(("green", HOSTILE), cells, (PixelSize(0.5, "user"), None), strict=True)
    ]
    previews = {"green": [("a.png", rng.integers(0, 255, (30, 40, 3)).astype(np.uint8))]}
    return Description(table1(summaries, counts), COMPOSITION, VALUES, previews)


def test_statistics_are_written_as_tables_figures_and_page(tmp_path):
    page = page_of(report.stats_report(tmp_path, description()))
    names = ("composition", "distribution_area_um2", "distribution_cells_a_picture", "preview")
    names += tuple(f"expectation_{measure}" for measure in ("area_um2", "feret_um", "equivalent_diameter_um"))
    figures = {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    written = {"report.html", "table1.csv", "table1.md", "table1.json", "beside_paper.csv", *figures}
    assert {file.name for file in tmp_path.iterdir()} == written
    assert json.loads((tmp_path / "table1.json").read_text())["green"]["counts"] == "per-picture"
    table = pd.read_csv(tmp_path / "table1.csv").set_index(["collection", "measure"])
    assert table.loc[("green", "signal_percent"), "mean"] == 0.6449
    assert math.isnan(table.loc[("green", "signal_percent"), "std"])
    assert "area (µm²), green" in (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert {"std", HOSTILE, "area (µm²)", "area (px²)", "0.64", "–"} <= set(page.texts)
    assert any("Cell counts are per picture" in text for text in page.texts)
    beside = pd.read_csv(tmp_path / "beside_paper.csv").set_index(["collection", "measure", "statistic"])
    assert beside.loc[("green", "signal_percent", "mean"), ["found", "printed"]].tolist() == [0.6449, 0.64]
    assert {"Beside the paper", "0.57"} <= set(page.texts)  # the printed standard deviation of the signal


def test_published_counts_say_so(tmp_path):
    page = page_of(report.stats_report(tmp_path, description("published")))
    assert any("weighted as in the published table" in text for text in page.texts)


def hard_picture(name, collection="green", **changes):
    known = {field.name: None for field in dataclasses.fields(PictureChallenges)}
    return PictureChallenges(**{**known, "collection": collection, "picture": name, "n_cells": 3, **changes})


def test_hard_pictures_are_listed_and_shown(tmp_path):
    hard = [hard_picture("a.png", close_percent=12.5), hard_picture(HOSTILE, close_percent=80.0)]
    shown = {"green": [(f"green {HOSTILE}: crowding: 80 %", np.zeros((40, 50, 3), np.uint8))]}
    value = dataclasses.replace(description(), challenges=hard, difficulty=[0.25, 0.75], hardest=shown)
    page = page_of(report.stats_report(tmp_path, value))
    listed = page.texts[page.texts.index("How hard each picture is") :]
    assert listed.index(HOSTILE) < listed.index("a.png")  # the hardest first
    assert {"The hardest pictures of green", "crowding: 80 %", "12.5"} <= set(page.texts)
    table = pd.read_csv(tmp_path / "challenges.csv")
    assert table["picture"].tolist() == [HOSTILE, "a.png"]
    assert table["difficulty"].tolist() == [0.75, 0.25]


def test_sizes_are_drawn_against_those_of_the_paper_alone():
    um, px = PixelSize(0.5, "user"), None
    sizes = np.linspace(50, 90, 9)
    made = [
        PictureSummary(name, "a", 9, 1.0, sizes, sizes, sizes, size)
        for name, size in (("green", um), ("red", px), ("mine", um))
    ]
    names = [drawing.name for drawing in report.expectation_figures(table1(made))]
    assert names == ["expectation_area_um2", "expectation_feret_um", "expectation_equivalent_diameter_um"]
    assert report.expectation_figures(table1(made[1:])) == []
    assert report.expectation_figures(table1([PictureSummary("green", "a", 0, 0.0, *[np.empty(0)] * 3, um)])) == []


def finding(severity="serious", kind="hole", file="masks/a.png", place=None, **more):
    return Finding(severity, kind, file, place, "why it is wrong", "what to do", **more)


def test_audit_page_lists_what_was_found(tmp_path):
    findings = [finding(file=HOSTILE), finding("minor", "size-mismatch", "b.png", "x 3, y 4")]
    page = page_of(report.audit_report(tmp_path / "audit.html", findings, "archive"))
    assert page.rows() == 3
    assert {HOSTILE, "2 findings", "archive", "x 3, y 4", "size mismatch", "what to do"} <= set(page.texts)
    nothing = page_of(report.audit_report(tmp_path / "audit.html", []))
    assert "Nothing was found amiss." in nothing.texts


def test_audit_page_shows_the_places(tmp_path):
    labels = np.zeros((90, 120), np.uint8)
    labels[20:40, 30:60] = 255
    save(tmp_path / "images" / "a.png", np.full((90, 120), 60, np.uint8))
    save(tmp_path / "images" / "other.png", np.full((90, 120), 90, np.uint8))
    save(tmp_path / "masks" / "a.png", labels)
    (tmp_path / "images" / "broken.png").write_bytes(b"x")
    points = tuple((float(x), 30.0) for x in range(0, 120, 20))
    findings = [
        finding(pictures=("images/a.png",), points=points),
        finding(kind="near-duplicate", file="images/a.png", pictures=("images/a.png", "images/other.png")),
        finding(kind="unreadable", pictures=("images/broken.png",)),
        finding(kind="outside", file="a.json", pictures=("images/a.png",), points=((500.0, -20.0),)),
        finding(kind="outside", file="a.json", pictures=("images/broken.png",), points=((5.0, 2.0),)),
        finding(kind="outside", file="a.json", points=((5.0, 2.0),)),
    ]
    page = page_of(report.write_audit(tmp_path / "out", findings, "archive", tmp_path))
    assert sum(tag == "figure" for tag, _ in page.tags) == 3 + 2 + 1
    assert {"hole · x 0, y 30", "near duplicate", "images/other.png", "outside · x 500, y -20"} <= set(page.texts)
    assert [address for address in page.addresses if address.startswith("#")] == ["#f0", "#f1", "#f3"]
    told = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert (len(told), told[0]["points"][1]) == (6, [20.0, 30.0])
    table = pd.read_csv(tmp_path / "out" / "findings.csv")
    assert table.columns.tolist() == ["severity", "kind", "file", "place", "why", "advice"]


def test_pictures_of_findings_show_the_outlines(tmp_path):
    labels = np.zeros((90, 120), np.uint16)
    labels[20:40, 30:60], labels[20:40, 60:80] = 3, 7
    save(tmp_path / "pictures" / "a.png", np.zeros((90, 120), np.uint8))
    save(tmp_path / "a.png", labels)
    one = finding(file="a.png", pictures=("a.png",), points=((45.0, 30.0),))
    [(caption, pixels)] = finding_pictures(one, tmp_path, tmp_path / "pictures")
    assert caption == "x 45, y 30"
    assert (pixels == FOUND).all(axis=2).sum() > 200
    [(_, bare)] = finding_pictures(dataclasses.replace(one, file="none.json"), tmp_path, tmp_path / "pictures")
    assert not (bare == FOUND).all(axis=2).any()
    bow_tie = Cell((np.array([[30.0, 20], [60, 40], [60, 20], [30, 40]]),))
    write_annotations(tmp_path / "a.json", [AnnotatedImage("a.png", None, (bow_tie,))], "via")
    [(_, drawn)] = finding_pictures(dataclasses.replace(one, file="a.json"), tmp_path, tmp_path / "pictures")
    assert (drawn == FOUND).all(axis=2).sum() > 100


def test_of_one_kind_a_few_are_shown(tmp_path):
    save(tmp_path / "a.png", np.zeros((30, 40), np.uint8))
    findings = [finding(file="a.png", pictures=("a.png",), points=((5.0, 5.0),))] * 9
    page = page_of(report.audit_report(tmp_path / "page.html", findings, root=tmp_path))
    assert sum(tag == "figure" for tag, _ in page.tags) == 6
    assert any("3 more findings" in text for text in page.texts)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "–"),
        (None, "–"),
        (math.nan, "–"),
        (0, "0"),
        ("12.0", "12"),
        (0.12345, "0.123"),
        (1234567, "1\u202f234\u202f567"),
        (12345.6, "12\u202f346"),
    ],
)
def test_numbers_for_people(value, expected):
    assert number_text(value) == expected
