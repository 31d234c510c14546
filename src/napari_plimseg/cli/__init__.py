"""The command `plimseg`: one module a command."""

from napari_plimseg.cli.program import main

__all__ = ["main"]
