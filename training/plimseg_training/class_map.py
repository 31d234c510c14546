"""Which class of a model stands for which class of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_plimseg.tissue import TissueClasses

LEFT_OUT = "-"
ALL_OTHERS = "*"


@dataclass(frozen=True, eq=False)
class ClassMap:
    """From a model's channels to those of a data set's classes.

    Parameters
    ----------
    matrix : ndarray of bool, shape (K, C)
        Whether channel `c` of the model counts for class `k` of the data set; several channels of
        one class are summed.
    """

    matrix: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which classes of the data set the model can predict, (K,)."""
        known: NDArray[np.bool_] = np.asarray(self.matrix.any(1))
        return known

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn a model's probabilities (C, H, W) into those of the data set's classes (K, H, W)."""
        count = len(probabilities)
        if np.array_equal(self.matrix, np.eye(len(self.matrix), count, dtype=bool)):
            return probabilities[: len(self.matrix)]
        return np.tensordot(self.matrix.astype(np.float32), probabilities, 1)

    @classmethod
    def between(
        cls, model: TissueClasses, data: TissueClasses, chosen: Mapping[str, str] | None = None
    ) -> Self:
        """Match classes by name, and as the user says.

        Parameters
        ----------
        model, data : TissueClasses
        chosen : mapping of str to str, optional
            Name of a model's class -> name of a data set's class, or "-" to leave it out; "*"
            stands for every class that has no counterpart otherwise.

        Raises
        ------
        ConfigError
            When a tissue class of the model has no counterpart, a name is not known, or no class
            of the data set is left.
        """
        matrix = np.zeros((len(data), len(model)), bool)
        chosen = dict(chosen or {})
        others = chosen.pop(ALL_OTHERS, None)
        wanted = {model.mask_id(old) - 1: new for old, new in chosen.items()}
        names = {name.casefold(): row for row, name in enumerate(data.names)}
        for column, name in enumerate(model.names):
            if others is not None and column not in wanted and name.casefold() not in names:
                wanted[column] = others
            target = wanted.get(column, name)
            if target == LEFT_OUT:
                continue
            if column in wanted:
                matrix[data.mask_id(target) - 1, column] = True
            elif column + 1 == model.background_id:
                if data.background_id is not None:
                    matrix[data.background_id - 1, column] = True
            elif name.casefold() in names:
                matrix[names[name.casefold()], column] = True
            else:
                raise ConfigError(
                    f"the model's class '{name}' is none of the data's ({', '.join(data.names)})",
                    remedy=f"Say what it stands for: --map '{name}=CLASS', or '{name}=-' to "
                    "leave it out.",
                )
        if not matrix[[i - 1 for i in data.tissue_ids]].any():
            raise ConfigError(
                "the model has none of the data's tissue classes",
                remedy=f"Its classes are {', '.join(model.names)}.",
            )
        return cls(matrix)


def parse_class_map(entries: Sequence[str]) -> dict[str, str]:
    """Read `--map "model class=data class"` entries.

    Raises
    ------
    ConfigError
        Naming the entry that has no equals sign or an empty side.
    """
    chosen = {}
    for entry in entries:
        old, sign, new = (part.strip() for part in entry.rpartition("="))
        if not (old and sign and new):
            raise ConfigError(
                f"'{entry}' does not match two classes", remedy="Write 'MODEL CLASS=DATA CLASS'."
            )
        chosen[old] = new
    return chosen
