"""What `plimseg models` does: list, import, remove, download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.output import Output


def add_models_parser(models: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Add the commands below `plimseg models`; without one, models are listed."""
    models.set_defaults(command=list_models)
    commands = models.add_subparsers(metavar="COMMAND")
    listing = commands.add_parser("list", parents=[common], help="list models and encoders")
    listing.set_defaults(command=list_library)
    importing = commands.add_parser(
        "import", parents=[common], help="take a model file or a folder into the library"
    )
    importing.add_argument("path", metavar="PATH", help="a .safetensors file or a folder")
    importing.add_argument(
        "--encoder", metavar="NAME", help="PATH holds the weights of this encoder of the list"
    )
    importing.set_defaults(command=import_path)
    remove = commands.add_parser("remove", parents=[common], help="delete a model of yours")
    remove.add_argument("name", metavar="NAME", help="as `plimseg models list` prints it")
    remove.add_argument("--yes", action="store_true", help="do it; without, say what would go")
    remove.set_defaults(command=remove_model)
    download = commands.add_parser(
        "download", parents=[common], help="fetch an encoder; the only command that uses a network"
    )
    download.add_argument("name", metavar="NAME", help="as `plimseg models list` prints it")
    download.add_argument(
        "--yes", action="store_true", help="fetch it; without, say its size and licence"
    )
    download.set_defaults(command=download_encoder)


def list_models(options: argparse.Namespace, output: Output) -> int:
    """Print every model that masks can be made with."""
    from napari_plimseg.models import library

    for model in library.list_models():
        output.model(model)
    return 0


def list_library(options: argparse.Namespace, output: Output) -> int:
    """Print every model and encoder, with its state."""
    from napari_plimseg.models.library import ModelLibrary

    for entry in ModelLibrary().entries():
        output.library_entry(entry)
    return 0


def import_path(options: argparse.Namespace, output: Output) -> int:
    """Take a model into the library."""
    from napari_plimseg.models.importing import import_model, import_weights

    if options.encoder is None:
        steps = import_model(options.path)
    else:
        from napari_plimseg.models.library import ModelLibrary

        steps = import_weights(ModelLibrary().entry(options.encoder).key, options.path)
    try:
        while True:
            output.say(next(steps))
    except StopIteration as stop:
        output.say(f"imported as '{stop.value}'")
    return 0


def remove_model(options: argparse.Namespace, output: Output) -> int:
    """Delete a model of the user's."""
    from napari_plimseg.models.library import ModelLibrary

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
    """Fetch an encoder, once its size and licence have been shown."""
    from napari_plimseg.models.library import ModelLibrary

    library = ModelLibrary()
    offer = library.offer(options.name)
    entry = offer.entry
    output.say(f"{entry.title}: {offer.size_bytes / 1e6:.0f} MB, licence {entry.license}")
    output.say(f"  see {entry.page}")
    if not options.yes:
        raise ConfigError("nothing was fetched", remedy="Add --yes to accept and download.")
    for progress in library.download(offer):
        done = progress.bytes_done / max(1, progress.bytes_total)
        output.say(f"  {progress.message} {progress.name}: {100 * done:.0f} %")
    output.say("downloaded and checked")
    return 0
