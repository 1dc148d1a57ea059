"""The README's Python runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_runs(capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
    assert capsys.readouterr().out == "0.5\n"


def test_the_pictures_and_pages_that_the_readme_shows_are_there() -> None:
    addresses = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    missing = [address for address in addresses if "://" not in address and not (README.parent / address).exists()]
    assert addresses
    assert missing == []
