"""Published ways to count pixels: protocols A, B, C and that of OEEM.

A: background is ignored in the truth and never predicted. The primary protocol.
B: background is counted as a class; the mean is over the tissue classes.
C: B without the classes missing in the truth of an image: oracle tags, which no user has.
OEEM: two classes, all pixels counted, both classes in the mean (GlaS: gland and the rest).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_plimseg.errors import ConfigError
from plimseg_training.evaluation.metrics import Score, confusion_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.tissue import TissueClasses


ProtocolKey = Literal["A", "B", "C", "oeem"]


@dataclass(frozen=True)
class Protocol:
    """One way to count pixels.

    Parameters
    ----------
    key : str
        Value of `--protocol`.
    title : str
        Title for display; it names any use of oracle tags.
    counts_background : bool
        Whether background counts in truth and prediction.
    oracle_tags : bool
        Whether classes missing in an image's truth can't be predicted on it.
    scores_background : bool
        Whether background is included in the means.
    """

    key: ProtocolKey
    title: str
    counts_background: bool
    oracle_tags: bool = False
    scores_background: bool = False

    def check(self, classes: TissueClasses) -> None:
        """Refuse classes to which the protocol does not apply.

        Raises
        ------
        ConfigError
            When OEEM's protocol is used for more or fewer than two classes.
        """
        if self.key == "oeem" and len(classes) != 2:
            raise ConfigError(
                f"OEEM's protocol is for two classes, and there are {len(classes)}",
                remedy="Choose protocol A, B or C.",
            )

    def counted_ids(self, classes: TissueClasses) -> tuple[int, ...]:
        """Return the mask ids of the rows of the confusion matrix."""
        every = tuple(range(1, len(classes) + 1))
        return every if self.counts_background else classes.tissue_ids

    def predictable(
        self, classes: TissueClasses, truth: NDArray[np.uint8], known: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which classes may be predicted on an image.

        Parameters
        ----------
        classes : TissueClasses
        truth : ndarray of uint8, shape (H, W)
            Mask ids; only used with oracle tags.
        known : ndarray of bool, shape (K,)
            Whether the model can predict each class.

        Returns
        -------
        ndarray of bool, shape (K,)
            Oracle tags are ignored on an image where they would leave no class to predict.
        """
        counted = np.zeros(len(classes), bool)
        counted[[i - 1 for i in self.counted_ids(classes)]] = True
        counted &= known
        if not self.oracle_tags:
            return counted
        present = np.zeros(len(classes), bool)
        ids = np.unique(truth)
        present[ids[ids > 0].astype(np.int64) - 1] = True
        if classes.background_id is not None:
            present[classes.background_id - 1] = True
        allowed: NDArray[np.bool_] = counted & present
        return allowed if allowed.any() else counted

    def score(
        self, truth: NDArray[np.uint8], mask: NDArray[np.uint8], classes: TissueClasses
    ) -> Score:
        """Count the pixels of a mask, or of a part of it.

        Parameters
        ----------
        truth, mask : ndarray of uint8, shape (H, W)
            Mask ids. Pixels with truth 0 are not counted.
        classes : TissueClasses

        Returns
        -------
        Score
            Over the counted classes, in mask-id order.
        """
        ids = self.counted_ids(classes)
        # background is the last id, so removing it does not change the other ids
        counted = np.where(truth <= len(ids), truth, 0).astype(np.uint8)
        scored = [
            row for row, i in enumerate(ids) if self.scores_background or i in classes.tissue_ids
        ]
        return Score(
            confusion_matrix(counted, mask, len(ids)),
            tuple(classes.names[i - 1] for i in ids),
            tuple(scored),
        )


PROTOCOLS: dict[str, Protocol] = {
    "A": Protocol("A", "A: tissue only", counts_background=False),
    "B": Protocol("B", "B: background counted", counts_background=True),
    "C": Protocol("C", "C: oracle tags", counts_background=True, oracle_tags=True),
    "oeem": Protocol(
        "oeem", "OEEM: two classes, all pixels", counts_background=True, scores_background=True
    ),
}


def chosen_protocols(key: str, classes: TissueClasses) -> tuple[Protocol, ...]:
    """Return the protocol of a key, or with "all" those that are meaningful for the classes.

    Parameters
    ----------
    key : str
        "A", "B", "C", "oeem" or "all".
    classes : TissueClasses
        "all" excludes B without background, where it equals A, and OEEM's unless there are two
        classes.

    Raises
    ------
    ConfigError
        When there is no such protocol, or it does not apply to these classes.
    """
    if key == "all":
        keys = ["A", *(["B"] if classes.has_background else []), "C"]
        return tuple(PROTOCOLS[k] for k in [*keys, *(["oeem"] if len(classes) == 2 else [])])
    known = {name.casefold(): protocol for name, protocol in PROTOCOLS.items()}
    if key.casefold() not in known:
        raise ConfigError(
            f"there is no protocol '{key}'", remedy=f"Protocols: {', '.join(PROTOCOLS)}, all."
        )
    protocol = known[key.casefold()]
    protocol.check(classes)
    return (protocol,)
