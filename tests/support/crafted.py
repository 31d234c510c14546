"""Folders and files that would run code or connect if a configuration were believed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PUBMED = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
class Evil:
    def __init__(self, *_, **__): pass
    @classmethod
    def from_pretrained(cls, *_, **__): return cls()
EvilModel = EvilConfig = EvilTokenizer = Evil
"""


class Payload:
    """Leaves a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self.marker).touch, (self.marker,))


@dataclass(frozen=True)
class Variant:
    """A crafted folder of open_clip.

    Parameters
    ----------
    name : str
    change : callable
        Changes the configuration and the folder.
    is_harmless : bool
        Whether the folder loads, because what was added is never looked at.
    """

    name: str
    change: Callable[[dict[str, Any], Path], object]
    is_harmless: bool = False


def add_code(folder: Path, marker: Path) -> None:
    """Put modules with a payload, and all the files that name them, into a folder."""
    for name in ("evil", "modeling_evil", "configuration_evil", "tokenization_evil", "hubconf",
                 "__init__", "open_clip", "conftest", "sitecustomize"):  # fmt: skip
        (folder / f"{name}.py").write_text(CODE.format(marker=str(marker)))
    code = {"AutoConfig": "configuration_evil.EvilConfig", "AutoModel": "modeling_evil.EvilModel",
            "AutoTokenizer": ["tokenization_evil.EvilTokenizer", None]}  # fmt: skip
    (folder / "config.json").write_text(
        json.dumps({
            "model_type": "evil", "architectures": ["EvilModel"], "auto_map": code,
            "architecture": "vit_tiny_patch16_224", "trust_remote_code": True,
            "pretrained_cfg": {"custom_load": True, "file": "evil.bin", "url": "http://evil.example"},
        })
    )  # fmt: skip
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "EvilTokenizer", "auto_map": code, "trust_remote_code": True}
        )
    )
    torch.save(Payload(marker), folder / "evil.bin")


def _set(*path: str, value: Any) -> Callable[[dict[str, Any], Path], None]:
    """Return a change that sets one setting; "{folder}" in a text is the folder."""

    def change(config: dict[str, Any], folder: Path) -> None:
        inner = config
        for key in path[:-1]:
            inner = inner[key]
        text = json.dumps(value).replace("{folder}", str(folder))
        inner[path[-1]] = json.loads(text)

    return change


def _text(**settings: Any) -> Callable[[dict[str, Any], Path], None]:
    def change(config: dict[str, Any], folder: Path) -> None:
        for key, value in settings.items():
            _set("model_cfg", "text_cfg", key, value=value)(config, folder)

    return change


def _vision(**settings: Any) -> Callable[[dict[str, Any], Path], None]:
    def change(config: dict[str, Any], folder: Path) -> None:
        for key, value in settings.items():
            _set("model_cfg", "vision_cfg", key, value=value)(config, folder)

    return change


def _model(**settings: Any) -> Callable[[dict[str, Any], Path], None]:
    def change(config: dict[str, Any], folder: Path) -> None:
        for key, value in settings.items():
            _set("model_cfg", key, value=value)(config, folder)

    return change


def _replaced(text: str) -> Callable[[dict[str, Any], Path], str]:
    """Return a change that writes another text as the configuration."""
    return lambda config, folder: text


def _weights(payload: Callable[[Path], None]) -> Callable[[dict[str, Any], Path], None]:
    return lambda config, folder: payload(folder)


def _pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save(Payload(folder / "marker"), folder / "open_clip_pytorch_model.bin")


def _pickle_named_safetensors(folder: Path) -> None:
    torch.save(Payload(folder / "marker"), folder / WEIGHTS)


def _few_tensors(folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, folder / WEIGHTS)


_REMOTE = {"trust_remote_code": True, "local_files_only": False}
VARIANTS = (
    Variant("code beside it", lambda config, folder: None, is_harmless=True),
    Variant("auto_map beside model_cfg", _set("auto_map", value={"AutoModel": "evil.Evil"}), True),
    Variant("tokenizer may run code", _text(tokenizer_kwargs=_REMOTE)),
    Variant("tokenizer of the folder", _text(hf_tokenizer_name="{folder}")),
    Variant("tokenizer of the hub", _text(hf_tokenizer_name="evil/tokenizer")),
    Variant("tokenizer of the folder runs code",
            _text(hf_tokenizer_name="{folder}", tokenizer_kwargs=_REMOTE)),
    Variant("tokenizer that asks nltk", _text(tokenizer_kwargs={"reduction_mask": "syntax"})),
    Variant("words from another file", _text(tokenizer_kwargs={"bpe_path": "{folder}/evil.bin"})),
    Variant("text tower of the folder", _text(hf_model_name="{folder}", tokenizer_kwargs=_REMOTE)),
    Variant("text tower of the hub", _text(hf_model_name="evil/model")),
    Variant("text tower with a scheme", _text(hf_model_name="hf-hub:evil/model")),
    Variant("text tower that is a list", _text(hf_model_name=["{folder}"])),
    Variant("text tower that is known, tokenizer that is not",
            _text(hf_model_name=PUBMED, hf_tokenizer_name="{folder}")),
    Variant("text tower that is known, without words",
            _text(hf_model_name=PUBMED, hf_tokenizer_name=PUBMED, hf_model_pretrained=True)),
    Variant("text tower with settings", _text(hf_model_name=PUBMED, hf_model_config=_REMOTE)),
    Variant("image tower of the hub", _vision(timm_model_name="hf-hub:evil/model")),
    Variant("image tower of the hub, old scheme", _vision(timm_model_name="hf_hub:evil/model")),
    Variant("image tower of the folder", _vision(timm_model_name="local-dir:{folder}")),
    Variant("image tower by path", _vision(timm_model_name="../{folder}")),
    Variant("image tower with weights of timm",
            _vision(timm_model_name="vit_tiny_patch16_224.augreg", timm_model_pretrained=True)),
    Variant("image tower with a checkpoint", _vision(checkpoint_path="{folder}/evil.bin")),
    Variant("image tower with an overlay",
            _vision(timm_model_name="test_vit", pretrained_cfg_overlay={"file": "{folder}/x"})),
    Variant("image tower with a configuration",
            _vision(timm_model_name="test_vit", pretrained_cfg={"hf_hub_id": "evil/model"})),
    Variant("a class by its path", _vision(norm_layer="evil.Evil")),
    Variant("arguments of an activation", _vision(act_kwargs={"inplace": True})),
    Variant("a block type", _vision(block_type="evil.Evil")),
    Variant("weights elsewhere", _model(pretrained="{folder}/evil.bin")),
    Variant("a captioning model", _model(multimodal_cfg={"hf_model_name": "{folder}"})),
    Variant("a switch that is a text", _model(custom_text="evil")),
    Variant("a switch that is a table", _model(quick_gelu={"evil": 1})),
    Variant("a size that is a text", _model(embed_dim="__import__('evil')")),
    Variant("a size that is a float", _model(embed_dim=16.5)),
    Variant("a size that is a switch", _text(context_length=True)),
    Variant("a negative size", _text(context_length=-1)),
    Variant("no heads", _text(heads=0)),
    Variant("a billion layers", _vision(layers=10**9)),
    Variant("layers that fill memory", _vision(layers=128, width=8192, head_width=64)),
    Variant("an image that fills memory", _vision(image_size=4096, patch_size=2, width=4096)),
    Variant("a huge vocabulary", _text(vocab_size=2**40)),
    Variant("layers of texts", _vision(layers=["1", "1", "1", "1"])),
    Variant("rate that is a text", _vision(patch_dropout="{folder}")),
    Variant("mean that is code", _set("preprocess_cfg", "mean", value=["evil", 0, 0])),
    Variant("mean that is no number", _set("preprocess_cfg", "mean", value=[float("nan")] * 3)),
    Variant("a spread of 0", _set("preprocess_cfg", "std", value=[0.0, 0.1, 0.1])),
    Variant("an endless mean", _set("preprocess_cfg", "mean", value=[0.5] * 100_000)),
    Variant("preprocessing by code", _set("preprocess_cfg", "transform", value="evil.Evil")),
    Variant("a deep configuration", _replaced('{"model_cfg": ' + "[" * 100_000)),
    Variant("a configuration that is a list", _set("model_cfg", value=["{folder}"])),
    Variant("another encoding", _replaced("\udcff\udcfe")),
    Variant("a pickle as weights", _weights(_pickle)),
    Variant("a pickle under another name", _weights(_pickle_named_safetensors)),
    Variant("weights of another network", _weights(_few_tensors)),
)  # fmt: skip


def craft(variant: Variant, template: Path, folder: Path, marker: Path) -> Path:
    """Copy a good folder of open_clip, and make a crafted one of it."""
    shutil.copytree(template, folder)
    add_code(folder, marker)
    config = json.loads((folder / CONFIG).read_text())
    text = variant.change(config, folder)
    content = text if isinstance(text, str) else json.dumps(config)
    (folder / CONFIG).write_bytes(content.encode("utf-8", "surrogateescape"))
    return folder


_TIMM = {"architecture": "timm", "arguments": {}, "mean": [0.5] * 3, "std": [0.5] * 3}
_TOWER = {"architecture": "open_clip", "embed_dim": 16, "quick_gelu": False, "mean": [0.5] * 3,
          "std": [0.5] * 3}  # fmt: skip
SPECS: dict[str, Any] = {
    "timm of the hub": {**_TIMM, "name": "hf-hub:evil/model"},
    "timm of a folder": {**_TIMM, "name": "local-dir:{folder}"},
    "timm with a checkpoint": {
        **_TIMM, "name": "test_vit", "arguments": {"checkpoint_path": "{folder}/evil.bin"},
    },
    "timm with weights": {**_TIMM, "name": "test_vit", "arguments": {"pretrained": True}},
    "timm with a configuration": {
        **_TIMM, "name": "test_vit", "arguments": {"pretrained_cfg": {"file": "{folder}/evil.bin"}},
    },
    "timm with a class": {**_TIMM, "name": "test_vit", "arguments": {"norm_layer": "evil.Evil"}},
    "timm with a cache": {**_TIMM, "name": "test_vit", "arguments": {"cache_dir": "{folder}"}},
    "timm of 9 GB": {
        **_TIMM, "name": "vit_giant_patch14_224",
        "arguments": {"mlp_ratio": 16.0, "img_size": 4004},
    },
    "timm with a name that is a table": {**_TIMM, "name": {"evil": 1}},
    "timm with colors that are a table": {**_TIMM, "name": "test_vit", "mean": {"a": 1}},
    "timm and more": {**_TIMM, "name": "test_vit", "url": "http://evil.example"},
    "clip with timm of the hub": {**_TOWER, "vision_cfg": {"timm_model_name": "hf-hub:evil/model"}},
    "clip with timm of a folder": {
        **_TOWER, "vision_cfg": {"timm_model_name": "local-dir:{folder}"},
    },
    "clip with a text tower": {
        **_TOWER, "vision_cfg": {"layers": 1}, "text_cfg": {"hf_model_name": "{folder}"},
    },
    "clip of 7 GB": {**_TOWER, "vision_cfg": {"layers": 36, "width": 4096, "head_width": 64}},
    "clip of a list": {**_TOWER, "vision_cfg": ["{folder}"]},
    "conch with more": {
        "architecture": "conch", "mean": [0.5] * 3, "std": [0.5] * 3,
        "trunk": {"image_size": 64, "patch": 16, "width": 64, "depth": 1, "act_layer": "evil.Evil"},
    },
    "conch of 9 GB": {
        "architecture": "conch", "mean": [0.5] * 3, "std": [0.5] * 3,
        "trunk": {"image_size": 4096, "patch": 16, "width": 8192, "depth": 64},
    },
    "a DenseNet and more": {"architecture": "densenet121", "last_dilation": 2, "code": "evil"},
    "a small one and more": {
        "architecture": "small", "channels": [32, 64, 128], "depths": [2, 2, 3], "code": "evil",
    },
    "an unknown one": {"architecture": "evil.Evil"},
    "no architecture": {"architecture": {"evil": 1}},
}  # fmt: skip
"""Backbones in the header of a model file."""
