"""What a picture's file tells, as text for people and programs."""

import base64
import json
import re
from collections.abc import Mapping
from hashlib import sha256

from fncells.images.picture import Picture

__all__ = ["camera", "date_taken", "tags_json", "tags_text"]

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# The most telling of several dates first: when the picture was taken, not when a program last saved it.
_DATES = (
    "Exif.Photo.DateTimeOriginal",
    "Exif.Photo.DateTimeDigitized",
    "Microscope.acquired",
    "MetaMorph.acquisition-time-local",
    "MetaMorph.DateTime",
    "Exif.Image.DateTime",
)
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)(?:[ T](\d\d):(\d\d):(\d\d))?")
_COMPACT_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)[ T](\d\d):(\d\d):(\d\d)")


def tags_text(picture: Picture) -> str:
    r"""Give a picture's tags as the published metadata files hold them: a header line, then ``KEY<tab>VALUE`` lines.

    Tabs, line ends and backslashes within values are written ``\t``, ``\n``, ``\r`` and ``\\``, other characters without a
    shape ``\x00`` or ``\u2028``, so that each tag is one line. Of what is no text, size and SHA-256 are given; `tags_json`
    and the PNG hold it whole.

    Examples
    --------
    >>> import numpy as np
    >>> picture = Picture("a.png", np.zeros((1, 1), np.uint8), tags={"Exif.Image.Make": "NIKON"})
    >>> tags_text(picture)
    'KEY\tVALUE\nExif.Image.Make\tNIKON\n'
    """
    blocks = {
        f"Block.{name}": f"{len(block)} bytes, sha256 {sha256(block).hexdigest()}"
        for name, block in picture.blocks.items()
    }
    rows = [("KEY", "VALUE"), *picture.tags.items(), *blocks.items()]
    return "".join(f"{_escaped(key)}\t{_escaped(value)}\n" for key, value in rows)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(each) or (each if each.isprintable() else _code(each)) for each in text)


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def tags_json(picture: Picture) -> str:
    """Give all that a picture's file tells as a JSON document: the same tags for programs, and every byte behind them.

    Keys: ``width``, ``height``, ``channels``, ``bits``, ``camera``, ``taken``, ``pixel_size`` (``um``, ``source``), ``tags``,
    ``notes``, ``exif`` and ``blocks`` (base64); what is unknown is null.

    Examples
    --------
    >>> import json, numpy as np
    >>> picture = Picture("a.png", np.zeros((1, 2), np.uint16), tags={"Exif.Image.Make": "NIKON"})
    >>> told = json.loads(tags_json(picture))
    >>> told["width"], told["bits"], told["camera"], told["pixel_size"]
    (2, 16, 'NIKON', None)
    """
    height, width = picture.pixels.shape[:2]
    size = picture.pixel_size
    told = {
        "width": width,
        "height": height,
        "channels": 1 if picture.pixels.ndim == 2 else picture.pixels.shape[2],
        "bits": 8 * picture.pixels.dtype.itemsize,
        "camera": camera(picture.tags),
        "taken": date_taken(picture.tags),
        "pixel_size": None if size is None else {"um": size.um, "source": size.source},
        "tags": {name: _encodable(value) for name, value in picture.tags.items()},
        "notes": list(picture.notes),
        "exif": None if picture.exif is None else base64.b64encode(picture.exif).decode("ascii"),
        "blocks": {name: base64.b64encode(block).decode("ascii") for name, block in picture.blocks.items()},
    }
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def camera(tags: Mapping[str, str]) -> str | None:
    """Tell which camera or microscope took a picture; None where its tags do not say.

    Examples
    --------
    >>> camera({"Exif.Image.Make": "NIKON", "Exif.Image.Model": "E4500"})
    'NIKON E4500'
    """
    make, model = (tags.get(f"Exif.Image.{name}", "").strip() for name in ("Make", "Model"))
    # Some makers repeat themselves: "NIKON CORPORATION", "NIKON D70".
    repeats = make and model.lower().startswith(make.split()[0].lower())
    told = model if repeats else f"{make} {model}".strip()
    names = (
        told,
        *(tags.get(name, "") for name in ("MetaMorph._Camera Name_", "Nikon.CameraName", "Microscope.maker")),
    )
    return next((" ".join(name.split()) for name in names if name.strip()), None)


def date_taken(tags: Mapping[str, str]) -> str | None:
    """Tell when a picture was taken, as ISO text in the camera's own time; None where nothing or only zeros are said.

    Examples
    --------
    >>> date_taken({"Exif.Image.DateTime": "2001:04:06 11:51:40"})
    '2001-04-06T11:51:40'
    >>> date_taken({"Exif.Image.DateTime": "0000:00:00 00:00:00"}) is None
    True
    """
    for name in _DATES:
        text = tags.get(name, "").strip()
        match = _DATE.match(text) or _COMPACT_DATE.match(text)
        if match is None:
            continue
        year, month, day = (int(part) for part in match.groups()[:3])
        if year and 1 <= month <= 12 and 1 <= day <= 31:
            date = f"{year:04}-{month:02}-{day:02}"
            time = [part for part in match.groups()[3:] if part]
            return f"{date}T{':'.join(time)}" if time else date
    return None
