"""From a recipe to a model file: scan, stage 1, pseudo masks, stage 2, evaluation, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import write_json
from napari_plimseg.inference.devices import describe_device, pick_device
from napari_plimseg.models.backbones import load_backbone, load_matcher
from napari_plimseg.models.seg_model import (
    SegModel,
    save_segmentation_model,
    segmentation_header,
    windows_for,
)
from plimseg_training.distributed import join_world
from plimseg_training.evaluate import evaluate
from plimseg_training.folder_check import check_folder, check_validation, shared_pictures
from plimseg_training.loop import train
from plimseg_training.previews import encoded, preview_sheet
from plimseg_training.progress import Event, ProgressLog
from plimseg_training.pseudo_masks import (
    IGNORED,
    coverage,
    probabilities_of,
    pseudo_mask,
    read_pseudo_mask,
    write_pseudo_mask,
)
from plimseg_training.report import write_report
from plimseg_training.runs import RunFolder
from plimseg_training.stage1 import Encoders, Stage1Task
from plimseg_training.stage2 import Stage2Task
from plimseg_training.summaries import folder_summary
from plimseg_training.tagged_folder import read_pixels, read_truth, scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from plimseg_training.config import Recipe
    from plimseg_training.distributed import World
    from plimseg_training.evaluate import Evaluation
    from plimseg_training.folder_report import FolderReport
    from plimseg_training.tagged_folder import TaggedFolder, TaggedImage

PREVIEWS = 6
_READ_TEXT = ("hf-hub:", "local-dir:", "open_clip:", "conch:")


class Stopped(Exception):
    """The training was asked to stop; what is done is saved."""


@dataclass(frozen=True)
class TrainingData:
    """Training and validation parts of a recipe's folder.

    Parameters
    ----------
    train : TaggedFolder
    validation : TaggedFolder or None
    report : FolderReport
        Of the scan of the training folder.
    """

    train: TaggedFolder
    validation: TaggedFolder | None
    report: FolderReport

    @classmethod
    def of(cls, recipe: Recipe) -> TrainingData:
        """Scan the recipe's folders and split them.

        Raises
        ------
        ConfigError, TagError
            When the recipe names no folder, or the scan finds what must not be trained on.
        """
        found = cls._of_main_folder(recipe)
        for folder in recipe.data.more:
            found = found._with_more(folder, recipe.data.mpp)
        return found

    def _with_more(self, root: Path, mpp: float | None) -> TrainingData:
        """Return the same with the images of one more folder to train on."""
        classes = self.train.classes
        report = check_folder(root, classes=classes, mpp=mpp or self.train.mpp, whole=False)
        added = [
            replace(
                image, group=f"{root.name}: {image.group}", given_name=f"{root.name}-{image.name}"
            )
            for image in report.raise_if_fatal().images
        ]
        shared = [
            problem
            for problem in shared_pictures(report.pixel_hashes, self.report.pixel_hashes)
            if self.validation is not None
        ]
        problems = (*self.report.problems, *report.problems, *shared)
        return replace(
            self,
            train=self.train.restricted((*self.train.images, *added)),
            report=replace(self.report, problems=problems),
        )

    @classmethod
    def _of_main_folder(cls, recipe: Recipe) -> TrainingData:
        data = recipe.data
        if data.train is None:
            raise ConfigError(
                "the recipe names no folder of tagged images",
                remedy="Write data.train, or give the folder on the command line.",
            )
        classes = data.tissue_classes()
        report = scan(data.train, classes=classes, layout=data.layout, mpp=data.mpp)
        folder = report.raise_if_fatal()
        if data.validation is not None:
            other = check_validation(
                data.validation, classes=folder.classes, layout=data.layout, mpp=data.mpp
            )
            if data.validation != data.train:  # where they are one, the scan has compared them
                shared = shared_pictures(report.pixel_hashes, other.pixel_hashes)
                report = replace(report, problems=(*report.problems, *shared))
            return cls(folder, other.raise_if_fatal(), report)
        if data.validation_groups:
            unknown = sorted(set(data.validation_groups) - set(folder.groups))
            if unknown:
                raise ConfigError(
                    f"the key 'data.validation_groups' names '{unknown[0]}', which is not there",
                    remedy=f"There are: {', '.join(folder.groups[:20])}.",
                )
            held = [i for i in folder.images if i.group in data.validation_groups]
            rest = [i for i in folder.images if i.group not in data.validation_groups]
            if not rest:
                raise ConfigError("all groups are for validation, and none is left to train on")
            return cls(folder.restricted(rest), folder.restricted(held), report)
        if data.validation_fraction and len(folder.groups) > 1:
            first, second = folder.split(data.validation_fraction, recipe.seed)
            return cls(first, second, report)
        return cls(folder, None, report)

    @property
    def mpp(self) -> float:
        """Micrometres per pixel of the training images."""
        if self.train.mpp is None:
            raise ConfigError(
                "the pixel size of the images is not known",
                path=self.train.root,
                remedy="Say it in um: --set data.mpp=0.5 (0.25 at 40x, 0.5 at 20x, 1.0 at 10x).",
            )
        return self.train.mpp

    def digest(self) -> str:
        """Return a digest of both parts."""
        return self.train.digest() + (self.validation.digest() if self.validation else "")


def matcher_name(recipe: Recipe) -> str:
    """Return the name of a recipe's matcher; an encoder without text has the bundled one."""
    if recipe.matching.matcher != "backbone":
        return recipe.matching.matcher
    reads_text = recipe.model.backbone.startswith(_READ_TEXT)
    return recipe.model.backbone if reads_text else "bundled"


def train_recipe(
    recipe: Recipe,
    run_folder: Path,
    *,
    resume: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train all stages of a recipe and write the model file.

    Each stage goes on where it was when the training was stopped or killed.

    Parameters
    ----------
    recipe : Recipe
    run_folder : Path
        Takes everything: checkpoints, pseudo masks, previews, report and model file.
    resume : bool
        Whether to go on with what is there.
    on_event : callable
        Is told how it goes.
    should_stop : callable
        Asked after each step.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    Stopped
        When `should_stop` said so.
    PlimsegError
        When recipe, folder or disk don't allow it.
    """
    run = RunFolder(run_folder)
    with join_world(pick_device(recipe.device)) as world, run.locked():
        log = ProgressLog(run.progress)

        def tell(event: Event) -> None:
            if world.is_first:
                log(event)
                on_event(event)

        training = _Training(recipe, run, world, tell, should_stop, resume)
        try:
            return training.run()
        except Stopped:
            raise
        except Exception as error:
            tell(Event("failed", str(error)))
            raise


class _Training:
    """One call of `train_recipe`."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        world: World,
        tell: Callable[[Event], None],
        should_stop: Callable[[], bool],
        resume: bool,
    ) -> None:
        self.recipe = recipe
        self.run_folder = run
        self.tell = tell
        self.should_stop = should_stop
        self.resume = resume
        self.world = world
        self.device = world.device

    def run(self) -> Path:
        """Run what is not done yet."""
        recipe, run = self.recipe, self.run_folder
        about = {"device": describe_device(self.device)}
        self.tell(Event("start", f"Training '{recipe.name}' on {self.device}", data=about))
        data = TrainingData.of(recipe)
        if self.world.is_first and not run.recipe.exists():
            recipe.to_yaml(run.recipe)
            write_json(run.folder_summary, folder_summary(data.report, data.train, data.validation))
        self._tell_scan(data)
        backbone = load_backbone(recipe.model.backbone, seed=recipe.seed)
        matcher = load_matcher(matcher_name(recipe), seed=recipe.seed)
        encoders = Encoders.of(backbone, matcher, recipe, self.device)
        targets = self._stage1(data, encoders)
        task = self._stage2(data, encoders.for_stage2(recipe), targets)
        return self._finish(data, task, targets)

    def _tell_scan(self, data: TrainingData) -> None:
        held = len(data.validation.images) if data.validation else 0
        message = (
            f"{len(data.train.images)} images to train on, {held} to measure on, "
            f"{data.mpp} um per pixel"
        )
        counts = {
            name: int(count)
            for name, count in zip(data.train.classes.names, data.train.tag_counts(), strict=False)
        }
        self.tell(Event("scan", message, data={"tags": counts}))
        if data.report.problems:
            self.tell(Event("warning", f"Problems in the folder:\n{data.report.table()}"))

    def _train(self, task: Stage1Task | Stage2Task, config: Any, data: TrainingData) -> None:
        result = train(
            task,
            config,
            self.run_folder.root,
            seed=self.recipe.seed,
            device=self.device,
            resume=self.resume or task.name != "stage1",
            on_event=self.tell,
            should_stop=self.should_stop,
            recipe=self.recipe,
            digest=data.digest(),
        )
        if result.stopped:
            raise Stopped

    def _stage1(self, data: TrainingData, encoders: Encoders) -> Targets:
        """Train the cam network and write the pseudo masks of all training images."""
        targets = Targets(self.run_folder.pseudo_masks)
        task = Stage1Task(self.recipe, data.train, data.validation, encoders)
        self._train(task, self.recipe.stage1, data)
        missing = self._without(targets, data.train)
        exclusive = not data.train.classes.has_background
        for number, image in enumerate(missing):
            if self.should_stop():
                raise Stopped
            config = self.recipe.pseudo_masks
            cams = task.averaged_cams(image, config.scales, flips=config.flips)
            scores = probabilities_of(cams, exclusive=exclusive)
            rgb = read_pixels(image)
            mask = pseudo_mask(
                scores,
                image,
                rgb,
                self.recipe.pseudo_masks,
                white_background=self.recipe.data.white_background,
            )
            write_pseudo_mask(targets.path(image), mask)
            self.tell(Event("step", stage="pseudo_masks", step=number + 1, steps=len(missing)))
        self.world.wait_for_all()
        if self.world.is_first:
            self._preview_cams(task, data.train, targets)
        return targets

    def _without(self, targets: Targets, folder: TaggedFolder) -> list[TaggedImage]:
        """Return the images that still need a pseudo mask from this process."""
        mine = folder.images if self.world.is_first else ()
        return [image for image in mine if not targets.path(image).is_file()]

    def _preview_cams(self, task: Stage1Task, folder: TaggedFolder, targets: Targets) -> None:
        for image in _spread(folder.images):
            cams = task.cams(image).float().sigmoid().cpu().numpy()
            self._preview(image, folder, targets, cams=cams)

    def _preview(
        self,
        image: TaggedImage,
        folder: TaggedFolder,
        targets: Targets,
        *,
        cams: NDArray[np.float32] | None = None,
        prediction: NDArray[np.uint8] | None = None,
    ) -> None:
        known = targets.path(image).is_file()
        sheet = preview_sheet(
            read_pixels(image),
            classes=folder.classes,
            tags=image.tags,
            cams=cams,
            pseudo_mask=as_mask_ids(targets(image)) if known else None,
            prediction=prediction,
            truth=read_truth(image, folder) if image.truth else None,
            name=image.name,
        )
        stage = "cams" if cams is not None else "masks"
        path = self.run_folder.previews / f"{stage}-{image.name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(sheet))
        self.tell(Event("preview", stage=stage, data={"file": str(path)}))

    def _stage2(self, data: TrainingData, encoders: Encoders, targets: Targets) -> Stage2Task:
        """Train the segmentation network, then again on what it makes of the training images."""
        task = Stage2Task(self.recipe, data.train, data.validation, encoders, targets)
        self._train(task, self.recipe.stage2, data)
        for number in range(1, self.recipe.stage2.self_training_rounds + 1):
            relabelled = Targets(self.run_folder.root / f"pseudo_masks_{number}")
            for image in self._without(relabelled, data.train):
                scores = task.logits(image)[: task.tissue].softmax(0)
                mask = pseudo_mask(
                    scores,
                    image,
                    read_pixels(image),
                    replace(self.recipe.pseudo_masks, refine="none"),
                    white_background=self.recipe.data.white_background,
                )
                write_pseudo_mask(relabelled.path(image), mask)
            self.world.wait_for_all()
            before = task.network.state_dict()
            name = f"stage2_round{number}"
            task = Stage2Task(self.recipe, data.train, data.validation, encoders, relabelled, name)
            task.network.load_state_dict(before)
            self._train(task, self.recipe.stage2, data)
        return task

    def _finish(self, data: TrainingData, task: Stage2Task, targets: Targets) -> Path:
        """Measure, write the model file and the report."""
        recipe, run = self.recipe, self.run_folder
        if not self.world.is_first:
            self.world.wait_for_all()
            return run.model_file
        backbone, head = task.network.backbone, task.network.head
        mpp = data.mpp
        window, step = windows_for(backbone)
        model = SegModel(
            backbone, head, data.train.classes, name=recipe.name, mpp=mpp, window=window, step=step
        )
        evaluations = []
        scores: dict[str, float] = {}
        measured = data.validation
        if measured is not None and any(image.truth for image in measured.images):
            protocol = "oeem" if not data.train.classes.has_background else "A"
            evaluation = evaluate(model, measured, protocol=protocol, device=str(self.device))
            write_json(run.root / "evaluation.json", evaluation.to_dict())
            evaluations.append(evaluation)
            scores = _scores_of(evaluation)
            for image in _spread(measured.images):
                mask = as_mask_ids(task.logits(image).argmax(0).cpu().numpy().astype(np.int16))
                self._preview(image, measured, targets, prediction=mask)
        header = segmentation_header(
            backbone,
            data.train.classes,
            width=recipe.model.width,
            mpp=mpp,
            patch_size=int(data.train.images[0].windows[0, 2]),
            backbone_inside=recipe.model.train_blocks != "none",
            window=window,
            step=step,
            title=recipe.name,
            license="research use; as the training images and the encoder allow",
            scores=scores,
            training_sha256=data.train.digest(),
        )
        save_segmentation_model(run.model_file, header, backbone, head)
        told = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
        self.tell(Event("done", f"Wrote {run.model_file.name}. {told}".strip(), scores=scores))
        masks = [targets(image) for image in data.train.images]
        shares = coverage(masks, len(data.train.classes))
        told = ", ".join(
            f"{name} {100 * share:.1f} %"
            for name, share in zip([*data.train.classes.names, "ignored"], shares, strict=True)
        )
        write_report(run.root, notes=[f"Pseudo masks: {told}."])
        self.world.wait_for_all()
        return run.model_file


@dataclass(frozen=True)
class Targets:
    """Pseudo masks in a folder, by image.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def path(self, image: TaggedImage) -> Path:
        """Return the file of an image's pseudo mask."""
        return self.folder / f"{image.name}.png"

    def __call__(self, image: TaggedImage) -> NDArray[np.int16]:
        """Return class indices (H, W), -1 where ignored."""
        return read_pseudo_mask(self.path(image))


def as_mask_ids(mask: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return mask ids of class indices; 0 where ignored."""
    return np.where(mask == IGNORED, 0, mask + 1).astype(np.uint8)


def _spread(images: tuple[TaggedImage, ...]) -> tuple[TaggedImage, ...]:
    return images[:: max(1, len(images) // PREVIEWS)][:PREVIEWS]


def _scores_of(evaluation: Evaluation) -> dict[str, float]:
    """Return the scores that go into a model file, in percent."""
    score = evaluation.results[0].score
    title = evaluation.results[0].title
    return {
        f"mIoU ({title})": round(100 * score.miou, 2),
        f"mean Dice ({title})": round(100 * score.mean_dice, 2),
    }
