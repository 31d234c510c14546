"""The rules of OME-NGFF 0.5 that apply to our images and labels, checked on disk.

Written from the specification (https://ngff.openmicroscopy.org/0.5/), without our writer and
without Zarr's reader, so that an error in one of them shows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def check_image(folder: Path) -> dict[str, Any]:
    """Assert that a folder is an image of the standard; return its multiscale."""
    ome = _ome(folder)
    (item,) = ome["multiscales"]
    assert "version" not in item  # moved to the top in 0.5
    assert isinstance(item["name"], str)
    axes = item["axes"]
    names, kinds = [axis["name"] for axis in axes], [axis["type"] for axis in axes]
    assert 2 <= len(axes) <= 5
    assert len(set(names)) == len(names)
    assert set(kinds) <= {"time", "channel", "space"}
    assert 2 <= kinds.count("space") <= 3
    assert names[-2:] == ["y", "x"]
    assert kinds == sorted(kinds, key=["time", "channel", "space"].index)
    assert {axis.get("unit", "micrometer") for axis in axes} == {"micrometer"}
    shapes = []
    for dataset in item["datasets"]:
        scale, translation = dataset["coordinateTransformations"]
        assert set(dataset) == {"path", "coordinateTransformations"}
        assert (scale["type"], translation["type"]) == ("scale", "translation")
        assert len(scale["scale"]) == len(translation["translation"]) == len(axes)
        assert all(isinstance(v, float) and v > 0 for v in scale["scale"])
        array = _read(folder / dataset["path"])
        assert array["node_type"] == "array"
        assert array["dimension_names"] == names
        assert len(array["shape"]) == len(axes)
        shapes.append(array["shape"])
        assert (folder / dataset["path"]).resolve().is_relative_to(folder.resolve())
    assert shapes == sorted(shapes, reverse=True)
    for channel in ome.get("omero", {}).get("channels", ()):
        assert {"color", "window"} <= set(channel)
        assert len(bytes.fromhex(channel["color"])) == 3
        assert set(channel["window"]) == {"min", "max", "start", "end"}
    return dict(item)


def check_labels(folder: Path) -> list[str]:
    """Assert that `labels` in an image's folder follows the standard; return the names."""
    names = _ome(folder / "labels")["labels"]
    for name in names:
        label_folder = folder / "labels" / name
        item = check_image(label_folder)
        label = _ome(label_folder)["image-label"]
        assert "version" not in label
        for key in ("colors", "properties"):
            values = [row["label-value"] for row in label.get(key, ())]
            assert all(type(value) is int for value in values)
            assert len(set(values)) == len(values)
        for color in label["colors"]:
            assert len(color["rgba"]) == 4
            assert all(type(v) is int and 0 <= v <= 255 for v in color["rgba"])
        assert (label_folder / label["source"]["image"]).resolve() == folder.resolve()
        for dataset in item["datasets"]:
            assert "int" in _read(label_folder / dataset["path"])["data_type"]
    return list(names)


def _ome(folder: Path) -> dict[str, Any]:
    content = _read(folder)
    assert content["node_type"] == "group"
    ome = content["attributes"]["ome"]
    assert ome["version"] == "0.5"
    return dict(ome)


def _read(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "zarr.json").read_text("utf-8"))
    assert content["zarr_format"] == 3
    return dict(content)
