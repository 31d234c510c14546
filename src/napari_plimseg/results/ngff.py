"""A mask as OME-Zarr: the metadata that the standard asks for, for stores and for slides.

The metadata follows OME-NGFF 0.5 (Zarr 3), https://ngff.openmicroscopy.org/0.5/, or 0.4 (Zarr 2),
which slides written some years ago have. Nothing here touches a disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_plimseg.results.mask_info import SOFTWARE, MaskInfo
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.tissue import TissueClasses

NgffVersion = Literal["0.4", "0.5"]
VERSION: NgffVersion = "0.5"
FILL = NOT_COMPUTED
"""What a chunk that is not there reads as."""
CLASSES, CONFIDENCE, PROBABILITIES = "classes", "confidence", "probabilities"
SMALLEST_LEVEL = 512
"""Levels are added until both sides are at most this."""
LEVEL_CHUNK = 1024
"""Side of the chunks of coarser levels: few files, and little memory to make one."""


@dataclass(frozen=True)
class Level:
    """One resolution of a mask; level n holds every 2^n-th pixel of the mask.

    Parameters
    ----------
    path : str
        Name of the array in its group.
    shape : tuple of int
        Pixels (y, x).
    factor : int
        Pixels of the mask per pixel and side.
    """

    path: str
    shape: tuple[int, int]
    factor: int


def levels_of(shape: tuple[int, int], *, smallest: int = SMALLEST_LEVEL) -> tuple[Level, ...]:
    """Return the resolutions of a mask of `shape` (y, x), the full one first.

    Labels can't be averaged. A coarser level takes the first pixel of each block of 2 x 2, so that
    level n of a mask is `mask[:: 2**n, :: 2**n]`.
    """
    levels = [Level("0", shape, 1)]
    while max(levels[-1].shape) > smallest:
        height, width = levels[-1].shape
        levels.append(
            Level(str(len(levels)), (-(-height // 2), -(-width // 2)), 2 * levels[-1].factor)
        )
    return tuple(levels)


def multiscale(
    info: MaskInfo,
    levels: Sequence[Level],
    *,
    name: str,
    prefix: str = "",
    leading: Sequence[str] = (),
    version: NgffVersion = VERSION,
) -> dict[str, Any]:
    """Return an item of `multiscales`: axes with units, and the place of each level.

    The origin is the center of the slide's first level-0 pixel. A pixel of a coarser level covers a
    block, and its translation is the center of that block.

    Parameters
    ----------
    info : MaskInfo
        Gives the size of a pixel: micrometers, or level-0 pixels when unknown.
    levels : sequence of Level
        The finest first.
    name : str
        Name of the image.
    prefix : str
        In front of each level's path, such as "labels/confidence/".
    leading : sequence of {"t", "c", "z"}
        Axes before y and x.
    version : {"0.4", "0.5"}
    """
    kinds = {"t": "time", "c": "channel", "z": "space"}
    space: dict[str, str] = {"type": "space"}
    if info.mpp is not None:
        space["unit"] = "micrometer"
    pixel = info.mpp or 1.0
    datasets = []
    for level in levels:
        step = info.downsample * level.factor
        datasets.append(
            {
                "path": prefix + level.path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*(1.0 for _ in leading), *[step * pixel] * 2]},
                    {
                        "type": "translation",
                        "translation": [*(0.0 for _ in leading), *[(step - 1) / 2 * pixel] * 2],
                    },
                ],
            }
        )
    item: dict[str, Any] = {
        "name": name,
        "axes": [
            *({"name": axis, "type": kinds[axis]} for axis in leading),
            *({"name": axis} | space for axis in "yx"),
        ],
        "datasets": datasets,
        "type": "nearest",
        "metadata": {
            "description": "Each coarser level holds every second pixel per axis.",
            "method": "array[..., ::2, ::2]",
        },
    }
    return item if version == "0.5" else {"version": version} | item


def class_label(
    classes: TissueClasses, *, image: str | None = "../../", version: NgffVersion = VERSION
) -> dict[str, Any]:
    """Return `image-label` of the classes: color and name of each mask id.

    Parameters
    ----------
    classes : TissueClasses
    image : str or None
        Path from the label image to the image that it belongs to.
    version : {"0.4", "0.5"}
    """
    rows: list[tuple[int, tuple[int, ...], dict[str, Any]]] = [
        (NOT_COMPUTED, (0, 0, 0, 0), {"class": "not computed"})
    ]
    for mask_id, tissue_class in enumerate(classes, start=1):
        if tissue_class.ignored:
            continue
        about: dict[str, Any] = {"class": tissue_class.name}
        if tissue_class.prompts:
            about["prompts"] = list(tissue_class.prompts)
        if mask_id == classes.background_id:
            about["background"] = True
        rows.append((mask_id, (*tissue_class.color, 255), about))
    rows.append((UNREADABLE, (255, 0, 255, 255), {"class": "unreadable"}))
    found: dict[str, Any] = {
        "colors": [{"label-value": i, "rgba": list(rgba)} for i, rgba, _ in rows],
        "properties": [{"label-value": i} | about for i, _, about in rows],
    }
    if image is not None:
        found["source"] = {"image": image}
    return found if version == "0.5" else {"version": version} | found


def gray_label(*, image: str | None = "../../", version: NgffVersion = VERSION) -> dict[str, Any]:
    """Return `image-label` of values of 0 to 255, as a gray scale; see `class_label`."""
    found: dict[str, Any] = {
        "colors": [{"label-value": i, "rgba": [i, i, i, 255]} for i in range(256)]
    }
    if image is not None:
        found["source"] = {"image": image}
    return found if version == "0.5" else {"version": version} | found


def omero(names: Sequence[str], colors: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Return `omero`: names and colors of channels whose values are 0 to 255."""
    return {
        "channels": [
            {
                "label": name,
                "color": "{:02X}{:02X}{:02X}".format(*color),
                "active": number == 0,
                "window": {"min": 0, "max": 255, "start": 0, "end": 255},
            }
            for number, (name, color) in enumerate(zip(names, colors, strict=True))
        ],
        "rdefs": {"model": "color"},
    }


def provenance(info: MaskInfo, created: str) -> dict[str, Any]:
    """Return what made the mask: a list of allowed fields, so that nothing private gets out."""
    return {
        "software": SOFTWARE,
        "created": created,
        "model_name": info.model_name,
        "model_identity": info.model_identity,
        "slide_name": info.slide_name,
        "slide_fingerprint": info.slide_fingerprint,
        "slide_shape": list(info.slide_shape),
        "mpp": info.mpp,
        "downsample": info.downsample,
        "classes": list(info.classes.names),
    }


def label_attributes(
    info: MaskInfo,
    levels: Sequence[Level],
    created: str,
    *,
    name: str = CLASSES,
    image: str | None = "../../",
    leading: Sequence[str] = (),
    version: NgffVersion = VERSION,
) -> dict[str, Any]:
    """Return the attributes of a label image's group.

    Parameters
    ----------
    info : MaskInfo
    levels : sequence of Level
        The arrays that exist.
    created : str
        ISO date and time.
    name : str
        "confidence" gets a gray scale, everything else the colors and names of the classes.
    image, leading, version
        As of `class_label` and `multiscale`.
    """
    label = (
        gray_label(image=image, version=version)
        if name == CONFIDENCE
        else class_label(info.classes, image=image, version=version)
    )
    content = {
        "multiscales": [multiscale(info, levels, name=name, leading=leading, version=version)],
        "image-label": label,
    }
    return {**_versioned(content, version), "plimseg": provenance(info, created)}


def labels_attributes(names: Sequence[str], *, version: NgffVersion = VERSION) -> dict[str, Any]:
    """Return the attributes of the group `labels`: the label images in it."""
    content = {"labels": list(names)}
    return _versioned(content, version) if version == "0.5" else content


def image_attributes(
    info: MaskInfo,
    levels: Sequence[Level],
    created: str,
    *,
    name: str,
    prefix: str = "",
    leading: Sequence[str] = (),
    channels: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the attributes of an image's group, such as that of the confidence.

    Parameters
    ----------
    info, levels, created, name, prefix, leading
        As of `multiscale` and `label_attributes`.
    channels : dict, optional
        What `omero` returned.
    """
    content: dict[str, Any] = {
        "multiscales": [multiscale(info, levels, name=name, prefix=prefix, leading=leading)]
    }
    if channels is not None:
        content["omero"] = channels
    return {**_versioned(content, VERSION), "plimseg": provenance(info, created)}


def store_metadata(
    info: MaskInfo, tile_shape: tuple[int, int], created: str, *, probabilities: bool, levels: bool
) -> dict[str, bytes]:
    """Return each `zarr.json` of a mask store by its path.

    The store's root is an image, so that readers find the labels from there. It has no pixels of
    its own: its levels are those of the confidence.

    Parameters
    ----------
    info : MaskInfo
    tile_shape : tuple of int
        Mask pixels (y, x) of a chunk of level 0.
    created : str
        ISO date and time.
    probabilities : bool
        Whether the store keeps the probability of each class.
    levels : bool
        Whether coarser levels are listed. Their arrays are described in any case.
    """
    every = levels_of(info.shape)
    listed = every if levels else every[:1]
    names = (CLASSES, CONFIDENCE)
    image = image_attributes(info, listed, created, name=CONFIDENCE, prefix=f"labels/{CONFIDENCE}/")
    files = {"": group_json(image), "labels": group_json(labels_attributes(names))}
    for name in names:
        folder = f"labels/{name}"
        files[folder] = group_json(label_attributes(info, listed, created, name=name))
        for level in every:
            chunks = tile_shape if level.factor == 1 else (LEVEL_CHUNK, LEVEL_CHUNK)
            files[f"{folder}/{level.path}"] = array_json(level.shape, chunks, "yx")
    if probabilities:
        count = len(info.classes)
        image = image_attributes(
            info,
            every[:1],
            created,
            name=PROBABILITIES,
            leading="c",
            channels=omero(info.classes.names, info.classes.colors),
        )
        files[PROBABILITIES] = group_json(image)
        files[f"{PROBABILITIES}/0"] = array_json((count, *info.shape), (count, *tile_shape), "cyx")
    return {f"{folder}/zarr.json".lstrip("/"): content for folder, content in files.items()}


def _versioned(content: dict[str, Any], version: NgffVersion) -> dict[str, Any]:
    return {"ome": {"version": version, **content}} if version == "0.5" else content


def group_json(attributes: dict[str, Any]) -> bytes:
    """Return the `zarr.json` of a Zarr 3 group."""
    return _json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def array_json(
    shape: Sequence[int], chunks: Sequence[int], axes: Sequence[str], *, fill: int = FILL
) -> bytes:
    """Return the `zarr.json` of a Zarr 3 array of uint8.

    Its chunks are Zstandard frames, each followed by the CRC-32C of the frame: that finds each
    flipped bit, while a checksum inside of the frame leaves some bits of its header unprotected.

    Parameters
    ----------
    shape, chunks : sequence of int
    axes : sequence of str
        Name of each dimension.
    fill : int
        Value of chunks that are not written.
    """
    return _json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill,
            "codecs": [
                {"name": "bytes"},
                {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
                {"name": "crc32c"},
            ],
            "attributes": {},
            "dimension_names": list(axes),
            "storage_transformers": [],
        }
    )


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
