"""Give an existing model file the surroundings of a recipe, without training it again.

    python scripts/add_surroundings.py MODEL RECIPE

RECIPE is a shipped recipe's name or a file; its section `surroundings` is used. Other parts of the
file stay as they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from napari_plimseg.models import load_model_file, save_model
from plimseg_training.config import chosen_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("recipe")
    options = parser.parse_args()
    header, tensors = load_model_file(options.model)
    around = chosen_recipe(options.recipe).surroundings.for_classes(header.classes)
    network = {name: part for name, part in header.network.items() if name != "surroundings"}
    if around is not None:
        network["surroundings"] = around.to_dict()
    save_model(options.model, replace(header, network=network), tensors)
    print(f"{options.model.name}: {around}")


if __name__ == "__main__":
    main()
