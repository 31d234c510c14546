"""`plimseg segment --cluster`: the options, and the table of what workers do."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

    from napari_plimseg.cli.console import Output
    from napari_plimseg.inference import (
        ClusterChoice,
        Cohort,
        CohortItem,
        CohortStep,
        SegmentationJob,
        Workers,
    )


_ROWS = 20
_LONGEST_NAME = 40


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose and protect workers."""
    group = parser.add_argument_group("several slides at a time, on workers")
    group.add_argument(
        "--cluster",
        metavar="WHERE",
        help="local (processes of this computer), slurm (jobs), or a dask scheduler's address: "
        "tcp://127.0.0.1:8786, tls://host:8786",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes or jobs to start (default: one per GPU, else one per 2 CPUs; one job)",
    )
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM: who signed certificates")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM: the certificate")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM: its key")
    group.add_argument(
        "--insecure",
        action="store_true",
        help="allow connections over a network without TLS: whoever reaches a scheduler or worker "
        "can run anything there",
    )


def parse_cluster(options: argparse.Namespace) -> ClusterChoice | None:
    """Return the chosen workers; None segments the slides in this process, one after another.

    Raises
    ------
    ConfigError
        When options contradict each other, or a connection would not be protected.
    """
    from napari_plimseg.inference import ClusterChoice

    if options.cluster is None:
        for name in ("workers", "tls_ca", "tls_cert", "tls_key", "insecure"):
            if getattr(options, name):
                given = name.replace("_", "-")
                raise ConfigError(f"--{given} is for --cluster", remedy="Add --cluster local.")
        return None
    return ClusterChoice(
        options.cluster,
        workers=options.workers,
        tls_ca=options.tls_ca,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        insecure=options.insecure,
    )


def run_on_workers(
    cohort: Cohort, job: SegmentationJob, choice: ClusterChoice, output: Output
) -> Generator[CohortStep | None, None, None]:
    """Segment the slides on workers, and show what each does.

    Yields
    ------
    CohortStep or None
        As of `segment_on_workers`.
    """
    from napari_plimseg.inference import segment_on_workers

    found: list[Workers] = []

    def opened(workers: Workers) -> None:
        found.append(workers)
        output.cluster(workers.address, workers.dashboard)

    refused = 0
    run = segment_on_workers(cohort, job, choice, owner="plimseg", opened=opened)
    try:
        with contextlib.closing(run) as steps:
            for step in steps:
                yield step
                for text in found[0].refused[refused:]:
                    output.note(text)
                refused = len(found[0].refused)
                output.table(lambda: state_table(cohort))
    finally:
        output.end_progress()
        if found:
            output.say("\n".join(state_table(cohort)))


def state_table(cohort: Cohort) -> list[str]:
    """Return how many slides are in which state, and the lines of running and failed ones."""
    from napari_plimseg.inference import ItemState

    items = cohort.items
    counts = Counter(item.state for item in items)
    parts = [f"{counts[state]} {state.value}" for state in ItemState if counts[state]]
    lines = [f"{len(items)} slides: {', '.join(parts)}"]
    shown = [item for item in items if item.state is ItemState.RUNNING]
    shown += [item for item in items if item.problem]
    lines += [_row(item) for item in shown[:_ROWS]]
    if len(shown) > _ROWS:
        lines.append(f"  and {len(shown) - _ROWS} more")
    return lines


def _row(item: CohortItem) -> str:
    name = item.path.name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    tiles = f"{item.tiles_done}/{item.tiles_total} tiles" if item.tiles_total else ""
    text = f"  {name:<{_LONGEST_NAME}} {item.state_text:<28} {tiles:<16} {item.problem}"
    return text.rstrip()
