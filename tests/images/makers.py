"""Tiny files in the makers' own formats, written by hand after what their open readers expect."""

import struct

import numpy as np


def _wide(text):
    return text.encode("utf-16-le")


def lif(planes, names=(), um=None):
    """A Leica LIF of one picture with channels and z planes.

    Parameters
    ----------
    planes
        uint8 or uint16, shape (channels, z planes, height, width).
    names
        Names of the channels.
    um
        Pixel size; none is written where it is not given.
    """
    channels, depth, height, width = planes.shape
    size = planes.dtype.itemsize
    steps = {"x": size, "y": size * width, "z": size * width * height}
    lengths = {"x": width, "y": height, "z": depth}
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{size * 8}" NameOfMeasuredQuantity="" Min="0" Max="1"'
        f' Unit="" LUTName="{name}" IsLUTInverted="0" BytesInc="{number * steps["z"] * depth}" BitInc="0"/>'
        for number, name in enumerate(names or ["Gray"] * channels)
    )
    dimensions = ""
    for number, axis in enumerate("xyz", 1):
        length = 0 if um is None else (lengths[axis] - 1) * um * 1e-6
        dimensions += (
            f'<DimensionDescription DimID="{number}" NumberOfElements="{lengths[axis]}" Origin="0" Length="{length!r}"'
            f' Unit="{"" if um is None else "m"}" BitInc="0" BytesInc="{steps[axis]}"/>'
        )
    text = (
        '<LMSDataContainerHeader Version="2"><Element Name="a.lif" Visibility="1"><Data><Experiment Path="a.lif"/></Data>'
        '<Memory Size="0" MemoryBlockID="MemBlock_1"/><Children>'
        '<Element Name="Series001" Visibility="1"><Data><Image TextDescription=""><ImageDescription>'
        f"<Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{planes.nbytes}" MemoryBlockID="MemBlock_2"/></Element>'
        "</Children></Element></LMSDataContainerHeader>"
    )
    xml = _wide(text)
    data = struct.pack("<IIBI", 0x70, 1 + 4 + len(xml), 0x2A, len(text)) + xml
    for name, content in (("MemBlock_1", b""), ("MemBlock_2", planes.tobytes())):
        head = struct.pack("<BQBI", 0x2A, len(content), 0x2A, len(name)) + _wide(name)
        data += struct.pack("<II", 0x70, len(head)) + head + content
    return data


class _Level(dict):
    """A level of a LiteVariant document."""


def _variant(name, value):
    """One value of a LiteVariant document, NIS-Elements' binary form of a tree."""
    label = _wide(name + "\0")
    kinds = {bool: (1, "<?"), np.int32: (2, "<i"), int: (3, "<I"), float: (6, "<d")}
    if isinstance(value, _Level):
        items, places, start = b"", [], 2 + len(label) + 12
        for key, each in value.items():
            places.append(start + len(items))
            items += _variant(key, each)
        length = start + len(items)
        table = b"".join(struct.pack("<Q", place) for place in places)
        return struct.pack("<BB", 11, len(name) + 1) + label + struct.pack("<IQ", len(value), length) + items + table
    if isinstance(value, str):
        return struct.pack("<BB", 8, len(name) + 1) + label + _wide(value + "\0")
    kind, form = kinds[type(value)]
    return struct.pack("<BB", kind, len(name) + 1) + label + struct.pack(form, value)


def nd2(channels, um=None, names=()):
    """A Nikon ND2 (version 3) of one field with interleaved channels.

    Parameters
    ----------
    channels
        uint16, shape (channels, height, width).
    um
        Pixel size; without it the file says, as NIS-Elements does, 1 and "not calibrated".
    names
        Names of the channels.
    """
    number, height, width = channels.shape
    attributes = _Level(
        SLxImageAttributes=_Level(
            uiWidth=width,
            uiWidthBytes=width * 2 * number,
            uiHeight=height,
            uiComp=number,
            uiBpcInMemory=16,
            uiBpcSignificant=16,
            uiSequenceCount=1,
            uiTileWidth=width,
            uiTileHeight=height,
            eCompression=2,
            dCompressionParam=0.0,
            ePixelType=1,
            uiVirtualComponents=number,
        )
    )
    planes = _Level(uiCount=number, uiCompCount=number, uiSampleCount=number)
    described, samples = _Level(), _Level()
    for index in range(number):
        described[f"a{index}"] = _Level(
            uiCompCount=1,
            uiSampleIndex=index,
            uiColor=0xFF00,
            sDescription=(names or ["Mono"] * number)[index],
            pFluorescentProbe=_Level(m_sName="a dye"),
        )
        samples[f"a{index}"] = _Level(uiModeFQ=0, dExposureTime=1.0)
    planes |= {"sPlaneNew": described, "sSampleSetting": samples}
    metadata = _Level(
        SLxPictureMetadata=_Level(
            dTimeMSec=0.0,
            dTimeAbsolute=2459000.5,
            dAngle=0.0,
            dCalibration=1.0 if um is None else um,
            bCalibrated=um is not None,
            dAspect=1.0,
            dCalibPrecision=0.0,
            wsObjectiveName="Plan Fluor 10x",
            dObjectiveMag=10.0,
            dObjectiveNA=0.3,
            dRefractIndex1=1.0,
            dZoom=1.0,
            sPicturePlanes=_Level(planes),
        )
    )
    chunks = [(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"))]
    for name, level in (("ImageAttributesLV!", attributes), ("ImageMetadataSeqLV|0!", metadata)):
        [(key, value)] = level.items()
        chunks.append((name.encode(), _variant(key, value)))
    interleaved = np.ascontiguousarray(np.moveaxis(channels, 0, -1))
    chunks.append((b"ImageDataSeq|0!", struct.pack("<d", 0.0) + interleaved.tobytes()))
    chunks.append((b"CustomData|AcqTimesCache!", struct.pack("<d", 0.0)))
    data, entries = b"", b""
    for name, content in chunks:
        entries += name + struct.pack("<QQ", len(data), len(content))
        if name.startswith(b"ImageDataSeq"):
            name = name.ljust(4072, b"\0")  # so that the picture begins at a multiple of 4096
            data = data.ljust(-(-len(data) // 4096) * 4096, b"\0")
            entries = entries[:-16] + struct.pack("<QQ", len(data), len(content))
        data += struct.pack("<IIQ", 0x0ABECEDA, len(name), len(content)) + name + content
    place, last = len(data), b"ND2 CHUNK MAP SIGNATURE 0000001!"
    entries += last + struct.pack("<QQ", place, 0)
    name = b"ND2 FILEMAP SIGNATURE NAME 0001!"
    data += struct.pack("<IIQ", 0x0ABECEDA, len(name), len(entries)) + name + entries
    return data + last + struct.pack("<Q", place)
