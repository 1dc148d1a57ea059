"""How readings of broken files may end: in a value that can be written and read again, or in one line."""

import shutil
import time

from fncells.errors import InputError

LONGEST = 5.0  # seconds


def ending(codec, source, target):
    """Read a file or folder, write what was read and read it again; say how that ended."""
    start = time.process_time()
    found = "value"
    try:
        images = list(codec.read(source))
        shutil.rmtree(target, ignore_errors=True)
        codec.write(target, images)
        assert len(list(codec.read(target))) == len(images)
    except InputError:
        found = "refusal"
    assert time.process_time() - start < LONGEST
    return found


def endings(codec, source, target, texts):
    """Put each text into the source file and count how the readings end."""
    counts = {"value": 0, "refusal": 0}
    for text in texts:
        source.write_bytes(text)
        counts[ending(codec, source, target)] += 1
    return counts
