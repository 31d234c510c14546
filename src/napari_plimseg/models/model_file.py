"""The format of model files: `.safetensors` with a description in the header.

The header holds JSON under the key `plimseg`, and a checksum of the whole file (`tensor_file`).
Nothing is ever unpickled, and the whole file is checked before anything is built from it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, ModelError
from napari_plimseg.files import atomic_write
from napari_plimseg.models.class_gate import ClassGate
from napari_plimseg.models.surroundings import surroundings_of
from napari_plimseg.models.tensor_file import (
    SEAL_KEY,
    TensorTable,
    read_table,
    read_tensors,
    write_sealed,
)
from napari_plimseg.reading import parse_json
from napari_plimseg.tissue import TissueClasses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_plimseg.models.tensor_file import TensorEntry

FORMAT_VERSION = 2
"""2: with a checksum, `encoder_sha256`, and an encoder's name without its place. 1: without."""
HEADER_KEY = "plimseg"
KINDS = ("prototypes", "segmentation", "hints", "cams")
"""`prototypes`: a tensor `prototypes` (C, D) of unit vectors in the space of the encoder.
`segmentation`: tensors `head.*` of one of `seg_model.DECODERS`, where its weights are inside
`backbone.*`, and where the training tissue is described `familiarity.*`.
`hints`: a promptable model, with tensors `decoder.*` of a `DualDecoder` and `encoder.*` of its
`PatchEncoder`, except those of the encoder's source; its one class means "the object".
`cams`: the CAM network of stage 1, with tensors `head.*` of a `CamNet` and, where its weights are
inside, `backbone.*`; it shows CAMs and makes no masks.
"""
LARGEST_WIDTH, LARGEST_WINDOW = 1024, 4096
_SEGMENTATION_ENTRIES = {
    "backbone": dict, "backbone_inside": bool, "width": int, "window": int, "step": int,
}  # fmt: skip
_HINT_ENTRIES = {
    "patch_encoder": dict, "decoder": dict, "resolutions": list, "frozen_inside": bool,
}  # fmt: skip
_CAM_ENTRIES = {
    "backbone": dict, "backbone_inside": bool, "width": int, "window": int, "step": int,
    "stride": int, "blocks": int, "learnt": int, "matcher": str,
}  # fmt: skip
_REMEDY = "Export the model again, or choose another file."
_TEXTS = {
    "kind": 40, "encoder": 4096, "encoder_identity": 256, "title": 500, "license": 10_000,
    "training_sha256": 128, "encoder_sha256": 64,
}  # fmt: skip
"""The longest text of each entry; before version 2 an encoder's name had a path."""
_LONGEST_NAME, _LONGEST_PROMPT, _MOST_ENTRIES = 1000, 10_000, 1000
_MOST_BLOCKS = 64
_LARGEST_PATCH, _LARGEST_VECTOR, _LARGEST_NUMBER = 65_536, 65_536, 1e9


@dataclass(frozen=True)
class ModelHeader:
    """The description in a model file.

    Parameters
    ----------
    kind : str
        One of `KINDS`; determines the tensors.
    classes : TissueClasses
    encoder : str
        Name of the encoder, for `load_encoder`; since version 2 without a place.
    encoder_identity : str
        Digest of that encoder; one with other weights is refused.
    mpp : float
        Micrometers per pixel of its input.
    patch_size : int
        Side of the training images, in pixels.
    mean, std : tuple of float
        Normalization of RGB in [0, 1].
    title, license : str
    scores : dict
        Measured, by name.
    training_sha256 : str
        Digest of the list of training images; "" when there was no training.
    versions : dict
        Of the packages it was made with.
    network : dict
        Of a segmentation model: `backbone` (its spec), `backbone_inside` (whether its weights
        are in the file), `width` of the head, `window` and `step` in pixels, and optionally
        `gate` (`ClassGate`), `surroundings` (`Surroundings`) and `familiarity` (`Familiarity`). Of
        a promptable model: `patch_encoder` and `decoder` (their specs), `resolutions`, and
        `frozen_inside` (whether the pretrained weights are in the file). Of CAMs: as of a
        segmentation model, with their `stride`, the number of last `blocks` that they use, the
        number of `learnt` prototypes per class, and the name of the `matcher` whose texts the
        prototypes are.
    encoder_sha256 : str
        SHA-256 of the encoder's weight file; "" when it is shipped or its weights are inside.
    format_version : int
        Of the file that it was read from; files are written in `FORMAT_VERSION`.
    """

    kind: str
    classes: TissueClasses
    encoder: str
    encoder_identity: str
    mpp: float
    patch_size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    title: str = ""
    license: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    training_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    encoder_sha256: str = ""
    format_version: int = field(default=FORMAT_VERSION, compare=False)

    def __post_init__(self) -> None:
        check_header(self)

    def to_json(self) -> str:
        """Return the header as it is stored in the file."""
        content = {**asdict(self), "classes": self.classes.to_dict()}
        content["format_version"] = FORMAT_VERSION
        if not self.network:
            del content["network"]
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelHeader:
        """Read a header.

        Raises
        ------
        ModelError
            When its version is unknown, or an entry is missing, unknown, of another type or
            impossible.
        """
        content = parse_json(text, ModelError, what="its header", remedy=_REMEDY, finite=False)
        version = content.get("format_version")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise ModelError(
                f"its format is version {str(version)[:40]}, and this program reads "
                f"{FORMAT_VERSION}",
                remedy="Update napari-plimseg.",
            )
        wanted = set(_OPTIONAL) | {"kind", "classes", "encoder", "encoder_identity", "mpp",
                                   "patch_size", "mean", "std", "format_version"}  # fmt: skip
        missing, unknown = wanted - set(content) - _OPTIONAL, set(content) - wanted
        for name in sorted(missing | unknown):
            raise _wrong(name, "is missing" if name in missing else "is not known")
        try:
            content["classes"] = TissueClasses.from_dict(content["classes"])
        except ConfigError as error:
            raise _wrong("classes", error.problem) from error
        if _is_number(content["mpp"]):
            content["mpp"] = float(content["mpp"])
        for name in ("mean", "std"):
            if type(content[name]) is list and all(map(_is_number, content[name])):
                content[name] = tuple(map(float, content[name]))
        if version == 1 and isinstance(content.get("scores"), dict):
            # version 1 stored scores without a value as NaN
            scores = content["scores"]
            content["scores"] = {n: s for n, s in scores.items() if s == s}
        return cls(**content)


_OPTIONAL = {
    "title", "license", "scores", "training_sha256", "versions", "network", "encoder_sha256",
}  # fmt: skip


def check_header(header: ModelHeader) -> None:
    """Refuse a header with an entry of a wrong type or an impossible value.

    Raises
    ------
    ModelError
        Naming the entry.
    """
    for name, longest in _TEXTS.items():
        _check_text(name, getattr(header, name), longest)
    if header.kind not in KINDS:
        raise ModelError(f"models of kind '{header.kind}' are not known to this version")
    _check_classes(header.classes)
    if not _is_number(header.mpp):
        raise _wrong("mpp", "is no number")
    if not 0.05 <= header.mpp <= 20:
        raise ModelError(f"its pixel size of {header.mpp} um/px is impossible")
    if type(header.patch_size) is not int or not 1 <= header.patch_size <= _LARGEST_PATCH:
        raise ModelError(f"its patch size of {str(header.patch_size)[:40]} pixels is impossible")
    for name, color in (("mean", header.mean), ("std", header.std)):
        if type(color) is not tuple or len(color) != 3 or not all(map(_is_number, color)):
            raise _wrong(name, "is not three numbers")
        if any(abs(value) > _LARGEST_NUMBER for value in color):
            raise _wrong(name, "is too large")
    if any(value <= 0 for value in header.std):
        raise _wrong("std", "is not above 0")
    if not re.fullmatch(r"([0-9a-f]{64})?", header.encoder_sha256):
        raise _wrong("encoder_sha256", "is no SHA-256")
    for name, texts in (("scores", header.scores), ("versions", header.versions)):
        if not isinstance(texts, dict) or len(texts) > _MOST_ENTRIES:
            raise _wrong(name, "is no table")
        for key, value in texts.items():
            _check_text(name, key, _LONGEST_NAME)
            if name == "versions":
                _check_text(name, value, _LONGEST_NAME)
            elif not _is_number(value):
                raise _wrong(name, f"has no number for '{key}'")
    check_network(header)


def check_network(header: ModelHeader) -> None:
    """Refuse a description of a network with a wrong type or an impossible size.

    What the sizes mean is known to the networks, which check them before they are built.
    """
    network = header.network
    if not isinstance(network, dict):
        raise _wrong("network", "is no table")
    waiting: list[Any] = [network]
    count = 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > 10 * _MOST_ENTRIES:
            raise _wrong("network", "has too many entries")
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str):
            _check_text("network", value, _LONGEST_NAME)
        elif value is None or type(value) is bool:
            continue
        elif not _is_number(value) or abs(value) > _LARGEST_NUMBER:
            raise _wrong("network", "holds an impossible number")
    if header.kind == "segmentation":
        _check_segmentation(network, len(header.classes.tissue_ids))
    if header.kind == "cams":
        _check_cams(network)
    if header.kind == "hints":
        _check_entries(network, _HINT_ENTRIES)
        named = network["resolutions"]
        if sorted(map(str, named)) not in (["hr"], ["lr"], ["hr", "lr"]):
            raise _wrong("resolutions", "is not known")
        if type(network.get("draws_hints", False)) is not bool:
            raise _wrong("draws_hints", "is neither true nor false")


def _check_classes(classes: TissueClasses) -> None:
    for each in classes:
        _check_text("classes", each.name, _LONGEST_NAME)
        for prompt in each.prompts:
            _check_text("classes", prompt, _LONGEST_PROMPT)
        if len(each.prompts) > _MOST_ENTRIES:
            raise _wrong("classes", "has too many prompts")


def _check_text(name: str, value: Any, longest: int) -> None:
    if type(value) is not str:
        raise _wrong(name, "is no text")
    if len(value) > longest:
        raise _wrong(name, f"has {len(value)} letters")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _wrong(name: str, what: str) -> ModelError:
    return ModelError(f"its header is incomplete or wrong ('{name[:80]}' {what})", remedy=_REMEDY)


def save_model(path: str | Path, header: ModelHeader, tensors: Mapping[str, Tensor]) -> None:
    """Write a model file atomically, after the checks of reading."""
    check_parts(header, tensors, Path(path))
    check_values(header, tensors, Path(path))
    with atomic_write(path) as temporary:
        write_sealed(temporary, {HEADER_KEY: header.to_json()}, tensors)


def read_header(path: str | Path) -> ModelHeader:
    """Read the header of a model file without its tensors.

    Raises
    ------
    ModelError
        When the file is missing, not a model file, or of an unknown version.
    """
    path = Path(path)
    return _header_of(read_table(path), path)


def _header_of(table: TensorTable, path: Path) -> ModelHeader:
    metadata = table.metadata
    if HEADER_KEY not in metadata:
        raise ModelError(
            "these are weights without a model's description",
            path=path,
            remedy="Choose a model that this program has saved.",
        )
    try:
        return ModelHeader.from_json(metadata[HEADER_KEY])
    except ModelError as error:
        raise ModelError(error.problem, path=path, remedy=error.remedy) from error


@dataclass(frozen=True)
class ModelFile:
    """A model file whose tensors are not read yet.

    Parameters
    ----------
    path : Path
    header : ModelHeader
    table : TensorTable
    """

    path: Path
    header: ModelHeader
    table: TensorTable

    def read(self) -> dict[str, Tensor]:
        """Read the tensors, after their types and shapes were compared with the network's.

        Raises
        ------
        ModelError
            When the file has changed since it was written, holds values that are not finite, or
            does not fit into memory.
        """
        sealed = must_be_sealed(self.header, self.table)
        tensors = read_tensors(self.path, self.table, sealed=sealed)
        check_values(self.header, tensors, self.path)
        return tensors


def open_model_file(path: str | Path) -> ModelFile:
    """Read header and table of a model file.

    Raises
    ------
    ModelError
        When it can't be read, or its tensors are not those of its kind.
    """
    path = Path(path)
    table = read_table(path)
    header = _header_of(table, path)
    check_parts(header, table.entries, path)
    return ModelFile(path, header, table)


def load_model_file(path: str | Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Read and check a whole model file.

    Raises
    ------
    ModelError
        When it can't be read, or its tensors don't match its header.
    """
    file = open_model_file(path)
    return file.header, file.read()


def must_be_sealed(header: ModelHeader, table: TensorTable) -> bool:
    """Whether a file without the right checksum is damaged; version 1 had none."""
    return header.format_version > 1 or SEAL_KEY in table.metadata


def current_versions() -> dict[str, str]:
    """Return the versions of the packages that compute a model, for its header."""
    return {name: _version_of(name) for name in ("torch", "open_clip_torch")}


@functools.cache
def _version_of(package: str) -> str:
    return importlib.metadata.version(package)


def _check_entries(network: Mapping[str, Any], wanted: Mapping[str, type]) -> None:
    for name, kind in wanted.items():
        if type(network.get(name)) is not kind:
            raise _wrong(name, "is missing or of another type")


def _check_segmentation(network: Mapping[str, Any], tissue: int) -> None:
    _check_entries(network, _SEGMENTATION_ENTRIES)
    width, window, step = network["width"], network["window"], network["step"]
    if not 16 <= width <= LARGEST_WIDTH or width % 16:
        raise ModelError(f"its head's width of {width} is impossible", remedy=_REMEDY)
    if not 32 <= step <= window <= LARGEST_WINDOW or step % 4:
        raise ModelError(f"its windows of {window} every {step} are impossible", remedy=_REMEDY)
    if type(network.get("decoder", "")) is not str:
        raise _wrong("decoder", "is no text")
    if "gate" in network:
        found = len(ClassGate.from_dict(network["gate"]).thresholds)
        if found != tissue:
            raise ModelError(
                f"its gate has {found} thresholds for {tissue} tissue classes", remedy=_REMEDY
            )
    around = surroundings_of(network)
    if around is not None and max(around.together, default=0) >= tissue:
        raise ModelError(
            f"its surroundings' classes {list(around.together)} are not among its {tissue} tissue "
            "classes",
            remedy=_REMEDY,
        )


def _check_cams(network: Mapping[str, Any]) -> None:
    _check_entries(network, _CAM_ENTRIES)
    width, window, step = network["width"], network["window"], network["step"]
    if not 8 <= width <= LARGEST_WIDTH or width % 8:
        raise ModelError(f"its head's width of {width} is impossible", remedy=_REMEDY)
    if not 32 <= step <= window <= LARGEST_WINDOW:
        raise ModelError(f"its windows of {window} every {step} are impossible", remedy=_REMEDY)
    stride, blocks, learnt = network["stride"], network["blocks"], network["learnt"]
    if not 1 <= stride <= step or window % stride or step % stride:
        raise ModelError(f"its windows of {window} don't fit cells of {stride}", remedy=_REMEDY)
    if not 1 <= blocks <= _MOST_BLOCKS or not 0 <= learnt <= _MOST_ENTRIES:
        raise ModelError(f"its {blocks} blocks or {learnt} prototypes are impossible")


def check_parts(
    header: ModelHeader, tensors: Mapping[str, Tensor] | Mapping[str, TensorEntry], path: Path
) -> None:
    """Refuse tensors that are not those of the kind of model; their values are not read."""
    parts = {name.partition(".")[0] for name in tensors}
    if header.kind == "segmentation":
        network = header.network
        wanted = {"head", *({"familiarity"} & network.keys())}
        right = parts == wanted | ({"backbone"} if network["backbone_inside"] else set())
    elif header.kind == "cams":
        right = parts == {"head"} | ({"backbone"} if header.network["backbone_inside"] else set())
        right = right and "head.prototypes" in tensors
    elif header.kind == "hints":
        right = "decoder" in parts and parts <= {"decoder", "encoder"}
    else:
        shapes = [tuple(tensor.shape) for tensor in tensors.values()]
        right = parts == set(tensors) == {"prototypes"} and len(shapes[0]) == 2
        if right and shapes[0][0] != len(header.classes):
            raise ModelError(
                f"{len(header.classes)} classes and {shapes[0][0]} prototypes",
                path=path,
                remedy=_REMEDY,
            )
        right = right and shapes[0][1] <= _LARGEST_VECTOR
    if not right:
        raise ModelError("its tensors are not those of its kind", path=path, remedy=_REMEDY)


def check_values(header: ModelHeader, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse values that are not finite, and prototypes that are no unit vectors."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                f"'{name}' holds values that are not finite", path=path, remedy=_REMEDY
            )
    if header.kind == "prototypes":
        prototypes = tensors["prototypes"]
        if not prototypes.is_floating_point():
            raise ModelError("its prototypes are no fractions", path=path, remedy=_REMEDY)
        if float((prototypes.float().norm(dim=1) - 1).abs().max()) > 1e-2:
            raise ModelError("its prototypes don't have unit length", path=path, remedy=_REMEDY)
