import pytest
from hypothesis import given
from hypothesis import strategies as st

from fncells.documents.properties import parse_properties, properties_text


def keys_and_values(text):
    return {key: value for key, value, _ in parse_properties(text)}


KEYS = st.text().filter(lambda key: bool(key) and key.strip() == key)
VALUES = st.text().filter(lambda value: value.strip() == value)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_is_written_is_read(properties):
    text = properties_text(properties)
    assert text.isascii()
    assert text.count("\n") == len(properties)
    assert keys_and_values(text) == properties


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", {}),
        ("a: b\r\nc: d", {"a": "b", "c": "d"}),
        ("a:b:c", {"a": "b:c"}),
        ("two words: more words", {"two words": "more words"}),
        (r"two\ words\:: C\:\\x\t\u00e4\u0020!", {"two words:": "C:\\x\tä !"}),
        (r"a: \ud83d\ude00", {"a": "😀"}),
        ("a: ü", {"a": "ü"}),
        ("no colon", {}),
        ("a: ends with a backslash\\", {"a": "ends with a backslash\\"}),
        (": nothing before", {"": "nothing before"}),
    ],
)
def test_properties_are_read_with_and_without_escapes(text, read):
    assert keys_and_values(text) == read


def test_values_are_also_given_as_they_stand():
    assert list(parse_properties('a: {"b":"\\"c\\""}')) == [("a", '{"b":""c""}', '{"b":"\\"c\\""}')]
