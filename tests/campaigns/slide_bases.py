"""Sound slides of every reader, small, made by code; real ones where they are at hand."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import slides as factory
from tests.support.paths import ROOT

SAMPLE = ROOT / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"
Row = tuple[str, Callable[[Path], None] | None, float]


def bases() -> list[Row]:
    """Return (name, what writes it into a folder, share of the mutants).

    What writes it is None where a real slide is not on this computer.
    """
    tiled = {"tile": (64, 64)}
    rows: list[Row] = [
        ("JPEG TIFF", _tiff("jpeg.svs", compression="jpeg", **tiled), 2),
        ("LZW TIFF", _tiff("lzw.tif", compression="lzw", **tiled), 1),
        ("BigTIFF", _tiff("big.tif", bigtiff=True), 1),
        ("JPEG 2000 TIFF", _tiff("j2k.tif", compression="jpeg2000", **tiled), 1),
        ("Zstandard TIFF", _tiff("zstd.tif", compression="zstd", **tiled), 1),
        ("striped TIFF", _strips, 1),
        ("Aperio SVS", _levels(factory.write_svs, "aperio.svs"), 2),
        ("PerkinElmer QPTIFF", _levels(factory.write_qptiff, "brightfield.qptiff"), 1),
        ("OME-TIFF", _levels(factory.write_ome_tiff, "image.ome.tif"), 2),
        ("Philips TIFF", write_philips, 1),
        ("Trestle TIFF", write_trestle, 1),
        ("OME-Zarr 0.4", _levels(factory.write_ome_zarr, "four.zarr"), 2),
        ("OME-Zarr 0.5", _levels(factory.write_ome_zarr, "five.zarr", version="0.5"), 2),
        ("OME-Zarr 0.5 sharded", write_sharded, 1),
        ("OME-Zarr tczyx", _levels(factory.write_ome_zarr, "t.zarr", axes="tczyx"), 1),
        ("MIRAX", write_mirax, 2),
        ("Hamamatsu VMS", write_vms, 1),
        *((f"{kind} picture", _picture(f"picture.{kind}"), 1) for kind in ("png", "jpg", "webp")),
        ("BMP picture", _picture("picture.bmp"), 0.5),
    ]
    shared = Path(os.environ.get("PLIMSEG_SHARED_DATA") or ROOT.parent / "shared" / "data") / "wsi"
    dicom = shared / "CMU-1-Small-Region-dicom"
    return [
        *rows,
        ("real SVS", _copied(SAMPLE, "real.svs"), 1),
        ("real NDPI", _copied(shared / "fluo_DAPI.ndpi", "real.ndpi"), 1),
        ("real DICOM", _copied(_largest(dicom), "real.dcm") if dicom.is_dir() else None, 1),
    ]


def _pyramid(levels: int = 2) -> list[np.ndarray]:
    return factory.pyramid(factory.tissue(260, 300), levels)


def _tiff(name: str, **options: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        factory.write_tiff(folder / name, _pyramid(), **options)

    return write


def _strips(folder: Path) -> None:
    factory.write_tiff(folder / "strips.tif", _pyramid(1), tile=None, rowsperstrip=16)


def _levels(how: Callable[..., Path], name: str, **options: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        how(folder / name, _pyramid(), **options)

    return write


def _picture(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        factory.write_picture(folder / name, _pyramid(1)[0])

    return write


def _copied(source: Path, name: str) -> Callable[[Path], None] | None:
    if not source.is_file():
        return None

    def write(folder: Path) -> None:
        shutil.copyfile(source, folder / name)

    return write


def _largest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


def write_sharded(folder: Path) -> None:
    """Write OME-Zarr 0.5 whose chunks are parts of shards."""
    import zarr

    levels = _pyramid()
    group = zarr.create_group(str(folder / "sharded.zarr"), zarr_format=3)
    datasets = []
    for number, level in enumerate(levels):
        stored = np.ascontiguousarray(level.transpose(2, 0, 1))
        array = group.create_array(
            str(number), shape=stored.shape, dtype=stored.dtype, chunks=(3, 64, 64),
            shards=(3, 128, 128), fill_value=0,
        )  # fmt: skip
        array[...] = stored
        scale = {"type": "scale", "scale": [1.0, 0.5 * 2**number, 0.5 * 2**number]}
        datasets.append({"path": str(number), "coordinateTransformations": [scale]})
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "yx"
    ]
    multiscale = {"axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}


def write_philips(folder: Path) -> None:
    """Write a TIFF as Philips scanners do: its description is XML, its tiles are JPEG."""
    levels = factory.pyramid(factory.tissue(1024, 1024), 2)

    def attribute(name: str, kind: str, value: str) -> str:
        place = 'Group="0x0028" Element="0x0030"'
        return f'<Attribute Name="{name}" {place} PMSVR="{kind}">{value}</Attribute>'

    def objects(name: str, kind: str, bodies: list[str]) -> str:
        made = "".join(f'<DataObject ObjectType="{kind}">{body}</DataObject>' for body in bodies)
        return attribute(name, "IDataObjectArray", f"<Array>{made}</Array>")

    sizes = [f'"{0.000227273 * 2**n}" "{0.000227273 * 2**n}"' for n in range(len(levels))]
    spacings = [attribute("DICOM_PIXEL_SPACING", "IDoubleArray", size) for size in sizes]
    sequence = objects(
        "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", "PixelDataRepresentation", spacings
    )
    scan = attribute("PIM_DP_IMAGE_TYPE", "IString", "WSI") + spacings[0] + sequence
    scans = objects("PIM_DP_SCANNED_IMAGES", "DPScannedImage", [scan])
    description = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        f"{scans}</DataObject>"
    )
    factory.write_tiff(
        folder / "philips.tiff", levels, compression="jpeg", tile=(512, 512),
        software="Philips DP v1.0", description=description,
    )  # fmt: skip


def write_trestle(folder: Path) -> None:
    """Write a TIFF as Trestle scanners do."""
    description = (
        "Background Color=E6E6E6;White Balance=60;Objective Power=20;JPEG Quality=65;"
        "OverlapsXY= 0 0 0 0"
    )
    factory.write_tiff(
        folder / "trestle.tif", _pyramid(), compression="jpeg", tile=(64, 64),
        software="MedScan 1.0", description=description, resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )  # fmt: skip


def write_mirax(folder: Path) -> None:
    """Write a MIRAX slide of two by two JPEG tiles and one level.

    The index holds, for each level, a list of pages of records (image, offset, length, file).
    """
    data = folder / "slide"
    data.mkdir()
    jpegs = _jpegs(factory.tissue(128, 128), 64)
    identity = "0123456789abcdef0123456789ABCDEF"
    body = bytearray(b"01.02" + identity.encode())
    records = []
    for (row, column), jpeg in jpegs.items():
        records.append((row * 2 + column, len(body), len(jpeg), 0))
        body += jpeg
    (data / "Data0000.dat").write_bytes(body)
    head = b"01.02" + identity.encode()
    start = len(head) + 8  # two pointers: to the lists of levels, and of other data
    table = struct.pack("<i", start + 4)  # where the list of the only level is
    level = struct.pack("<2i", 0, start + 12)  # an empty page, then the first page
    page = struct.pack("<2i", len(records), 0)
    page += b"".join(struct.pack("<4i", *record) for record in records)
    nowhere = start + len(table + level + page)
    index = head + struct.pack("<2i", start, nowhere) + table + level + page
    (data / "Index.dat").write_bytes(index + struct.pack("<i", 0))
    (data / "Slidedat.ini").write_text(
        f"""[GENERAL]
SLIDE_VERSION = 01.02
SLIDE_ID = {identity}
IMAGENUMBER_X = 2
IMAGENUMBER_Y = 2
OBJECTIVE_MAGNIFICATION = 20
CAMERAIMAGEDIVISIONSPERSIDE = 1

[HIERARCHICAL]
HIER_COUNT = 1
NONHIER_COUNT = 0
INDEXFILE = Index.dat
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 1
HIER_0_VAL_0 = ZoomLevel_0
HIER_0_VAL_0_SECTION = LAYER_0_LEVEL_0_SECTION

[DATAFILE]
FILE_COUNT = 1
FILE_0 = Data0000.dat

[LAYER_0_LEVEL_0_SECTION]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = 0.5
MICROMETER_PER_PIXEL_Y = 0.5
IMAGE_FORMAT = JPEG
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = 64
DIGITIZER_HEIGHT = 64
IMAGE_CONCAT_FACTOR = 0
""",
        "utf-8",
    )
    factory.write_picture(folder / "slide.mrxs", factory.tissue(32, 32), format="JPEG")


def write_vms(folder: Path) -> None:
    """Write a Hamamatsu VMS: a text file, a JPEG with restart markers, and a map."""
    from PIL import Image

    pixels = factory.tissue(256, 256)
    data = folder / "slide.data"
    data.mkdir()
    for name, side in (("image.jpg", 1), ("map.jpg", 4)):
        Image.fromarray(pixels[::side, ::side]).save(
            data / name, quality=90, restart_marker_blocks=4, subsampling=0
        )
    (folder / "slide.vms").write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\n"
        "ImageFile=slide.data/image.jpg\nMapFile=slide.data/map.jpg\nSourceLens=20\n"
        "PhysicalWidth=116736\nPhysicalHeight=116736\n"
    )


def _jpegs(pixels: np.ndarray, side: int) -> dict[tuple[int, int], bytes]:
    import io

    from PIL import Image

    found = {}
    for row in range(pixels.shape[0] // side):
        for column in range(pixels.shape[1] // side):
            tile = pixels[row * side :, column * side :][:side, :side]
            out = io.BytesIO()
            Image.fromarray(tile).save(out, "JPEG", quality=90)
            found[row, column] = out.getvalue()
    return found
