"""How partitions are drawn: groups whole, shares kept, species balanced where asked, and all of it told."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from fncells.archive import Archive
from fncells.building.keys import Key
from fncells.building.splitting import split
from fncells.cli import run
from fncells.ingest import BuildSettings, Share, build

SHARES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
# One group: its collection, species and number of pictures.
GROUPS = st.lists(
    st.tuples(st.sampled_from(["green", "red"]), st.sampled_from(["mouse", "rat"]), st.integers(1, 9)), max_size=40
)


def pictures_of(made):
    groups, species = {}, {}
    for number, (collection, kind, size) in enumerate(made):
        for picture in range(size):
            key = Key(collection, f"{number}-{picture}.tif")
            groups[key], species[key] = f"group {number}", kind
    return groups, species


def is_whole(groups, partitions):
    return len({(groups[key], partitions[key]) for key in groups}) == len(set(groups.values()))


def deviations(groups, partitions, share, part):
    """By part: how far the number in test is from the wished one, and how large the largest group is."""
    largest = Counter()
    for (name, _), size in Counter((part(key), groups[key]) for key in groups).items():
        largest[name] = max(largest[name], size)
    for name, total in Counter(map(part, groups)).items():
        tested = sum(partitions[key] == "test" for key in groups if part(key) == name)
        yield abs(tested - share * total), largest[name]


@settings(max_examples=200)
@given(GROUPS, SHARES, st.integers(0, 3))
def test_the_share_of_every_collection_is_kept_to_half_a_group(made, share, seed):
    groups, _ = pictures_of(made)
    partitions = split(groups, {}, share, seed)
    assert set(partitions) == set(groups)
    assert is_whole(groups, partitions)
    for off, largest in deviations(groups, partitions, share, lambda key: key.collection):
        assert off <= largest / 2 + 1e-6
    assert split(dict(reversed(groups.items())), {}, share, seed) == partitions


@settings(max_examples=200)
@given(GROUPS, SHARES, st.integers(0, 3))
def test_the_share_of_every_species_is_kept_to_half_a_group_where_asked(made, share, seed):
    groups, species = pictures_of(made)
    partitions = split(groups, {}, share, seed, species)
    assert is_whole(groups, partitions)
    for off, largest in deviations(groups, partitions, share, lambda key: (key.collection, species[key])):
        assert off <= largest / 2 + 1e-6
    for off, largest in deviations(groups, partitions, share, lambda key: key.collection):
        assert off <= largest + 1e-6


@settings(max_examples=200)
@given(st.lists(st.sampled_from([("green",), ("yellow",), ("green", "yellow")]), max_size=60), SHARES)
def test_slices_under_two_filters_leave_the_shares_within_reach(made, share):
    groups = {Key(name, f"{number}.tif"): str(number) for number, names in enumerate(made) for name in names}
    partitions = split(groups, {}, share)
    assert is_whole(groups, partitions)
    for off, _ in deviations(groups, partitions, share, lambda key: key.collection):
        assert off <= 1.5 + 1e-6


@settings(max_examples=50)
@given(GROUPS, GROUPS)
def test_what_was_drawn_stays_and_new_pictures_mend_the_shares(old, new):
    groups, species = pictures_of([*old, *new])
    first, _ = pictures_of(old)
    before = split(first, {}, 0.25, species=species)
    after = split(groups, before, 0.25, species=species)
    assert {key: after[key] for key in first} == before
    assert is_whole(groups, after)


def test_without_balance_the_species_are_left_to_chance():
    """The published red collection: 184 labelled pictures, of which some are of rats."""
    groups, species = pictures_of([("red", "rat" if number < 44 else "mouse", 1) for number in range(184)])
    told = {}
    for balanced in (False, True):
        drawn = [split(groups, {}, 0.25, seed, species if balanced else None) for seed in range(20)]
        rats = [sum(one[key] == "test" and species[key] == "rat" for key in one) for one in drawn]
        assert {sum(partition == "test" for partition in one.values()) for one in drawn} == {46}
        told[balanced] = set(rats)
    assert told[True] == {11}
    assert len(told[False]) > 3


# From the lab to the summary


def put_lab(root, *, told=()):
    """Red pictures of mice and rats, by their names, and of one animal whose species the metadata alone tells."""
    names = [f"Mar{animal}S1C{slice_}R1_LHr_200x_r.TIF" for animal in range(1, 7) for slice_ in (1, 2)]
    names += [f"RT{animal}S1C{slice_}R1_r1.TIF" for animal in range(1, 5) for slice_ in (1, 2)]
    names += [f"K7S1C{slice_}R1_LHr_200x_r.TIF" for slice_ in range(1, 5)]
    (root / "raw" / "red").mkdir(parents=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 200, (20, 24, 3), dtype=np.uint8)
        tifffile.imwrite(root / "raw" / "red" / name, pixels, photometric="rgb", metadata=None)
    entries = {name: {"filename": name, "size": -1, "regions": [], "file_attributes": {}} for name in names}
    (root / "annotations").mkdir()
    (root / "annotations" / "red.json").write_text(json.dumps(entries))
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("original_name", "dataset", "species", "partition"))
        given_partitions = dict(told)
        for name in names:
            writer.writerow((name, "red", "Rat" if name[0] == "K" else "", given_partitions.get(name, "")))
    return root


def shares_of(archive):
    index = Archive.open(archive).index
    labelled = index[index["partition"] != "unlabelled"]
    kinds = labelled["species"].str.lower()
    return {kind: (labelled["partition"][kinds == kind] == "test").mean() for kind in sorted(set(kinds))}


def test_build_balances_species_and_says_how_well(tmp_path, capsys):
    lab, archive = put_lab(tmp_path / "lab"), tmp_path / "archive"
    assert run(["build", str(lab), str(archive), "--balance", "species", "--group", "animal", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = shares_of(archive)
    assert found == {"mouse": 2 / 12, "rat": 4 / 12}  # whole animals: of two pictures, and one of four
    assert told["test_share"] == {"red": 0.25}
    assert [
        (one["species"], one["wished"], one["reached"], one["test"], one["labelled"]) for one in told["shares"]
    ] == [
        (None, 0.25, 0.25, 6, 24),
        ("mouse", 0.25, found["mouse"], 2, 12),
        ("rat", 0.25, found["rat"], 4, 12),
    ]
    record = json.loads((archive / "fncells-run.json").read_text())
    assert record["settings"]["balance"] == "species"
    assert "share of the labelled pictures of every species" in (archive / "datasheet.md").read_text()
    # Nothing has changed: the summary is told from memory, in words too.
    again = build(lab, archive, BuildSettings(balance="species", group="animal"))
    assert (again.converted, again.shares[1]) == (0, Share("red", "mouse", 0.25, 2, 12))
    assert run(["build", str(lab), str(archive), "--balance", "species", "--group", "animal"]) == 0
    line = "red: 18 trainval, 6 test, 0 unlabelled; test 25.0 % of 25 % wished, mouse 16.7 % of 25 % wished, rat 33.3 %"
    assert line in capsys.readouterr().out


def test_partitions_that_are_given_win_and_the_rest_mends_the_share(tmp_path):
    given_test = [f"RT{animal}S1C{slice_}R1_r1.TIF" for animal in (1, 2) for slice_ in (1, 2)]
    lab = put_lab(tmp_path / "lab", told=[(name, "test") for name in given_test])
    summary = build(lab, tmp_path / "archive", BuildSettings(balance="species"))
    index = Archive.open(tmp_path / "archive").index.set_index("original_name")
    assert set(index.loc[given_test, "partition"]) == {"test"}
    shares = {share.species: share for share in summary.shares}
    assert (shares["rat"].test, shares["rat"].labelled) == (4, 12)  # four were given, where three were wished for
    assert (shares["mouse"].test, shares["mouse"].labelled) == (3, 12)
    assert shares[None].reached == pytest.approx(7 / 24)


def test_another_wish_changes_nothing_of_what_was_given(tmp_path):
    lab, archive = put_lab(tmp_path / "lab"), tmp_path / "archive"
    build(lab, archive)
    before = Archive.open(archive).index[["original_name", "image_name", "partition"]]
    summary = build(lab, archive, BuildSettings(balance="species", test_share=0.75, seed=3))
    assert before.equals(Archive.open(archive).index[["original_name", "image_name", "partition"]])
    assert {share.wished for share in summary.shares} == {0.75}
    assert summary.test_shares == {"red": 0.25}


def test_pictures_of_no_known_species_are_told(tmp_path):
    lab = put_lab(tmp_path / "lab")
    (lab / "metadata.csv").unlink()
    summary = build(lab, tmp_path / "archive", BuildSettings(balance="species"))
    assert (
        "red/K7S1C1R1_LHr_200x_r.TIF and 3 more: of no known species; split as one species of their own"
        in summary.warnings
    )
    assert [(share.species, share.test) for share in summary.shares] == [
        (None, 6),
        ("mouse", 3),
        ("rat", 2),
        ("unknown", 1),
    ]


def test_without_balance_no_species_is_told(tmp_path):
    summary = build(put_lab(tmp_path / "lab"), tmp_path / "archive")
    assert summary.shares == (Share("red", None, 0.25, 6, 24),)
