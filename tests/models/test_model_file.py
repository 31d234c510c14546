"""The model file: what is written comes back, and anything else is refused whole."""

from __future__ import annotations

import importlib
import json
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save_file

from napari_plimseg import limits
from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.loading import load_encoder
from napari_plimseg.models.encoders.small import SmallBackbone
from napari_plimseg.models.library import Kind, list_models, models_folder
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.model_file import (
    HEADER_KEY,
    load_model_file,
    read_header,
    save_model,
)
from napari_plimseg.models.segmentation.seg_model import (
    save_segmentation_model,
    segmentation_header,
)
from napari_plimseg.models.segmentation.seg_net import SegNet
from napari_plimseg.models.segmentation.zero_shot import TEMPLATES, text_prototypes
from napari_plimseg.models.tensor_file import fits_into_memory, write_sealed
from napari_plimseg.models.weights import read_shapes, read_weights
from napari_plimseg.tissue import TissueClass, TissueClasses
from tests.support.bit_flips import CHANGED, GUARDS, REFUSED, SoundModel, flips, make_models
from tests.support.library import CLASSES, header, own, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path, prototypes = tmp_path / "own.safetensors", unit_vectors(2)
    save_model(path, header(), {"prototypes": prototypes})
    found, tensors = load_model_file(path)
    assert found == header()
    assert torch.equal(tensors["prototypes"], prototypes)
    assert [p.name for p in tmp_path.iterdir()] == ["own.safetensors"]


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"prototypes": unit_vectors(3)}, "2 classes and 3 prototypes"),
        ({"prototypes": unit_vectors(2)[0]}, "not those of its kind"),
        ({"weights": unit_vectors(2)}, "not those of its kind"),
        ({"prototypes": torch.full((2, 4), float("nan"))}, "not finite"),
        ({"prototypes": torch.ones(2, 4)}, "unit length"),
    ],
)
def test_wrong_tensors_are_refused_when_writing_and_when_reading(
    tmp_path: Path, tensors: dict[str, torch.Tensor], problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        save_model(tmp_path / "a.safetensors", header(), tensors)
    assert not list(tmp_path.iterdir())
    write_sealed(tmp_path / "b.safetensors", {HEADER_KEY: header().to_json()}, tensors)
    with pytest.raises(ModelError, match=problem):
        load_model_file(tmp_path / "b.safetensors")


HINTS = {"patch_encoder": {}, "decoder": {}, "resolutions": ["hr"], "frozen_inside": True}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": 3}, "its format is version 3"),
        ({"kind": "magic"}, "kind 'magic'"),
        ({"mpp": 0}, "pixel size of 0.0"),
        ({"mpp": "wide"}, "header is incomplete"),
        ({"patch_size": -1}, "patch size"),
        ({"classes": {"classes": []}}, "header is incomplete"),
        ({"mean": [1, 2]}, "header is incomplete"),
        ({"surprise": 1}, "header is incomplete"),
        ({"format_version": True}, "its format is version True"),
        ({"format_version": 2.0}, "its format is version 2.0"),
        ({"format_version": [2]}, "its format is version"),
        ({"kind": ["prototypes"]}, "'kind' is no text"),
        ({"classes": None}, "header is incomplete"),
        ({"classes": {"classes": [{"name": "x" * 2000}]}}, "has 2000 letters"),
        ({"encoder": None}, "'encoder' is no text"),
        ({"encoder": "x" * 5000}, "has 5000 letters"),
        ({"encoder_identity": 7}, "is no text"),
        ({"encoder_sha256": "abc"}, "is no SHA-256"),
        ({"mpp": True}, "'mpp' is no number"),
        ({"mpp": float("nan")}, "'mpp' is no number"),
        ({"patch_size": 224.5}, "patch size of 224.5"),
        ({"patch_size": 1 << 40}, "patch size"),
        ({"mean": ["a", "b", "c"]}, "'mean' is not three numbers"),
        ({"mean": [0, 0, float("inf")]}, "'mean' is not three numbers"),
        ({"mean": {"r": 1}}, "'mean' is not three numbers"),
        ({"std": [1, 0, 1]}, "'std' is not above 0"),
        ({"std": [1, -1, 1]}, "'std' is not above 0"),
        ({"std": [float("nan")] * 3}, "'std' is not three numbers"),
        ({"title": 5}, "'title' is no text"),
        ({"title": "x" * 501}, "has 501 letters"),
        ({"license": {}}, "'license' is no text"),
        ({"scores": [1]}, "'scores' is no table"),
        ({"scores": {"miou": "high"}}, "no number for 'miou'"),
        ({"scores": {"miou": float("nan")}}, "no number for 'miou'"),
        ({"versions": {"torch": 2}}, "'versions' is no text"),
        ({"network": [1]}, "'network' is no table"),
        ({"network": {"width": 1e12}}, "impossible number"),
        ({"network": {"many": [0] * 20_000}}, "too many entries"),
        *(
            ({"kind": "hints", "network": HINTS | {"resolutions": names}}, "'resolutions'")
            for names in ([], [["hr"]], [{}], ["hr", "hr"], ["hr", "x"], [None], [1])
        ),
    ],
)
def test_wrong_headers_are_refused_with_the_files_name(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    content = json.loads(header().to_json()) | change
    path = tmp_path / "odd.safetensors"
    write_sealed(path, {HEADER_KEY: json.dumps(content)}, {"prototypes": unit_vectors(2)})
    with pytest.raises(ModelError, match=problem) as caught:
        read_header(path)
    assert "odd.safetensors" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable model file"):
        read_header(path)


def test_weights_without_a_description_are_refused(tmp_path: Path) -> None:
    save_file({"prototypes": unit_vectors(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match="without a model's description"):
        load_model(tmp_path / "bare.safetensors")


def test_a_users_model_is_listed_and_loaded_by_its_name() -> None:
    encoder = load_encoder("bundled")
    own = header(encoder_identity=encoder.identity)
    prototypes = text_prototypes(CLASSES, encoder)  # type: ignore[arg-type]
    save_model(models_folder() / "glands.safetensors", own, {"prototypes": prototypes})
    (models_folder() / "odd.safetensors").write_bytes(b"no model")
    listed = {info.name: info for info in list_models()}
    assert listed["glands"].available
    assert listed["glands"].classes == CLASSES
    assert not listed["odd"].available
    assert "not a readable model file" in listed["odd"].reason
    model = load_model("glands")
    assert model.name == "Glands"
    assert model.classes == CLASSES
    other = TissueClasses((TissueClass("fat", (1, 1, 1)),))
    with pytest.raises(ModelError, match="made for other classes"):
        load_model("glands", other)


def test_a_model_of_other_encoder_weights_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "old.safetensors", header(), {"prototypes": unit_vectors(2)})
    with pytest.raises(ModelError, match="other weights of its encoder"):
        load_model(tmp_path / "old.safetensors")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="Known: bundled"):
        load_model("nothing-of-that-name")


class CountingEncoder:
    """Give each text a vector that says which word it was made of, and count the texts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += texts
        words = torch.tensor([[float("gland" in t), float("crypt" in t), 0.1] for t in texts])
        return words * 5  # not of unit length


def test_a_prototype_is_the_unit_mean_over_synonyms_and_templates() -> None:
    encoder = CountingEncoder()
    gland, _ = text_prototypes(CLASSES, encoder)
    assert gland.norm() == pytest.approx(1)
    assert gland[0] == pytest.approx(float(gland[1]))
    assert len(encoder.asked) == 3 * len(TEMPLATES)


def test_prompts_are_encoded_once() -> None:
    encoder = CountingEncoder()
    text_prototypes(CLASSES, encoder)
    before = len(encoder.asked)
    text_prototypes(CLASSES.with_class(TissueClass("{odd} %s", (9, 9, 9))), encoder)
    assert len(encoder.asked) == before + len(TEMPLATES)
    assert any("{odd} %s" in text for text in encoder.asked)


def test_a_flipped_bit_anywhere_in_a_small_model_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_model(path, header(title=""), {"prototypes": unit_vectors(2, 3)})
    sound = SoundModel.of(path)
    found = {sound.outcome(bit, tmp_path) for bit in range(0, sound.bits, 7)}  # of each byte one
    assert found == {REFUSED}


def test_flipped_bits_change_no_model_of_any_kind_unnoticed(tmp_path: Path) -> None:
    models = make_models(tmp_path)
    assert len(models) == 5
    found = {model.outcome(bit, tmp_path) for model, bit in flips(100, models, seed=5)}
    assert found == {REFUSED}


def test_without_the_checksum_most_flips_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, off = GUARDS["checksum"]
    path = tmp_path / "own.safetensors"
    save_model(path, header(), {"prototypes": unit_vectors(2)})
    sound = SoundModel.of(path)
    monkeypatch.setattr(f"{module}.{name}", off)
    assert sound.outcome(sound.bits - 30, tmp_path) == CHANGED  # the last mantissa


def test_each_guard_is_a_function_of_its_module() -> None:
    for module, name, _ in GUARDS.values():
        assert callable(getattr(importlib.import_module(module), name))


def test_the_same_model_gives_the_same_bytes_and_other_readers_open_them(tmp_path: Path) -> None:
    tensors = {"prototypes": unit_vectors(2)}
    for name in ("a", "b"):
        save_model(tmp_path / f"{name}.safetensors", header(), tensors)
    whole = (tmp_path / "a.safetensors").read_bytes()
    assert whole == (tmp_path / "b.safetensors").read_bytes()
    assert torch.equal(load(whole)["prototypes"], tensors["prototypes"])


def test_a_file_of_version_1_opens_without_a_checksum(tmp_path: Path) -> None:
    path, content = tmp_path / "old.safetensors", json.loads(header().to_json())
    del content["encoder_sha256"]
    tensors = {"prototypes": unit_vectors(2)}
    for version, problem in ((1, None), (2, "does not match its checksum")):
        content["format_version"] = version
        save_file(tensors, path, {HEADER_KEY: json.dumps(content)})
        if problem is None:
            assert load_model_file(path)[0].format_version == 1
        else:
            with pytest.raises(ModelError, match=problem):
                load_model_file(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 5000 + "1" + "}" * 5000,
        "[" * 100_000,
        '{"format_version": ' + "9" * 5000 + "}",
        '{"format_version": 2, "format_version": 2}',
        "[]",
        "null",
        '"\\ud800"',
        "",
    ],
    ids=["deep", "unclosed", "digits", "twice", "list", "nothing", "half a character", "empty"],
)
def test_headers_that_are_no_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.safetensors"
    write_sealed(path, {HEADER_KEY: text}, {"prototypes": unit_vectors(2)})
    with pytest.raises(ModelError, match=r"odd\.safetensors"):
        read_header(path)


def table(rows: dict[str, Any], data: int = 24) -> bytes:
    text = json.dumps(rows).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


ROW = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    "rows",
    [
        {"w": ROW | {"shape": [1 << 40, 1 << 40]}},
        {"w": ROW | {"shape": [2, 3], "data_offsets": [0, 1 << 45]}},
        {"w": ROW | {"shape": [-2, -3]}},
        {"w": ROW | {"shape": [2.0, 3]}},
        {"w": ROW | {"shape": [True, 6]}},
        {"w": ROW | {"shape": [1] * 40}},
        {"w": ROW | {"dtype": "C64"}},
        {"w": ROW | {"dtype": 7}},
        {"w": ROW | {"data_offsets": [0, 12, 24]}},
        {"w": ROW | {"more": 1}},
        {"w": [1]},
        {"w": ROW, "v": ROW},
        {"w": ROW | {"shape": [1, 3], "data_offsets": [0, 12]}},
        {"w": ROW, "__metadata__": {"plimseg": 5}},
        {"w": ROW, "__metadata__": "text"},
    ],
)
def test_tables_that_do_not_match_the_file_are_refused(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(table(rows))
    for read in (read_header, read_weights, read_shapes):
        with pytest.raises(ModelError, match=r"odd\.safetensors.*not readable|not a readable"):
            read(path)


def test_a_header_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 20 << 20))
        file.truncate(21 << 20)
    with pytest.raises(ModelError, match="limit 'header-bytes'"):
        read_header(path)
    with limits.changed(["model-bytes=1000"]):
        save_model(path, header(), {"prototypes": unit_vectors(2)})
        assert read_header(path).title == "Glands"
        with pytest.raises(ModelError, match="limit 'model-bytes'"):
            load_model_file(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
KEYS = sorted(json.loads(header().to_json()))


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3), st.binary(max_size=200))
def test_any_header_is_read_or_refused_with_our_error(
    tmp_path: Path, change: dict[str, Any], noise: bytes
) -> None:
    path = tmp_path / "odd.safetensors"
    content = json.loads(header().to_json()) | change
    whole = table({"w": ROW, "__metadata__": {HEADER_KEY: json.dumps(content)}})
    for each in (whole, noise, whole[: len(noise)], whole[:8] + noise):
        path.write_bytes(each)
        try:
            found = read_header(path)
        except ModelError as error:
            assert "odd.safetensors" in str(error)  # noqa: PT017
        else:
            assert found.to_json()


def test_scores_without_a_value_in_old_files_are_left_out(tmp_path: Path) -> None:
    path, content = tmp_path / "old.safetensors", json.loads(header().to_json())
    content |= {"format_version": 1, "scores": {"mIoU": float("nan"), "Dice": 50.0}}
    del content["encoder_sha256"]
    save_file({"prototypes": unit_vectors(2)}, path, {HEADER_KEY: json.dumps(content)})
    assert read_header(path).scores == {"Dice": 50.0}


def test_a_model_beyond_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own(tmp_path / "large.safetensors")
    monkeypatch.setattr("napari_plimseg.models.tensor_file.free_memory", lambda: 1000)
    with pytest.raises(
        ModelError, match=r"'large\.safetensors': does not fit into memory"
    ) as caught:
        load_model(path)
    assert "Close other programs" in str(caught.value)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")]
)
def test_exhausted_memory_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = own(tmp_path / "large.safetensors")

    def exhausted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("napari_plimseg.models.model_file.read_tensors", exhausted)
    with pytest.raises(ModelError, match=r"'large\.safetensors': does not fit into memory"):
        load_model(path)
    with pytest.raises(RuntimeError, match="shapes"), fits_into_memory(path):
        raise RuntimeError("shapes differ")  # another error stays itself


def test_models_without_a_checksum_are_listed_with_a_note(tmp_path: Path) -> None:
    own(models_folder() / "new.safetensors")
    whole = (models_folder() / "new.safetensors").read_bytes()
    tensors = load(whole)
    content = json.loads(header().to_json()) | {"format_version": 1}
    save_file(tensors, models_folder() / "old.safetensors", {HEADER_KEY: json.dumps(content)})
    listed = {entry.key: entry for entry in list_models()}
    assert "No checksum: made before" in listed["old"].note
    assert "No checksum: made before" in listed["old"].description
    assert listed["new"].note == ""
    assert "checksum" not in listed["new"].description
    assert all(entry.note == "" for entry in listed.values() if entry.kind is Kind.BUNDLED)


def test_a_network_of_gigabytes_in_a_header_takes_no_memory(tmp_path: Path) -> None:
    backbone = SmallBackbone((8, 8, 8), (2, 2, 2))
    head = SegNet(backbone.block_channels, backbone.strides, len(CLASSES), 16)
    about = segmentation_header(
        backbone, CLASSES, width=16, mpp=0.5, patch_size=224, backbone_inside=True
    )
    path = tmp_path / "huge.safetensors"
    save_segmentation_model(path, about, backbone, head)
    large = {"architecture": "small", "channels": [1024] * 3, "depths": [32] * 3}
    network = dict(about.network) | {"backbone": large}
    write_sealed(
        path, {HEADER_KEY: replace(about, network=network).to_json()}, load(path.read_bytes())
    )
    before = psutil.Process().memory_info().rss
    with pytest.raises(ModelError, match=r"'huge\.safetensors'.*is missing"):
        load_model(path)
    assert psutil.Process().memory_info().rss - before < 300 << 20  # it would be 7 GB
