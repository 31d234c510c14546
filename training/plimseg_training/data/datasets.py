"""The images of a recipe: scanned, combined and split into training and validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError
from plimseg_training.data.scan import check_validation, scan_folder, shared_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from plimseg_training.config import DataConfig, Recipe
    from plimseg_training.data.scan import FolderReport
    from plimseg_training.data.tagged_folder import TaggedFolder


@dataclass(frozen=True)
class TrainingData:
    """Training and validation parts of a recipe's folder.

    Parameters
    ----------
    train : TaggedFolder
    validation : TaggedFolder or None
    report : FolderReport
        Result of scanning the training folder.
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
            When the recipe names no folder, or the scan finds a fatal problem.
        """
        found = cls._of_main_folder(recipe)
        for folder in recipe.data.more:
            found = found._with_more(folder, recipe.data)
        return found

    def _with_more(self, root: Path, data: DataConfig) -> TrainingData:
        """Return a copy with the images of one more folder for training."""
        report = scan_folder(
            root,
            classes=self.train.classes,
            mpp=data.mpp or self.train.mpp,
            whole=False,
            maps=data.maps,
            ignored=data.ignore,
        )
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
        report = scan_folder(
            data.train,
            classes=classes,
            layout=data.layout,
            mpp=data.mpp,
            maps=data.maps,
            ignored=data.ignore,
        )
        folder = report.raise_if_fatal()
        if data.validation is not None:
            other = check_validation(
                data.validation,
                classes=folder.classes,
                layout=data.layout,
                mpp=data.mpp,
                maps=data.maps,
                ignored=data.ignore,
            )
            if data.validation != data.train:  # parts of one folder were compared by its scan
                shared = shared_pictures(report.pixel_hashes, other.pixel_hashes)
                report = replace(report, problems=(*report.problems, *shared))
            return cls(folder, other.raise_if_fatal(), report)
        if data.validation_groups:
            unknown = sorted(set(data.validation_groups) - set(folder.groups))
            if unknown:
                raise ConfigError(
                    f"the key 'data.validation_groups' names '{unknown[0]}', which does not exist",
                    remedy=f"Groups: {', '.join(folder.groups[:20])}.",
                )
            held = [i for i in folder.images if i.group in data.validation_groups]
            rest = [i for i in folder.images if i.group not in data.validation_groups]
            if not rest:
                raise ConfigError("all groups are for validation, and none is left for training")
            return cls(folder.restricted(rest), folder.restricted(held), report)
        if data.validation_fraction and len(folder.groups) > 1:
            first, second = folder.split(data.validation_fraction, recipe.seed)
            return cls(first, second, report)
        return cls(folder, None, report)

    @property
    def mpp(self) -> float:
        """Pixel size of the training images in micrometers."""
        if self.train.mpp is None:
            raise ConfigError(
                "the pixel size of the images is unknown",
                path=self.train.root,
                remedy="Set it in um: --set data.mpp=0.5 (0.25 at 40x, 0.5 at 20x, 1.0 at 10x).",
            )
        return self.train.mpp

    def digest(self) -> str:
        """Return a digest of both parts."""
        return self.train.digest() + (self.validation.digest() if self.validation else "")
