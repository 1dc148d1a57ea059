"""Every command on a disk that is full, or write-protected: one line that says what to do, and nothing half-written."""

import pytest

from fncells import cli
from fncells.ingest import build
from labs import names_of, put_lab

COMMANDS = {
    "synth": ["synth", "{out}", "--pictures", "2", "--seed", "1", "--size", "160x120", "--collections", "green"],
    "convert": ["convert", "{masks}", "{out}", "--to", "labels"],
    "convert to one file": ["convert", "{masks}", "{out}/coco.json", "--to", "coco"],
    "clean": ["clean", "{masks}", "{out}"],
    "count": ["count", "{images}", "--out", "{out}", "--predictions", "{masks}"],
    "measure": ["measure", "{masks}", "--images", "{images}", "--out", "{out}"],
    "stats": ["stats", "{archive}", "--out", "{out}"],
    "evaluate": ["evaluate", "{masks}", "{masks}", "--out", "{out}"],
    "pack": ["pack", "{archive}", "{out}"],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    build(put_lab(root / "lab", {"green": names_of("green")}), root / "archive")
    part = root / "archive" / "green" / "trainval"
    return {"archive": root / "archive", "masks": part / "ground_truths" / "masks", "images": part / "images"}


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "fncells-ledger" not in path.name
    }


QUICK = {("convert", "size=4k"), ("clean", "size=24k"), ("count", "size=24k"), ("synth", "size=4k"), ("count", "ro")}
CASES = [
    pytest.param(command, options, marks=[] if (command, options) in QUICK else pytest.mark.slow)
    for command in COMMANDS
    for options in ("size=4k", "size=24k", "ro")
]


@pytest.mark.parametrize(("command", "options"), CASES)
def test_it_is_told_in_one_line_and_the_same_command_goes_on_later(places, disk, tmp_path, capsys, command, options):
    folder, mounted = disk
    words, alone = (
        [word.format(out=out, **places) for word in COMMANDS[command]] for out in (folder / "out", tmp_path / "o")
    )
    assert cli.run([*alone, "--quiet"]) == 0
    capsys.readouterr()
    assert mounted(options)
    code = cli.run([*words, "--quiet"])
    told = capsys.readouterr().err.splitlines()
    assert not list(folder.rglob(".fncells-tmp-*"))
    for name, data in tree(folder).items():
        assert name.startswith("out/.") or ".partial/" in name or data == tree(tmp_path / "o")[name[4:]], name
    if code == 0:  # what it makes is small
        assert options != "ro"
    else:
        advice = "give another folder, or make it writable" if options == "ro" else "make room"
        assert (code, len(told)) == (2, 1)
        assert told[0].startswith(f"fncells: {folder}")
        assert "expected a folder that can be written, with room, found " in told[0]
        assert told[0].endswith(f"; {advice}, and the same command goes on from here")
    assert mounted("rw,size=16m")
    assert cli.run([*words, "--quiet"]) == 0
    assert tree(folder / "out") == tree(tmp_path / "o")
