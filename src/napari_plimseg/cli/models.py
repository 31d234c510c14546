"""`plimseg models`: list, import, remove and download models and encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plimseg.cli.console import add_command
from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.console import Commands, Output


def add_parser(commands: Commands) -> None:
    """Add `plimseg models` and its subcommands; without one, models are listed."""
    models = add_command(
        commands, "models", list_models, help="list, import, remove or download models"
    )
    below = models.add_subparsers(metavar="COMMAND")
    add_command(below, "list", list_library, help="list models and encoders")
    importing = add_command(
        below, "import", import_path, help="import a model file or a folder into the library"
    )
    importing.add_argument(
        "path", metavar="PATH", help="a .safetensors file, a folder, or an encoder's name"
    )
    importing.add_argument(
        "--encoder",
        metavar="NAME",
        help="PATH has the weights of this encoder, or of the encoder of this model",
    )
    remove = add_command(below, "remove", remove_model, help="delete one of your models")
    remove.add_argument("name", metavar="NAME", help="as `plimseg models list` prints it")
    remove.add_argument(
        "--yes", action="store_true", help="delete it; without, only show what would be deleted"
    )
    download = add_command(
        below, "download", download_encoder, help="download an encoder; only this uses the network"
    )
    download.add_argument("name", metavar="NAME", help="as `plimseg models list` prints it")
    download.add_argument(
        "--yes", action="store_true", help="download it; without, only show its size and license"
    )


def list_models(options: argparse.Namespace, output: Output) -> int:
    """Print every model that can segment."""
    from napari_plimseg import models

    for model in models.list_models():
        output.model(model)
    return 0


def list_library(options: argparse.Namespace, output: Output) -> int:
    """Print every model and encoder, with its state."""
    from napari_plimseg.models import ModelLibrary

    for entry in ModelLibrary().entries():
        output.library_entry(entry)
    return 0


def import_path(options: argparse.Namespace, output: Output) -> int:
    """Import a model."""
    from napari_plimseg.models import import_model, import_weights

    result = "imported as '{}'"
    if options.encoder is None:
        steps = import_model(options.path)
    else:
        from napari_plimseg.models import ModelLibrary

        entry = ModelLibrary().entry(options.encoder)
        steps = import_weights(entry.key, options.path)
        if entry.needs_place:  # the encoder stays where it is
            result = "the encoder of '{}' is known now"
    said = ""
    try:
        while True:
            step = next(steps)
            if step != said:  # a step that takes long is repeated, so that it can be stopped
                output.say(step)
            said = step
    except StopIteration as stop:
        output.say(result.format(stop.value))
    return 0


def remove_model(options: argparse.Namespace, output: Output) -> int:
    """Delete one of the user's models."""
    from napari_plimseg.models import ModelLibrary

    library = ModelLibrary()
    entry = library.entry(options.name)
    if entry.removable and not options.yes:
        raise ConfigError(
            f"'{entry.key}' ({entry.size_bytes / 1e6:.1f} MB) would be deleted",
            remedy="Add --yes to delete it.",
        )
    library.remove(options.name)
    output.say(f"removed '{entry.key}'")
    return 0


def download_encoder(options: argparse.Namespace, output: Output) -> int:
    """Download an encoder, after showing its size and license."""
    from napari_plimseg.models import ModelLibrary

    library = ModelLibrary()
    offer = library.offer(options.name)
    entry = offer.entry
    output.say(f"{entry.title}: {offer.size_bytes / 1e6:.0f} MB, license {entry.license}")
    output.say(f"  see {entry.page}")
    if not options.yes:
        raise ConfigError("nothing was downloaded", remedy="Add --yes to accept and download.")
    for progress in library.download(offer):
        done = progress.bytes_done / max(1, progress.bytes_total)
        output.say(f"  {progress.message} {progress.name}: {100 * done:.0f} %")
    output.say("downloaded and checked")
    return 0
