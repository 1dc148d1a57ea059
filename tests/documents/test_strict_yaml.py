import time

import pytest
import yaml

from fncells.documents.strict_yaml import read_yaml
from fncells.errors import InputError


def read(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, no, ~, 2026-11-24, 1e3]", {"a": ["1", "no", "~", "2026-11-24", "1e3"]}),
        ("a:\n  0: x\n  1: 'it''s'\nb:\n- {c: \"\\u00e4\"}\n", {"a": {"0": "x", "1": "it's"}, "b": [{"c": "ä"}]}),
        ("a: !!python/object/apply:os.system ['x']", {"a": ["x"]}),
        ("# nothing\n", ""),
        ("--- 3\n...\n", "3"),
        ("{}", {}),
        ("a:\n", {"a": ""}),
        (b"\xef\xbb\xbfa: \xc3\xbc", {"a": "ü"}),
    ],
)
def test_scalars_stay_what_stands_there(tmp_path, text, value):
    assert read(tmp_path, text) == value


FAULTS = {
    "alias": ("a: &x [1]\nb: *x", "line 1, column 4: expected YAML without anchors and aliases, found 'x'"),
    "bomb": ("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]", "without anchors"),
    "merge": ("a: {b: 1}\nc: {<<: *a}", "without anchors"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: expected each key once, found the key 'a' twice"),
    "a list as key": ("? [1]\n: 2", "expected a text as key"),
    "two documents": ("a: 1\n---\nb: 2", "line 2, column 1: expected one document"),
    "no end": ("a: [1", "expected YAML, found did not find|expected YAML"),
    "a tab": ("a:\n\t- b", "line 2, column 1: expected YAML"),
    "NUL": ("a: \0", "expected YAML, found .*character"),
    "half a pair": ('a: "\\ud800"', "expected (YAML|Unicode text)"),
    "latin-1": ("a: ü".encode("latin-1"), "UTF-8"),
    "empty": ("", "an empty file"),
    "deep lists": ("[" * 10**6, "nested too deep"),
    "deep mappings": ("{a: " * 10**6, "nested too deep"),
    "deep blocks": ("- " * 10**6, "nested too deep"),
    "without end": ("[" + "a," * 2 * 10**6 + "]", "at most 1048576 values"),
    "too large": (b"#" * (2**26 + 1), "a file of at most"),
}


@pytest.mark.parametrize("loader", ["libyaml", "python"])
@pytest.mark.parametrize("fault", FAULTS)
def test_traps_and_faults_are_refused_in_one_line(tmp_path, fault, loader, monkeypatch):
    text, said = FAULTS[fault]
    if loader == "python":
        if fault == "without end":
            pytest.skip("takes long without libyaml")
        monkeypatch.setattr("fncells.documents.strict_yaml._LOADER", yaml.SafeLoader)
    start = time.process_time()
    with pytest.raises(InputError, match=said) as refusal:
        read(tmp_path, text)
    assert time.process_time() - start < 5
    assert str(refusal.value).startswith(str(tmp_path / "a.yaml"))
    assert "\n" not in str(refusal.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="expected a file"):
            read_yaml(path)
