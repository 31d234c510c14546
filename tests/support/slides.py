"""Small slides of every kind, made by code, with pixels that tell where they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

APERIO = "Aperio Image Library v11.2.1\r\n{w}x{h} (256x256) J2K/KDU Q=70|AppMag = 20|MPP = {mpp}"


def tissue(height: int = 700, width: int = 900, seed: int = 0) -> np.ndarray:
    """Return (h, w, 3) pixels with noise, so that no two windows are alike."""
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    waves = 90 * np.stack([np.sin(y / 31), np.cos(x / 47), np.sin((x + y) / 83)], axis=-1)
    return np.clip(130 + waves + noise, 0, 255).astype(np.uint8)


def pyramid(finest: np.ndarray, levels: int = 3) -> list[np.ndarray]:
    """Return levels that each drop every second pixel and the last odd one."""
    out = [finest]
    for _ in range(levels - 1):
        before = out[-1]
        height, width = before.shape[0] // 2, before.shape[1] // 2
        out.append(np.ascontiguousarray(before[: 2 * height : 2, : 2 * width : 2]))
    return out


def write_tiff(path: Path, levels: Sequence[np.ndarray], **options: Any) -> Path:
    """Write levels as pages of a tiled TIFF, reduced ones marked so."""
    big = options.pop("bigtiff", False)
    options = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"} | options
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for i, level in enumerate(levels):
            writer.write(level, subfiletype=int(i > 0), metadata=None, contiguous=False, **options)
    return path


def write_svs(path: Path, levels: Sequence[np.ndarray], mpp: str = "0.499") -> Path:
    """Write what an Aperio scanner writes: level, stripped thumbnail, levels, label."""
    with tifffile.TiffWriter(path) as writer:
        for i, level in enumerate(levels):
            height, width = level.shape[:2]
            writer.write(
                level, photometric="rgb", tile=(256, 256), compression="zlib", metadata=None,
                subfiletype=0, contiguous=False,
                description=APERIO.format(w=width, h=height, mpp=mpp),
            )  # fmt: skip
            if i == 0:
                thumbnail = np.ascontiguousarray(level[::5, ::5])
                writer.write(thumbnail, photometric="rgb", rowsperstrip=16, metadata=None,
                             description="Aperio Image Library v11.2.1\r\nthumbnail",
                             compression="zlib", contiguous=False)  # fmt: skip
        label = np.zeros((60, 50, 3), np.uint8)
        writer.write(label, photometric="rgb", rowsperstrip=8, metadata=None, subfiletype=1,
                     compression="lzw", contiguous=False,
                     description="Aperio Image Library v11.2.1\r\nlabel 50x60")  # fmt: skip
    return path


def write_qptiff(path: Path, levels: Sequence[np.ndarray]) -> Path:
    """Write a brightfield scan as PerkinElmer scanners do: level, thumbnail, levels, overview."""
    with tifffile.TiffWriter(path) as writer:

        def write(pixels: np.ndarray, kind: str, **options: Any) -> None:
            description = (
                '<?xml version="1.0" encoding="utf-16"?>\n<PerkinElmer-QPI-ImageDescription>'
                f"<ImageType>{kind}</ImageType></PerkinElmer-QPI-ImageDescription>"
            )
            writer.write(
                pixels, photometric="rgb", compression="zlib", metadata=None, contiguous=False,
                software="PerkinElmer-QPI", description=description,
                resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **options,
            )  # fmt: skip

        write(levels[0], "FullResolution", tile=(128, 128))
        write(np.ascontiguousarray(levels[0][::5, ::5]), "Thumbnail", rowsperstrip=16)
        for level in levels[1:]:
            write(level, "ReducedResolution", tile=(128, 128), subfiletype=1)
        write(np.zeros((40, 30, 3), np.uint8), "Overview", rowsperstrip=16)
    return path


def write_ome_tiff(path: Path, levels: Sequence[np.ndarray], **metadata: Any) -> Path:
    """Write an OME-TIFF with its reduced levels as SubIFDs."""
    axes = metadata.pop("axes", "YXS")
    photometric = "rgb" if axes == "YXS" else "minisblack"
    described = {
        "axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm",
    } | metadata  # fmt: skip
    options = {"photometric": photometric, "tile": (128, 128), "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(levels[0], subifds=len(levels) - 1, metadata=described, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, metadata=None, **options)
    return path


def write_ome_zarr(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    version: str = "0.4",
    axes: str = "cyx",
    mpp: float = 0.5,
    unit: str = "micrometer",
    labels: Sequence[str] = (),
    chunk: int = 128,
) -> Path:
    """Write an OME-Zarr 0.4 or 0.5 image folder."""
    import zarr

    zarr_format = 2 if version == "0.4" else 3
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    datasets = []
    for i, level in enumerate(levels):
        stored = level.transpose([("yxc".index(a)) for a in axes if a in "yxc"])
        for at, axis in enumerate(axes):
            if axis in "tz":
                stored = np.expand_dims(stored, at)
        chunks = tuple(chunk if a in "yx" else n for a, n in zip(axes, stored.shape, strict=True))
        array = group.create_array(
            str(i), shape=stored.shape, dtype=stored.dtype, chunks=chunks, fill_value=0
        )
        array[...] = stored
        scale = [mpp * 2**i if a in "yx" else 1.0 for a in axes]
        datasets.append(
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": unit} if a in "yxz" else {})
        for a in axes
    ]
    multiscale: dict[str, Any] = {"axes": described, "datasets": datasets}
    attributes: dict[str, Any] = {"multiscales": [multiscale]}
    if labels:
        attributes["omero"] = {"channels": [{"label": label} for label in labels]}
    if version == "0.4":
        multiscale["version"] = "0.4"
        group.attrs.update(attributes)
    else:
        group.attrs["ome"] = {"version": version} | attributes
    return path


def zarr_attributes(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file of a 0.4 group's attributes and its content."""
    file = path / ".zattrs"
    return file, json.loads(file.read_text("utf-8"))


@dataclass(frozen=True)
class Kind:
    """One way of writing the same levels without loss."""

    name: str
    write: Callable[[Path, Sequence[np.ndarray]], Path]
    format_name: str
    mpp: float | None
    levels: int = 3


LOSSLESS = (
    Kind("tiled.tif", write_tiff, "TIFF", None),
    Kind("big.tif", lambda p, ls: write_tiff(p, ls, bigtiff=True), "BigTIFF", None),
    Kind("lzw.tif", lambda p, ls: write_tiff(p, ls, compression="lzw", predictor=True),
         "TIFF", None),
    Kind("zstd.tif", lambda p, ls: write_tiff(p, ls, compression="zstd"), "TIFF", None),
    Kind("raw.tif", lambda p, ls: write_tiff(p, ls, compression=None), "TIFF", None),
    Kind("wide.tif", lambda p, ls: write_tiff(p, ls, tile=(64, 256)), "TIFF", None),
    Kind("strips.tif", lambda p, ls: write_tiff(p, ls[:1], tile=None, rowsperstrip=24),
         "TIFF", None, 1),
    Kind("one strip.tif", lambda p, ls: write_tiff(p, ls[:1], tile=None, rowsperstrip=9999),
         "TIFF", None, 1),
    Kind("planar.tif", lambda p, ls: write_tiff(p, [np.moveaxis(v, -1, 0) for v in ls],
                                                planarconfig="separate"), "TIFF", None),
    Kind("cm.tif", lambda p, ls: write_tiff(p, ls[:1], resolution=(40_000, 40_000),
                                            resolutionunit="CENTIMETER"), "TIFF", 0.25, 1),
    Kind("aperio.svs", write_svs, "Aperio SVS", 0.499),
    Kind("brightfield.qptiff", write_qptiff, "PerkinElmer QPTIFF", 0.5),
    Kind("image.ome.tif", write_ome_tiff, "OME-TIFF", 0.25),
    Kind("04.zarr", write_ome_zarr, "OME-Zarr 0.4", 0.5),
    Kind("05.zarr", lambda p, ls: write_ome_zarr(p, ls, version="0.5"), "OME-Zarr 0.5", 0.5),
    Kind("yxc.zarr", lambda p, ls: write_ome_zarr(p, ls, axes="yxc"), "OME-Zarr 0.4", 0.5),
    Kind("tczyx.zarr", lambda p, ls: write_ome_zarr(p, ls, axes="tczyx", version="0.5"),
         "OME-Zarr 0.5", 0.5),
    Kind("picture.png", lambda p, ls: write_picture(p, ls[0]), "PNG picture", None, 1),
    Kind("picture.webp", lambda p, ls: write_picture(p, ls[0], lossless=True),
         "WebP picture", None, 1),
)  # fmt: skip


def write_picture(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    """Write a picture with Pillow."""
    from PIL import Image

    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, dpi=(300, 300), **options)
    return path
