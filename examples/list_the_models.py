"""List the models on this computer, and those that can be downloaded.

Usage: python examples/list_the_models.py
"""

from __future__ import annotations

from napari_plimseg import list_models

for model in list_models():
    print(f"{model.key}: {model.title} ({model.state.value})")
    names = "any words" if model.classes is None else ", ".join(model.classes.names)
    print(f"  classes: {names}")
    if model.reason:
        print(f"  {model.reason}")
