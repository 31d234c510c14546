"""Two images of synthetic tissue and the bundled networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.stages import encoders, recipe, windowed_tissue

if TYPE_CHECKING:
    from plimseg_training.data.tagged_folder import TaggedFolder
    from plimseg_training.stages.stage1 import Encoders


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> TaggedFolder:
    return windowed_tissue(tmp_path_factory.mktemp("tissue"), 2)


@pytest.fixture(scope="module")
def frozen() -> Encoders:
    """The bundled networks, for tests that leave them as they are."""
    return encoders(recipe(None, "stage1.augment=none"))
