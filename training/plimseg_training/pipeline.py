"""From a recipe to a model file: scan, stage 1, pseudo masks, stage 2, evaluation, report."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_plimseg.files import atomic_write, write_json
from napari_plimseg.inference import describe_device
from napari_plimseg.models import (
    Familiarity,
    SegModel,
    decoder_of,
    is_image_text,
    load_backbone,
    load_matcher,
    save_cam_model,
    save_segmentation_model,
    segmentation_header,
    windows_for,
)
from napari_plimseg.training_runs import Event, RunFolder
from plimseg_training.data import TrainingData, read_pixels, read_truth
from plimseg_training.evaluation import evaluate
from plimseg_training.loop import Stopped, reported_run, train
from plimseg_training.report import (
    LivePreviews,
    encoded,
    folder_summary,
    preview_sheet,
    write_report,
)
from plimseg_training.stages import (
    TRUSTED,
    DistillTask,
    Encoders,
    ModelScores,
    Stage1Task,
    Stage2Task,
    Targets,
    agreement,
    agreements,
    as_mask_ids,
    coverage,
    fitted_gate,
    gated_logits,
    label_scores,
    opinions,
    pseudo_mask,
    write_pseudo_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models import ClassGate, Matcher, Surroundings
    from plimseg_training.config import PseudoMaskConfig, Recipe, StageConfig
    from plimseg_training.data import TaggedFolder, TaggedImage
    from plimseg_training.loop import World
    from plimseg_training.stages import SegmentationTask

    Scores = Callable[[TaggedImage, PseudoMaskConfig], Tensor]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network with everything needed to write its model file.

    Parameters
    ----------
    title : str
        Title in the list of models.
    task : SegmentationTask
        With its trained network.
    data : TrainingData
        Its training data.
    backbone_inside : bool
        Whether to store the encoder's weights in the file, as is necessary if they were trained.
    window : int
        Side of a window of the finished model, in pixels.
    gate : ClassGate or None
    surroundings : Surroundings or None
    """

    title: str
    task: SegmentationTask
    data: TrainingData
    backbone_inside: bool
    window: int
    gate: ClassGate | None = None
    surroundings: Surroundings | None = None

    def model(self) -> SegModel:
        """Return the network as the plugin runs it, in windows."""
        network = self.task.network
        return SegModel(
            network.backbone,
            network.head,
            self.data.train.classes,
            name=self.title,
            mpp=self.data.mpp,
            **self._shared(),
        )

    def mask_ids(self, image: TaggedImage) -> NDArray[np.uint8]:
        """Return the mask (H, W) of a whole image."""
        logits = gated_logits(self.task, self.gate, image, self.data.mpp)
        return (logits.argmax(0).cpu().numpy() + 1).astype(np.uint8)

    def measured(self, path: Path, device: torch.device) -> dict[str, float]:
        """Return the scores on the validation part in percent; empty without truth.

        Parameters
        ----------
        path : Path
            JSON file for the whole evaluation.
        device : torch.device
        """
        validation = self.data.validation
        if validation is None or not any(image.truth for image in validation.images):
            return {}
        classes = validation.classes
        protocol = "oeem" if len(classes) == 2 and not classes.has_background else "A"
        found = evaluate(self.model(), validation, protocol=protocol, device=str(device))
        write_json(path, found.to_dict())
        score, title = found.results[0].score, found.results[0].title
        return {
            f"mIoU ({title})": round(100 * score.miou, 2),
            f"mean Dice ({title})": round(100 * score.mean_dice, 2),
        }

    def save(self, path: Path, scores: Mapping[str, float]) -> None:
        """Write the model file.

        Parameters
        ----------
        path : Path
        scores : mapping of str to float
            Scores in percent by name.
        """
        network, train = self.task.network, self.data.train
        known = Familiarity.fitted(_some_pixels(train.images))
        header = segmentation_header(
            network.backbone,
            train.classes,
            width=network.head.width,
            decoder=decoder_of(network.head),
            mpp=self.data.mpp,
            patch_size=int(train.images[0].windows[0, 2]),
            backbone_inside=self.backbone_inside,
            title=self.title,
            license="research use; as the training images and the encoder allow",
            scores={name: score for name, score in scores.items() if math.isfinite(score)},
            training_sha256=train.digest(),
            familiarity=known,
            **self._shared(),
        )
        save_segmentation_model(path, header, network.backbone, network.head, familiarity=known)

    def _shared(self) -> dict[str, Any]:
        network = self.task.network
        window, step = windows_for(network.backbone, network.head, self.window)
        return {
            "window": window, "step": step, "gate": self.gate, "surroundings": self.surroundings,
        }  # fmt: skip


PREVIEWS = 6
_LOOKED_AT = 200


def matcher_name(recipe: Recipe) -> str:
    """Return the name of a recipe's matcher; a vision-only encoder gets the bundled one."""
    if recipe.matching.matcher != "backbone":
        return recipe.matching.matcher
    return recipe.model.backbone if is_image_text(recipe.model.backbone) else "bundled"


def with_source(
    recipe: Recipe, matcher: Matcher, folder: TaggedFolder, mpp: float, device: torch.device
) -> tuple[Recipe, str]:
    """Return a recipe whose pseudo masks have a source other than "auto", and why, as a sentence.

    Raises
    ------
    ModelError
        When the recipe's model can't be read.
    """
    config = recipe.pseudo_masks
    if config.source != "auto":
        return recipe, ""
    model = ModelScores(config.model, matcher, folder, mpp, device)
    found = agreement(lambda image: model(image, config), folder.images)
    is_trusted = found >= TRUSTED
    chosen = replace(config, source="model" if is_trusted else "mean")
    what = f"'{model.title}'" if is_trusted else "CAMs and words"
    told = f"Agreement of '{model.title}' with the tags: {100 * found:.0f} %. Labels from {what}"
    return replace(recipe, pseudo_masks=chosen), told


def train_recipe(
    recipe: Recipe,
    run_folder: Path,
    *,
    resume: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train all stages of a recipe and write the model file.

    Each stage resumes from its last checkpoint when the training was stopped or killed.

    Parameters
    ----------
    recipe : Recipe
    run_folder : Path
        For all output: checkpoints, pseudo masks, previews, report and model file.
    resume : bool
        Whether to resume a training found in the folder.
    on_event : callable
        Called with every event.
    should_stop : callable
        Called after each step; True stops the training.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    Stopped
        When `should_stop` returned True.
    PlimsegError
        When the recipe, the folder or the disk prevents it.
    """
    run = RunFolder(run_folder)
    with reported_run(run, recipe.device, on_event) as (world, emit):
        return _Training(recipe, run, world, emit, should_stop, resume).run()


class _Training:
    """One call of `train_recipe`."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        world: World,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
        resume: bool,
    ) -> None:
        self.recipe = recipe
        self.run_folder = run
        self.log = emit
        self.should_stop = should_stop
        self.resume = resume
        self.world = world
        self.device = world.device

    def run(self) -> Path:
        """Run all parts that are not finished yet."""
        recipe, run = self.recipe, self.run_folder
        about = {"device": describe_device(self.device)}
        self.log(Event("start", f"Training '{recipe.name}' on {self.device}", data=about))
        data = TrainingData.of(recipe)
        if self.world.is_first and not run.recipe.exists():
            recipe.to_yaml(run.recipe)
            write_json(run.folder_summary, folder_summary(data.report, data.train, data.validation))
        self._tell_scan(data)
        around = recipe.surroundings.for_classes(data.train.classes)
        backbone = load_backbone(recipe.model.backbone, seed=recipe.seed)
        matcher = load_matcher(matcher_name(recipe), seed=recipe.seed)
        recipe, told = with_source(recipe, matcher, data.train, data.mpp, self.device)
        if told:
            self.log(Event("stage", told, stage="pseudo_masks"))
        recipe = self.recipe = self._suited(recipe, data.train)
        encoders = Encoders.of(backbone, matcher, recipe, self.device)
        targets = self._labeled(data, encoders)
        encoders = encoders.after_stage1(recipe)
        task = self._stage2(data, encoders, targets)
        model = recipe.model
        own = model.segmenter != "backbone"
        trained = TrainedModel(
            recipe.name,
            task,
            data,
            backbone_inside=(model.segmenter_blocks if own else model.train_blocks) != "none",
            window=model.window,
            gate=fitted_gate(recipe.gate, task, data.mpp),
            surroundings=around,
        )
        return self._finish(trained, self._student(trained), targets)

    def _tell_scan(self, data: TrainingData) -> None:
        held = len(data.validation.images) if data.validation else 0
        message = (
            f"{len(data.train.images)} training images, {held} validation images, "
            f"{data.mpp} um per pixel"
        )
        counts = {
            name: int(count)
            for name, count in zip(data.train.classes.names, data.train.tag_counts(), strict=False)
        }
        self.log(Event("scan", message, data={"tags": counts}))
        if data.report.problems:
            self.log(Event("warning", f"Problems in the folder:\n{data.report.table()}"))

    def _suited(self, recipe: Recipe, folder: TaggedFolder) -> Recipe:
        """Return the recipe with the matching losses that suit the tags."""
        if "cams" not in recipe.pseudo_masks.sources:
            return recipe
        single = folder.single_tags
        suited = recipe.matching.suited_to(single)
        if suited is not recipe.matching and recipe.matching.is_used:
            told = f"{100 * single:.0f} % of the windows have a single tag: no matching losses"
            self.log(Event("stage", told, stage="stage1"))
        return replace(recipe, matching=suited)

    def _train(
        self,
        task: Stage1Task | Stage2Task | DistillTask,
        config: StageConfig,
        data: TrainingData,
        draw: Callable[[LivePreviews], None],
    ) -> None:
        """Train one stage; `draw` updates the live previews."""
        shown = LivePreviews(self.run_folder.live, data.train, _spread(data.train.images), self.log)

        def log_and_draw(event: Event) -> None:
            self.log(event)
            # Between two epochs, after which the network is set to training mode again.
            if event.kind == "epoch" and self.world.is_first:
                draw(shown)

        result = train(
            task,
            config,
            self.run_folder.root,
            seed=self.recipe.seed,
            device=self.device,
            resume=self.resume or task.name != self._first_stage,
            on_event=log_and_draw,
            should_stop=self.should_stop,
            recipe=self.recipe,
            digest=data.digest() + (task.digest() if isinstance(task, DistillTask) else ""),
        )
        if result.stopped:
            raise Stopped

    @property
    def _first_stage(self) -> str:
        return "stage1" if "cams" in self.recipe.pseudo_masks.sources else "stage2"

    def _labeled(self, data: TrainingData, encoders: Encoders) -> Targets:
        """Write the pseudo masks of all training images, after stage 1 if they need it."""
        targets = Targets(self.run_folder.pseudo_masks)
        config, folder = self.recipe.pseudo_masks, data.train
        task = self._stage1(data, encoders) if "cams" in config.sources else None
        cams = None if task is None else task.label_scores
        seen = opinions(config, encoders, folder, data.mpp, cams)
        scores = label_scores(config, seen, self._trust(seen, data.train))
        self._label(targets, folder, scores, config, data.mpp)
        self.world.wait_for_all()
        if self.world.is_first:
            shown = scores if task is None else lambda image: task.cams(image).float().sigmoid()
            for image in _spread(folder.images):
                self._preview(image, folder, targets, cams=shown(image).cpu().numpy())
        return targets

    def _trust(self, seen: Mapping[str, Scores], folder: TaggedFolder) -> dict[str, float]:
        """Return how well each of several opinions predicts the tags."""
        if len(seen) == 1:
            return {}
        found = agreements(seen, self.recipe.pseudo_masks, folder.images)
        cams, words = (100 * found[name] for name in ("cams", "words"))
        told = f"Agreement with the tags: CAMs {cams:.0f} %, words {words:.0f} %"
        self.log(Event("stage", told, stage="pseudo_masks"))
        return found

    def _stage1(self, data: TrainingData, encoders: Encoders) -> Stage1Task:
        """Train the CAM network."""
        task = Stage1Task(self.recipe, data.train, data.validation, encoders)

        def draw(shown: LivePreviews) -> None:
            shown.draw("stage1", lambda image: _strongest(task.cams(image)), "CAMs so far")

        self._train(task, self.recipe.stage1, data, draw)
        if self.world.is_first and not self.run_folder.cams_file.is_file():
            self._save_cams(task, data)
        return task

    def _save_cams(self, task: Stage1Task, data: TrainingData) -> None:
        """Keep the network of stage 1, so that the dock can show its CAMs on slides."""
        train = data.train
        save_cam_model(
            self.run_folder.cams_file,
            task.network.backbone,
            task.network.head,
            train.classes,
            title=self.recipe.name,
            mpp=data.mpp,
            patch_size=int(train.images[0].windows[0, 2]),
            matcher=matcher_name(self.recipe),
            backbone_inside=self.recipe.model.train_blocks != "none",
            training_sha256=train.digest(),
        )

    def _label(
        self,
        targets: Targets,
        folder: TaggedFolder,
        scores: Callable[[TaggedImage], Tensor],
        config: PseudoMaskConfig,
        mpp: float,
    ) -> None:
        """Write missing pseudo masks, from class scores (C, H, W)."""
        mine = folder.images if self.world.is_first else ()
        missing = [image for image in mine if not targets.path(image).is_file()]
        for number, image in enumerate(missing):
            if self.should_stop():
                done = f"Stopped while writing {targets.folder.name}; it can be resumed"
                self.log(Event("stopped", done, stage="pseudo_masks"))
                raise Stopped
            mask = pseudo_mask(
                scores(image),
                image,
                read_pixels(image),
                config,
                white_background=self.recipe.data.white_background,
                mpp=mpp,
            )
            write_pseudo_mask(targets.path(image), mask)
            self.log(Event("step", stage="pseudo_masks", step=number + 1, steps=len(missing)))

    def _preview(
        self,
        image: TaggedImage,
        folder: TaggedFolder,
        targets: Targets,
        *,
        cams: NDArray[np.float32] | None = None,
        prediction: NDArray[np.uint8] | None = None,
    ) -> None:
        # a validation image may have the same name as a training image with a pseudo mask
        known = cams is not None and targets.path(image).is_file()
        sheet = preview_sheet(
            read_pixels(image),
            classes=folder.classes,
            tags=image.tags,
            cams=cams,
            pseudo_mask=targets.mask_ids(image) if known else None,
            prediction=prediction,
            truth=read_truth(image, folder) if image.truth else None,
            name=image.name,
        )
        stage = "cams" if cams is not None else "masks"
        path = self.run_folder.previews / f"{stage}-{image.name}.jpg"
        with atomic_write(path) as temporary:
            temporary.write_bytes(encoded(sheet))
        self.log(
            Event(
                "preview",
                stage=stage,
                data={"file": path.relative_to(self.run_folder.root).as_posix()},
            )
        )

    def _stage2(self, data: TrainingData, encoders: Encoders, targets: Targets) -> Stage2Task:
        """Train the segmentation network, and in each further round on its own predictions."""
        recipe, (training, validation) = self.recipe, (data.train, data.validation)
        task = Stage2Task(recipe, training, validation, encoders.for_stage2(recipe), targets)
        self._train(task, recipe.stage2, data, _drawn(task, targets))
        for number in range(1, recipe.stage2.self_training_rounds + 1):
            relabeled = Targets(self.run_folder.root / f"pseudo_masks_{number}")

            def scores(image: TaggedImage, found: Stage2Task = task) -> Tensor:
                shown = found.turned_probabilities(image)[: found.tissue]
                return shown / shown.sum(0).clamp_min(1e-6)

            as_seen = replace(
                recipe.pseudo_masks, refine="none", ignore_margin=recipe.stage2.round_margin
            )
            self._label(relabeled, training, scores, as_seen, data.mpp)
            self.world.wait_for_all()
            task = Stage2Task(
                recipe, training, validation, encoders.for_stage2(recipe), relabeled,
                f"stage2_round{number}",
            )  # fmt: skip
            self._train(task, recipe.stage2, data, _drawn(task, relabeled))
        return task

    def _student(self, teacher: TrainedModel) -> TrainedModel | None:
        """Train the fast student on the network's predictions, if the recipe has one."""
        recipe, data = self.recipe, teacher.data
        if recipe.distill.student == "none":
            return None
        task = DistillTask(recipe, data.train, data.validation, teacher.task)
        self._train(task, task.stage, data, _drawn(task, None))
        return TrainedModel(
            f"{recipe.name} (fast)",
            task,
            data,
            backbone_inside=True,
            window=recipe.model.window,
            gate=fitted_gate(recipe.gate, task, data.mpp),
            surroundings=teacher.surroundings,
        )

    def _finish(
        self, trained: TrainedModel, student: TrainedModel | None, targets: Targets
    ) -> Path:
        """Evaluate, and write the model files and the report."""
        run, data = self.run_folder, trained.data
        if not self.world.is_first:
            self.world.wait_for_all()
            return run.model_file
        scores = trained.measured(run.root / "evaluation.json", self.device)
        if student is not None:
            fast = student.measured(run.root / "evaluation_fast.json", self.device)
            student.save(run.fast_model_file, fast)
        if scores and data.validation is not None:
            for image in _spread(data.validation.images):
                mask = trained.mask_ids(image)
                self._preview(image, data.validation, targets, prediction=mask)
        # written last, because this file marks a run as finished
        trained.save(run.model_file, scores)
        summary = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
        self.log(Event("done", f"Wrote {run.model_file.name}. {summary}".strip(), scores=scores))
        masks = [targets(image) for image in data.train.images]
        shares = coverage(masks, len(data.train.classes))
        summary = ", ".join(
            f"{name} {100 * share:.1f} %"
            for name, share in zip([*data.train.classes.names, "ignored"], shares, strict=True)
        )
        notes = [f"Pseudo masks: {summary}."]
        if student is not None:
            summary = ", ".join(f"{name} {score:.1f}" for name, score in fast.items())
            notes.append(f"Fast student {run.fast_model_file.name}: {summary or 'not evaluated'}.")
        write_report(run.root, notes=notes)
        self.world.wait_for_all()
        return run.model_file


def _strongest(cams: Tensor) -> NDArray[np.uint8]:
    """Return mask ids of CAM logits (C, h, w); 0 where no probability exceeds one half."""
    best, index = cams.float().max(0)
    return torch.where(best > 0, index + 1, 0).cpu().numpy().astype(np.uint8)


def _drawn(
    task: Stage2Task | DistillTask, targets: Targets | None
) -> Callable[[LivePreviews], None]:
    """Return a function that draws the segmentation network's current predictions."""

    def mask_of(image: TaggedImage) -> NDArray[np.uint8]:
        return as_mask_ids(task.logits(image).argmax(0).cpu().numpy().astype(np.int16))

    beside = None if targets is None else targets.mask_ids
    return lambda shown: shown.draw(task.name, mask_of, "prediction so far", beside)


def _some_pixels(images: tuple[TaggedImage, ...]) -> list[NDArray[np.uint8]]:
    """Read images evenly from the whole list, enough to know what the tissue looks like."""
    return [read_pixels(image) for image in images[:: 1 + len(images) // _LOOKED_AT]]


def _spread(images: tuple[TaggedImage, ...]) -> tuple[TaggedImage, ...]:
    return images[:: max(1, len(images) // PREVIEWS)][:PREVIEWS]
