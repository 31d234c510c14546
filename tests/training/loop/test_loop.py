"""The training loop on a tiny task: what a step is, and what happens when things go wrong."""

from __future__ import annotations

import contextlib
import csv
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_plimseg.errors import ConfigError, PlimsegError
from plimseg_training.config.recipe import DataConfig, Recipe
from plimseg_training.loop import loop as loop_module
from plimseg_training.loop import state as state_module
from plimseg_training.loop.distributed import World, prefetch
from plimseg_training.loop.loop import DivergedError, LoopOptions, TrainingResult, train
from plimseg_training.loop.state import LAST, PREVIOUS, read_state, read_weights_of_run, write_state
from plimseg_training.loop.step import AveragedWeights, Precision, Stepper, choose_precision
from plimseg_training.run_folder import RunError
from tests.support.tiny_task import VALIDATED, TinyNetwork, TinyTask, stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg.training_runs.events import Event
    from plimseg_training.config.recipe import StageConfig

EVERY_STEP = LoopOptions(report_seconds=0, threads=0)


def run(
    task: TinyTask, config: StageConfig, folder: Path, **more: Any
) -> tuple[TrainingResult, list[Event]]:
    events: list[Event] = []
    more = {"seed": 5, "options": EVERY_STEP, "on_event": events.append, **more}
    return train(task, config, folder, device="cpu", **more), events


def weights(task: TinyTask) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def kinds(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind == kind]


def steadily() -> TinyNetwork:
    """A network without randomness and without statistics of the batch."""
    return TinyNetwork(dropout=0, norm=False)


# -- what a training is


def test_a_training_learns_and_leaves_its_best_weights(tmp_path: Path) -> None:
    task = TinyTask(items=32)
    result, events = run(task, stage(epochs=12), tmp_path)
    assert not result.stopped
    assert result.history[-1]["loss_cls"] < 0.8 * result.history[0]["loss_cls"]
    assert result.best_score == max(row["score"] for row in result.history)
    tensors, about = read_weights_of_run(result.weights)
    assert about == {"stage": "stage1", "epoch": result.best_epoch, "score": result.best_score}
    assert same(tensors, weights(task))
    assert result.steps == len(kinds(events, "step")) == 12 * 8
    assert [e.epoch for e in kinds(events, "epoch")] == list(range(1, 13))
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss_cls"]) for row in rows] == [r["loss_cls"] for r in result.history]


def test_frozen_weights_stay_and_norms_have_no_decay(tmp_path: Path) -> None:
    task = TinyTask()
    frozen = task.network.frozen.weight.clone()
    run(task, stage(epochs=1, weight_decay=0.5), tmp_path)
    assert torch.equal(task.network.frozen.weight, frozen)
    config = stage(weight_decay=0.5)
    stepper = Stepper(task, config, World(0, 1, torch.device("cpu")))
    for group in stepper.optimizer.param_groups:
        dimensions = {w.ndim > 1 for w in group["params"]}
        assert dimensions == {group["weight_decay"] == 0.5}


def test_accumulated_batches_make_the_same_step_as_one_large_one(tmp_path: Path) -> None:
    whole, parts = (TinyTask(items=14, network=steadily()) for _ in range(2))
    run(whole, stage(batch_size=4, accumulate=1, ema=0.0), tmp_path / "a")
    run(parts, stage(batch_size=1, accumulate=4, ema=0.0), tmp_path / "b")
    batches = {len(indices) for epoch, indices in parts.seen}
    assert batches == {1, VALIDATED}
    for name, tensor in weights(whole).items():
        assert torch.allclose(tensor, weights(parts)[name], atol=1e-6), name


def test_the_order_is_that_of_the_seed(tmp_path: Path) -> None:
    first, again, other = TinyTask(), TinyTask(), TinyTask()
    run(first, stage(), tmp_path / "a")
    run(again, stage(), tmp_path / "b")
    run(other, stage(), tmp_path / "c", seed=6)
    assert first.seen == again.seen
    assert same(weights(first), weights(again))
    assert first.seen != other.seen


def test_threads_change_nothing(tmp_path: Path) -> None:
    alone, threaded = TinyTask(), TinyTask()
    run(alone, stage(), tmp_path / "a")
    run(threaded, stage(), tmp_path / "b", options=LoopOptions(threads=3))
    assert same(weights(alone), weights(threaded))


def test_averaged_weights_are_measured_and_kept(tmp_path: Path) -> None:
    measured: list[dict[str, torch.Tensor]] = []

    class Watching(TinyTask):
        def validate(self) -> dict[str, float]:
            measured.append(weights(self))
            return {"score": float(len(measured))}

    task = Watching()
    result, _ = run(task, stage(ema=0.9), tmp_path)
    found = read_state(tmp_path / "stage1")
    assert found is not None
    average = found[0].tensors["ema.hidden.weight"]
    live = found[0].tensors["network.hidden.weight"]
    assert torch.equal(measured[-1]["hidden.weight"], average)
    assert not torch.equal(average, live)
    assert torch.equal(read_weights_of_run(result.weights)[0]["hidden.weight"], average)


def test_the_average_is_that_of_the_formula() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = AveragedWeights(network, 0.5)
    expected = 0.0
    for count, value in enumerate([1.0, 3.0, -2.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]):
        torch.nn.init.constant_(network.weight, value)
        average.update(count)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
        assert float(average.tensors["weight"]) == pytest.approx(expected)
    with average.applied():
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 8


def test_without_scores_the_last_epoch_is_kept(tmp_path: Path) -> None:
    task = TinyTask()
    task.validate = dict  # type: ignore[method-assign]
    result, _ = run(task, stage(epochs=3), tmp_path)
    assert (result.best_epoch, result.best_score) == (3, None)


def test_a_score_that_is_no_number_never_wins(tmp_path: Path) -> None:
    scores = iter([float("nan"), 0.5, float("nan"), 0.4])
    task = TinyTask()
    task.validate = lambda: {"score": next(scores)}  # type: ignore[method-assign]
    result, _ = run(task, stage(epochs=4), tmp_path)
    assert (result.best_epoch, result.best_score) == (2, 0.5)


def test_gradients_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []

    class Watched(Stepper):
        def _gradient_norm(self) -> float:
            before = super()._gradient_norm()
            gradients = [w.grad for w in self._weights if w.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))
            return before

    monkeypatch.setattr(loop_module, "Stepper", Watched)
    run(TinyTask(network=steadily()), stage(epochs=1, clip_norm=0.05), tmp_path / "a")
    assert max(norms) == pytest.approx(0.05, rel=1e-3)
    norms.clear()
    run(TinyTask(network=steadily()), stage(epochs=1, clip_norm=0.0), tmp_path / "b")
    assert max(norms) > 0.06


# -- stopping and resuming


@pytest.mark.parametrize("after", [1, 3, 5, 12, 19])
def test_a_stopped_training_goes_on_as_if_it_had_not_been(after: int, tmp_path: Path) -> None:
    straight, begun, resumed = TinyTask(), TinyTask(), TinyTask()
    whole, _ = run(straight, stage(), tmp_path / "a")
    steps = iter(range(1, 100))
    first, events = run(begun, stage(), tmp_path / "b", should_stop=lambda: next(steps) == after)
    assert first.stopped
    assert first.steps == after
    assert events[-1].kind == "stopped"
    second, events = run(resumed, stage(), tmp_path / "b")
    assert f"{after} of 20 steps are done" in events[0].message
    assert same(weights(straight), weights(resumed))
    without_time = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in r.history]
        for r in (whole, second)
    ]
    assert without_time[0] == without_time[1]


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    task, again = TinyTask(), TinyTask()
    run(task, stage(), tmp_path)
    result, _ = run(again, stage(), tmp_path)
    assert result.steps == 20
    assert again.calls == 0
    assert same(weights(task), weights(again))


def test_a_training_is_resumed_only_when_asked_and_only_the_same(tmp_path: Path) -> None:
    recipe = Recipe("x", DataConfig(), stage(), stage())
    run(TinyTask(), stage(), tmp_path, recipe=recipe, digest="a")
    with pytest.raises(RunError, match="already holds a training"):
        run(TinyTask(), stage(), tmp_path, recipe=recipe, digest="a", resume=False)
    longer = recipe.override("stage1.epochs=5")
    with pytest.raises(RunError, match=r"stage1\.epochs was 4 and is 5"):
        run(TinyTask(), longer.stage1, tmp_path, recipe=longer, digest="a")
    with pytest.raises(RunError, match="images or their tags"):
        run(TinyTask(), stage(), tmp_path, recipe=recipe, digest="b")
    with pytest.raises(RunError, match=r"another network: 'norm\."):
        run(TinyTask(network=steadily()), stage(), tmp_path, recipe=recipe, digest="a")


def test_a_damaged_checkpoint_costs_an_epoch_and_is_told(tmp_path: Path) -> None:
    straight, begun, resumed = TinyTask(), TinyTask(), TinyTask()
    run(straight, stage(), tmp_path / "a")
    steps = iter(range(1, 100))
    run(begun, stage(), tmp_path / "b", should_stop=lambda: next(steps) == 13)
    (tmp_path / "b" / "stage1" / LAST).write_bytes(b"torn")
    _, events = run(resumed, stage(), tmp_path / "b")
    assert "10 of 20 steps" in events[0].message
    assert PREVIOUS in kinds(events, "warning")[0].message
    assert same(weights(straight), weights(resumed))


def test_it_saves_by_time_too(tmp_path: Path) -> None:
    often = LoopOptions(save_seconds=0, threads=0)
    _, events = run(TinyTask(), stage(), tmp_path, options=often)
    assert len(kinds(events, "checkpoint")) == 1 + 20 + 4


# -- what goes wrong


def once_bad(*calls: int) -> Callable[..., torch.Tensor]:
    return lambda call, loss, images: loss * float("nan") if call in calls else loss


def test_a_step_without_a_finite_loss_is_skipped(tmp_path: Path) -> None:
    task = TinyTask(fault=once_bad(3))
    result, events = run(task, stage(), tmp_path)
    assert result.steps == 20
    assert result.history[-1]["skipped_steps"] == 1
    assert len(kinds(events, "warning")) == 1
    assert all(bool(t.isfinite().all()) for t in weights(task).values())
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in result.history)


def test_statistics_of_a_bad_batch_do_not_stay(tmp_path: Path) -> None:
    class Broken(TinyTask):
        def batch(self, seed: int, epoch: int, indices: Any) -> Any:
            images, tags = super().batch(seed, epoch, indices)
            return (images * float("nan") if 7 in indices and seed != 999 else images), tags

    task = Broken()
    result, _ = run(task, stage(ema=0.0), tmp_path)
    assert result.history[-1]["skipped_steps"] == 4
    assert bool(task.network.norm.running_mean.isfinite().all())


def test_ten_bad_steps_set_the_training_back_at_half_the_rate(tmp_path: Path) -> None:
    # with two batches a step, steps 6 to 15 of the first try are bad
    task = TinyTask(fault=once_bad(*range(10, 30)))
    result, events = run(task, stage(), tmp_path)
    assert not result.stopped
    told = [e.message for e in kinds(events, "warning")]
    assert len(told) == 11
    assert "half the learning rate" in told[-1]
    rates = [e.learning_rate for e in kinds(events, "step")]
    plain_rates = [
        e.learning_rate for e in kinds(run(TinyTask(), stage(), tmp_path / "plain")[1], "step")
    ]
    assert rates[:5] == plain_rates[:5]
    assert rates[-5:] == [rate / 2 for rate in plain_rates[-5:]]


def test_a_training_that_diverges_again_stops_and_names_the_images(tmp_path: Path) -> None:
    task = TinyTask(fault=once_bad(*range(10, 500)))
    with pytest.raises(DivergedError, match=r"patch-\d+\.png") as raised:
        run(task, stage(), tmp_path)
    assert isinstance(raised.value, ConfigError)
    assert "stage1.learning_rate lower" in str(raised.value)
    assert "more" in str(raised.value)
    found = read_state(tmp_path / "stage1")
    assert found is not None
    assert found[0].not_finite() is None


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Poisoned(TinyTask):
        poison = True

        def loss(self, batch: Any) -> Any:
            if self.calls == 12 and self.poison:
                self.poison = False
                self.network.hidden.weight.data[0, 0, 0, 0] = float("inf")
            return super().loss(batch)

    task = Poisoned()
    result, events = run(task, stage(), tmp_path, options=LoopOptions(save_seconds=0, threads=0))
    assert result.steps == 20
    assert any("half the learning rate" in e.message for e in kinds(events, "warning"))
    for name in (LAST, PREVIOUS):
        assert state_module._read_state(tmp_path / "stage1" / name).not_finite() is None


def test_when_memory_runs_out_batches_shrink_and_steps_do_not(tmp_path: Path) -> None:
    class Hungry(TinyTask):
        def loss(self, batch: Any) -> Any:
            if len(batch[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().loss(batch)

    calm, hungry = TinyTask(network=steadily()), Hungry(network=steadily())
    config = stage(batch_size=8, accumulate=1, ema=0.0)
    run(calm, config, tmp_path / "a")
    result, events = run(hungry, config, tmp_path / "b")
    told = [e.message for e in kinds(events, "warning")]
    assert [m.split(": ")[1].split(" from")[0] for m in told] == ["batches of 4", "batches of 2"]
    assert result.steps == 8
    for name, tensor in weights(calm).items():
        assert torch.allclose(tensor, weights(hungry)[name], atol=1e-5), name


def test_memory_of_the_computer_runs_out_likewise(tmp_path: Path) -> None:
    class Hungry(TinyTask):
        most = 2

        def batch(self, seed: int, epoch: int, indices: Any) -> Any:
            if len(indices) > self.most and seed != 999:  # 999 is the validation
                raise MemoryError
            return super().batch(seed, epoch, indices)

    calm, hungry = TinyTask(network=steadily()), Hungry(network=steadily())
    config = stage(batch_size=8, accumulate=1, ema=0.0)
    run(calm, config, tmp_path / "a")
    run(hungry, config, tmp_path / "b")
    for name, tensor in weights(calm).items():
        assert torch.allclose(tensor, weights(hungry)[name], atol=1e-5), name
    hungry.most = 0
    with pytest.raises(PlimsegError, match=r"one image of stage1 .*smaller stage1\.crop"):
        run(hungry, config, tmp_path / "c")


def test_an_error_of_the_task_comes_through(tmp_path: Path) -> None:
    class Failing(TinyTask):
        def batch(self, seed: int, epoch: int, indices: Any) -> Any:
            if epoch == 1:
                raise ConfigError("the image is gone", path="a.png")
            return super().batch(seed, epoch, indices)

    with pytest.raises(ConfigError, match=r"a\.png"):
        run(Failing(), stage(), tmp_path, options=LoopOptions(threads=2))


def test_a_full_disk_stops_with_the_checkpoint_before_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = state_module.save_file
    files = iter(range(100))

    def full(*args: Any, **more: Any) -> None:
        if next(files) >= 3:  # the start, then weights and state of epoch 1
            raise OSError(errno.ENOSPC, "No space left on device")
        written(*args, **more)

    monkeypatch.setattr(state_module, "save_file", full)
    with pytest.raises(RunError, match="disk is full"):
        run(TinyTask(), stage(), tmp_path)
    monkeypatch.undo()
    again, straight = TinyTask(), TinyTask()
    _, events = run(again, stage(), tmp_path)
    assert "5 of 20 steps" in events[0].message
    run(straight, stage(), tmp_path / "straight")
    assert same(weights(again), weights(straight))


def test_nothing_to_train_on_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        run(TinyTask(items=0), stage(), tmp_path)


# -- precision and batches


def test_the_number_format_is_what_the_device_does_well(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for instructions, dtype in (("avx512_bf16", torch.bfloat16), ("avx2", torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda i=instructions: {i: True})
        assert choose_precision("auto", cpu).dtype is dtype
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert choose_precision("auto", cuda).dtype is dtype
    assert choose_precision("float32", cuda).dtype is torch.float32
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        choose_precision("float16", cpu)


def test_it_trains_in_bfloat16(tmp_path: Path) -> None:
    task = TinyTask(network=steadily())
    formats: set[torch.dtype] = set()
    task.network.hidden.register_forward_hook(lambda m, a, out: formats.add(out.dtype))
    task.validate = dict  # type: ignore[method-assign]
    run(task, stage(epochs=1, precision="bfloat16"), tmp_path)
    assert formats == {torch.bfloat16}
    assert {t.dtype for t in weights(task).values()} == {torch.float32}


@pytest.mark.parametrize("recorded", ["", "float32", "bfloat16"])
def test_a_training_goes_on_in_the_number_format_it_was_begun_in(
    recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    automatic = stage(epochs=2, precision="auto")
    steps = iter(range(1, 100))
    run(TinyTask(network=steadily()), automatic, tmp_path, should_stop=lambda: next(steps) == 3)
    found = read_state(tmp_path / "stage1")
    assert found is not None
    assert found[0].precision == "bfloat16"
    write_state(tmp_path / "stage1", replace(found[0], precision=recorded))
    task, formats = TinyTask(network=steadily()), set[torch.dtype]()
    task.network.hidden.register_forward_hook(lambda m, a, out: formats.add(out.dtype))
    task.validate = dict  # type: ignore[method-assign]
    run(task, automatic, tmp_path)
    assert formats == {torch.bfloat16 if recorded == "bfloat16" else torch.float32}


def test_on_a_cpu_convolutions_in_groups_stay_in_float32() -> None:
    image = torch.rand(2, 8, 6, 6)
    whole, depthwise = torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8)
    expected = depthwise(image)
    with Precision(torch.device("cpu"), torch.bfloat16).autocast():
        assert whole(image).dtype is torch.bfloat16
        assert torch.equal(depthwise(image), expected)
        assert depthwise(whole(image)).dtype is torch.float32
    assert whole(image).dtype is torch.float32


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_batches_come_in_order_and_no_more_than_needed(threads: int) -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item * item

    with prefetch(make, range(20), threads=threads) as results:
        assert list(results) == [i * i for i in range(20)]
    made.clear()
    with contextlib.suppress(ZeroDivisionError), prefetch(make, range(99), threads=threads) as r:
        assert next(r) == 0
        raise ZeroDivisionError
    assert len(made) <= 2 * threads + 1


def test_float16_overflow_shrinks_the_scale_and_is_not_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "plimseg_training.loop.step.choose_precision",
        lambda wanted, device: Precision(device, torch.float16),
    )
    # gradients that are too large for float16 at the scale it begins with, 65,536
    task = TinyTask(network=steadily(), fault=lambda call, loss, images: loss * 3e4)
    result, events = run(task, stage(epochs=8), tmp_path)
    found = read_state(tmp_path / "stage1")
    assert found is not None
    assert found[0].scaler["scale"] < 65536
    assert 10 < result.history[-1]["skipped_steps"] < 40
    assert not kinds(events, "warning")
    assert found[0].position.updates == 40 - result.history[-1]["skipped_steps"]


def test_float16_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "plimseg_training.loop.step.choose_precision",
        lambda wanted, device: Precision(device, torch.float16),
    )
    straight, resumed = TinyTask(network=steadily()), TinyTask(network=steadily())
    run(straight, stage(), tmp_path / "a")
    steps = iter(range(1, 100))
    stop = run(TinyTask(network=steadily()), stage(), tmp_path / "b",
               should_stop=lambda: next(steps) == 7)  # fmt: skip
    assert stop[0].stopped
    run(resumed, stage(), tmp_path / "b")
    assert same(weights(straight), weights(resumed))
