import tracemalloc
from time import process_time
from xml.etree import ElementTree

import pytest

from fncells.documents import Place, strict_xml
from fncells.documents.strict_xml import parse_xml, read_xml, xml_text
from fncells.errors import InputError


def refused(data, said):
    start = process_time()
    with pytest.raises(InputError, match=said) as refusal:
        parse_xml(data, Place(None))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300
    assert process_time() - start < 5


def plain(element):
    """The tree as nested tuples, as another reader would give it."""
    return element.name, element.text, [plain(child) for child in element.children]


def plain_tree(element):
    children = list(element)
    return element.tag, "" if children else element.text or "", [plain_tree(child) for child in children]


DOCUMENTS = [
    "<a/>",
    "<a></a>",
    "<a>text</a>",
    "<a> text \n </a>",
    "<a>&lt;b&gt; &amp; &quot;&apos; &#252;&#x1F600;</a>",
    "<a><![CDATA[<b>&]]> and more</a>",
    "<a>one<!-- two -->three<?four five?></a>",
    '<?xml version="1.0" encoding="UTF-8"?>\n<a x="1"><b y="2">ü😀</b>\n  <b/><c>\r\nline\tend</c></a>\n<!-- end -->',
    "<ä><ö>ß</ö></ä>",
    '<n:a xmlns:n="http://n"/>',
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_tree_is_that_of_another_reader(document):
    if "n:a" in document:  # names are kept as they stand, without a meaning of their own
        assert parse_xml(document.encode(), Place(None)).name == "n:a"
        return
    assert plain(parse_xml(document.encode(), Place(None))) == plain_tree(ElementTree.fromstring(document))  # noqa: S314


def test_places_are_counted_from_one():
    root = parse_xml(b"<a>\n  <b/>\n\n<c>5</c><d/></a>", Place(None))
    assert [(child.name, child.line, child.column) for child in root.children] == [
        ("b", 2, 3),
        ("c", 4, 1),
        ("d", 4, 9),
    ]
    with pytest.raises(InputError, match=r"^line 4, column 9: expected more, found less$"):
        root.children[2].refuse("more", "less")


def test_elements_are_found_by_name():
    root = parse_xml(b"<a><b>1</b><c><b>no</b></c><b>2</b></a>", Place(None))
    assert [found.text for found in root.all("b")] == ["1", "2"]
    assert root.one("d") is None
    assert root.one("c").one("b").text == "no"
    with pytest.raises(InputError, match="column 28: expected one b in a, found another one than on line 1"):
        root.one("b")


def test_values_are_texts_without_the_line_breaks_around_them():
    root = parse_xml(b"<a><b> x </b><b>\n  x y\n</b><b/><b><c/></b></a>", Place(None))
    assert [element.value() for element in root.children[:3]] == [" x ", "x y", ""]
    with pytest.raises(InputError, match="expected a text in b, found an element 'c'"):
        root.children[3].value()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252", "us-ascii"])
def test_declared_encodings_are_read(encoding):
    text = "a" if encoding == "us-ascii" else "äé"
    declared = encoding.removesuffix("-sig")
    data = f'<?xml version="1.0" encoding="{declared}"?><a>{text}</a>'.encode(encoding)
    assert parse_xml(data, Place(None)).text == text


@pytest.mark.parametrize("encoding", ["gbk", "utf-7", "base64", "rot13", "nonsense", "utf-32"])
def test_other_encodings_are_refused(encoding):
    refused(f'<?xml version="1.0" encoding="{encoding}"?><a>e4</a>'.encode(), "line 1: expected XML in UTF-8")


BOMB = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))

HOSTILE = {  # each beside its valid twin
    "entities that multiply": (f'<!DOCTYPE a [<!ENTITY e0 "ha">{BOMB}]><a>&e9;</a>', "<a>ha</a>", "<!DOCTYPE a"),
    "a file from the disk": ('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "<a>e</a>", "DOCTYPE"),
    "a document type elsewhere": ('<!DOCTYPE a SYSTEM "http://lab/a.dtd"><a/>', "<a/>", "without a document type"),
    "parameter entities": ('<!DOCTYPE a [<!ENTITY % e "x"> %e;]><a/>', "<a/>", "without a document type"),
    "an unknown entity": ("<a>&uuml;</a>", "<a>&amp;</a>", "line 1, column 4: .* found undefined entity"),
    "33 levels": ("<a>" * 33 + "</a>" * 33, "<a>" * 32 + "</a>" * 32, "column 97: .*nested at most 32 deep"),
    "a million levels": ("<a>" * 10**6 + "</a>" * 10**6, "<a><a></a></a>", "nested at most 32 deep"),
    "a million levels, never closed": ("<a>" * 10**6, "<a></a>", "nested at most 32 deep"),
    "tags that cross": ("<a><b></a></b>", "<a><b></b></a>", "column 9: .* mismatched tag"),
    "the end missing": ("<a><b></b>", "<a><b></b></a>", "no element found"),
    "two documents": ("<a/><a/>", "<a/>", "junk after document element"),
    "a NUL": ("<a>\0</a>", "<a>0</a>", "column 4: .*not well-formed"),
    "a NUL as reference": ("<a>&#0;</a>", "<a>&#48;</a>", "reference to invalid character"),
    "text": ("annotation", "<a>annotation</a>", "syntax error"),
    "nothing": ("", "<a/>", "found an empty file"),
    "blanks": (" \n", "<a/>", "found an empty file"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_what_is_no_plain_xml_is_refused_in_one_line(fault):
    document, twin, said = HOSTILE[fault]
    assert parse_xml(twin.encode(), Place(None)).name == "a"
    refused(document.encode(), said)


def test_other_bytes_than_utf_8_are_refused():
    refused("<a>ä</a>".encode("latin-1"), "column 4: .*not well-formed")


def test_ten_million_points_are_refused_before_they_take_memory(monkeypatch):
    monkeypatch.setattr(strict_xml, "MOST_ELEMENTS", 60_000)
    point = b"<pt><x>1</x><y>2</y></pt>"
    assert len(parse_xml(b"<a>" + point * 19_999 + b"</a>", Place(None)).children) == 19_999
    tracemalloc.start()
    try:
        refused(b"<a>" + point * 400_000 + b"</a>", "expected at most 60000 elements, found more")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_missing_files_folders_and_giants_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.xml").write_bytes(b"<a>5</a>")
    assert read_xml(tmp_path / "a.xml").text == "5"
    monkeypatch.setattr(strict_xml, "_LARGEST", 5)
    for path, said in ((tmp_path, "a folder"), (tmp_path / "b", "nothing of that name"), (tmp_path / "a.xml", "MiB")):
        with pytest.raises(InputError, match=said):
            read_xml(path)


@pytest.mark.parametrize("text", ["", "a < b & c > d ]]>", "ü😀", " \t\n\r\r\n ", "\x7f\x85\ufffd"])
def test_escaped_texts_come_back(text):
    assert parse_xml(f"<a>{xml_text(text, 'texts')}</a>".encode(), Place(None)).text == text


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_cannot_hold_is_not_written(character):
    with pytest.raises(InputError, match=r"expected texts in characters that XML can hold, found the character U\+"):
        xml_text(f"a{character}", "texts")
