"""Every place where the program reads what others wrote: a sound base, and what is done with it.

A `Door` writes a sound base into an empty folder, and reads a (damaged) copy of it as the program
does. Reading may raise a `PlimsegError`; everything else that it raises is a failure. Where files
carry checksums, `exact` doors return a digest of what was read: a copy that was damaged by accident
must be refused, or give the same digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.campaigns import slide_bases
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMER = ROOT / "tests" / "data" / "former_version"


@dataclass(frozen=True)
class Door:
    """One kind of input.

    Parameters
    ----------
    name : str
        Unique; also the folder of its base.
    write : callable or None
        Writes a sound base into a folder; None where the base is not on this computer.
    read : callable
        Reads it as the program does; returns a digest where the door is exact.
    targets : tuple of str
        Glob patterns of the files to damage.
    share : float
        How many of the mutants it gets, relative to others.
    exact : bool
        Whether accidental damage must be noticed or change nothing.
    sign : callable, optional
        Fits the checksum of a file that was changed with intent.
    """

    name: str
    write: Callable[[Path], None] | None
    read: Callable[[Path], Any]
    targets: tuple[str, ...] = ("**/*",)
    share: float = 1.0
    exact: bool = False
    sign: Callable[[Path], None] | None = None


def digest_of(*values: Any) -> str:
    """Return a digest of arrays, tensors and plain values."""
    import torch

    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.detach().contiguous().flatten().view(torch.uint8).numpy()
        is_array = isinstance(value, np.ndarray)
        digest.update(value.tobytes() if is_array else repr(value).encode())
    return digest.hexdigest()


# -- slides


def read_slide(folder: Path) -> None:
    from napari_plimseg.slides import open_slide

    beside = {"", ".data", ".moved"}  # folders of data, and what damage leaves behind
    path = next((p for p in folder.iterdir() if p.suffix not in beside), folder / "missing.svs")
    with open_slide(path) as slide:
        slide.thumbnail(64)
        for level, lv in enumerate(slide.levels):
            height, width = (min(side, 512) for side in lv.shape)
            slide.read_level(level, lv.shape[0] - height, lv.shape[1] - width, height, width)
        assert slide.mpp is None or slide.mpp > 0
        _ = slide.is_brightfield


def _slide_door(name: str, write: Callable[[Path], None] | None, share: float) -> Door:
    return Door(f"slide {name}", write, read_slide, share=share)


# -- lists, recipes, tags, annotations


def write_classes(folder: Path) -> None:
    from napari_plimseg.tissue import COLORECTAL

    COLORECTAL.to_yaml(folder / "classes.yaml")


def read_classes(folder: Path) -> None:
    from napari_plimseg.cli.segment import parse_classes

    classes = parse_classes(str(folder / "classes.yaml"), None)
    assert classes is not None
    classes.to_yaml(folder / "again.yaml")


def write_prompts(folder: Path) -> None:
    (folder / "prompts.yaml").write_text(
        "stroma: [fibrous stroma, collagen]\nadipose: fat\ngranuloma:\n- giant cells\n"
    )


def read_prompts(folder: Path) -> None:
    from napari_plimseg.cli.segment import parse_classes

    parse_classes(None, str(folder / "prompts.yaml"))


def write_recipe(folder: Path) -> None:
    shutil.copy(FORMER / "every_key.yaml", folder / "recipe.yaml")


def read_recipe(folder: Path) -> None:
    from plimseg_training.config import chosen_recipe

    chosen_recipe(folder / "recipe.yaml")


def write_hint_recipe(folder: Path) -> None:
    shutil.copy(FORMER / "every_hint_key.yaml", folder / "recipe.yaml")


def read_hint_recipe(folder: Path) -> None:
    from plimseg_training.promptable.config import load_hint_recipe

    load_hint_recipe(folder / "recipe.yaml")


def write_tags(folder: Path) -> None:
    from tests.support.tagged_folders import csv_folder, good_rows

    csv_folder(folder, "file,tumour,stroma\n" + good_rows())
    (folder / "tags.aside.json").write_text(
        '{"unsure": {"0.png": ["tumour"]}, "nothing": ["1.png"]}'
    )


def read_tags(folder: Path) -> None:
    from napari_plimseg.training_runs import TagTable
    from plimseg_training.data import read_rgb, scan_folder

    report = scan_folder(folder)
    report.table()
    if report.folder is not None:
        for image in report.folder.images:
            read_rgb(image.path)
    TagTable(folder)


def write_truths(folder: Path) -> None:
    shutil.copytree(FORMER / "measured", folder, dirs_exist_ok=True)


def read_truths(folder: Path) -> None:
    from plimseg_training.data import read_mask, scan_folder

    scan_folder(folder)
    for path in folder.glob("*-truth.png"):
        if path.exists():
            read_mask(path)


def write_annotation(folder: Path) -> None:
    from tests.support import slides

    slides.write_tiff(folder / "slide.tif", [slides.tissue(120, 160)])
    square = [[10, 10], [80, 10], [80, 70], [10, 70], [10, 10]]
    hole = [[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"classification": {"name": name, "color": [200, 0, 0]}},
        }
        for kind, coordinates, name in (
            ("Polygon", [square, hole], "stroma"),
            ("MultiPolygon", [[square], [hole]], "adipose"),
            ("Point", [3, 4], "stroma"),
        )
    ]
    (folder / "outlines.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )


def read_annotation(folder: Path) -> None:
    from napari_plimseg.slides import open_slide
    from napari_plimseg.tissue import COLORECTAL
    from plimseg_training.data.annotations import read_annotation as read

    with open_slide(folder / "slide.tif") as slide:
        read(folder / "outlines.geojson", slide, COLORECTAL).ids(0, 0, 60, 80, 2.0)


def write_mask_image(folder: Path) -> None:
    from PIL import Image

    from tests.support import slides

    slides.write_tiff(folder / "slide.tif", [slides.tissue(120, 160)])
    mask = np.tile(np.array([[1, 2], [3, 4]], np.uint8), (30, 40))
    Image.fromarray(mask).save(folder / "mask.png")


def read_mask_image(folder: Path) -> None:
    from napari_plimseg.slides import open_slide
    from napari_plimseg.tissue import COLORECTAL
    from plimseg_training.data.annotations import read_annotation as read

    with open_slide(folder / "slide.tif") as slide:
        read(folder / "mask.png", slide, COLORECTAL).ids(0, 0, 60, 80, 2.0)


# -- results


def write_label_tiff(folder: Path) -> None:
    from napari_plimseg.results.export.label_tiff import export_label_tiff
    from tests.support.masks import blobs, info_for

    mask = blobs((300, 280))
    export_label_tiff(folder / "a.mask.ome.tif", mask, info_for(mask))


def read_label_tiff(folder: Path) -> None:
    from napari_plimseg.results import read_label_tiff as read
    from napari_plimseg.results import read_other_mask
    from tests.support.masks import blobs, info_for

    path = folder / "a.mask.ome.tif"
    ids, _ = read(path)
    np.asarray(ids[0:64])
    other = read_other_mask(path, info_for(blobs((300, 280))))
    np.asarray(other.ids[0:64])


def write_other_mask(folder: Path) -> None:
    from PIL import Image

    from tests.support.masks import blobs

    Image.fromarray(blobs((300, 280))).save(folder / "truth.png")


def read_other_png(folder: Path) -> None:
    from napari_plimseg.results import compare, match_classes, read_other_mask
    from tests.support.masks import blobs, info_for

    mask = blobs((300, 280))
    info = info_for(mask)
    other = read_other_mask(folder / "truth.png", info)
    compare(mask, info, other, match_classes(other, info))


STORE = "CMU-1-Small-Region.plimseg"


def write_results(folder: Path) -> None:
    """Write a small store of this version, with corrections and a review log."""
    from napari_plimseg.results.analysis.review_log import ReviewedRegion, ReviewLog
    from napari_plimseg.results.corrections.corrections import Corrections
    from tests.support.masks import blobs, info_for
    from tests.support.stores import written_store

    mask = blobs((96, 112))
    info = info_for(mask)
    store = written_store(folder / "a.plimseg", info, mask, mask * 25)
    ReviewLog(store).add(ReviewedRegion.of_mask_pixels(info, 1, 2, 30, 40))
    store.close()
    corrections = Corrections.open(folder, info)
    for at in (3, 30, 60):
        corrections.write(at, at, np.full((9, 7), 1 + at % 4, np.uint8))
        corrections.flush()
    corrections.flush_and_release()


def read_store(folder: Path) -> str:
    """Read classes and confidence; damage that the store names counts as noticed."""
    from napari_plimseg.errors import DamagedStoreError
    from napari_plimseg.results import MaskStore
    from tests.support.store_flips import read_everything

    with MaskStore.open(folder / "a.plimseg") as store:
        if damage := store.damage():
            raise DamagedStoreError(str(damage), path=store.path)
        contents = read_everything(store)
        return digest_of(contents.facts, *contents.arrays.values())


def read_export(folder: Path) -> None:
    from napari_plimseg.api import Segmentation
    from napari_plimseg.results import ReviewLog

    result = Segmentation.open(folder / "a.plimseg")
    result.areas()
    result.export(folder / "out", ["geojson", "csv", "ome-tiff"])
    from napari_plimseg.results import MaskStore

    with MaskStore.open(folder / "a.plimseg") as store:
        ReviewLog(store)


def read_former_results(folder: Path) -> None:
    from napari_plimseg.api import Segmentation
    from napari_plimseg.results import MaskStore, ReviewLog

    result = Segmentation.open(folder / STORE)
    result.areas()
    with MaskStore.open(folder / STORE) as store:
        ReviewLog(store)


def write_former_results(folder: Path) -> None:
    shutil.copytree(FORMER / "results", folder, dirs_exist_ok=True)


def read_corrections(folder: Path) -> None:
    from napari_plimseg.results import Corrections
    from tests.support.masks import blobs, info_for

    mask = blobs((96, 112))
    corrections = Corrections.open(folder, info_for(mask))
    corrections.note()
    corrections.apply(mask.copy())
    corrections.write(1, 1, np.ones((2, 2), np.uint8))
    corrections.flush_and_release()


def write_cohort(folder: Path) -> None:
    from napari_plimseg.inference import Cohort
    from tests.support import slides

    with Cohort.open(folder / "results") as cohort:
        for name in ("a.tif", "b.tif"):
            slides.write_tiff(folder / name, [slides.tissue(90, 70)])
            cohort.add(folder / name, mpp=0.5)
        cohort.choose("bundled", ("csv", "geojson"))


def read_cohort(folder: Path) -> None:
    from napari_plimseg.inference import Cohort

    with Cohort.open(folder / "results") as cohort:
        for item in cohort.items:
            _ = item.state_text, item.fraction
        _ = cohort.fraction
        cohort.choose("bundled", ("csv",))


# -- settings, trainings


def write_settings(folder: Path) -> None:
    shutil.copytree(FORMER / "user-data", folder, dirs_exist_ok=True)


def read_settings(folder: Path) -> None:
    from napari_plimseg.settings import load_settings, load_train_settings, remember, remembered

    os.environ["PLIMSEG_DATA_DIR"] = str(folder)
    settings = load_settings()
    settings.run_settings()
    settings.tissue_settings()
    load_train_settings()
    remembered("model", "")
    remember("x", 1)


def write_trainings(folder: Path) -> None:
    shutil.copytree(FORMER / "trainings", folder, dirs_exist_ok=True)


def read_trainings(folder: Path) -> None:
    """Do what the training dock does when it lists trainings and attaches to one."""
    from napari_plimseg.models import load_model
    from napari_plimseg.training_runs import Event, FolderFacts, RunFolder, RunHistory, list_runs
    from napari_plimseg.training_runs.history import LineTail
    from plimseg_training.config import load_recipe

    list_runs(folder)
    for run in (RunFolder(folder / "finished"), RunFolder(folder / "stopped")):
        run.status()
        history = RunHistory()
        objects, _ = LineTail(run.progress).new_objects()
        for each in objects:
            with contextlib.suppress(ValueError):  # as `TrainingProcess.poll` does
                history.add(Event.from_dict(each))
        FolderFacts.of(objects)
        _ = history.fraction, history.title
    for run in (RunFolder(folder / "finished"), RunFolder(folder / "stopped")):
        if run.recipe.exists():
            load_recipe(run.recipe)
    if (folder / "finished" / "model.safetensors").exists():
        load_model(folder / "finished" / "model.safetensors")


def write_checkpoints(folder: Path) -> None:
    import torch

    from plimseg_training.loop.state import Position, TrainState, write_state, write_weights
    from tests.support.tiny_task import TinyNetwork

    network = TinyNetwork()
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for _ in range(2):
        state = TrainState(tensors, Position(), {}, {"a": {"b": 1}}, "0" * 64)
        write_state(folder, state)
    write_weights(folder / "best.safetensors", network, {"epoch": 1})
    torch.manual_seed(0)


def read_checkpoints(folder: Path) -> str:
    import torch

    from plimseg_training.loop.state import read_state, read_weights_of_run, set_training_tensors
    from tests.support.tiny_task import TinyNetwork

    weights, about = read_weights_of_run(folder / "best.safetensors")
    found = read_state(folder)
    if found is not None:
        state, _ = found
        state.check_same({"a": {"b": 1}}, "0" * 64, path=folder)
        network = TinyNetwork()
        optimizer = torch.optim.AdamW(network.parameters())
        set_training_tensors(state.tensors, network, optimizer, None, path=folder)
    # the former of two equal checkpoints stands in for a damaged last one; with neither, a
    # training starts from scratch, which it says
    return digest_of(about, *(part for pair in sorted(weights.items()) for part in pair))


def sign_checkpoint(path: Path) -> None:
    """Fit the checksum of a checkpoint, as its author could."""
    import safetensors
    from safetensors.torch import save_file

    from plimseg_training.loop import state

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        metadata["sha256"] = state._digest(tensors, metadata["plimseg"])
        save_file(tensors, path, metadata)
    except (safetensors.SafetensorError, KeyError, OSError, ValueError, TypeError, RuntimeError):
        return  # beyond a checksum


def write_embeddings(folder: Path) -> None:
    import torch

    from napari_plimseg.inference import EmbeddingCache
    from napari_plimseg.models import Encoded

    cache = EmbeddingCache(folder)
    cache.get(_key(), lambda: Encoded(torch.ones(1, 4, 3, 3), torch.ones(1, 2, 3, 3)))


def read_embeddings(folder: Path) -> str:
    import torch

    from napari_plimseg.inference import EmbeddingCache
    from napari_plimseg.models import Encoded

    fresh = Encoded(torch.ones(1, 4, 3, 3), torch.ones(1, 2, 3, 3))
    found = EmbeddingCache(folder).get(_key(), lambda: fresh)
    return digest_of(found.final, found.early)


def _key() -> Any:
    from napari_plimseg.inference.promptable.embedding_cache import PatchKey

    return PatchKey("0" * 64, 1.0, 0, 0, 1024, "1" * 64)


def sign_embeddings(path: Path) -> None:
    body = path.read_bytes()[:-32]
    path.write_bytes(body + hashlib.sha256(body).digest())


# -- model files


def _model(name: str) -> Callable[[Path], None]:
    """Return what writes a former model file again, in the format of this version."""

    def write(folder: Path) -> None:
        from napari_plimseg.models import load_model_file, save_model

        header, tensors = load_model_file(FORMER / "models" / f"{name}.safetensors")
        save_model(folder / "model.safetensors", header, tensors)

    return write


def _former(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        shutil.copy(FORMER / "models" / f"{name}.safetensors", folder / "model.safetensors")

    return write


def sign_model(path: Path) -> None:
    from tests.support.bit_flips import seal

    if path.is_file():
        seal(path)


def _listed(folder: Path) -> None:
    """List the models of a user whose library holds this file, and remove it."""
    from napari_plimseg.models import ModelLibrary

    data = folder / "data"
    (data / "models").mkdir(parents=True)
    os.environ["PLIMSEG_DATA_DIR"] = str(data)
    shutil.copyfile(folder / "model.safetensors", data / "models" / "other.safetensors")
    library = ModelLibrary()
    entries = library.entries()
    assert any(entry.key == "other" for entry in entries)


def _tensors_of(network: Any) -> list[Any]:
    return [part for pair in sorted(network.state_dict().items()) for part in pair]


def read_model(folder: Path) -> str:
    """Load a model that segments, and use it on a small picture."""
    import torch

    from napari_plimseg.models import load_model, load_model_file

    path = folder / "model.safetensors"
    if path.is_file():
        _listed(folder)
    model = load_model(path)
    header, tensors = load_model_file(path)
    side = -(-64 // model.alignment) * model.alignment
    picture = torch.arange(side * side * 3, dtype=torch.int64).remainder(251).to(torch.uint8)
    with torch.inference_mode():
        found = model.probabilities(picture.reshape(1, side, side, 3))
    return digest_of(header, *sorted(tensors), *(tensors[n] for n in sorted(tensors)), found)


def read_hints(folder: Path) -> str:
    from napari_plimseg.models import load_model_file, load_promptable_model

    path = folder / "model.safetensors"
    if path.is_file():
        _listed(folder)
    model = load_promptable_model(path)
    header, _ = load_model_file(path)
    return digest_of(header, model.mpp, *_tensors_of(model))


def read_import(folder: Path) -> None:
    """Import a model file as `plimseg models import` does, through its trial load."""
    from napari_plimseg.models import import_model

    os.environ["PLIMSEG_DATA_DIR"] = str(folder / "data")
    for _ in import_model(folder / "model.safetensors"):
        pass


# -- weights and encoders of others


def _weights(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        tensors = {"a.weight": torch.ones(8, 4), "a.bias": torch.zeros(8), "n": torch.tensor([3])}
        if name.endswith(".safetensors"):
            save_file(tensors, folder / name)
        else:
            torch.save({"state_dict": tensors}, folder / name)

    return write


def read_weight_file(folder: Path) -> None:
    import torch

    from napari_plimseg.models import check_weights, read_weights

    wanted = {"a.weight": torch.ones(8, 4), "a.bias": torch.zeros(8), "n": torch.tensor([3])}
    [path] = [p for p in folder.iterdir() if p.suffix != ".moved"] or [folder / "missing.pt"]
    check_weights(read_weights(path), wanted, path=path)


def write_clip_folder(folder: Path) -> None:
    from tests.support.clips import TEXT, VIT, write_clip

    write_clip(folder, {**VIT, "layers": 2}, {**TEXT, "width": 8})
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE"}}))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "X", "model_max_length": 77}'
    )
    (folder / "config.json").write_text('{"model_type": "clip", "architectures": ["X"]}')
    (folder / "evil.py").write_text("open('ran', 'w')\n")


def read_clip_folder(folder: Path) -> None:
    from napari_plimseg.models import load_encoder

    encoder = load_encoder(f"local-dir:{folder}")
    encoder.encode_text(["fat"])


def write_conch(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    from tests.models.encoders.test_external_backbones import conch_tensors

    torch.save(conch_tensors(), folder / "pytorch_model.bin")
    words = {"<pad>": 0, "<unk>": 1, "fat": 2, "tissue": 3, "stroma": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(folder / "conch_byte_level_bpe_uncased.json"))


def read_conch(folder: Path) -> None:
    from napari_plimseg.models import load_encoder

    load_encoder(f"conch:{folder}").encode_text(["fat"])  # type: ignore[union-attr]


def write_timm(folder: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False, num_classes=0)
    save_file(network.state_dict(), folder / "model.safetensors")
    content = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.2] * 3}}
    (folder / "config.json").write_text(json.dumps(content))


def read_timm(folder: Path) -> None:
    from napari_plimseg.models import load_backbone

    load_backbone(f"timm:test_vit={folder / 'model.safetensors'}")


def write_sam(folder: Path) -> None:
    from tests.support.sam import transformers_sam

    transformers_sam(folder)


def read_sam(folder: Path) -> None:
    from napari_plimseg.models import load_sam

    load_sam(f"sam:{folder}")


def write_meta_sam(folder: Path) -> None:
    import torch

    from tests.support.sam import meta_names, transformers_sam

    model = transformers_sam(folder / "hub")
    shutil.rmtree(folder / "hub")
    torch.save(meta_names(model), folder / "sam.pth")


def read_meta_sam(folder: Path) -> None:
    from napari_plimseg.models import load_sam

    load_sam(f"sam:{folder / 'sam.pth'}")


def doors() -> list[Door]:
    """Return every door, slides first."""
    slide_doors = [_slide_door(*row) for row in slide_bases.bases()]
    models = ("student", "words", "hints")
    return [
        *slide_doors,
        Door("classes YAML", write_classes, read_classes, share=2),
        Door("prompts YAML", write_prompts, read_prompts, share=2),
        Door("recipe YAML", write_recipe, read_recipe, share=2),
        Door("hint recipe YAML", write_hint_recipe, read_hint_recipe),
        Door("tags.csv and pictures", write_tags, read_tags, ("tags.csv", "*.json", "0.png"), 2),
        Door("truth pictures", write_truths, read_truths),
        Door("GeoJSON outlines", write_annotation, read_annotation, ("*.geojson",), 2),
        Door("mask picture", write_mask_image, read_mask_image, ("mask.png",)),
        Door("label TIFF", write_label_tiff, read_label_tiff, share=2),
        Door("truth to compare with", write_other_mask, read_other_png),
        Door("cohort.json", write_cohort, read_cohort, ("results/cohort.json",), 2),
        Door("corrections", write_results, read_corrections, ("*-corrections/*",), 2),
        Door("mask store", write_results, read_store, ("a.plimseg/**/*",), 3, exact=True),
        Door("export of a store", write_results, read_export, share=2),
        Door("former results", write_former_results, read_former_results,
             (f"{STORE}/**/*", "*-corrections/*"), 2),
        Door("settings", write_settings, read_settings),
        Door("trainings", write_trainings, read_trainings, share=2),
        Door("checkpoints", write_checkpoints, read_checkpoints, exact=True, sign=sign_checkpoint),
        Door("embedding cache", write_embeddings, read_embeddings, exact=True,
             sign=sign_embeddings),
        *(
            Door(f"model file: {name}", _model(name), read, ("model.safetensors",), 3, True,
                 sign_model)
            for name, read in zip(models, (read_model, read_model, read_hints), strict=True)
        ),
        *(
            Door(f"former model file: {name}", _former(name), read, ("model.safetensors",))
            for name, read in zip(models, (read_model, read_model, read_hints), strict=True)
        ),
        *(
            Door(f"weights {name}", _weights(name), read_weight_file)
            for name in ("w.pt", "w.bin", "w.safetensors")
        ),
        Door("open_clip folder", write_clip_folder, read_clip_folder, share=2),
        Door("CONCH folder", write_conch, read_conch),
        Door("timm weights", write_timm, read_timm),
        Door("SAM folder", write_sam, read_sam),
        Door("SAM file", write_meta_sam, read_meta_sam),
        # the trial of an import starts a process each time
        Door("import of a model file", _model("student"), read_import, ("model.safetensors",),
             0.25, sign=sign_model),
    ]  # fmt: skip


def spread(found: list[Door], count: int) -> list[str]:
    """Return the name of the door of each of `count` mutants, by their shares, well mixed."""
    given: dict[str, float] = dict.fromkeys((door.name for door in found), 0.0)
    shares = {door.name: door.share for door in found}
    names = []
    for _ in range(count):
        name = min(given, key=lambda name: (given[name] + 1) / shares[name])
        given[name] += 1
        names.append(name)
    return names
