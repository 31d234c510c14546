"""What both command lines share: common options, printing, logging, error messages, exit codes."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_plimseg import limits
from napari_plimseg.cli.stopping import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    Terminated,
    terminating_as_interrupting,
)
from napari_plimseg.errors import (
    OUT_OF_MEMORY,
    AccessError,
    ExportError,
    PlimsegError,
    access_problem,
    is_out_of_memory,
    user_path,
)
from napari_plimseg.inference import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.inference import Progress
    from napari_plimseg.models import ModelEntry
    from napari_plimseg.results import ClassArea, MaskInfo, MaskStore


TRAINING_COMMANDS = {
    "train": "train a model from tagged images",
    "evaluate": "score a model on images with known masks",
    "scan": "check a folder of tagged images and count its tags",
    "cut": "cut tagged patches out of annotated slides or images",
}
"""The commands of the training package, with their help."""
EXIT_UNEXPECTED = 1
_TABLE_SECONDS = 1.0
EXIT_SOME_FAILED = 8


class Console:
    """Prints text for people, or one JSON object per line for programs.

    Parameters
    ----------
    as_json : bool
        One JSON object per line on standard output, nothing else there.
    quiet : bool
        Results and errors only.
    """

    kind_key = "event"
    """The key of a JSON object that names its kind."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.kept = "finished work is kept, run the command again to continue"
        """What is kept when a signal ends the command now, and how to resume, for people."""

    def say(self, text: str) -> None:
        """Print a message that only people need."""
        if not self.quiet:
            self.text(text)

    def text(self, text: str) -> None:
        """Print a result as text; programs get it as JSON instead."""
        if not self.as_json:
            self.end_progress()
            self._line(text)

    def facts(self, kind: str, facts: dict[str, Any]) -> None:
        """Print a JSON object for programs."""
        if self.as_json:
            self._event(kind, **facts)

    def error(self, text: str, *, code: int | None = None, slide: str | None = None) -> None:
        """Print an error: as a JSON object, or on standard error."""
        self.end_progress()
        if self.as_json:
            self._json_error(text, code, slide)
        else:
            sys.stderr.write(f"plimseg: {text}\n")

    def end_progress(self) -> None:
        """Remove a progress display from the terminal; here there is none."""

    def _json_error(self, text: str, code: int | None, slide: str | None) -> None:
        self._event("error", message=text, code=code, slide=slide)

    def _event(self, kind: str, /, **facts: Any) -> None:
        # in ASCII, so that programs read it whatever encoding the standard output has
        self._line(json.dumps({self.kind_key: kind, **facts}))

    def _line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


AnyConsole = TypeVar("AnyConsole", bound=Console)


def make_parser(description: str, epilog: str, modules: Iterable[Any]) -> argparse.ArgumentParser:
    """Return the parser of a program.

    Parameters
    ----------
    description, epilog : str
        For `--help`.
    modules : iterable of modules
        Each adds its commands with `add_parser(commands)`.
    """
    parser = argparse.ArgumentParser(
        prog="plimseg",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in modules:
        module.add_parser(commands)
    return parser


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace, AnyConsole], int],
    **about: Any,
) -> argparse.ArgumentParser:
    """Add a command with the options that all commands have.

    Parameters
    ----------
    commands : argparse's action of subparsers
        What `add_parser` of a command's module gets.
    name : str
        As typed by the user.
    run : callable
        Gets the parsed options and the console, and returns the exit code.
    **about
        `help`, `epilog` and the like, for argparse.

    Returns
    -------
    argparse.ArgumentParser
        For the command's own arguments.
    """
    parser = commands.add_parser(
        name, formatter_class=argparse.RawDescriptionHelpFormatter, **about
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    parser.add_argument("--verbose", action="store_true", help="print log messages of libraries")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="raise a limit on input, such as picture-bytes=8GB; may be repeated",
    )
    parser.set_defaults(command=run)
    return parser


def print_any_name() -> None:
    """Print characters that the encoding of the output lacks as their numbers.

    On Windows, and in a container without a locale, a file name could end the program otherwise.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _with_home(value: Any) -> Any:
    """Return an option in which `~` is the home folder: shells leave it in `--out=~/results`."""
    if isinstance(value, list):
        return [_with_home(one) for one in value]
    if isinstance(value, Path):
        return user_path(value)
    return str(user_path(value)) if isinstance(value, str) and value.startswith("~") else value


def run_program(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    make_console: Callable[..., Console],
) -> int:
    """Parse the arguments, run the command and return the exit code.

    Every error becomes one line and its exit code; only `--verbose` shows where it came from.
    """
    print_any_name()
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        setattr(options, name, _with_home(value))
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    console = make_console(as_json=options.json, quiet=options.quiet)
    command: Callable[[argparse.Namespace, Console], int] = options.command
    try:
        with terminating_as_interrupting(), limits.changed(options.limit):
            return command(options, console)
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        code = EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
        console.error(f"{'terminated' if terminated else 'interrupted'}; {console.kept}", code=code)
        return code
    except PlimsegError as error:
        if options.verbose:
            logging.getLogger(__name__).exception("the cause of the error")
        console.error(str(error), code=error.exit_code)
        return error.exit_code
    except BrokenPipeError:
        # whoever read our output has exited (`| head`): nobody is left to read an error, and
        # Python must not fail again when it flushes standard output at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNEXPECTED
    except Exception as error:
        if options.verbose:
            raise
        if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
            problem, remedy = access_problem(error)
            refused = AccessError(problem, path=os.fsdecode(error.filename), remedy=remedy)
            console.error(str(refused), code=refused.exit_code)
            return refused.exit_code
        if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
            # half a character: a byte of a file name that is no text
            before, after = error.object[: error.start], error.object[error.start :]
            name = re.split(r"[/\\\s\"']", before)[-1] + re.split(r"[/\\\s\"']", after)[0]
            refused = AccessError("it is not named in UTF-8", path=name, remedy="Rename it.")
            console.error(str(refused), code=refused.exit_code)
            return refused.exit_code
        if is_out_of_memory(error):
            console.error(OUT_OF_MEMORY, code=EXIT_UNEXPECTED)
            return EXIT_UNEXPECTED
        text = f"unexpected error: {error or type(error).__name__} ({type(error).__name__})."
        console.error(
            f"{text} Run it again with --verbose and report what it prints.", code=EXIT_UNEXPECTED
        )
        return EXIT_UNEXPECTED


def exit_code(failures: Sequence[int], count: int) -> int:
    """Return the exit code for `count` slides, of which those with exit codes `failures` failed."""
    if not failures:
        return 0
    return failures[0] if count == 1 else EXIT_SOME_FAILED


class Output(Console):
    """Prints slides, runs, masks and models.

    Parameters
    ----------
    as_json, quiet : bool
        As of `Console`.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        super().__init__(as_json=as_json, quiet=quiet)
        self._bar = ProgressBar(only_on_terminal=True)
        self._table: list[str] = []
        self._table_drawn = 0.0

    def slide(self, facts: dict[str, Any]) -> None:
        """Print what a slide is, for programs; `plimseg info` has the text for people."""
        if self.as_json:
            self._event("slide", **facts)

    def note(self, text: str) -> None:
        """Print what people should know about a slide or a mask."""
        if self.as_json:
            self._event("note", text=text)
        else:
            self.say(f"  note: {text}")

    def start(self, slide: str, model: str, worker: str = "") -> None:
        """Print that a slide's run starts, and on which worker if there are any."""
        if self.as_json:
            self._event("start", slide=slide, model=model, **({"worker": worker} if worker else {}))
        else:
            self.say(f"{slide}: segmenting with {model}{f' on {worker}' if worker else ''}")

    def cluster(self, scheduler: str, dashboard: str) -> None:
        """Print where slides are segmented."""
        if self.as_json:
            self._event("cluster", scheduler=scheduler, dashboard=dashboard or None)
        else:
            self.say(f"scheduler: {scheduler}")
            if dashboard:
                self.say(f"dashboard: {dashboard}")

    def table(self, lines: Callable[[], list[str]]) -> None:
        """Draw lines below what is printed, once a second, on a terminal only."""
        if self.as_json or self.quiet or not sys.stderr.isatty():
            return
        now = time.monotonic()
        if self._table and now - self._table_drawn < _TABLE_SECONDS:
            return
        self._remove_table()
        width = shutil.get_terminal_size().columns - 1
        self._table, self._table_drawn = [line[:width] for line in lines()], now
        sys.stderr.write("".join(f"{line}\n" for line in self._table))
        sys.stderr.flush()

    def _remove_table(self) -> None:
        if self._table:
            # up to its first line, and clear from there
            sys.stderr.write(f"\033[{len(self._table)}F\033[J")
            sys.stderr.flush()
            self._table = []

    def progress(self, slide: str, progress: Progress) -> None:
        """Show a run's progress: a bar on a terminal, or JSON lines."""
        if self.quiet:
            return
        if self.as_json:
            self._event(
                "progress",
                slide=slide,
                tiles_done=progress.tiles_done,
                tiles_total=progress.tiles_total,
                tiles_per_second=round(progress.tiles_per_second, 3),
                seconds_left=None
                if progress.seconds_left is None
                else round(progress.seconds_left, 1),
                unreadable_tiles=progress.unreadable_tiles,
                device=progress.device,
                message=progress.message,
            )
            return
        self._bar.show(progress)

    def end_progress(self) -> None:
        """Remove the progress bar, or the table."""
        self._bar.close()
        self._remove_table()

    def result(
        self,
        info: MaskInfo,
        areas: Sequence[ClassArea],
        files: Sequence[Path],
        seconds: float,
        unreadable: int,
    ) -> None:
        """Print the areas of a finished mask and the files written."""
        self.end_progress()
        computed = info.computation
        if self.as_json:
            self._event(
                "finished",
                slide=info.slide_name,
                seconds=round(seconds, 2),
                unreadable_tiles=unreadable,
                areas=[
                    {
                        "class": area.name,
                        "mask_id": area.mask_id,
                        "pixels": area.pixels,
                        "mm2": area.mm2,
                        "percent_of_tissue": area.percent_of_tissue,
                    }
                    for area in areas
                ],
                files=[str(file) for file in files],
                **({} if computed is None else {"computation": computed.to_dict()}),
            )
            return
        self._line(f"{info.slide_name}: {seconds:.1f} s")
        if computed is not None:
            self._line(f"  computed by {computed.sentence}")
        if unreadable:
            self._line(f"  {unreadable} tiles could not be read; they count as unreadable")
        for area in areas:
            size = f"{area.pixels} px" if area.mm2 is None else f"{area.mm2:.4f} mm2"
            part = (
                ""
                if area.percent_of_tissue is None
                else f"{area.percent_of_tissue:6.1f} % of tissue"
            )
            self._line(f"  {area.name:<24} {size:>14} {part}")
        self.files(files)

    def files(self, files: Sequence[Path]) -> None:
        """Print the files that were written."""
        if self.as_json:
            if files:
                self._event("files", files=[str(file) for file in files])
            return
        for file in files:
            self._line(f"  wrote {file}")

    def model(self, model: ModelEntry) -> None:
        """Print one line of the list of models."""
        if self.as_json:
            self._event(
                "model",
                name=model.name,
                title=model.title,
                description=model.description,
                classes=list(model.default_classes.names),
                mpp=model.mpp,
                licence=model.license,
                source=model.source,
                size_bytes=model.size_bytes,
                available=model.available,
                reason=model.reason,
            )
            return
        state = "" if model.available else f"  (not available: {model.reason})"
        self._line(f"{model.name:<20} {model.title}{state}")
        self._line(f"  classes  {', '.join(model.default_classes.names)}")
        self._line(f"  license  {model.license}")
        if model.description:
            self._line(f"  about    {model.description}")

    def library_entry(self, entry: ModelEntry) -> None:
        """Print one line of the library: a model or an encoder, installed or not."""
        if self.as_json:
            self._event(
                "library_entry",
                key=entry.key,
                name=entry.name if entry.available else "",
                title=entry.title,
                kind=entry.kind.value,
                task=entry.task.value,
                state=entry.state.value,
                reason=entry.reason,
                note=entry.note,
                licence=entry.license,
                gated=entry.gated,
                page=entry.page,
                size_bytes=entry.size_bytes,
                scores=dict(entry.scores),
            )
            return
        self._line(f"{entry.key:<24} {entry.kind.value:<12} {entry.state.label}")
        for line in filter(None, (entry.reason, entry.note)):
            self._line(f"  {line}")


def check_writable(folder: Path) -> None:
    """Create a folder and check that files can be written to it, before hours of computing.

    Raises
    ------
    ExportError
        When they can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".plimseg-probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ExportError(
            f"can't be written to ({error.strerror})",
            path=folder,
            remedy="Choose another folder with --out.",
        ) from error


def add_damaged_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that takes a damaged mask."""
    parser.add_argument(
        "--allow-damaged",
        action="store_true",
        help="take a damaged mask; damaged parts count as unreadable",
    )


def mask_for_export(
    store: MaskStore, output: Output, *, allow_damaged: bool
) -> tuple[NDArray[np.uint8], MaskInfo]:
    """Return mask and description of a store, and print what is damaged where that is allowed."""
    from napari_plimseg.results import mask_to_export

    mask, info = mask_to_export(store, allow_damaged=allow_damaged)
    note_damage(info.damage, output)
    return mask, info


def note_damage(damage: str, output: Output) -> None:
    """Print what of an allowed mask is damaged; nothing when nothing is."""
    if damage:
        output.note(f"damaged parts count as unreadable: {damage}.")
