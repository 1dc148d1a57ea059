"""Original file names and what they tell."""

import csv
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fncells.errors import InputError
from fncells.names import NamePattern, Specimen, format_name, parse_name, slice_key

KNOWN = Specimen(
    species="mouse",
    animal="Mar22b",
    sample=1,
    column=2,
    row=1,
    area="VLPAG",
    side="l",
    zoom="200x",
    collection="yellow",
)


@pytest.mark.parametrize(
    ("name", "specimen"),
    [
        ("Mar22b_S1C2R1_VLPAGl_200x_y", KNOWN),
        ("Mar22bS1C2R1_VLPAGl_200x_y.TIF", KNOWN),
        ("sub/Mar22bS1C2R1_vlpagL_20_o.png.tiff", KNOWN),
        ("C:\\lab\\Mar22b S1C2R1 VLPAGl 200x y.tif", KNOWN),
        ("Mar22bs1c2r1_VLPAGl_20x_Y", KNOWN),
        ("Mar22bS1C2R1_VLPAGl_200x", replace(KNOWN, collection=None)),
        ("Mar22bS1C2R1_VLPAGl_y", replace(KNOWN, zoom=None)),
        ("Mar22bS1CuR1_VLPAGl_200x_y", replace(KNOWN, column=None)),
        ("Mar22bC2R1_VLPAGl_200x_y", replace(KNOWN, sample=None)),
        ("MARVIN7S1C2R1_VLPAGl_25_y", replace(KNOWN, animal="MARVIN7", zoom="250x")),
        ("Mar22bS1C2R1_VLPAGl_200x_y_copy", KNOWN),
        ("Mar22bS1C2R1_VLPAG?_200x_y", replace(KNOWN, area=None, side=None)),
        ("MAR38S1C3R1_LHR_20_o", Specimen("mouse", "MAR38", 1, 3, 1, "LH", "r", "200x", "yellow")),
        ("MAR32C2R3_PVHr_200x_r", Specimen("mouse", "MAR32", None, 2, 3, "PVH", "r", "200x", "red")),
        ("RT353S2C1R5_r1", Specimen("rat", "RT353", 2, 1, 5, "RPa", None, None, "red", "1")),
        ("rt9_S2C1R5_250x_B", Specimen("rat", "rt9", 2, 1, 5, "RPa", None, "250x", None, "b")),
        ("Mar1S1C1R1_rpa_g", Specimen("mouse", "Mar1", 1, 1, 1, "RPa", None, None, "green")),
        ("S1C10R2", Specimen(sample=1, column=10, row=2)),
        ("Mar5", Specimen("mouse", "Mar5")),
        ("WT12S1C2R3_CA1l_g", Specimen(None, "WT12", 1, 2, 3, "CA1", "l", None, "green")),
        ("WT12S1C2R3_MnR", Specimen(None, "WT12", 1, 2, 3, "MnR")),
        ("WT12S1C2R3_MNR", Specimen(None, "WT12", 1, 2, 3, "MN", "r")),
        ("39_y.png", Specimen(collection="yellow")),
    ],
)
def test_every_known_variant_is_understood(name, specimen):
    assert parse_name(name) == specimen


@pytest.mark.parametrize(
    "name", ["", "u", "copy of picture", "DSC0012.JPG", "S1C2", "a/", ".tif", "Mar", "ſ1c2r3", "S1C99999R1"]
)
def test_an_odd_name_says_nothing_and_is_no_error(name):
    assert parse_name(name) == Specimen()


@given(st.text())
def test_no_text_at_all_is_an_error(name):
    specimen = parse_name(name)
    assert parse_name(format_name(specimen)) == specimen
    assert isinstance(slice_key(name), str)


INDICES = st.none() | st.integers(0, 9999)
MICE = st.from_regex(r"(mar|Mar|MAR|Marvin)[0-9]{1,3}[a-z]?", fullmatch=True).map(lambda name: ("mouse", name))
RATS = st.from_regex(r"(RT|rt)[0-9]{1,3}[a-z]?", fullmatch=True).map(lambda name: ("rat", name))
OTHERS = st.from_regex(r"(WT|ko)[0-9]{1,3}[A-Z]?", fullmatch=True).map(lambda name: (None, name))
AREAS = st.sampled_from(["DM", "DMH", "LH", "PVH", "RPa", "VLPAG"]) | st.from_regex(
    r"[A-Z][a-z]{1,4}[b-k1]", fullmatch=True
)


@st.composite
def specimens(draw):
    species, animal = draw(st.just((None, None)) | MICE | RATS | OTHERS)
    area = draw(st.none() | AREAS)
    region = draw(st.sampled_from([None, "1", "2", "a", "b"])) if species == "rat" and area is None else None
    return Specimen(
        species=species,
        animal=animal,
        sample=draw(INDICES),
        column=draw(INDICES),
        row=draw(INDICES),
        area="RPa" if region else area,
        side=draw(st.sampled_from([None, "l", "r"])) if area else None,
        zoom=draw(st.none() | st.integers(100, 9999).map(lambda zoom: f"{zoom}x")),
        collection=draw(st.sampled_from([None, "green", "red", "yellow"])),
        region=region,
    )


@settings(max_examples=400)
@given(specimens())
def test_a_written_specimen_is_read_back(specimen):
    assert parse_name(format_name(specimen)) == specimen


@settings(max_examples=200)
@given(specimens(), st.sampled_from(["green", "red", "yellow"]))
def test_double_marked_pictures_share_a_slice(specimen, other):
    # Where the place is known, the zoom is no part of the key: it is the same tissue.
    placed = specimen.column is not None or specimen.row is not None
    twin = replace(specimen, collection=other, zoom="400x" if placed else specimen.zoom)
    assert slice_key(format_name(specimen)) == slice_key(format_name(twin).upper() + ".TIF")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("MAR38S1C3R1_LHR_20_o.png.tiff", "Mar38_S1C3R1_LHr_200x_g.TIF", True),
        ("Mar7S1C3R1_LHr_200x", "Marvin7S1C3R1_LHr_200x_g", True),
        ("slice 12_g.tif", "slice_12_R.jpg", True),
        ("39_y", "39", True),
        ("RT9_SuCuRu_g1", "RT9_SuCuRu_r1.JPG", True),
        ("RT9_SuCuRu_g1", "RT9_SuCuRu_g2", False),
        ("Mar38S1C3R1_LHr_g", "Mar38S1C3R1_LHl_g", False),
        ("Mar38S1C3R1_LHr_g", "Mar38S1C3R2_LHr_g", False),
        ("RT353S2C1R5_r1", "RT353S2C1R5_r2", False),
        ("39_y", "38_y", False),
        ("a_200x", "b_200x", False),
    ],
)
def test_slice_key_joins_only_pictures_of_one_field(one, other, same):
    assert (slice_key(one) == slice_key(other)) is same


def test_one_animal_in_several_spellings():
    keys = {parse_name(name).animal_key for name in ("MAR38S1C1R1", "Mar38_S1C1R1", "marvin38S1C1R1")}
    assert keys == {"mar38"}
    assert parse_name("39_y").animal_key is None


def test_region_codes_of_rats():
    names = [parse_name(f"RT353S2C1R5_r{code}").region_name for code in "12ab"]
    assert names == ["dorsal", "ventral", "dorsal", "ventral"]
    assert parse_name("Mar22bS1C2R1_VLPAGl_200x_y").region_name is None


def test_the_rule_of_the_paper_is_what_is_written():
    assert format_name(KNOWN) == "Mar22b_S1C2R1_VLPAGl_200x_y"
    assert format_name(Specimen()) == "u"


def real_names():
    folder = os.environ.get("FNCELLS_DATA")
    if not folder:
        if os.environ.get("FNCELLS_REQUIRE_DATA"):
            pytest.fail("FNCELLS_DATA is not set")
        pytest.skip("FNCELLS_DATA is not set: the real names are not here")
    with (Path(folder) / "fnc" / "v1_yellow_index.csv").open(newline="") as file:
        return [row["original_name"] for row in csv.DictReader(file)]


def test_every_part_of_every_real_name_is_understood_or_said_to_be_unknown():
    """Put together again, what was read is all that the name says: nothing was passed over, nothing made up."""
    bare = 0
    for name in real_names():
        specimen = parse_name(name)
        stem = re.sub(r"(\.(png|tiff?))+$", "", name)
        if specimen.animal is None:
            # A number and a letter: only the collection is known, and everything else is said not to be.
            assert re.fullmatch(r"[0-9]+_y", stem)
            assert specimen == Specimen(collection="yellow")
            bare += 1
            continue
        place = f"S{specimen.sample}C{specimen.column}R{specimen.row}"
        written = (specimen.animal, place, specimen.area + specimen.side, specimen.zoom, specimen.collection[0])
        spelt = stem.replace("_20_", "_200x_").removesuffix("_o") + ("_y" if stem.endswith("_o") else "")
        assert "".join(written).lower() == spelt.replace("_", "").lower(), name
        assert (specimen.species, specimen.region) == ("mouse", None)
    assert bare == 3


LAB = NamePattern(
    r"(?P<animal>[A-Z]+-[0-9]+)_sl(?P<sample>[0-9]+|x)_(?P<area>[A-Z0-9]+)-(?P<side>left|right)_(?P<collection>red|g)"
)


@pytest.mark.parametrize(
    ("name", "specimen"),
    [
        ("WT-12_sl3_CA1-left_red.tif", Specimen(animal="WT-12", sample=3, area="CA1", side="l", collection="red")),
        ("sub/wt-12_slx_ca1-RIGHT_G.ome.tif", Specimen()),
        ("sub\\WT-12_slx_CA1-Right_G.nd2", Specimen(animal="WT-12", area="CA1", side="r", collection="green")),
        ("Mar22bS1C2R1_VLPAGl_200x_y.TIF", Specimen()),
        ("WT-12_sl3_CA1-left_red_copy.tif", Specimen()),
        ("", Specimen()),
    ],
)
def test_a_labs_own_rule_holds_alone(name, specimen):
    assert parse_name(name, LAB) == specimen


def test_a_rule_may_speak_of_folders_and_of_every_field():
    rule = NamePattern(
        r"(?P<species>[^/]+)/(?P<animal>[^/]+)/(?P<sample>\d+)-(?P<column>\d+)-(?P<row>\w+) "
        r"(?P<zoom>\d+x) (?P<region>\w)( (?P<area>.*))?"
    )
    assert parse_name("Rat/R 7/1-2-u 20x a.tif", rule) == Specimen("rat", "R 7", 1, 2, None, zoom="20x", region="a")


def test_slices_by_a_labs_own_rule():
    twin = slice_key("WT-12_sl3_CA1-left_g.tif", LAB)
    assert slice_key("wt-12_SL3_CA1-LEFT_red.nd2", LAB) == twin
    for other in ("WT-12_sl4_CA1-left_g.tif", "WT-13_sl3_CA1-left_g.tif", "WT-12_sl3_CA1-right_g.tif"):
        assert slice_key(other, LAB) != twin
    # Without a place on the slides the name itself is the key, but for the collection: no two fields of an animal are one.
    animal = NamePattern(r"(?P<animal>[a-z]+[0-9]+)_f[0-9]+_(?P<collection>[a-z]+)")
    assert slice_key("wt1_f1_dapi", animal) == slice_key("WT1_f1_GFP.tif", animal) != slice_key("wt1_f2_dapi", animal)
    assert slice_key("no such name.tif", LAB) == slice_key("No such  NAME", LAB)
    bare = NamePattern(r"(?P<animal>[a-z]+)[0-9]*")
    assert slice_key("wt1", bare) != slice_key("wt2", bare)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(?P<animal>[a-z]+", r"name pattern: expected a regular expression, found .*unterminated subpattern"),
        (
            "(?P<mouse>[a-z]+)",
            r"expected named groups out of species, animal, .*found the group 'mouse'; write it like",
        ),
        ("[a-z]+", "found no named group"),
        ("(?P<animal>a{99999999999999999999})", "expected a regular expression"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        NamePattern(text)


@given(st.text())
def test_no_text_at_all_is_an_error_for_a_labs_own_rule(name):
    assert isinstance(parse_name(name, LAB), Specimen)
    assert isinstance(slice_key(name, LAB), str)


def test_all_real_names():
    names = real_names()
    read = [parse_name(name) for name in names]
    assert len(read) == 283
    assert {specimen.collection for specimen in read} == {"yellow"}
    numbered = [name for name, specimen in zip(names, read, strict=True) if specimen.animal is None]
    assert numbered == ["37_y.png", "38_y.png", "39_y.png"]
    full = [specimen for specimen in read if specimen.animal is not None]
    assert {specimen.area for specimen in full} == {"DM", "LH", "VLPAG"}
    assert {specimen.side for specimen in full} == {"l", "r"}
    assert {specimen.zoom for specimen in full} == {"200x"}
    assert all(None not in (specimen.sample, specimen.column, specimen.row) for specimen in full)
    assert len({slice_key(name) for name in names}) == 283
    # But for spelling, every name is what the rule makes of its parts.
    for name, specimen in zip(names, read, strict=True):
        assert parse_name(format_name(specimen)) == specimen
        if name[:4] == "Mar2":
            assert format_name(specimen).replace("_S", "S") + ".png" == name


def test_a_rats_double_marked_pictures_share_a_slice_though_their_place_is_unknown():
    assert slice_key("RT353_r1.JPG") == slice_key("RT353_G1.tif") == slice_key("RT353_1")
    assert slice_key("RT353_r1") != slice_key("RT353_r2")
