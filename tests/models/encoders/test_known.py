"""Encoders that the user has named once are found again by the hash of their weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_plimseg.cli import main
from napari_plimseg.errors import ModelError
from napari_plimseg.files import sha256, user_data_dir
from napari_plimseg.models.encoders.cards import EncoderName, encoders_folder
from napari_plimseg.models.encoders.known import (
    LIST_FILE,
    KnownEncoder,
    find_encoder,
    is_known,
    known_encoders,
    remember,
)
from napari_plimseg.models.encoders.loading import load_backbone, load_encoder
from napari_plimseg.models.importing import import_model, import_weights
from napari_plimseg.models.library import EntryState, ModelLibrary, models_folder
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.model_file import HEADER_KEY, read_header, save_model
from napari_plimseg.models.tensor_file import write_sealed
from tests.support.clips import TEXT, VIT, write_clip
from tests.support.library import header

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_plimseg.models.model_file import ModelHeader

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known") / "clip"
    write_clip(folder, VIT, TEXT)
    return folder


def words(folder: Path, **changes: Any) -> tuple[ModelHeader, dict[str, torch.Tensor]]:
    """Return a model of words on the encoder of a folder."""
    encoder: Any = load_encoder(f"local-dir:{folder}")
    about = header(
        encoder="local-dir", encoder_identity=encoder.identity,
        encoder_sha256=encoder.digest, **changes,
    )  # fmt: skip
    count = len(about.classes)
    return about, {"prototypes": torch.eye(count, encoder.encode_text(["fat"]).shape[1])}


def run(steps: Generator[str, None, str]) -> str:
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        found: str = stop.value
        return found


def forget() -> None:
    (user_data_dir() / LIST_FILE).unlink(missing_ok=True)


def as_version_1(path: Path, encoder: str, about: ModelHeader, tensors: dict[str, Any]) -> None:
    """Write a file as before version 2: its encoder is a name with a path, without a hash."""
    content = json.loads(replace(about, encoder=encoder, encoder_sha256="").to_json())
    content.pop("encoder_sha256", None)
    content["format_version"] = 1
    save_file(tensors, path, {HEADER_KEY: json.dumps(content)})


def test_a_model_finds_its_encoder_by_hash_wherever_it_is_now(clip: Path, tmp_path: Path) -> None:
    about, tensors = words(clip)
    path = tmp_path / "words.safetensors"
    save_model(path, about, tensors)
    assert load_model(path).name == about.title
    forget()
    with pytest.raises(ModelError, match=r"needs the encoder 'local-dir' \(weights ") as caught:
        load_model(path)
    assert "plimseg models import local-dir:FOLDER" in str(caught.value)
    moved = tmp_path / "elsewhere" / "of mine"
    shutil.copytree(clip, moved)
    assert main(["models", "import", f"local-dir:{moved}"]) == 0
    assert load_model(path).name == about.title
    shutil.rmtree(moved)
    with pytest.raises(ModelError, match="whose place is not known"):
        load_model(path)


def test_the_copy_of_an_import_is_found_without_the_list(clip: Path, tmp_path: Path) -> None:
    about, tensors = words(clip)
    path = tmp_path / "words.safetensors"
    save_model(path, about, tensors)
    forget()
    key = run(import_model(clip))
    assert known_encoders()[0].name == f"local-dir:{encoders_folder() / key}"
    forget()
    name = find_encoder("local-dir", about.encoder_sha256)
    assert name == f"local-dir:{encoders_folder() / key}"


def test_the_place_in_an_old_file_is_never_followed(clip: Path, tmp_path: Path) -> None:
    about, tensors = words(clip)
    path = models_folder() / "old.safetensors"
    path.parent.mkdir(parents=True)
    as_version_1(path, f"local-dir:{clip}", about, tensors)
    assert read_header(path).encoder == f"local-dir:{clip}"
    assert load_model("old").name == about.title, "known by its identity"
    forget()
    with pytest.raises(ModelError, match=r"\(identity .*whose place is not known"):
        load_model("old")
    entry = ModelLibrary().entry("old")
    assert (entry.state, entry.needs_place) == (EntryState.PARTIAL, "FOLDER")
    assert "Import > Weights of the selected encoder" in entry.reason
    assert str(clip) not in entry.reason
    other = tmp_path / "other"
    shutil.copytree(clip, other)
    state = {name: tensor + 1 for name, tensor in load_file(clip / WEIGHTS).items()}
    save_file(state, other / WEIGHTS)
    forget()
    with pytest.raises(ModelError, match="not the weights of its encoder"):
        run(import_weights("old", other))
    assert run(import_weights("old", clip / WEIGHTS)) == "old", "the folder of a file does too"
    assert ModelLibrary().entry("old").state is EntryState.READY
    assert load_model("old").name == about.title


def test_a_model_asks_once_for_the_place_and_checks_the_hash(clip: Path, tmp_path: Path) -> None:
    about, tensors = words(clip)
    save_model(models_folder() / "words.safetensors", about, tensors)
    forget()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="no weights of this encoder are there"):
        run(import_weights("words", empty))
    (empty / WEIGHTS).write_bytes(b"something else")
    with pytest.raises(ModelError, match="not the weights of the encoder of 'words'"):
        run(import_weights("words", empty))
    assert main(["models", "import", str(clip), "--encoder", "words"]) == 0
    assert ModelLibrary().entry("words").available
    with pytest.raises(ModelError, match="there is no encoder 'words'"):
        run(import_weights("words", clip))


def test_other_weights_at_a_known_place_are_refused(clip: Path, tmp_path: Path) -> None:
    moved = tmp_path / "clip"
    shutil.copytree(clip, moved)
    about, tensors = words(moved)
    path = tmp_path / "words.safetensors"
    save_model(path, about, tensors)
    state = {
        k: v.clone() for k, v in load_encoder(f"local-dir:{clip}").network.state_dict().items()
    }  # type: ignore[attr-defined]
    forget()
    remember(EncoderName("local-dir", place=str(moved)), about.encoder_sha256)
    state["logit_scale"] += 1
    save_file(state, moved / WEIGHTS)  # of the same size
    with pytest.raises(ModelError, match=r"it needs \w{12}…, and these are"):
        load_model(path)


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "[]", "{}", "\x00", '{"encoders": 3}', '{"encoders": [3, null, {}, [[]]]}',
        '{"encoders": [{"name": "local-dir:/x", "weights_sha256": 3, "identities": []}]}',
        '{"encoders": [{"name": "ftp:/x", "weights_sha256": "", "identities": []}]}',
        '{"encoders": [{"name": "bundled", "weights_sha256": "", "identities": []}]}',
        '{"encoders": ' + "[" * 5000,
    ],
)  # fmt: skip
def test_a_damaged_list_is_an_empty_one(text: str, clip: Path) -> None:
    place = user_data_dir() / LIST_FILE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    assert known_encoders() == []
    with pytest.raises(ModelError, match="whose place is not known"):
        find_encoder("local-dir", "0" * 64)
    load_backbone(f"local-dir:{clip}")
    (known,) = known_encoders()
    assert known.weights_sha256 == sha256(clip / WEIGHTS)
    assert len(known.identities) == 2, "as an encoder and as a backbone"


def test_a_list_that_can_not_be_written_hinders_nothing(clip: Path) -> None:
    (user_data_dir() / LIST_FILE).mkdir(parents=True)
    assert load_encoder(f"local-dir:{clip}").stride == 16


def test_names_and_hashes_are_checked() -> None:
    good = KnownEncoder("timm:x=/a/b.pt", "0" * 64)
    for change in ({"name": "timm:x"}, {"weights_sha256": "0"}, {"identities": ("x",)},
                   {"size": -1}, {"modified_ns": 1.5}):  # fmt: skip
        with pytest.raises(ModelError):
            replace(good, **change)
    assert is_known("bundled", "", "")
    assert is_known("no encoder", "", ""), "loading it says what is wrong"
    assert not is_known("timm:x=/a/b.pt", "0" * 64, "")
    assert find_encoder("random:densenet121") == "random:densenet121"


def test_a_path_in_the_header_of_version_2_is_ignored(clip: Path, tmp_path: Path) -> None:
    about, tensors = words(clip)
    forget()
    path = tmp_path / "words.safetensors"
    content = replace(about, encoder=f"local-dir:{clip}").to_json()
    write_sealed(path, {HEADER_KEY: content}, tensors)
    with pytest.raises(ModelError, match=r"whose place is not known|encoder"):
        load_model(path)
