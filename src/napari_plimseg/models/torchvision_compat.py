"""Make torchvision importable with a build of torch that its compiled operators don't match.

PyPI has no torchvision for the CPU build of torch. Importing it, and with it timm and open_clip,
fails there with "operator torchvision::nms does not exist". It is enough to declare the schemas
of the two operators that torchvision expects at import, since the encoders never call them.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def make_torchvision_importable() -> Any:
    """Declare the missing operators, once, unless torchvision's own can be loaded.

    Call it before the first import of torchvision, timm, open_clip or transformers.

    Returns
    -------
    torch.library.Library or None
        What was declared. The cache keeps it alive: torch removes the operators of a library
        that is garbage-collected.
    """
    import torch

    if _own_operators_load() or hasattr(torch.ops.torchvision, "nms"):
        return None
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)
    return library


def _own_operators_load() -> bool:
    """Whether torchvision is not installed, or its compiled extension can be loaded."""
    import torch

    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return True
    folder = Path(package.origin).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        extension = folder / f"_C{suffix}"
        if extension.is_file():
            try:
                torch.ops.load_library(extension)  # type: ignore[no-untyped-call]
            except OSError:
                return False
            return hasattr(torch.ops.torchvision, "nms")
    return False
