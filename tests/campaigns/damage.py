"""Seeded damage to files: bytes of any file, and the structure of those whose format is known.

`damage(folder, targets, rng)` changes one file of a folder and returns a `Damage`: what was done,
and whether it was done with intent. A flipped bit is an accident, which checksums notice. A changed
value in valid JSON is intent: its author would compute a new checksum, and some kinds do.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Rng = np.random.Generator
_DEEP, _TWICE = "@@deep@@", "@@twice@@"
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 255, 2**31, 2**63, 10**30, -(10**400), 0.5, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "1", "nan", "-1", "\x00", "\ud800"),
    *("../../x", "/dev/zero", "/etc/passwd", "=1+1", "<b>x</b>", "%s{}", "a" * 100_000, [], {}),
    *(
        [0] * 50_000,
        [[]],
        [{}],
        {"": None},
        _DEEP,
        [1, 2],
        {"x": 1},
        "hf-hub:evil/evil",
        "local-dir:.",
    ),
)
"""Values put in place of others; `_DEEP` becomes a list nested 100,000 levels deep."""
KEYS = (
    *("trust_remote_code", "auto_map", "hf_model_name", "timm_model_name", "hf_tokenizer_name"),
    *("tokenizer_kwargs", "tokenizer_class", "architectures", "__class__", "extra", "version"),
)


@dataclass(frozen=True)
class Damage:
    """What was done to which file, and whether with intent (then checksums may fit)."""

    file: str
    kind: str
    with_intent: bool = False


def damage(folder: Path, targets: list[str], rng: Rng) -> Damage:
    """Damage one file of a folder.

    Parameters
    ----------
    folder : Path
        A copy of a sound base.
    targets : list of str
        Glob patterns of the files that may be damaged.
    rng : Generator
        Decides which file, and how.
    """
    found = sorted({p for pattern in targets for p in folder.glob(pattern) if p.is_file()})
    if not found:
        raise ValueError(f"{targets} match no file of {sorted(folder.rglob('*'))}")
    # one file of each kind of name is as likely as many chunks together
    names = sorted({_ending(path) for path in found})
    ending = names[rng.integers(len(names))]
    path = [p for p in found if _ending(p) == ending][0:1000]
    target = path[rng.integers(len(path))]
    name = str(target.relative_to(folder))
    if rng.random() < 0.06:
        return Damage(name, _replace_entry(target, rng))
    content = target.read_bytes()
    kinds = STRUCTURAL.get(ending, ())
    if kinds and rng.random() < 0.6:
        kind = kinds[rng.integers(len(kinds))]
        try:
            changed = kind(content, rng)
        except Exception:  # noqa: BLE001 - this file has nothing of that kind, or can't be parsed
            changed = None
        if changed is not None and changed != content:
            target.write_bytes(changed)
            return Damage(name, kind.__name__, with_intent=True)
    kind = BYTES[rng.integers(len(BYTES))]
    target.write_bytes(kind(content, rng))
    return Damage(name, kind.__name__)


def _ending(path: Path) -> str:
    known = {".zattrs", ".zgroup", ".zarray"}
    if path.name in known or path.name == "zarr.json":
        return ".json"
    return path.suffix.lower() if re.fullmatch(r"\.[a-z0-9]{1,12}", path.suffix.lower()) else ""


# -- bytes of any file


def truncated(content: bytes, rng: Rng) -> bytes:
    return content[: rng.integers(len(content))] if content else b"x"


def emptied(content: bytes, rng: Rng) -> bytes:
    return b""


def flipped(content: bytes, rng: Rng) -> bytes:
    return _flipped(content, np.arange(len(content)), int(rng.integers(1, 65)), rng)


def one_bit(content: bytes, rng: Rng) -> bytes:
    return _flipped(content, np.arange(len(content)), 1, rng)


def flipped_at_the_start(content: bytes, rng: Rng) -> bytes:
    return _flipped(content, np.arange(min(512, len(content))), int(rng.integers(1, 5)), rng)


def zeroed(content: bytes, rng: Rng) -> bytes:
    changed = bytearray(content or b"x")
    start = int(rng.integers(len(changed)))
    end = min(start + int(rng.choice([16, 256, 4096])), len(changed))
    changed[start:end] = bytes(end - start)
    return bytes(changed)


def doubled(content: bytes, rng: Rng) -> bytes:
    start, end = sorted(int(n) for n in rng.integers(0, len(content) + 1, 2))
    return content[:end] + content[start:end] + content[end:]


def cut_out(content: bytes, rng: Rng) -> bytes:
    start = int(rng.integers(len(content) + 1))
    return content[:start] + content[start + int(rng.integers(1, 200)) :]


def number_changed(content: bytes, rng: Rng) -> bytes:
    """Replace one number written in digits by another text of the same length."""
    found = list(re.finditer(rb"(?<![0-9.])[0-9][0-9.]*", content[: 1 << 20]))
    if not found:
        return flipped(content, rng)
    at = found[rng.integers(len(found))]
    new = rng.choice(["9", "0", "-", "n", "1e", "."])
    text = (new * len(at[0]))[: len(at[0])].encode()
    return content[: at.start()] + text + content[at.end() :]


BYTES = (
    truncated, truncated, emptied, flipped, flipped, one_bit, flipped_at_the_start,
    flipped_at_the_start, zeroed, zeroed, doubled, cut_out, number_changed,
)  # fmt: skip


def _flipped(content: bytes, places: np.ndarray, count: int, rng: Rng) -> bytes:
    changed = bytearray(content)
    for at in rng.choice(places, min(count, len(places)), replace=False) if len(places) else ():
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _replace_entry(path: Path, rng: Rng) -> str:
    """Put something else in a file's place."""
    how = str(rng.choice(["removed", "folder", "pipe", "device", "loop", "dangling", "link"]))
    content = path.with_name(path.name + ".moved")
    path.rename(content)
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "dangling":
        path.symlink_to("missing")
    elif how == "link":
        path.symlink_to(content.name)
        return "replaced by a link to itself elsewhere"
    content.unlink()
    return f"replaced by: {how}"


# -- JSON, YAML and CSV


def json_value(content: bytes, rng: Rng) -> bytes:
    """Change a value, a key or an element of a JSON document, and fit its own checksum."""
    return _json_text(_changed_tree(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def json_values(content: bytes, rng: Rng) -> bytes:
    tree = json.loads(content)
    for _ in range(int(rng.integers(2, 6))):
        tree = _changed_tree(tree, rng)
    return _json_text(tree).encode("utf-8", "surrogatepass")


def json_line(content: bytes, rng: Rng) -> bytes:
    """Change one line of a file of JSON lines."""
    lines = content.splitlines()
    at = int(rng.integers(len(lines)))
    lines[at] = json_value(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def json_is_something_else(content: bytes, rng: Rng) -> bytes:
    return _json_text(STRANGE[rng.integers(len(STRANGE))]).encode("utf-8", "surrogatepass")


def yaml_value(content: bytes, rng: Rng) -> bytes:
    tree = _changed_tree(yaml.safe_load(content.decode()), rng)
    text = _json_text(tree)
    if rng.random() < 0.7 and _DEEP not in repr(tree)[:10_000_000] and len(text) < 100_000:
        text = yaml.safe_dump(tree, allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def yaml_trick(content: bytes, rng: Rng) -> bytes:
    """Add what YAML has and JSON has not."""
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    tricks = [
        bomb, "x: &x [*x]\n", "x: &x {y: *x}\n", "<<: *x\n",
        "x: !!python/object/apply:os.system [ls]\n", "x: !!python/name:os.system\n", "\tx: 1\n",
        "? [1, 2]\n: x\n", "? {a: b}\n: x\n", "x: 2026-13-45\n", "x: 0x" + "f" * 5000 + "\n",
        "x: 1e999999\n", "x: .nan\n", "x: 1:2:3:4:5\n", "x: " + "[" * 5000 + "\n",
        "x: " + "{a: " * 5000 + "\n", "- " * 5000 + "\n", "--- 1\n--- 2\n",
        "%TAG ! tag:\n---\nx: !y 1\n",
        "x: !!set {a, b}\n", "x: !!binary zzz\n", "x: !!timestamp x\n",
        "x: !!float x\n", "x: !!int ''\n", "name: &n a\nname: *n\n", "\ufeff", "x: \"\\ud800\"\n",
    ]  # fmt: skip
    lines = content.decode().splitlines(keepends=True)
    at = int(rng.integers(len(lines) + 1))
    lines.insert(at, tricks[rng.integers(len(tricks))])
    return "".join(lines).encode("utf-8", "surrogatepass")


def csv_cells(content: bytes, rng: Rng) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(int(rng.integers(1, 4))):
        row = rows[rng.integers(len(rows))]
        strange = [
            "", "2", "-1", "1e400", "nan", "\x00", "../../etc/passwd", "/dev/zero", "=1+1", '"',
            "\n", "a" * 200_000, "0" * 5000, "\ud7ff", "1,1", "1;1", "True", ".", "..", "CON",
        ]  # fmt: skip
        how = rng.integers(5)
        if how == 0 and row:
            del row[rng.integers(len(row))]
        elif how == 1:
            rows.insert(int(rng.integers(len(rows) + 1)), list(row) * int(rng.integers(1, 4)))
        elif how == 2 and len(rows) > 1:
            rows.remove(row)
        elif row:
            row[rng.integers(len(row))] = strange[rng.integers(len(strange))]
    out = io.StringIO()
    csv.writer(out, delimiter=str(rng.choice([",", ";", "\t"]))).writerows(rows)
    return out.getvalue().encode(str(rng.choice(["utf-8", "utf-16", "utf-8-sig"])))


def text_lines(content: bytes, rng: Rng) -> bytes:
    """Remove, repeat or swap lines of a text file."""
    lines = content.splitlines(keepends=True)
    at, other = (int(n) for n in rng.integers(len(lines), size=2))
    how = rng.integers(3)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at:at] = [lines[other]] * int(rng.choice([1, 5000]))
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return b"".join(lines)


def _changed_tree(tree: Any, rng: Rng) -> Any:
    """Return the tree with one node changed."""
    wrapped = isinstance(tree, dict) and set(tree) == {"sha256", "content"}
    if (
        wrapped and rng.random() < 0.9
    ):  # what `write_checked` wraps: inside, with a checksum that fits
        changed = _changed_tree(tree["content"], rng)
        body = json.dumps(changed, sort_keys=True, ensure_ascii=False)
        body = _expanded(body)
        digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        return {"sha256": digest, "content": changed}
    places = list(_places((), tree))
    place = places[rng.integers(len(places))]
    how = int(rng.integers(9))
    if not place:
        return STRANGE[rng.integers(len(STRANGE))] if how == 0 else _at_key(tree, rng)
    *above, last = place
    parent = tree
    for key in above:
        parent = parent[key]
    old = parent[last]
    number = type(old) in (int, float)
    if how == 0:
        del parent[last]
    elif how == 1 and isinstance(parent, dict):
        parent[f"{last}{_TWICE}"] = STRANGE[rng.integers(len(STRANGE))]
    elif how == 2 and isinstance(parent, dict):
        parent[str(KEYS[rng.integers(len(KEYS))])] = STRANGE[rng.integers(len(STRANGE))]
    elif how == 3 and isinstance(parent, list):
        parent[last:last] = [old] * int(rng.choice([1, 2, 3000]))
    elif how == 4 and number:
        parent[last] = old * rng.choice([-1, 0, 2, 1000, 1_000_000]).item()
    elif how == 5 and isinstance(old, str):
        parent[last] = old[: len(old) // 2] + str(rng.choice(["", "é", " ", "\n", "9"]))
    elif how == 6:
        parent[last] = [old] if rng.random() < 0.5 else {"x": old}
    elif how == 7:
        node = tree
        for key in places[rng.integers(len(places))]:
            node = node[key]
        parent[last] = json.loads(json.dumps(node)) if len(str(node)) < 100_000 else 0
    else:
        parent[last] = STRANGE[rng.integers(len(STRANGE))]
    return tree


def _at_key(tree: Any, rng: Rng) -> Any:
    if isinstance(tree, dict):
        tree[str(KEYS[rng.integers(len(KEYS))])] = STRANGE[rng.integers(len(STRANGE))]
    return tree


def _places(here: tuple[Any, ...], node: Any) -> Any:
    yield here
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in list(items)[:200]:
        yield from _places((*here, key), value)


def _json_text(tree: Any) -> str:
    return _expanded(json.dumps(tree))


def _expanded(text: str) -> str:
    text = text.replace(f'"{_DEEP}"', "[" * 100_000 + "]" * 100_000)
    return text.replace(_TWICE, "")  # a key that is there already


# -- safetensors, zip


def safetensors_header(content: bytes, rng: Rng) -> bytes:
    """Change the table of tensors."""
    header, body = _header(content)
    tensors = [name for name in header if name != "__metadata__"]
    entry = header[tensors[rng.integers(len(tensors))]]
    how = int(rng.integers(8))
    if how == 0:
        entry["dtype"] = str(
            rng.choice(["F64", "BF16", "I8", "BOOL", "U16", "F8_E4M3", "x", "F32"])
        )
    elif how == 1:
        entry["shape"] = [[], [-1], [2**62], [2**31, 2**31], [0], [1] * 100, [[1]]][rng.integers(7)]
    elif how == 2:
        entry["data_offsets"] = [[0, 0], [0, 2**62], [10, 5], [-1, 1], [0], "x"][rng.integers(6)]
    elif how == 3 and entry["shape"]:
        axis = rng.integers(len(entry["shape"]))
        entry["shape"][axis] = int(entry["shape"][axis] * rng.choice([0, 2, 1000]))
    elif how == 4:
        entry["shape"] = entry["shape"][::-1]
    elif how == 5:
        name = tensors[rng.integers(len(tensors))]
        header[str(rng.choice(["x", "", "head.x", "../x"])) + name] = header.pop(name)
    elif how == 6:
        del header[tensors[rng.integers(len(tensors))]]
    else:
        _changed_tree(header, rng)
    return _with_header(header, body)


def safetensors_metadata(content: bytes, rng: Rng) -> bytes:
    """Change the JSON texts that this program keeps in the header."""
    header, body = _header(content)
    metadata = header.get("__metadata__", {})
    name = sorted(metadata)[rng.integers(len(metadata))]
    try:
        metadata[name] = _json_text(_changed_tree(json.loads(metadata[name]), rng))
    except ValueError:
        metadata[name] = str(rng.choice(["", "x", "0" * 64]))
    return _with_header(header, body)


def safetensors_length(content: bytes, rng: Rng) -> bytes:
    length = int(rng.choice([0, 1, 100_000_001, 2**31, 2**63 - 1, len(content), len(content) - 8]))
    return struct.pack("<Q", length) + content[8:]


def safetensors_values(content: bytes, rng: Rng) -> bytes:
    """Put NaN, infinity or huge values into one tensor."""
    header, body = _header(content)
    tensors = [name for name in header if name != "__metadata__"]
    start, end = header[tensors[rng.integers(len(tensors))]]["data_offsets"]
    changed = bytearray(body)
    pattern = [b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\xff" * 4][rng.integers(4)]
    changed[start:end] = (pattern * (end - start))[: end - start]
    return _with_header(header, bytes(changed))


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_header(header: dict[str, Any], body: bytes) -> bytes:
    text = _json_text(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def zip_member(content: bytes, rng: Rng) -> bytes:
    """Write the archive of a .pt file again with one member changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = int(rng.integers(len(members)))
    name, body = members[at]
    how = int(rng.integers(7))
    compression = zipfile.ZIP_STORED
    if how == 0:
        del members[at]
    elif how == 1:
        members.append((name, body))
    elif how == 2:
        members[at] = (str(rng.choice(["../../x", "/x", "", "x" * 5000])), body)
    elif how == 3:
        members[at] = (name, truncated(body, rng))
    elif how == 4:
        members[at] = (name, flipped(body, rng))
    elif how == 5:
        compression = zipfile.ZIP_DEFLATED
    else:
        members[at] = (name, body + bytes(int(rng.choice([1, 10_000_000]))))
        compression = zipfile.ZIP_DEFLATED
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(out, "w", compression) as archive:
            for name, body in members:
                archive.writestr(name, body)
    return out.getvalue()


def pickle_opcodes(content: bytes, rng: Rng) -> bytes:
    """Change the pickle inside a .pt file: a self-reference, an import, deep nesting."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    tricks = [
        b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.",
        b"\x80\x02}q\0h\0h\0s.",  # a dict with itself as key
        b"\x80\x02}q\0X\x05\0\0\0modelh\0s.",  # a dict with itself as value
        b"\x80\x02]q\0h\0a.",
        b"\x80\x02" + b"](" * 50_000 + b"e" * 50_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02K\1.",
        b"\x80\x02N.",
        b"\x80\x02X\xff\xff\xff\x7f.",
        b".",
        b"\x80\x02}X\x01\0\0\0wG\x7f\xf8\0\0\0\0\0\0s.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\0(t(tt\x89N\x87R.",
        b"\x80\x02ccollections\nOrderedDict\n)R}q\1X\1\0\0\0xh\1sb.",
    ]
    trick = tricks[rng.integers(len(tricks))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in members:
            archive.writestr(name, trick if name.endswith("data.pkl") else body)
    return out.getvalue()


# -- pictures


def tiff_directories(content: bytes, rng: Rng) -> bytes:
    """Flip bits in the directories of a TIFF."""
    places = [np.arange(8)]
    for page, entry in _tiff_pages(content):
        places.append(np.arange(page.offset, page.offset + entry * len(page.tags) + 16))
        places += [
            np.arange(t.valueoffset, t.valueoffset + min(t.valuebytecount, 256)) for t in page.tags
        ]
    known = np.unique(np.concatenate(places))
    return _flipped(content, known[known < len(content)], int(rng.integers(1, 5)), rng)


def tiff_tag(content: bytes, rng: Rng) -> bytes:
    """Write another number into one field of one entry of one directory."""
    pages = list(_tiff_pages(content))
    page, entry = pages[rng.integers(len(pages))]
    big = entry == 20
    start = page.offset + (8 if big else 2)
    if rng.random() < 0.1:  # the number of entries, or the next directory
        at, size = (page.offset, 2) if rng.random() < 0.5 else (start + entry * len(page.tags), 4)
    else:
        at = start + entry * int(rng.integers(len(page.tags)))
        offset, size = [(0, 2), (2, 2), (4, 4), (12 if big else 8, 4)][rng.integers(4)]
        at += offset
    order = "<" if content[:2] == b"II" else ">"
    limit = 1 << 8 * size
    old = int.from_bytes(content[at : at + size], "little" if order == "<" else "big")
    values = [
        *(0, 1, 2, 5, 7, 8, 16, 255, 256, 257, 0x7FFF, 0xFFFF, 0x7FFFFFF0, 0xFFFFFFFF),
        *(len(content), len(content) - 1, page.offset, old + 1, old * 2),
        *(33003, 34712, 50001, 322, 324, 273),
    ]
    value = int(values[rng.integers(len(values))]) % limit
    new = value.to_bytes(size, "little" if order == "<" else "big")
    return content[:at] + new + content[at + size :]


def tiff_description(content: bytes, rng: Rng) -> bytes:
    """Change a number or a word in a description, of the same length."""
    pages = list(_tiff_pages(content))
    page, _ = pages[rng.integers(len(pages))]
    texts = [t for t in page.tags if t.dtype == 2 and t.valuebytecount > 8]
    tag = texts[rng.integers(len(texts))]
    start, end = tag.valueoffset, tag.valueoffset + tag.valuebytecount
    change = number_changed if rng.random() < 0.6 else flipped_at_the_start
    return content[:start] + change(content[start:end], rng)[: end - start] + content[end:]


def png_chunk(content: bytes, rng: Rng) -> bytes:
    """Change a chunk of a PNG and fit its checksum."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    number = 0 if rng.random() < 0.6 else int(rng.integers(len(chunks)))
    kind, body = chunks[number]
    if number == 0:
        changed = bytearray(body)
        side = [0, 1, 13_000, 100_000, 2**31 - 1, 2**32 - 1][rng.integers(6)].to_bytes(4, "big")
        spot = int(rng.choice([0, 4, 8, 9, 12]))
        changed[spot : spot + (4 if spot < 8 else 1)] = side if spot < 8 else side[3:]
        chunks[0] = (kind, bytes(changed))
    elif rng.random() < 0.5:
        chunks[number] = (kind, flipped(body, rng))
    else:
        chunks.insert(
            number, (bytes(rng.choice([b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL"])), body)
        )
    out = content[:8]
    for kind, body in chunks:
        out += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    return out


def jpeg_segment(content: bytes, rng: Rng) -> bytes:
    """Change the size that a JPEG declares, or a segment's length."""
    found = [m.start() for m in re.finditer(rb"\xff[\xc0\xc2\xc4\xda\xdb\xdd\xe0\xe1]", content)][
        :12
    ]
    at = found[rng.integers(len(found))]
    changed = bytearray(content)
    spot = at + int(rng.choice([1, 2, 4, 5, 7, 9]))
    changed[spot : spot + 2] = int(rng.choice([0, 1, 0xFFFF, 0x8000, 0xFFC0])).to_bytes(2, "big")
    return bytes(changed)


def _tiff_pages(content: bytes) -> Any:
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        entry = 20 if tif.is_bigtiff else 12
        for page in tif.pages:
            for each in (page, *(page.pages or ())):
                yield each, entry


_JSON = (json_value, json_value, json_values, json_is_something_else)
_TIFF = (tiff_directories, tiff_tag, tiff_tag, tiff_description)
_SAFETENSORS = (safetensors_header, safetensors_metadata, safetensors_length, safetensors_values)
_ZIP = (zip_member, pickle_opcodes)
STRUCTURAL: dict[str, tuple[Callable[[bytes, Rng], bytes], ...]] = {
    **dict.fromkeys((".json", ".geojson"), _JSON),
    ".jsonl": (json_line, json_line, text_lines),
    **dict.fromkeys((".yaml", ".yml"), (yaml_value, yaml_value, yaml_trick)),
    ".csv": (csv_cells,),
    **dict.fromkeys((".txt", ".ini", ".vms", ".opt"), (text_lines, number_changed)),
    **dict.fromkeys((".safetensors", ".ckpt", ".maps"), _SAFETENSORS),
    **dict.fromkeys((".pt", ".pth", ".bin"), _ZIP),
    **dict.fromkeys((".tif", ".tiff", ".svs", ".ndpi", ".qptiff", ".scn", ".bif"), _TIFF),
    ".png": (png_chunk,),
    **dict.fromkeys((".jpg", ".mrxs"), (jpeg_segment,)),
}
"""What may be done to the structure of a file, by its ending."""


def copy(base: Path, folder: Path) -> None:
    """Copy a base to a folder that may not exist."""
    shutil.copytree(base, folder, symlinks=True)
