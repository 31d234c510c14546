"""The format of model files: `.safetensors` with a description in the header.

The header holds JSON under the key `plimseg`, and a checksum of the whole file (`tensor_file`).
Nothing is ever unpickled, and the whole file is checked before anything is built from it.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, ModelError
from napari_plimseg.files import atomic_write
from napari_plimseg.models.class_gate import ClassGate
from napari_plimseg.models.tensor_file import (
    SEAL_KEY,
    TensorTable,
    read_table,
    read_tensors,
    write_sealed,
)
from napari_plimseg.tissue import TissueClasses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FORMAT_VERSION = 2
"""2: with a checksum, `encoder_sha256`, and an encoder's name without its place. 1: without."""
HEADER_KEY = "plimseg"
KINDS = ("prototypes", "segmentation", "hints")
"""`prototypes`: a tensor `prototypes` (C, D) of unit vectors in the space of the encoder.
`segmentation`: tensors `head.*` of a `SegNet` and, where its weights are inside, `backbone.*`.
`hints`: a promptable model, with tensors `decoder.*` of a `DualDecoder` and `encoder.*` of its
`PatchEncoder`, except those of the encoder's source; its one class means "the object".
"""
LARGEST_WIDTH, LARGEST_WINDOW = 1024, 4096
_SEGMENTATION_ENTRIES = {
    "backbone": dict, "backbone_inside": bool, "width": int, "window": int, "step": int,
}  # fmt: skip
_HINT_ENTRIES = {
    "patch_encoder": dict, "decoder": dict, "resolutions": list, "frozen_inside": bool,
}  # fmt: skip
_REMEDY = "Export the model again, or choose another file."


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
        `gate` (`ClassGate`). Of a promptable model: `patch_encoder` and `decoder` (their specs),
        `resolutions`, and `frozen_inside` (whether the pretrained weights are in the file).
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
        if self.kind not in KINDS:
            raise ModelError(f"models of kind '{self.kind}' are not known to this version")
        if not 0.05 <= self.mpp <= 20:
            raise ModelError(f"its pixel size of {self.mpp} um/px is impossible")
        if self.patch_size < 1:
            raise ModelError(f"its patch size of {self.patch_size} pixels is impossible")
        if self.kind == "segmentation":
            _check_network(self.network, len(self.classes.tissue_ids))
        if self.kind == "hints":
            _check_entries(self.network, _HINT_ENTRIES)

    def to_json(self) -> str:
        """Return the header as it is stored in the file."""
        content = {**asdict(self), "classes": self.classes.to_dict()}
        content["format_version"] = FORMAT_VERSION
        if not self.network:
            del content["network"]
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelHeader:
        """Read a header; unknown versions, missing entries and wrong types are refused."""
        try:
            content: dict[str, Any] = json.loads(text)
            version = content["format_version"]
            if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
                raise ModelError(
                    f"its format is version {version}, and this program reads {FORMAT_VERSION}",
                    remedy="Update napari-plimseg.",
                )
            content["classes"] = TissueClasses.from_dict(content["classes"])
            for name in ("mean", "std"):
                red, green, blue = (float(v) for v in content[name])
                content[name] = (red, green, blue)
            content["mpp"], content["patch_size"] = (
                float(content["mpp"]),
                int(content["patch_size"]),
            )
            return cls(**content)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise ModelError(f"its header is incomplete ({error})", remedy=_REMEDY) from error


def save_model(path: str | Path, header: ModelHeader, tensors: Mapping[str, Tensor]) -> None:
    """Write a model file atomically, after the checks of `load_model_file`."""
    _check_tensors(header, tensors, Path(path))
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


def load_model_file(path: str | Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Read and check a whole model file.

    Raises
    ------
    ModelError
        When it can't be read, or its tensors don't match its header.
    """
    path = Path(path)
    table = read_table(path)
    header = _header_of(table, path)
    tensors = read_tensors(path, table, sealed=must_be_sealed(header, table))
    _check_tensors(header, tensors, path)
    return header, tensors


def must_be_sealed(header: ModelHeader, table: TensorTable) -> bool:
    """Whether a file without the right checksum is damaged; version 1 had none."""
    return header.format_version > 1 or SEAL_KEY in table.metadata


def current_versions() -> dict[str, str]:
    """Return the versions of the packages that compute a model, for its header."""
    return {name: importlib.metadata.version(name) for name in ("torch", "open_clip_torch")}


def _check_entries(network: Mapping[str, Any], wanted: Mapping[str, type]) -> None:
    for name, kind in wanted.items():
        if type(network.get(name)) is not kind:
            raise ModelError(f"its header is incomplete ('{name}')", remedy=_REMEDY)


def _check_network(network: Mapping[str, Any], tissue: int) -> None:
    _check_entries(network, _SEGMENTATION_ENTRIES)
    width, window, step = network["width"], network["window"], network["step"]
    if not 16 <= width <= LARGEST_WIDTH or width % 16:
        raise ModelError(f"its head's width of {width} is impossible", remedy=_REMEDY)
    if not 32 <= step <= window <= LARGEST_WINDOW or step % 4:
        raise ModelError(f"its windows of {window} every {step} are impossible", remedy=_REMEDY)
    if "gate" in network:
        found = len(ClassGate.from_dict(network["gate"]).thresholds)
        if found != tissue:
            raise ModelError(
                f"its gate has {found} thresholds for {tissue} tissue classes", remedy=_REMEDY
            )


def _check_tensors(header: ModelHeader, tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                f"'{name}' holds values that are not finite", path=path, remedy=_REMEDY
            )
    if header.kind == "segmentation":
        parts = {name.partition(".")[0] for name in tensors}
        if parts != ({"head", "backbone"} if header.network["backbone_inside"] else {"head"}):
            raise ModelError("its tensors are not those of its kind", path=path, remedy=_REMEDY)
        return
    if header.kind == "hints":
        parts = {name.partition(".")[0] for name in tensors}
        if "decoder" not in parts or not parts <= {"decoder", "encoder"}:
            raise ModelError("its tensors are not those of its kind", path=path, remedy=_REMEDY)
        return
    prototypes = tensors.get("prototypes")
    if set(tensors) != {"prototypes"} or prototypes is None or prototypes.ndim != 2:
        raise ModelError("its tensors are not those of its kind", path=path, remedy=_REMEDY)
    if len(prototypes) != len(header.classes):
        raise ModelError(
            f"{len(header.classes)} classes and {len(prototypes)} prototypes",
            path=path,
            remedy=_REMEDY,
        )
    if float((prototypes.float().norm(dim=1) - 1).abs().max()) > 1e-2:
        raise ModelError("its prototypes don't have unit length", path=path, remedy=_REMEDY)
