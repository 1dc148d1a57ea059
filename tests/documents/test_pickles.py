import builtins
import os
import pickle
import subprocess
import sys
import time

import pytest

from fncells.documents import read_pickle
from fncells.errors import InputError

VALUE = {
    "size": [1200, 1600],
    "counts": b"abc\x00\xff",
    "ä": [-1, 70_000, 2**40],
    "t": (1,),
    "u": (),
    "v": (1, "b", 3, 4),
}


def save(path, data):
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_of_every_protocol_are_read(tmp_path, protocol):
    assert read_pickle(save(tmp_path / "a.pickle", pickle.dumps(VALUE, protocol))) == VALUE


def test_texts_and_numbers_of_the_oldest_protocols_are_read(tmp_path):
    for protocol in (0, 1, 2):
        value = {"size": [12, 16], "counts": "abc", "same": [1, 1, "abc"], "t": (1, 2, 3, 4)}
        assert read_pickle(save(tmp_path / "a.pickle", pickle.dumps(value, protocol))) == value


def test_one_value_in_two_places_is_read_twice(tmp_path):
    counts = b"x" * 300
    assert read_pickle(save(tmp_path / "a.pickle", [counts, counts, "y" * 300])) == [counts, counts, "y" * 300]


class Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def touch(target):
    return f"open({str(target)!r}, 'w').close()"


def hostile(target):
    """Pickles that would make the file `target` if they ran, and others that would read, import or swamp."""
    code = touch(target)
    nested = pickle.dumps({"size": [2, 2], "counts": [Runs(builtins.exec, code)]})
    return {
        "exec": pickle.dumps(Runs(builtins.exec, code)),
        "eval": pickle.dumps(Runs(builtins.eval, f"__import__('pathlib').Path({str(target)!r}).touch()")),
        "system": pickle.dumps(Runs(os.system, f"touch {target}")),
        "popen": pickle.dumps(Runs(subprocess.Popen, ["touch", str(target)])),
        "open": pickle.dumps(Runs(open, str(target), "w")),
        "nested": nested,
        "inner pickle": pickle.dumps(Runs(pickle.loads, nested)),
        "global": b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.",
        "inst": b"(S'touch " + str(target).encode() + b"'\nios\nsystem\n.",
        "obj": b'(cbuiltins\nexec\nS"' + code.replace('"', "'").encode() + b'"\no.',
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",
        "newobj": b"\x80\x02cbuiltins\nobject\n)\x81.",
        "newobj ex": b"\x80\x04cbuiltins\nobject\n)}\x92.",
        "build": b"\x80\x02}}b.",
        "import alone": b"cantigravity\nfly\n.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Psomewhere\n.",
        "persistent binary": b"U\x01aQ.",
        "buffer": b"\x80\x05\x97.",
        "float": b"\x80\x02G?\xf0\x00\x00\x00\x00\x00\x00.",
        "set": pickle.dumps({1, 2}),
        "none": pickle.dumps(None),
        "byte array": pickle.dumps(bytearray(b"a"), 5),
    }


@pytest.mark.parametrize("name", list(hostile("x")))
def test_nothing_runs_and_the_instruction_is_named(tmp_path, name):
    target = tmp_path / "made"
    with pytest.raises(
        InputError, match=r"a\.pickle, byte \d+: expected a pickle of plain values, .*instruction"
    ) as refusal:
        read_pickle(save(tmp_path / "a.pickle", hostile(target)[name]))
    assert "\n" not in str(refusal.value)
    assert not target.exists()


def test_the_hostile_ones_would_run_if_they_were_unpickled(tmp_path):
    for name in ("exec", "eval", "system", "nested", "inner pickle", "global", "inst"):
        target = tmp_path / name.replace(" ", "-")
        path = save(tmp_path / "a.pickle", hostile(target)[name])
        subprocess.run([sys.executable, "-c", f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"], check=False)
        assert target.exists(), name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read"),
        (b"no pickle", "cannot be read"),
        (pickle.dumps(VALUE)[:-1], "cannot be read"),
        (pickle.dumps(VALUE)[:20], "cannot be read"),
        (b"\x80\x04.", "not one value"),
        (b"K\x01K\x02.", "not one value"),
        (b"K\x01a.", "cannot be read"),
        (b"]a.", "cannot be read"),
        (b"(](a.", "cannot be read"),
        (b"K\x01K\x02a.", "a list that is none"),
        (b"}K\x01K\x02s.", "a dictionary that is none"),
        (b"}(K\x01u.", "a dictionary that is none"),
        (b"]K\x01K\x02s.", "a dictionary that is none"),
        (b"h\x05.", "not there"),
        (b"q\x05.", "cannot be read"),
        (b"e.", "cannot be read"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "cannot be read"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "cannot be read"),
        (b"\x8b\xff\xff\xff\x7f.", "cannot be read"),
        (b"I9x\n.", "cannot be read"),
        (b"I" + b"9" * 5000 + b"\n.", "cannot be read"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_whole_pickle_is_refused(tmp_path, data, said):
    with pytest.raises(InputError, match=rf"a\.pickle.*: .*{said}"):
        read_pickle(save(tmp_path / "a.pickle", data))


def test_a_number_that_asks_for_all_memory_asks_in_vain(tmp_path):
    # The unpickler of some Python versions makes its memo as long as the largest index in it.
    [value] = read_pickle(save(tmp_path / "a.pickle", b"]r\xff\xff\xff\xffK\x01a."))
    assert value == 1


def test_a_list_in_itself_and_deep_nesting_end_soon(tmp_path):
    value = read_pickle(save(tmp_path / "a.pickle", b"]q\x00h\x00a."))
    assert value[0] is value
    start = time.process_time()
    value = read_pickle(save(tmp_path / "a.pickle", b"(" * 300_000 + b"t" * 300_000 + b"."))
    while value:
        [value] = value
    assert time.process_time() - start < 5


def test_missing_files_folders_and_giants_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nothing of that name"):
        read_pickle(tmp_path / "none.pickle")
    with pytest.raises(InputError, match="found a folder"):
        read_pickle(tmp_path)
    monkeypatch.setattr("fncells.documents.pickles._LARGEST", 5)
    with pytest.raises(InputError, match="at most"):
        read_pickle(save(tmp_path / "a.pickle", VALUE))
