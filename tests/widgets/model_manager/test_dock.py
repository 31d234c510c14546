"""The models dock: every button in every state, and the whole way of a download."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_plimseg._widgets.model_manager.dock import (
    ModelsDock,
    details_html,
    question_html,
    size_text,
)
from napari_plimseg._widgets.model_manager.state import ModelsState, Work
from napari_plimseg.files import user_data_dir
from napari_plimseg.models.encoders.cards import CONFIG_FILE, WEIGHT_FILES
from napari_plimseg.models.encoders.known import LIST_FILE
from napari_plimseg.models.encoders.loading import load_encoder
from napari_plimseg.models.library import (
    EntryState,
    Kind,
    ModelEntry,
    ModelLibrary,
    Task,
    models_folder,
)
from tests.support.clips import TEXT, VIT, write_clip
from tests.support.crafted import VARIANTS, Variant, craft
from tests.support.library import CONFIG, QUILT, WEIGHTS, FakeRemote, own, try_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT = 30_000


@pytest.fixture(autouse=True)
def trial_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_plimseg.models.importing.try_loading", try_here)


def entry(**changes: Any) -> ModelEntry:
    plain = ModelEntry("k", "n", "Title", "what", Kind.OWN, EntryState.READY, removable=True)
    return dataclasses.replace(plain, **changes)


ENCODER = entry(kind=Kind.ENCODER, state=EntryState.NOT_HERE, reason="Put X into Y.",
                downloadable=True, removable=False)  # fmt: skip
LOST = entry(state=EntryState.PARTIAL, reason="It needs the encoder 'x'.", needs_place="FOLDER")
BUSY = [work for work in Work if work is not Work.NONE]


@pytest.mark.parametrize(
    ("state", "control", "says"),
    [
        (ModelsState(), "import", ""),
        (ModelsState(), "cancel", "Nothing is downloading"),
        *((ModelsState(), c, "Select a model") for c in ("weights", "download", "remove", "use")),
        *(
            (ModelsState(entry(), work), control, work.value)
            for work in BUSY
            for control in ("import", "weights", "download", "remove")
        ),
        (ModelsState(entry(), Work.DOWNLOADING), "cancel", ""),
        (ModelsState(entry(), Work.STOPPING), "cancel", "stopping"),
        (ModelsState(entry(), Work.DOWNLOADING), "use", ""),
        (ModelsState(entry()), "use", ""),
        (ModelsState(entry()), "remove", ""),
        (ModelsState(entry()), "weights", "Select the encoder"),
        (ModelsState(entry()), "download", "already on this computer"),
        (ModelsState(entry(), dock_is_open=False), "use", "Open the dock PLIMSeg first"),
        (ModelsState(entry(), dock_is_running=True), "use", "A run is in progress"),
        (ModelsState(entry(task=Task.TRAINING)), "use", "Vision-only"),
        (ModelsState(entry(state=EntryState.DAMAGED, reason="It is broken.")), "use", "broken"),
        (ModelsState(ENCODER), "download", ""),
        (ModelsState(ENCODER), "weights", ""),
        (ModelsState(LOST), "weights", ""),
        (ModelsState(LOST), "use", "needs the encoder"),
        (ModelsState(ENCODER), "use", "Put X into Y."),
        (ModelsState(ENCODER), "remove", "not on this computer"),
        (ModelsState(dataclasses.replace(ENCODER, downloadable=False)), "download", "Put X into"),
        (ModelsState(entry(kind=Kind.BUNDLED, removable=False)), "remove", "bundled model"),
    ],
)
def test_every_button_says_why_not(state: ModelsState, control: str, says: str) -> None:
    why_not = state.why_not(control)
    assert bool(why_not) == bool(says)
    assert says in why_not


def test_an_unknown_control_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no control"):
        ModelsState().why_not("fly")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, ""), (10, "1 kB"), (52_000_000, "52 MB"), (1_500_000_000, "1.5 GB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_texts_of_models_are_no_markup() -> None:
    html = details_html(entry(title="<b>x</b>", license="<script>", history={"made <by>": "&"}))
    assert "<script>" not in html
    assert "&lt;b&gt;x" in html


@pytest.fixture
def remote() -> FakeRemote:
    return FakeRemote({CONFIG_FILE: CONFIG, WEIGHT_FILES[1]: WEIGHTS})


@pytest.fixture
def models(
    make_napari_viewer_proxy: Callable, remote: FakeRemote, qtbot: Any
) -> Iterator[ModelsDock]:
    own(models_folder() / "glands.safetensors")
    viewer = make_napari_viewer_proxy()
    dock = ModelsDock(viewer, ModelLibrary(remote))
    viewer.window.add_dock_widget(dock, name="PLIMSeg Models")
    idle(dock, qtbot)
    yield dock
    dock._job.stop_and_wait()


def idle(dock: ModelsDock, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: dock._work is Work.NONE and bool(dock._entries), timeout=WAIT)


def answer(dock: ModelsDock, monkeypatch: pytest.MonkeyPatch, *, yes: bool) -> list[str]:
    asked: list[str] = []

    def ask(title: str, text: str) -> bool:
        asked.append(text)
        return yes

    monkeypatch.setattr(dock, "ask", ask)
    return asked


@pytest.mark.gui
def test_models_are_listed_with_details(models: ModelsDock) -> None:
    assert models.entry.key == "bundled"
    assert "lymphocytes" in models.details.toPlainText()
    assert "belongs to the plugin" in models.remove_button.toolTip()
    assert models.select("glands")
    assert models.remove_button.isEnabled()
    folder = str(models_folder())
    assert "glands.safetensors" in models.details.toPlainText()
    assert folder not in models.details.toPlainText()  # it may hold a person's name
    assert f"title='{folder}" in details_html(models.entry)
    assert models.select("UNI")
    assert "accept the terms" in models.details.toPlainText()
    assert models.download_button.isEnabled()
    assert not models.use_button.isEnabled()
    assert not models.cancel_button.isVisibleTo(models)


@pytest.mark.gui
@pytest.mark.parametrize("yes", [True, False])
def test_a_download_asks_once_with_size_and_license(
    models: ModelsDock, remote: FakeRemote, qtbot: Any, monkeypatch: pytest.MonkeyPatch, yes: bool
) -> None:
    asked = answer(models, monkeypatch, yes=yes)
    models.select(QUILT)
    models.download_button.click()
    assert "hub is being asked" in models.import_button.toolTip()
    idle(models, qtbot)
    assert len(asked) == 1
    assert "MIT" in asked[0]
    assert "1 MB" in asked[0]
    assert models.entry.key == QUILT
    assert models.entry.state is (EntryState.READY if yes else EntryState.NOT_HERE)
    assert bool(remote.asked) == yes
    assert models.banner.kind == ("good" if yes else "")


@pytest.mark.gui
def test_a_cancelled_download_is_continued(
    models: ModelsDock, remote: FakeRemote, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, read = threading.Event(), remote.read

    def slow(file: Any, start: int) -> Any:
        for i, chunk in enumerate(read(file, start)):
            if i == 300:
                assert gate.wait(30)
            yield chunk

    monkeypatch.setattr("napari_plimseg.models.downloads._REPORT_BYTES", 1000)
    monkeypatch.setattr(remote, "read", slow)
    answer(models, monkeypatch, yes=True)
    models.select(QUILT)
    models.download()
    qtbot.waitUntil(lambda: models.bar.value() > 200, timeout=WAIT)
    assert models.cancel_button.isVisibleTo(models)
    assert "of 1 MB" in models.line.text()
    models.cancel_button.click()
    gate.set()
    idle(models, qtbot)
    assert models.entry.state is EntryState.PARTIAL
    assert models.download_button.text() == "Continue"
    assert "Cancelled" in models.banner.text
    models.download()
    idle(models, qtbot)
    assert models.entry.state is EntryState.READY


@pytest.mark.gui
def test_an_import_can_be_cancelled(
    models: ModelsDock, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def slow(name: str, kind: str, place: Path) -> Iterator[None]:
        yield
        assert gate.wait(30)
        yield

    monkeypatch.setattr("napari_plimseg.models.importing.try_loading", slow)
    models.import_from(own(tmp_path / "new.safetensors", title="New"))
    qtbot.waitUntil(lambda: "Checking" in models.line.text(), timeout=WAIT)
    assert models.bar.isVisibleTo(models)
    assert models.cancel_button.isVisibleTo(models)
    models.cancel_button.click()
    assert not models.cancel_button.isEnabled()
    gate.set()
    idle(models, qtbot)
    assert models.banner.text == "Cancelled. What is not in the list was not imported."
    assert not models.select("new")
    assert not (models_folder() / "new.safetensors").exists()


@pytest.mark.gui
def test_offline_says_what_to_put_where(models: ModelsDock, remote: FakeRemote, qtbot: Any) -> None:
    remote.offline = True
    models.select(QUILT)
    models.download()
    idle(models, qtbot)
    assert models.banner.kind == "error"
    assert "offline" in models.banner.text
    assert "into the folder" in models.banner.text


@pytest.mark.gui
def test_import_and_remove(
    models: ModelsDock, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.import_from(own(tmp_path / "new.safetensors", title="New"))
    idle(models, qtbot)
    assert models.entry.key == "new"
    assert "Imported as 'new'" in models.banner.text
    asked = answer(models, monkeypatch, yes=False)
    models.remove_button.click()
    idle(models, qtbot)
    assert models.select("new")
    assert "can't be undone" in asked[0]
    answer(models, monkeypatch, yes=True)
    models.remove_button.click()
    idle(models, qtbot)
    assert not models.select("new")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    models.import_from(tmp_path / "bad.safetensors")
    idle(models, qtbot)
    assert "bad.safetensors" in models.banner.text


@pytest.mark.gui
def test_use_chooses_the_model_in_the_main_dock(models: ModelsDock, qtbot: Any) -> None:
    from napari_plimseg._widgets.docks import main_dock, open_main_dock

    models.select("glands")
    assert "Open the dock PLIMSeg first" in models.use_button.toolTip()
    dock = open_main_dock(models._viewer)
    assert main_dock(models._viewer) is open_main_dock(models._viewer) is dock
    models.refresh_state()
    models.use_button.click()
    assert dock.model_choice.name == "glands"
    assert dock.class_list.classes.names == ("gland", "rest")
    dock.controller.stop_and_wait()


def test_the_question_names_files_and_page(remote: FakeRemote) -> None:
    offer = ModelLibrary(remote).offer(QUILT)
    html = question_html(offer, "#1558b0")
    assert "https://huggingface.co/wisdomik/QuiltNet-B-16" in html
    assert CONFIG_FILE in html


@pytest.mark.gui
@pytest.mark.parametrize("variant", [VARIANTS[2], VARIANTS[17]], ids=lambda v: v.name)
def test_a_crafted_folder_is_refused_and_runs_nothing(
    models: ModelsDock, variant: Variant, tmp_path: Path, qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("napari_plimseg.models.importing.try_loading", try_here)
    template, marker = tmp_path / "template", tmp_path / "ran"
    write_clip(template, VIT, TEXT)
    models.import_from(craft(variant, template, tmp_path / "crafted", marker))
    idle(models, qtbot)
    assert "its setting" in models.banner.text
    assert str(tmp_path) not in models.banner.text
    assert not marker.exists()
    assert not (user_data_dir() / "encoders").exists()


@pytest.mark.gui
def test_a_model_asks_once_for_the_place_of_its_encoder(
    models: ModelsDock, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_plimseg.models.importing.try_loading", try_here)
    folder = tmp_path / "clip"
    encoder: Any = load_encoder(write_clip(folder, VIT, TEXT))
    own(models_folder() / "words.safetensors", encoder="local-dir",
        encoder_identity=encoder.identity, encoder_sha256=encoder.digest)  # fmt: skip
    (user_data_dir() / LIST_FILE).unlink()
    models.reload()
    idle(models, qtbot)
    assert models.select("words")
    assert (models.entry.state, models.entry.needs_place) == (EntryState.PARTIAL, "FOLDER")
    assert models.weights_action.isEnabled()
    assert "whose place is not known" in models.details.toPlainText()
    asked: list[str] = []

    def choose(_: Any, title: str) -> str:
        asked.append(title)
        return str(folder)

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", choose)
    models.weights_action.trigger()
    idle(models, qtbot)
    assert asked == ["Weights of the encoder"]
    assert models.select("words")
    assert models.entry.state is EntryState.READY
    assert not models.weights_action.isEnabled()
