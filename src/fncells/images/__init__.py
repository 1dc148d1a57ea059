"""Pictures as microscopes and cameras write them: pixels, pixel size and tags in, PNG with all tags out.

Pixels stay as they were recorded: nothing is rotated, scaled or colour-managed. The tags are read by the reader of EXIF and
TIFF directories in `fncells.images.directories`, which keeps every entry as the bytes that it is made of; that is how the
thumbnail directory, the maker's notes and private tags reach the PNG unharmed. The names of tags are those of Exiv2, as in the
published metadata (Clissa et al., Fluorescent Neuronal Cells v2).
"""

from fncells.images.display import display_rgb
from fncells.images.metadata import camera, date_taken, tags_json, tags_text
from fncells.images.picture import MOST_PIXELS, Picture, Pixels, PixelSize
from fncells.images.png import write_png
from fncells.images.reading import picture_shape, read_picture
from fncells.plane import Plane

__all__ = [
    "MOST_PIXELS",
    "Picture",
    "PixelSize",
    "Pixels",
    "Plane",
    "camera",
    "date_taken",
    "display_rgb",
    "picture_shape",
    "read_picture",
    "tags_json",
    "tags_text",
    "write_png",
]
