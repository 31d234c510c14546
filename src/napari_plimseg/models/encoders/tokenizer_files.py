"""Tokenizers made from a folder's words, without the library that would run the folder's code.

transformers takes a tokenizer's class, and with `auto_map` even its code, from the folder. Here
only words are read, and the steps around them are our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_plimseg.errors import ModelError
from napari_plimseg.reading import read_json, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LONGEST_WORD, _MOST_WORDS = 400, 1 << 19
# Every step of a tokenizer of `tokenizers` that is used by CONCH or its relatives. Steps with
# regular expressions are left out: a stranger's expression can take forever.
_STEPS = frozenset(
    {"BPE", "WordLevel", "WordPiece", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip",
     "StripAccents", "BertNormalizer", "Prepend", "Sequence", "ByteLevel", "Whitespace",
     "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits", "Metaspace",
     "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Fuse", "ByteFallback",
     "BPEDecoder"}
)  # fmt: skip
_PARTS = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder")


class FileTokenizer:
    """A tokenizer of the library `tokenizers` with a fixed length.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
    length : int
        Of all token lists; longer ones are cut, shorter ones padded with 0.
    clean : callable
        Applied to each text before.
    """

    def __init__(self, tokenizer: Any, length: int, *, clean: Callable[[str], str] = str) -> None:
        self._tokenizer = tokenizer
        self._clean = clean
        _quietly(lambda: self._tokenizer.enable_truncation(length), None)
        _quietly(lambda: self._tokenizer.enable_padding(length=length, pad_id=0), None)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return token ids (N, T)."""
        cleaned = [self._clean(text) for text in texts]
        encoded = _quietly(lambda: self._tokenizer.encode_batch(cleaned), None)
        return torch.tensor([one.ids for one in encoded])


def bert_tokenizer(
    folder: Path, length: int, *, lowercase: bool, vocabulary: int, clean: Callable[[str], str]
) -> FileTokenizer:
    """Return BERT's tokenizer with the words of a folder.

    Parameters
    ----------
    folder : Path
        With `vocab.txt` or `tokenizer.json`.
    length : int
        Of all token lists.
    lowercase : bool
        Whether letter case is ignored.
    vocabulary : int
        How many words the network knows.
    clean : callable
        Applied to each text before.

    Raises
    ------
    ModelError
        When there are no words, or they are not BERT's.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    words, path = _words(folder)
    if any(name not in words for name in _SPECIAL) or words["[PAD]"] != 0:
        raise ModelError(f"it lacks one of the words {', '.join(_SPECIAL)}", path=path)
    if max(words.values()) >= vocabulary:
        raise ModelError(f"it has more words than the {vocabulary:,} of its network", path=path)

    def build() -> Any:
        model: Any = WordPiece(words, unk_token="[UNK]")  # noqa: S106 - a word, no password
        tokenizer: Any = Tokenizer(model)
        tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            special_tokens=[(name, words[name]) for name in ("[CLS]", "[SEP]")],
        )
        tokenizer.add_special_tokens([name for name in (*_SPECIAL, "[MASK]") if name in words])
        return tokenizer

    return FileTokenizer(_quietly(build, path), length, clean=clean)


def conch_tokenizer(path: Path, length: int, *, vocabulary: int) -> FileTokenizer:
    """Return the tokenizer in a `tokenizer.json`.

    Parameters
    ----------
    path : Path
    length : int
        Of all token lists.
    vocabulary : int
        How many words the network knows.

    Raises
    ------
    ModelError
        When it can't be read, or has steps that this program does not run.
    """
    from tokenizers import Tokenizer

    content: dict[str, Any] = read_json(path, ModelError, limit="header-bytes")
    for part in _PARTS:
        _check_step(content.get(part), path)
    tokenizer: Any = _quietly(lambda: Tokenizer.from_file(str(path)), path)
    words: Mapping[str, int] = _quietly(tokenizer.get_vocab, path)
    if not words or max(words.values()) >= vocabulary:
        raise ModelError(f"its words are not the {vocabulary:,} of its network", path=path)
    return FileTokenizer(tokenizer, length)


def _check_step(step: object, path: Path) -> None:
    """Refuse steps that are not in `_STEPS`, also inside a sequence."""
    waiting = [step]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            # files of older versions leave the type of the model out
            kind = one.get("type", "BPE")
            if not isinstance(kind, str) or kind not in _STEPS:
                raise ModelError(
                    f"the step '{str(kind)[:40]}' of its tokenizer is not known", path=path
                )
            waiting += [one[name] for name in one if name.endswith(("ers", "ors"))]
        elif one is not None:
            raise ModelError("is not a readable tokenizer", path=path)


def _words(folder: Path) -> tuple[dict[str, int], Path]:
    """Return the words of a BERT's tokenizer with their numbers, and their file."""
    path = folder / "vocab.txt"
    if path.is_file():
        lines = read_text(path, ModelError, limit="header-bytes").rstrip("\n").split("\n")
        words: Any = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    elif (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        content: dict[str, Any] = read_json(path, ModelError, limit="header-bytes")
        model = content.get("model")
        words = model.get("vocab") if isinstance(model, dict) else None
        kind = model.get("type", "WordPiece") if isinstance(model, dict) else None
        if not isinstance(words, dict) or kind != "WordPiece":
            raise ModelError("is not the tokenizer of a BERT", path=path)
    else:
        raise ModelError(
            "the folder lacks vocab.txt or tokenizer.json",
            path=folder,
            remedy="Put the tokenizer of the model there.",
        )
    numbers = list(words.values())
    if any(type(n) is not int or n < 0 for n in numbers) or len(set(numbers)) != len(numbers):
        raise ModelError("its words have no numbers of their own", path=path)
    if len(words) > _MOST_WORDS or any(len(word) > _LONGEST_WORD for word in words):
        raise ModelError("is not the tokenizer of a BERT", path=path)
    return words, path


def _quietly(call: Callable[[], Any], path: Path | None) -> Any:
    """Call the library, whose failures in Rust are not even derived from `Exception`."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        raise ModelError("is not a readable tokenizer", path=path) from error
