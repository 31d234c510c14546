"""Labels in an OME-Zarr slide: the mask in the slide's own `labels` group, on request only."""

from __future__ import annotations

import datetime
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_plimseg.errors import ExportError, disk_problem
from napari_plimseg.files import (
    is_temporary,
    sweep,
    sync_files,
    sync_folder,
    temporary_prefix,
    write_json,
)
from napari_plimseg.fingerprints import is_fingerprint_of
from napari_plimseg.reading import read_json
from napari_plimseg.results.export.writing import without_ignored
from napari_plimseg.results.ngff import label_attributes, labels_attributes, levels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.ngff import Level, NgffVersion


DEFAULT_NAME = "plimseg"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_CHUNK = 1024


@dataclass(frozen=True)
class _Image:
    """The image of an OME-Zarr slide: its folder, version and first dataset's coordinates."""

    folder: Path
    version: NgffVersion
    leading: tuple[str, ...]
    axes: tuple[dict[str, Any], ...]
    scale: tuple[float, float]
    translation: tuple[float, float]

    @property
    def labels(self) -> Path:
        return self.folder / "labels"


def has_labels(slide: str | Path, name: str = DEFAULT_NAME) -> bool:
    """Whether an OME-Zarr slide already holds labels of a name.

    Raises
    ------
    ExportError
        When it is no OME-Zarr slide.
    """
    image = _image_of(Path(slide))
    return name in _listed(image) or (image.labels / name).exists()


def write_labels(
    slide: str | Path,
    mask: NDArray[np.uint8],
    info: MaskInfo,
    *,
    name: str = DEFAULT_NAME,
    replace: bool = False,
) -> Path:
    """Write a mask into the `labels` group of the OME-Zarr slide that it was made of.

    The labels are of the slide's own version, OME-NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3): a pyramid with
    colors and names of the classes, in the coordinates of the slide. They are built under a hidden
    name, renamed, and listed last, so that the slide can be read at every moment. The image and
    other labels are not touched.

    Parameters
    ----------
    slide : str or Path
        The slide's folder.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo
    name : str
        Of the labels: letters, digits and ._- only.
    replace : bool
        Whether labels of that name are replaced.

    Returns
    -------
    Path
        The group of the labels.

    Raises
    ------
    ExportError
        When it is no OME-Zarr slide or another one, it has labels of that name, or it can't be
        written.
    """
    slide = Path(slide)
    if not _NAME.fullmatch(name):
        raise ExportError(
            f"'{name}' can't be the name of labels", remedy="Use letters, digits and ._- only."
        )
    if tuple(mask.shape) != info.shape or mask.dtype != np.uint8:
        raise ExportError(f"the mask has other pixels than its description ({mask.shape})")
    image = _image_of(slide)
    if not is_fingerprint_of(info.slide_fingerprint, slide):
        raise ExportError(
            f"the mask belongs to '{info.slide_name}', or the slide was changed since",
            path=slide,
            remedy="Give the slide that the mask was made of.",
        )
    target = image.labels / name
    exists = name in _listed(image) or target.exists()
    if exists and not replace:
        raise ExportError(
            f"it already has labels '{name}'",
            path=slide,
            remedy="Choose another name, or replace them: --replace, replace=True in Python.",
        )
    building = image.labels / (temporary_prefix("labels") + name)
    try:
        _open_labels(slide, image)
        sweep(image.labels)
        _build(building, np.asarray(without_ignored(mask, info)), info, image)
        if exists:
            # not listed while it is away: a reader must not look for it
            _list(image, without=name)
        try:
            _exchange(building, target)
        finally:
            if target.exists():
                _list(image, adding=name)
    except OSError as error:
        problem, _ = disk_problem(error)
        raise ExportError(
            f"labels can't be written into it: {problem}",
            path=slide,
            remedy="Copy it to a folder that you may write to, or export another format.",
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _exchange(building: Path, target: Path) -> None:
    """Give labels their name; older ones of that name are deleted last, or stay."""
    old = target.with_name(temporary_prefix("removed") + target.name)
    replaces = target.exists()
    if replaces:
        target.rename(old)
    try:
        building.rename(target)
    except OSError:
        if replaces:
            old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _image_of(slide: Path) -> _Image:
    for folder in (slide, slide / "0"):  # bioformats2raw writes the image into "0"
        attributes, version = _attributes(folder)
        multiscales = attributes.get("multiscales")
        if isinstance(multiscales, list) and multiscales:
            try:
                return _described(folder, version, multiscales[0])
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise ExportError("its description is damaged", path=slide) from error
    raise ExportError(
        "it is not an OME-Zarr slide, so it can't hold labels",
        path=slide,
        remedy="Export the mask as a label TIFF instead.",
    )


def _described(folder: Path, version: NgffVersion, item: dict[str, Any]) -> _Image:
    axes = [dict(axis) if isinstance(axis, dict) else {"name": str(axis)} for axis in item["axes"]]
    names = tuple(str(axis["name"]) for axis in axes)
    if names[-2:] != ("y", "x"):
        axes = [axis for axis in axes if axis["name"] in ("y", "x")]
    scale, translation = [1.0, 1.0], [0.0, 0.0]
    at = names.index("y"), names.index("x")
    for owner in (item["datasets"][0], item):
        for transform in owner.get("coordinateTransformations") or []:
            values = transform.get(transform["type"])
            if transform["type"] == "scale":
                factors = [float(values[i]) for i in at]
                scale = [a * b for a, b in zip(scale, factors, strict=True)]
                translation = [a * b for a, b in zip(translation, factors, strict=True)]
            elif transform["type"] == "translation":
                translation = [a + float(values[i]) for a, i in zip(translation, at, strict=True)]
    return _Image(
        folder=folder,
        version=version,
        leading=tuple(str(axis["name"]) for axis in axes[:-2]),
        axes=tuple(axes),
        scale=(scale[0], scale[1]),
        translation=(translation[0], translation[1]),
    )


def _attributes(folder: Path) -> tuple[dict[str, Any], NgffVersion]:
    """Return the OME attributes of a group and its version; none where there is no group."""
    if (folder / "zarr.json").is_file():
        content = read_json(folder / "zarr.json", ExportError)
        found = content.get("attributes") if isinstance(content, dict) else None
        ome = found.get("ome") if isinstance(found, dict) else None
        return (ome if isinstance(ome, dict) else {}), "0.5"
    if (folder / ".zattrs").is_file():
        found = read_json(folder / ".zattrs", ExportError)
        return (found if isinstance(found, dict) else {}), "0.4"
    return {}, "0.4"


def _listed(image: _Image) -> list[str]:
    names = _attributes(image.labels)[0].get("labels")
    return [str(name) for name in names] if isinstance(names, list) else []


def _open_labels(slide: Path, image: _Image) -> None:
    """Create the group of labels, empty, unless it exists; refuse one that can't take more."""
    if not image.labels.resolve().is_relative_to(slide.resolve()):
        raise ExportError(
            "its folder of labels is a link to another place",
            path=slide,
            remedy="Replace the link by a folder, or export another format.",
        )
    image.labels.mkdir(exist_ok=True)
    if image.version == "0.4" and not (image.labels / ".zgroup").exists():
        write_json(image.labels / ".zgroup", {"zarr_format": 2})
    if image.version == "0.5" and not (image.labels / "zarr.json").exists():
        attributes = labels_attributes([], version="0.5")
        content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        write_json(image.labels / "zarr.json", content)
    _group_of_labels(image)


def _group_of_labels(image: _Image) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return the file that lists the labels, its content, and the part with the list.

    Raises
    ------
    ExportError
        When it is damaged, so that a new list would lose the old one.
    """
    path = image.labels / ("zarr.json" if image.version == "0.5" else ".zattrs")
    content: dict[str, Any] = {}
    if image.version == "0.5" or path.exists():
        content = read_json(path, ExportError)
    part: Any = content
    if image.version == "0.5":
        for key, new in (("attributes", {}), ("ome", {"version": "0.5"})):
            part = part.setdefault(key, new) if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(part.get("labels", []), list):
        raise ExportError(
            "its list of labels is damaged",
            path=image.folder,
            remedy="Copy it again from its source, or export another format.",
        )
    return path, content, part


def _list(image: _Image, *, adding: str = "", without: str = "") -> None:
    """Change the list of labels; everything else that its file says stays."""
    path, content, part = _group_of_labels(image)
    names = [name for name in _listed(image) if name not in (adding, without)]
    part["labels"] = [*names, adding] if adding else names
    write_json(path, content)


def _build(folder: Path, mask: NDArray[np.uint8], info: MaskInfo, image: _Image) -> None:
    import zarr

    levels = levels_of(info.shape)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    attributes = label_attributes(
        info, levels, created, name=folder.name, leading=image.leading, version=image.version
    )
    attributes["plimseg"] |= info.notes
    content = attributes["ome"] if image.version == "0.5" else attributes
    _in_coordinates_of(image, content["multiscales"][0], info.downsample, levels)
    zarr_format: Literal[2, 3] = 2 if image.version == "0.4" else 3
    group = zarr.create_group(str(folder), zarr_format=zarr_format)
    lead = (1,) * len(image.leading)
    for level in levels:
        pixels = mask[:: level.factor, :: level.factor]
        options: dict[str, Any] = (
            {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
            if zarr_format == 2
            else {"dimension_names": [*image.leading, "y", "x"]}
        )
        array = group.create_array(
            level.path,
            shape=(*lead, *level.shape),
            chunks=(*lead, *(min(side, _CHUNK) for side in level.shape)),
            dtype="uint8",
            fill_value=0,
            **options,
        )
        array[...] = pixels.reshape(*lead, *level.shape)
    group.attrs.update(attributes)
    sync_files([p for p in folder.rglob("*") if p.is_file() and not is_temporary(p.name)])


def _in_coordinates_of(
    image: _Image, item: dict[str, Any], downsample: float, levels: tuple[Level, ...]
) -> None:
    """Place labels as the slide's file places its image, in its units.

    A person may have given the pixel size, which a viewer that opens the slide does not know.
    """
    item["axes"] = [dict(axis) for axis in image.axes]
    item["name"] = re.sub(r"^\.labels-[0-9a-f]+-\d+-", "", item["name"])
    ones, zeros = [1.0] * len(image.leading), [0.0] * len(image.leading)
    for dataset, level in zip(item["datasets"], levels, strict=True):
        step = downsample * level.factor
        place = [
            start + (step - 1) / 2 * size
            for start, size in zip(image.translation, image.scale, strict=True)
        ]
        dataset["coordinateTransformations"] = [
            {"type": "scale", "scale": [*ones, *(step * size for size in image.scale)]},
            {"type": "translation", "translation": [*zeros, *place]},
        ]
