"""Small and large changes of a picture's bytes, as broken disks, cut transfers and malice make them."""

import random
import struct
import zlib


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a file in one to four ways; a PNG half of the time gets its checksums right again."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice((_flip, _number, _cut, _copy, _drop, _head))(changed, rng)
    mend = changed.startswith(b"\x89PNG") and rng.random() < 0.5
    return mended(bytes(changed)) if mend else bytes(changed)


def _flip(data, rng):
    for _ in range(rng.randint(1, 8)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)


def _number(data, rng):
    """Put a telling number somewhere: sizes, counts and places are what files lie about."""
    if len(data) > 8:
        value = rng.choice(
            (0, 1, 2, 8, 0x7F, 0xFF, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(len(data)))
        )
        place = rng.randrange(min(len(data) - 4, 4096)) if rng.random() < 0.7 else rng.randrange(len(data) - 4)
        data[place : place + 4] = struct.pack(rng.choice("<>") + "I", value)


def _cut(data, rng):
    if rng.random() < 0.3:
        del data[rng.randrange(len(data) + 1) :]


def _copy(data, rng):
    if data:
        start, size, place = rng.randrange(len(data)), rng.randint(1, 64), rng.randrange(len(data))
        data[place:place] = data[start : start + size]


def _drop(data, rng):
    if data:
        start = rng.randrange(len(data))
        del data[start : start + rng.randint(1, 64)]


def _head(data, rng):
    """Change the first bytes after the signature, where sizes and the first directory are told."""
    for _ in range(3):
        if len(data) > 200:
            data[rng.randrange(4, 200)] = rng.randrange(256)


def mended(data: bytes) -> bytes:
    """Give the chunks of a PNG their right checksums, so that a change is seen by more than the check."""
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
        place += 12 + size
    return b"".join(parts)
