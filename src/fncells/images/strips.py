"""What is known of a TIFF's strips and tiles before they are decoded."""

import tifffile

from fncells.images.picture import DamagedError

__all__ = ["check_lzw"]


def check_lzw(page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Refuse LZW that does not begin with a clear code (TIFF 6.0, section 13): decoders may fall over it, and we with them.

    Parameters
    ----------
    page
        A picture whose strips or tiles lie within the file.

    Raises
    ------
    DamagedError
        If one of them is packed by LZW and begins with something else.
    """
    keyframe = page.keyframe
    if keyframe is None or keyframe.compression != tifffile.COMPRESSION.LZW:
        return
    file = page.parent.filehandle
    for offset in page.dataoffsets:
        file.seek(offset)
        begun = file.read(2)
        if begun[:1] != b"\x80" or begun[1:] >= b"\x80":
            message = f"LZW that begins with {begun.hex(' ') or 'nothing'} instead of a clear code"
            raise DamagedError(message, "save it anew (in Fiji: File > Save As > Tiff)")
