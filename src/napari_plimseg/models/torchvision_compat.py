"""Make torchvision importable beside a torch that its compiled operators don't fit.

The CPU build of torch has no matching torchvision on PyPI: importing it, and with it timm and
open_clip, fails with "operator torchvision::nms does not exist". Declaring the schemas of the two
operators that torchvision registers at import is enough; neither timm's nor open_clip's encoders
call them.
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
    """Declare the missing operators, once and only when torchvision's own can't be loaded.

    Call it before the first import of torchvision, timm, open_clip or transformers.

    Returns
    -------
    torch.library.Library or None
        What was declared. The cache keeps it alive: torch withdraws the operators of a library
        that is collected.
    """
    import torch

    if _own_operators_load() or hasattr(torch.ops.torchvision, "nms"):
        return None
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)
    return library


def _own_operators_load() -> bool:
    """Return whether torchvision is absent, or its extension loads as torchvision would load it."""
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
