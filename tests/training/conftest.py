"""What every test of the trainer shares: one thread, and the bundled networks read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.support import stages

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are fastest on one thread, and their numbers don't depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package", autouse=True)
def bundled_networks_read_once() -> Iterator[None]:
    """Give each training a copy of the bundled networks; tests/models reads them from the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plimseg_training.pipeline.load_backbone", stages.backbone)
        patch.setattr("plimseg_training.pipeline.load_matcher", stages.matcher)
        yield
