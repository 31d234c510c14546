"""The library: what is listed, imported, fetched and removed, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx2
import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from napari_plimseg.errors import ModelError
from napari_plimseg.models import downloads, importing, library
from napari_plimseg.models.downloads import PART_SUFFIX, HubRemote, RemoteFile, fetch, part_path
from napari_plimseg.models.encoders.cards import (
    CARDS,
    CONFIG_FILE,
    WEIGHT_FILES,
    encoders_folder,
    folder_of,
)
from napari_plimseg.models.importing import import_model, import_weights
from napari_plimseg.models.library import EntryState, Kind, ModelLibrary, Task
from napari_plimseg.models.loading import load_model
from tests.support.library import (
    CONFIG,
    QUILT,
    WEIGHTS,
    FakeRemote,
    card,
    own,
    put_files,
    safetensors_bytes,
    take,
    try_here,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def trial_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_plimseg.models.importing.try_loading", try_here)


@pytest.fixture
def remote() -> FakeRemote:
    return FakeRemote({CONFIG_FILE: CONFIG, WEIGHT_FILES[1]: WEIGHTS})


def test_everything_is_listed_once_and_without_a_network() -> None:
    entries = ModelLibrary(FakeRemote(offline=True)).entries()
    assert len({e.key for e in entries}) == len(entries)
    assert (entries[0].kind, entries[0].state) == (Kind.BUNDLED, EntryState.READY)
    assert (entries[1].kind, entries[1].state) == (Kind.BUNDLED, EntryState.READY)
    assert (entries[2].kind, entries[2].state) == (Kind.BUNDLED, EntryState.READY)
    assert (entries[3].kind, entries[3].state) == (Kind.BUNDLED, EntryState.READY)
    assert {e.key for e in entries[4:]} == {c.title for c in CARDS if not c.is_bundled}
    for entry in entries[4:]:
        assert entry.state is EntryState.NOT_HERE
        assert str(encoders_folder()) in entry.reason
        assert entry.license
        assert entry.downloadable == bool(entry.page)
    assert ModelLibrary().entry("conch").gated
    assert not ModelLibrary().entry("UNI").makes_masks


def put_into_the_hub_s_cache(
    repository: str, names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / f"models--{repository.replace('/', '--')}"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("c0ffee")
    (cache / "snapshots" / "c0ffee").mkdir(parents=True)
    for name in names:
        (cache / "snapshots" / "c0ffee" / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("nothing", EntryState.NOT_HERE),
        ("downloaded", EntryState.READY),
        ("damaged", EntryState.DAMAGED),
        ("partial", EntryState.PARTIAL),
        ("cached", EntryState.READY),
        ("partly cached", EntryState.NOT_HERE),
        ("cached and damaged", EntryState.DAMAGED),
    ],
)
def test_the_list_and_the_library_agree_on_encoders(
    how: str, state: EntryState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if how == "downloaded":
        put_files(QUILT, safetensors_bytes(tmp_path))
    if "damaged" in how:
        put_files(QUILT, b"no tensors")
    if how == "partial":
        put_files(QUILT)
        (folder_of(card(QUILT)) / WEIGHT_FILES[0]).unlink()
    if "cached" in how:
        names = [CONFIG_FILE] if how.startswith("partly") else [CONFIG_FILE, WEIGHT_FILES[1]]
        put_into_the_hub_s_cache(card(QUILT).repository, names, monkeypatch, tmp_path / "cache")
    (listed,) = (entry for entry in library.list_models() if entry.title == QUILT)
    assert listed == ModelLibrary().entry(QUILT)
    assert (listed.state, listed.available) == (state, state is EntryState.READY)
    assert listed.name == "hf-hub:wisdomik/QuiltNet-B-16"


def test_the_list_and_the_library_agree_on_models() -> None:
    own(library.models_folder() / "good.safetensors")
    (library.models_folder() / "odd.safetensors").write_bytes(b"no model")
    own(library.models_folder() / "lost.safetensors", encoder="timm:x=/nowhere/x.pt")
    put_files("PLIP", b"older torch files have no directory")
    imported = encoders_folder() / "mine"
    imported.mkdir()
    (imported / CONFIG_FILE).write_bytes(CONFIG)
    entries = ModelLibrary().entries()
    listed = library.list_models()
    assert [e for e in entries if e in listed] == listed
    assert {e.key: e.state for e in listed if e.kind is Kind.OWN} == {
        "good": EntryState.READY, "odd": EntryState.DAMAGED, "lost": EntryState.PARTIAL,
    }  # fmt: skip
    assert {"PLIP", "mine", "bundled"} <= {e.key for e in listed}
    assert not {"PathCLIP", "UNI", "bundled-hints"} & {e.key for e in listed}
    assert all(e.task is Task.MASKS for e in listed)
    (promptable,) = library.list_promptable_models()
    assert promptable in entries
    assert (promptable.key, promptable.task) == ("bundled-hints", Task.PROMPTS)


@pytest.mark.parametrize(
    "change",
    [{"key": ""}, {"name": ""}, {"reason": "why"}, {"state": EntryState.DAMAGED}, {"mpp": 0.0},
     {"downloadable": True}, {"size_bytes": -1}],
)  # fmt: skip
def test_an_entry_checks_itself(change: dict[str, object]) -> None:
    plain = ModelLibrary().entry("bundled")
    with pytest.raises(ValueError):
        replace(plain, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["nothing", ""])
def test_an_unknown_key_lists_the_known_ones(key: str) -> None:
    with pytest.raises(ModelError, match="Known: bundled"):
        ModelLibrary().entry(key)


def test_own_models_tell_their_scores_and_history() -> None:
    own(library.models_folder() / "glands.safetensors", scores={"miou": 0.5})
    entry = ModelLibrary().entry("glands")
    assert (entry.kind, entry.state, entry.removable) == (Kind.OWN, EntryState.READY, True)
    assert entry.scores == {"miou": 0.5}
    assert entry.history["encoder"] == "bundled"
    assert entry.history["made with torch"] == torch.__version__


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b"", lambda b: b"\x80\x04" + b])
def test_a_damaged_own_model_is_listed_with_what_is_wrong(
    damage: Callable[[bytes], bytes],
) -> None:
    path = own(library.models_folder() / "glands.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    entry = ModelLibrary().entry("glands")
    assert entry.state is EntryState.DAMAGED
    assert "not a readable model file" in entry.reason
    ModelLibrary().remove("glands")
    assert not path.exists()


@pytest.mark.parametrize(
    ("title", "content", "state", "says"),
    [
        ("PLIP", b"PK not a zip", EntryState.DAMAGED, "damaged or cut off"),
        ("PLIP", b"", EntryState.DAMAGED, "damaged or cut off"),
        ("PLIP", b"older torch files have no directory", EntryState.READY, ""),
        ("QuiltNet B-32", b"no safetensors", EntryState.DAMAGED, "damaged or cut off"),
        ("QuiltNet B-32", None, EntryState.READY, ""),
        ("CONCH", b"tensors", EntryState.PARTIAL, "conch_byte_level_bpe_uncased.json"),
    ],
)
def test_files_put_there_by_hand_count(
    title: str, content: bytes | None, state: EntryState, says: str, tmp_path: Path
) -> None:
    put_files(title, safetensors_bytes(tmp_path) if content is None else content)
    entry = ModelLibrary().entry(title)
    assert entry.state is state
    assert says in entry.reason
    assert entry.available == (state is EntryState.READY)
    assert not entry.downloadable  # a damaged one is removed first, a file by hand is no download
    listed = {info.title for info in library.list_models() if info.available}
    assert (title in listed) == (state is EntryState.READY)


def test_a_download_ends_with_a_ready_encoder(remote: FakeRemote) -> None:
    models = ModelLibrary(remote)
    offer = models.offer(QUILT)
    assert [f.name for f in offer.files] == [CONFIG_FILE, WEIGHT_FILES[1]]
    assert offer.size_bytes == len(CONFIG) + len(WEIGHTS)
    steps = list(models.download(offer))
    assert steps[-1].bytes_done == steps[-1].bytes_total == offer.size_bytes
    entry = models.entry(QUILT)
    assert entry.state is EntryState.READY
    assert entry.name == "hf-hub:wisdomik/QuiltNet-B-16"
    assert sorted(p.name for p in folder_of(card(QUILT)).iterdir()) == sorted(remote.files)
    remote.asked.clear()
    assert list(models.download(offer)) == []
    assert not remote.asked


@pytest.mark.parametrize("how", ["cancelled", "connection lost"])
def test_an_interrupted_download_goes_on_where_it_stopped(
    remote: FakeRemote, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_REPORT_BYTES", 1000)
    models = ModelLibrary(remote)
    offer = models.offer(QUILT)
    if how == "cancelled":
        steps = models.download(offer)
        for progress in steps:
            if progress.bytes_done > len(WEIGHTS) // 2:
                break
        steps.close()
    else:
        remote.break_after = len(WEIGHTS) // 2
        with pytest.raises(ModelError, match="connection was lost") as caught:
            list(models.download(offer))
        assert str(folder_of(card(QUILT))) in str(caught.value)
    entry = models.entry(QUILT)
    assert entry.state is EntryState.PARTIAL
    assert "press Download to resume it" in entry.reason
    assert not (folder_of(card(QUILT)) / WEIGHT_FILES[1]).exists()
    with pytest.raises(ModelError, match="not on this computer"):
        load_model("hf-hub:wisdomik/QuiltNet-B-16")
    remote.break_after = None
    remote.asked.clear()
    list(models.download(models.offer(QUILT)))
    ((name, start),) = remote.asked
    assert name == WEIGHT_FILES[1]
    assert start > len(WEIGHTS) // 3
    assert (folder_of(card(QUILT)) / name).read_bytes() == WEIGHTS
    assert not list(folder_of(card(QUILT)).glob(f"*{PART_SUFFIX}"))


def test_a_wrong_checksum_is_refused_and_deleted(remote: FakeRemote) -> None:
    remote.lie = True
    models = ModelLibrary(remote)
    with pytest.raises(ModelError, match=r"checksum of 'open_clip_config\.json'.*was deleted"):
        list(models.download(models.offer(QUILT)))
    assert not list(folder_of(card(QUILT)).iterdir())
    assert models.entry(QUILT).state is EntryState.NOT_HERE


def test_a_part_of_an_earlier_version_is_not_continued(remote: FakeRemote, tmp_path: Path) -> None:
    old = remote.find("r", CONFIG_FILE)
    assert old is not None
    new = replace(old, digest="sha256:" + "0" * 64)
    assert part_path(tmp_path, old) != part_path(tmp_path, new)
    part_path(tmp_path, new).write_bytes(b"old")
    list(fetch(remote, [old], tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == [CONFIG_FILE]


@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_is_told(
    remote: FakeRemote, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    models = ModelLibrary(remote)
    offer = models.offer(QUILT)
    if before:
        full = shutil.disk_usage("/")._replace(free=10 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
        says = "10 MB free and this download needs"
    else:

        def no_space(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(downloads.os, "fsync", no_space)
        says = "disk is full; the unfinished download is kept"
    with pytest.raises(ModelError, match=says):
        list(models.download(offer))
    assert models.entry(QUILT).state is not EntryState.READY


@pytest.mark.parametrize(
    ("title", "remote", "says"),
    [
        (QUILT, FakeRemote(offline=True), "offline"),
        (QUILT, FakeRemote(), "has no file 'open_clip_config.json'"),
        ("PathGen-CLIP", FakeRemote(), "can't be downloaded"),
        ("bundled", FakeRemote(), "can't be downloaded"),
    ],
)
def test_what_can_not_be_fetched_says_what_to_put_where(
    title: str, remote: FakeRemote, says: str
) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        ModelLibrary(remote).offer(title)
    if title != "bundled":
        assert f"into the folder {folder_of(card(title))}" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "a\\b"])
def test_remote_names_stay_in_the_folder(name: str) -> None:
    with pytest.raises(ModelError):
        RemoteFile("r", name, "u", 1)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("bundled", "belongs to the plugin"),
        ("bundled-tissue", "belongs to the plugin"),
        (QUILT, "not on this computer"),
    ],
)
def test_what_is_not_the_user_s_is_not_removed(key: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        ModelLibrary().remove(key)


def test_removing_a_fetched_encoder_frees_its_folder(remote: FakeRemote) -> None:
    models = ModelLibrary(remote)
    list(models.download(models.offer(QUILT)))
    models.remove(QUILT)
    assert models.entry(QUILT).state is EntryState.NOT_HERE
    assert not list(encoders_folder().iterdir())


def test_a_model_file_is_imported_whole_and_gets_a_free_name(tmp_path: Path) -> None:
    first = own(tmp_path / "a" / "glands.safetensors")
    assert take(import_model(first)) == "glands"
    with pytest.raises(ModelError, match=r"already.*called 'glands'"):
        take(import_model(first))
    second = own(tmp_path / "b" / "Glands.safetensors", title="other")
    assert take(import_model(second)) == "Glands-2"
    third = own(tmp_path / "bundled.safetensors", title="third")
    assert take(import_model(third)) == "bundled-2"
    assert {e.key for e in ModelLibrary().entries() if e.kind is Kind.OWN} == {
        "glands", "Glands-2", "bundled-2",
    }  # fmt: skip
    assert (library.models_folder() / "glands.safetensors").read_bytes() == first.read_bytes()


def test_a_folder_is_imported_with_all_its_models_or_none(tmp_path: Path) -> None:
    own(tmp_path / "one.safetensors", title="1")
    own(tmp_path / "two.safetensors", title="2")
    save_file({"w": torch.zeros(1)}, tmp_path / "checkpoint.safetensors")
    assert take(import_model(tmp_path)) == "two"
    assert len([e for e in ModelLibrary().entries() if e.kind is Kind.OWN]) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.safetensors", b"", "not a readable model file"),
        ("x.safetensors", None, "without a model's description"),
        ("x.pt", b"\x80\x04garbage", "not a readable weight file|more than tensors"),
        ("x.txt", b"text", "is not a model file"),
        ("folder", b"", "has no model"),
        ("missing.safetensors", b"", "does not exist"),
    ],
)
def test_what_is_no_model_is_refused(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif content is None:
        save_file({"w": torch.zeros(1)}, path)
    elif not name.startswith("missing"):
        path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        take(import_model(path))
    assert not library.models_folder().exists()


def test_a_bit_flip_in_the_tensors_is_found_before_copying(tmp_path: Path) -> None:
    path = own(tmp_path / "m.safetensors")
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="does not match its checksum"):
        take(import_model(path))
    assert not library.models_folder().exists()


def test_a_disk_that_fills_while_copying_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(importing.shutil, "copyfile", no_space)
    with pytest.raises(ModelError, match="disk is full; nothing was imported"):
        take(import_model(own(tmp_path / "m.safetensors")))
    assert not list(library.models_folder().iterdir())


def test_weights_of_an_encoder_are_checked_before_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "uni.pt"
    torch.save({"weight": torch.zeros(2)}, path)

    def refuse(name: str, kind: str, place: Path) -> Iterator[None]:
        yield
        raise ModelError("its tensors are those of another network", path=path)

    monkeypatch.setattr(importing, "try_loading", refuse)
    with pytest.raises(ModelError, match="another network"):
        take(import_weights("UNI", path))
    assert not folder_of(card("UNI")).exists()
    loaded: list[str] = []

    def accept(name: str, kind: str, place: Path) -> Iterator[None]:
        loaded.append(name)
        yield

    monkeypatch.setattr(importing, "try_loading", accept)
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert take(import_weights("UNI", path)) == "UNI"
    assert loaded == [f"timm:vit_large_patch16_224={path}"]
    entry = ModelLibrary().entry("UNI")
    assert entry.state is EntryState.READY
    assert entry.name == f"timm:vit_large_patch16_224={folder_of(card('UNI')) / 'uni.pt'}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[httpx2.Request]]:
    """The hub, answered by a function of this process."""
    seen: list[httpx2.Request] = []
    digest = hashlib.sha256(WEIGHTS).hexdigest()

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        path = request.url.path
        if "gated" in path:
            return httpx2.Response(
                403, headers={"X-Error-Code": "GatedRepo"}, request=request, json={}
            )
        if "unreachable" in path:
            raise httpx2.ConnectError("no route to host", request=request)
        if "broken" in path:
            return httpx2.Response(500, request=request)
        if not path.endswith("weights.bin"):
            code = {"X-Error-Code": "EntryNotFound"}
            return httpx2.Response(404, headers=code, request=request)
        headers = {
            "ETag": f'"{digest}"', "X-Repo-Commit": "c0ffee", "Content-Length": str(len(WEIGHTS)),
        }  # fmt: skip
        if request.method == "HEAD":
            return httpx2.Response(200, headers=headers, request=request)
        wanted = request.headers.get("Range")
        if wanted and "no-ranges" not in path:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            return httpx2.Response(206, content=WEIGHTS[start:], request=request)
        return httpx2.Response(200, content=WEIGHTS, request=request)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    huggingface_hub.set_client_factory(
        lambda: httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    yield seen
    huggingface_hub.close_session()
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.mark.parametrize("repository", ["org/plain", "org/no-ranges"])
def test_the_hub_is_asked_for_the_rest_of_a_file(
    hub: list[httpx2.Request], tmp_path: Path, repository: str
) -> None:
    remote = HubRemote()
    file = remote.find(repository, "weights.bin")
    assert file is not None
    assert (file.size, file.digest[:7]) == (len(WEIGHTS), "sha256:")
    assert "c0ffee" in file.url
    part_path(tmp_path, file).write_bytes(WEIGHTS[:5000])
    list(fetch(remote, [file], tmp_path))
    assert (tmp_path / "weights.bin").read_bytes() == WEIGHTS
    assert hub[-1].headers["Range"] == "bytes=5000-"


@pytest.mark.parametrize(
    ("repository", "says"),
    [
        ("org/gated", "not given your account access yet"),
        ("org/unreachable", "seems to be offline"),
        ("org/broken", "answered 500"),
    ],
)
def test_refusals_of_the_hub_are_sentences(
    hub: list[httpx2.Request], repository: str, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        HubRemote().find(repository, "weights.bin")


def test_a_file_that_the_hub_has_not_is_none(hub: list[httpx2.Request]) -> None:
    assert HubRemote().find("org/plain", "other.bin") is None


def test_whatever_is_in_the_folder_of_models_the_list_is_shown(tmp_path: Path) -> None:
    folder = library.models_folder()
    own(folder / "good.safetensors")
    (folder / "folder.safetensors").mkdir()
    (folder / "lost.safetensors").symlink_to(tmp_path / "nowhere")
    (folder / "odd.safetensors").write_bytes(b"\xff" * 100)
    (folder / ".partial-x.safetensors").write_bytes(b"half")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.safetensors")
    states = {e.key: e.state for e in ModelLibrary().entries() if e.kind is Kind.OWN}
    assert states.pop("good") is EntryState.READY
    assert set(states) >= {"folder", "lost", "odd"}
    assert set(states.values()) == {EntryState.DAMAGED}


def test_a_file_that_changes_after_its_check_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own(tmp_path / "m.safetensors")

    def swapped(name: str, kind: str, place: Path) -> Iterator[None]:
        yield
        own(path, title="another")

    monkeypatch.setattr(importing, "try_loading", swapped)
    with pytest.raises(ModelError, match="changed while it was copied"):
        take(import_model(path))
    assert not list(library.models_folder().glob("*"))
