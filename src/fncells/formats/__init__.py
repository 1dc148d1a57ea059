"""Annotation formats: one value in the middle, one file a format around it.

A format is one module with a :class:`Codec`, entered in :data:`CODECS`; codecs do not know each other. What several share
lies beside them: ``pictures`` (the folder of the pictures), ``folders`` (safe places for output files), ``rasters`` (mask and
label pictures as files), ``documents`` (strict JSON), ``regions`` (VIA's shapes) and ``rings`` (holes and parts).
"""

from fncells.formats.codec import Codec
from fncells.formats.conversion import ConversionReport, convert
from fncells.formats.registry import (
    CODECS,
    codec_named,
    find_annotations,
    read_annotations,
    recognise,
    write_annotations,
)

__all__ = [
    "CODECS",
    "Codec",
    "ConversionReport",
    "codec_named",
    "convert",
    "find_annotations",
    "read_annotations",
    "recognise",
    "write_annotations",
]
