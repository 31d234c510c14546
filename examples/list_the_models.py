"""List the models on this computer, and those that can be downloaded.

Usage: python examples/list_the_models.py
"""

from __future__ import annotations

from napari_plimseg import list_models

for model in list_models():
    print(f"{model.name}: {model.title}")
    print(f"  classes: {', '.join(model.classes.names)}")
