"""The whole training of a promptable model: objects, network, loop, scores, model file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import write_json
from napari_plimseg.inference import describe_device
from napari_plimseg.models import (
    RESOLUTIONS,
    BackboneEncoder,
    WsiSam,
    load_backbone,
    load_hint_model,
    load_sam,
    on_backbone,
    save_hint_model,
)
from napari_plimseg.training_runs import Event, RunFolder
from plimseg_training.data import TrainingData
from plimseg_training.loop import reported_run, train
from plimseg_training.promptable.objects import Objects, instances_of
from plimseg_training.promptable.task import HintTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimseg_training.config import Recipe
    from plimseg_training.data import TaggedFolder
    from plimseg_training.promptable.config import HintRecipe


_BACKBONE = "backbone:"
_HEADS = 8


def train_hint_recipe(
    recipe: HintRecipe,
    run_folder: Path,
    *,
    resume: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train a promptable model and write its file.

    Parameters
    ----------
    recipe : HintRecipe
    run_folder : Path
        For checkpoints, history, scores and the model file.
    resume : bool
        Whether to resume a training found in the folder.
    on_event : callable
        Called with every event.
    should_stop : callable
        Called after each step; True stops the training.

    Returns
    -------
    Path or None
        The model file; None when it was stopped.

    Raises
    ------
    PlimsegError
        When the recipe, the folder, the pretrained weights or the disk prevents it.
    """
    run = RunFolder(run_folder)
    with reported_run(run, recipe.device, on_event) as (world, emit):
        about = {"device": describe_device(world.device)}
        emit(Event("start", f"Training '{recipe.name}' on {world.device}", data=about))
        data, objects, validation = objects_of(recipe)
        if world.is_first and not run.recipe.exists():
            recipe.to_yaml(run.recipe)
        held = len(validation) if validation else 0
        counts = f"{len(objects)} training objects, {held} validation objects"
        emit(Event("scan", f"{counts}, {recipe.objects.mpp} um per pixel"))
        task = HintTask(recipe, starting_model(recipe), objects, validation, world.device)
        result = train(
            task,
            recipe.training,
            run.root,
            seed=recipe.seed,
            device=world.device,
            resume=resume,
            on_event=emit,
            should_stop=should_stop,
            recipe=cast("Recipe", recipe),  # the loop only calls its to_dict()
            digest=task.digest(),
        )
        if result.stopped:
            return None
        scores = {name: round(100 * value, 2) for name, value in task.validate().items()}
        scores.pop("score", None)
        if world.is_first:
            write_json(run.root / "evaluation.json", scores)
            # written last, because this file marks a run as finished
            save_hint_model(
                run.model_file,
                task.model,
                title=recipe.name,
                frozen_inside=recipe.model.frozen_inside,
                license="research use; as the training images and the encoder allow",
                scores={name: score for name, score in scores.items() if math.isfinite(score)},
                training_sha256=data.train.digest(),
            )
        world.wait_for_all()
        summary = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
        emit(Event("done", f"Wrote {run.model_file.name}. {summary}".strip(), scores=scores))
        return run.model_file


def objects_of(recipe: HintRecipe) -> tuple[TrainingData, Objects, Objects | None]:
    """Scan the recipe's folders; return the data, and the objects of both parts.

    Raises
    ------
    ConfigError, TagError
        When there are no masks, or they contain no object.
    """
    data = TrainingData.of(recipe.for_data())
    config = recipe.objects
    common: dict[str, Any] = {"leave_out": config.leave_out, "min_area": config.min_area}
    train_part = _with_masks(data.train)
    if train_part is None:
        raise TagError(
            "its images have no masks, and a promptable model is trained on masks",
            path=data.train.root,
            remedy="Put images into 'img' and masks of the same names into 'mask'.",
        )
    objects = Objects(train_part, config.mpp, image_mpp=data.mpp, **common)
    measured = None if data.validation is None else _with_masks(data.validation)
    if measured is None:
        return data, objects, None
    return data, objects, Objects(measured, config.mpp, image_mpp=data.mpp, **common)


def starting_model(recipe: HintRecipe) -> WsiSam:
    """Return the initial model, with its trained parts unfrozen.

    A promptable model keeps its projections frozen, so that only small maps must be cached.

    Raises
    ------
    ModelError, ConfigError
        When its weights are missing or of another kind.
    """
    config = recipe.model
    start = config.start
    resolutions = RESOLUTIONS if config.resolutions == "both" else (config.resolutions,)
    if start.startswith(("sam:", "hf-hub:")):
        sam = load_sam(start, side=config.side)
        model = WsiSam.on_sam(sam, resolutions=resolutions, source=start)
    elif start.startswith(_BACKBONE):
        name = start.removeprefix(_BACKBONE)
        torch.manual_seed(recipe.seed + 1)
        encoder = BackboneEncoder(
            load_backbone(name, seed=recipe.seed), config.side, embed_dim=config.embed_dim
        )
        model = on_backbone(
            encoder, source=name, resolutions=resolutions, heads=_HEADS, mlp_dim=config.mlp_dim,
            more_masks=0,
        )  # fmt: skip
    else:
        model = load_hint_model(_file_of(start))
        free = model.own_names()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in free and name.startswith("decoder."))
    model.mpp = recipe.objects.mpp
    return model


def _file_of(start: str) -> Path:
    if start == "bundled":
        from napari_plimseg.models import bundled_folder

        return bundled_folder() / "hints.safetensors"
    path = Path(start)
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"the key 'model.start' is '{start}'",
            remedy="Write bundled, a model's .safetensors file, sam:FOLDER, sam:FILE, "
            "hf-hub:ORG/REPO or backbone:NAME.",
        )
    return path


def _with_masks(folder: TaggedFolder) -> TaggedFolder | None:
    images = [i for i in folder.images if i.truth is not None or instances_of(i) is not None]
    return folder.restricted(images) if images else None
