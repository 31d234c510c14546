"""PyTorch's own files: read as PyTorch reads them, and nothing else is done with them."""

from __future__ import annotations

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_plimseg.errors import ModelError
from napari_plimseg.models.pickled_file import open_pickled
from napari_plimseg.models.weights import read_shapes, read_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def checkpoint() -> dict[str, Any]:
    whole = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    return {
        "transposed": whole.t(), "part": whole[1:3, ::2], "tied": whole, "scalar": torch.tensor(3),
        "half": whole.half(), "brain": whole.bfloat16(), "flags": whole > 0,
        "small": (10 * whole).to(torch.int8), "parameter": torch.nn.Parameter(whole[0]),
        "empty": torch.zeros(0, 4), "long": torch.arange(5), "epoch": 3, "name": "x",
        "sizes": torch.Size((1, 2)), "history": [1.5, None, True, {"a": (1, 2)}],
    }  # fmt: skip


def saved(path: Path, content: Any, *, older: bool = False, **options: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not older, **options)
    return path


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_are_those_that_torch_reads(tmp_path: Path, older: bool, protocol: int) -> None:
    content = checkpoint()
    path = saved(tmp_path / "m.pt", content, older=older, pickle_protocol=protocol)
    found = read_weights(path)
    wanted = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(found[name].dtype == wanted[name].dtype for name in wanted)
    assert read_shapes(path)["transposed"] == ("F32", (8, 6))
    whole = open_pickled(path).content
    assert whole["history"] == [1.5, None, True, {"a": (1, 2)}]


@pytest.mark.parametrize("older", [False, True])
def test_a_network_s_state_comes_back(tmp_path: Path, older: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {"state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}
    found = read_weights(saved(tmp_path / "m.pth", content, older=older))
    network.load_state_dict(found)
    assert set(found) == set(network.state_dict())


def test_weights_are_known_by_their_content(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "w.bin")
    assert read_weights(tmp_path / "w.bin")["w"].tolist() == [1, 1]


def itself() -> dict[str, Any]:
    content: dict[str, Any] = {"w": torch.ones(2)}
    content["state_dict"] = content
    return content


def sparse() -> torch.Tensor:
    return torch.eye(3).to_sparse()


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: torch.ones(1).expand(1 << 20, 1 << 20), "larger than its values"),
        (lambda: torch.ones(3, dtype=torch.complex64), "no tensors of this kind"),
        (sparse, "no tensors of this kind"),
        (quantized, "no tensors of this kind"),
        (lambda: torch.empty(1 << 40, device="meta"), "no tensors of this kind"),
        (lambda: slice(1), "more than tensors"),
    ],
)
def test_other_tensors_are_refused(
    tmp_path: Path, older: bool, make: Callable[[], Any], problem: str
) -> None:
    path = saved(tmp_path / "m.pt", {"w": make()}, older=older)
    with pytest.raises(ModelError, match=problem) as caught:
        read_weights(path)
    assert "'m.pt'" in str(caught.value)


@pytest.mark.parametrize("older", [False, True])
def test_a_table_that_holds_itself_is_read(tmp_path: Path, older: bool) -> None:
    assert read_weights(saved(tmp_path / "m.pt", itself(), older=older))["w"].tolist() == [1, 1]


def rewritten(path: Path, change: Callable[[str, bytes], bytes], how: int) -> None:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", how) as new:
        for name, content in members.items():
            new.writestr(name, change(name, content))


def test_compressed_members_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.zeros(8 << 20)})
    rewritten(path, lambda name, content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(ModelError, match="content is compressed"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_values_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.zeros(77)})

    def more(name: str, content: bytes) -> bytes:
        many = b"J" + struct.pack("<i", 1 << 30)
        return content.replace(b"K\x4d", many) if name.endswith("data.pkl") else content

    rewritten(path, more, zipfile.ZIP_STORED)
    with pytest.raises(ModelError, match="values are missing"):
        read_weights(path)
    older = saved(tmp_path / "old.pt", {"w": torch.zeros(77)}, older=True)
    older.write_bytes(more("data.pkl", older.read_bytes()))
    with pytest.raises(ModelError, match="not those of its tensors"):
        read_weights(older)


def test_a_changed_value_in_a_zip_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.full((4,), 2.5)})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<f", 2.5), struct.pack("<f", 2.75), 1))
    with pytest.raises(ModelError, match="BadZipFile"):
        read_weights(path)


def test_each_byte_of_a_member_s_own_header_may_be_wrong(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.full((4,), 2.5)})
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("m/data/0").header_offset
    for at in range(start, start + 40):
        content = bytearray(sound)
        content[at] ^= 0xED
        path.write_bytes(content)
        try:
            found = read_weights(path)
        except ModelError:
            continue
        assert found["w"].tolist() == [2.5] * 4


def bomb(steps: int) -> bytes:
    """A pickle that copies a table again and again."""
    table = b"ccollections\nOrderedDict\n"
    pairs = b"(" + b"(K\x01K\x02t" * 1000 + b"l"
    return b"\x80\x02" + pairs + b"q\x00" + (table + b"(h\x00tR0") * steps + b"}."


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02" + b")\x85" * 100_000 + b"\x85" * 100_000 + b".",
        bomb(5000),
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60),
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 30),
        b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    ],
    ids=["marks", "lists", "tuples", "copies", "long text", "long number", "digits"],
)
def test_hostile_instructions_end_soon(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", content)
    started = time.monotonic()
    with pytest.raises(ModelError):
        read_weights(path)
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + content)
    with pytest.raises(ModelError):
        read_weights(path)
    assert time.monotonic() - started < 10


@pytest.fixture(scope="module")
def sound() -> list[bytes]:
    files = []
    for older in (False, True):
        buffer = io.BytesIO()
        state = OrderedDict(torch.nn.Linear(3, 2).state_dict())
        torch.save({"model": state, "epoch": 1}, buffer, _use_new_zipfile_serialization=not older)
        files.append(buffer.getvalue())
    return files


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data())
def test_any_bytes_give_tensors_or_our_error(
    tmp_path: Path, sound: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(sound[data.draw(st.integers(0, 1))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), at]))]
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    try:
        found = read_weights(path)
    except ModelError as error:
        assert "m.pt" in str(error)  # noqa: PT017
    else:
        assert sum(each.nbytes for each in found.values()) <= 2 * len(content)
