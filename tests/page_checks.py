"""What holds of every page: whole, offline, and every address leads somewhere."""

from html.parser import HTMLParser
from urllib.parse import unquote

EMPTY = {"br", "img", "input", "link", "meta"}
HOSTILE = '<img src=x onerror="alert(1)">'


class Page(HTMLParser):
    """Checks that elements close in order, and collects what a page shows and refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.ids, self.texts, self.tags = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.addresses += [attributes[name] for name in ("src", "href") if name in attributes]
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] not in ("style", "script"):
            self.texts.append(" ".join(data.split()))

    def rows(self):
        return [tag for tag, _ in self.tags].count("tr")


def page_of(path):
    page = Page(path.read_text(encoding="utf-8"))
    outside = [
        address
        for address in page.addresses
        if not address.startswith(("data:", "#")) and (":" in address or not (path.parent / unquote(address)).is_file())
    ]
    assert outside == []
    targets = [address[1:] for address in page.addresses if address.startswith("#")]
    assert set(targets) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    return page
