"""What is known of a model, as rich text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.models.downloads import DownloadProgress
    from napari_plimseg.models.library import LibraryEntry, Offer


def size_text(size: int) -> str:
    """Return a size for people: "52 MB"; empty for nothing."""
    if not size:
        return ""
    if size < 1_000_000:
        return f"{max(1, round(size / 1e3))} kB"
    return f"{size / 1e6:.0f} MB" if size < 1_000_000_000 else f"{size / 1e9:.1f} GB"


def details_html(entry: LibraryEntry) -> str:
    """Return everything that is known of an entry."""
    parts = [f"<p><b>{escape(entry.title)}</b><br>{escape(entry.description)}</p>"]
    if entry.reason:
        parts.append(f"<p><b>{entry.state.value.capitalize()}.</b> {escape(entry.reason)}</p>")
    rows = [("Licence", escape(entry.license)), ("Source", _source(entry))]
    if entry.gated:
        rows.append(("Access", "its authors ask for an agreement first"))
    if entry.makes_masks:
        rows.append(("Works at", f"{entry.mpp:g} µm/px"))
    if entry.size_bytes:
        rows.append(("On this disk", size_text(entry.size_bytes)))
    rows += [(escape(name), f"{value:.3g}") for name, value in entry.scores.items()]
    rows += [(escape(name), escape(text)) for name, text in entry.history.items()]
    if entry.path is not None:
        rows.append(("File", _file(entry.path)))
    lines = "".join(
        f"<tr><td style='padding-right: 8px;'>{name}</td><td>{text}</td></tr>"
        for name, text in rows
        if text
    )
    parts.append(f"<table>{lines}</table>")
    if entry.classes is not None:
        swatches = (
            f"<span style='color: rgb{c.color};'>■</span>&nbsp;{escape(c.name)}"
            for c in entry.classes
        )
        parts.append(f"<p>{' &nbsp; '.join(swatches)}</p>")
    return "".join(parts)


def question_html(offer: Offer) -> str:
    """Return the question before a download: what, how large, under which licence."""
    entry = offer.entry
    files = ", ".join(f"{escape(f.name)} ({size_text(f.size)})" for f in offer.files)
    gated = " Its authors ask for an agreement on that page first." if entry.gated else ""
    return (
        f"<p>Download <b>{escape(entry.title)}</b>, {size_text(offer.size_bytes)}?</p>"
        f"<p>Licence: <b>{escape(entry.license)}</b>. Read it on {_source(entry)} before you use "
        f"the model.{gated}</p><p>Files: {files}</p>"
    )


def progress_text(progress: DownloadProgress, left: str) -> str:
    """Return one line about a download; `left` is the time that it takes, for people."""
    done, total = size_text(progress.bytes_done) or "0 MB", size_text(progress.bytes_total)
    parts = [f"{progress.message} {progress.name}", f"{done} of {total}"]
    if left:
        parts.append(f"{left} left")
    return " · ".join(parts)


def _file(path: Path) -> str:
    """Return the name as a link to the folder, which only the tooltip tells: it names a person."""
    folder = path if path.is_dir() else path.parent
    where, address = escape(str(path)), escape(folder.absolute().as_uri())
    return f"<a href='{address}' title='{where}'>{escape(path.name)}</a>"


def _source(entry: LibraryEntry) -> str:
    if not entry.page:
        return escape(entry.source)
    return f"<a href='{escape(entry.page)}'>{escape(entry.source)}</a>"
