"""What the frozen part of the encoder makes of each text, computed once and kept: in memory, or in a file that outlives
the process.

The file is a run of float16 numbers that is memory-mapped, so it costs no memory of its own; beside it an index of 32
bytes a text. Several processes may share it: writers take a lock, numbers are on disk before their index entry is, and
what a crash leaves behind is never read.

B texts, T rows kept for a text (tokens, or layers), D width of the encoder.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from penstock.model.text_encoder import TextEncoder, same_length

LOWER_TOKENS = 4096  # tokens run at once: more gains nothing on a CPU and costs memory
UPPER_TOKENS = 4096
PUT_ROWS = 50_000  # kept rows written at once, some 40 MB
ENTRY = np.dtype([("key", "S16"), ("start", "<i8"), ("rows", "<i8")])


class Store(Protocol):
    """Rows of numbers by text."""

    def __contains__(self, text: str) -> bool: ...

    def rows(self, text: str) -> int: ...

    def get(self, text: str) -> NDArray[np.float16]: ...

    def put(self, texts: list[str], parts: list[NDArray[np.float16]]) -> None: ...


class MemoryStore:
    """In memory, gone with the process."""

    def __init__(self) -> None:
        self._of_text: dict[str, NDArray[np.float16]] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._of_text

    def rows(self, text: str) -> int:
        """How many rows are kept."""
        return len(self._of_text[text])

    def get(self, text: str) -> NDArray[np.float16]:
        """[T, D]."""
        return self._of_text[text]

    def put(self, texts: list[str], parts: list[NDArray[np.float16]]) -> None:
        """Keep the parts."""
        self._of_text.update(zip(texts, parts, strict=True))


class FileStore:
    """In `path`.f16, with the index in `path`.index; a file beyond `max_mb` is begun anew when it is opened.

    A process that has the old file open goes on with it: names are only looked at here.
    """

    def __init__(self, path: Path, width: int, max_mb: int) -> None:
        self.width = width
        self._at: dict[bytes, tuple[int, int]] = {}
        self._read_entries = 0
        self._map: NDArray[np.float16] = np.zeros((0, width), np.float16)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [path.with_suffix(end) for end in (".f16", ".index")]
        for name in names:
            if name.exists() and name.stat().st_size > max_mb * 2**20:
                for other in reversed(names):  # the index first: data without it is never read
                    other.unlink(missing_ok=True)
        self._data, self._index = (os.open(name, os.O_RDWR | os.O_CREAT, 0o644) for name in names)
        with self._locked():
            self._refresh()

    def __del__(self) -> None:
        for file in (self._data, self._index):
            os.close(file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._data, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._data, fcntl.LOCK_UN)

    def _refresh(self) -> None:
        """Read the entries that were added since the last look; the caller holds the lock."""
        size = os.fstat(self._index).st_size
        if size % ENTRY.itemsize:
            size -= size % ENTRY.itemsize
            os.ftruncate(self._index, size)  # a writer died in the middle of an entry
        offset = self._read_entries * ENTRY.itemsize
        for key, start, rows in np.frombuffer(os.pread(self._index, size - offset, offset), ENTRY).tolist():
            self._at[key.ljust(16, b"\0")] = (start, rows)
        self._read_entries = size // ENTRY.itemsize
        whole = os.fstat(self._data).st_size // (2 * self.width)
        if whole > len(self._map):
            mapped = mmap(self._data, whole * 2 * self.width, prot=PROT_READ)
            self._map = np.frombuffer(mapped, np.float16).reshape(whole, self.width)

    def __contains__(self, text: str) -> bool:
        return _key(text) in self._at

    def rows(self, text: str) -> int:
        """How many rows are kept."""
        return self._at[_key(text)][1]

    def get(self, text: str) -> NDArray[np.float16]:
        """[T, D], a view of the file."""
        start, rows = self._at[_key(text)]
        return self._map[start : start + rows]

    def put(self, texts: list[str], parts: list[NDArray[np.float16]]) -> None:
        """Append what is not there yet, and make it durable before the index names it."""
        with self._locked():
            self._refresh()
            start = os.fstat(self._data).st_size // (2 * self.width)
            entries, numbers, first = [], [], start
            for text, part in zip(texts, parts, strict=True):
                if _key(text) not in self._at:
                    entries.append((_key(text), start, len(part)))
                    numbers.append(part)
                    start += len(part)
            if not entries:
                return
            _write(self._data, np.concatenate(numbers, dtype=np.float16).tobytes(), first * 2 * self.width)
            os.fsync(self._data)
            _write(self._index, np.array(entries, ENTRY).tobytes(), self._read_entries * ENTRY.itemsize)
            self._refresh()


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, offset)
        view, offset = view[done:], offset + done


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@lru_cache(maxsize=4)
def _shared(path: Path, width: int, max_mb: int) -> FileStore:
    """One map a process, so that learners beside each other do not read the index twice."""
    return FileStore(path, width, max_mb)


def open_store(encoder: TextEncoder, tokenizer: Tokenizer, folder: Path | None, max_mb: int) -> Store:
    """A file in `folder` named after the frozen weights and the tokenizer; memory without a folder or for tokens."""
    if folder is None or not max_mb or encoder.reach.cut == "tokens":
        return MemoryStore()
    name = hashlib.sha256(f"{encoder.frozen_sha256()} {tokenizer.to_str()}".encode()).hexdigest()[:24]
    return _shared(folder / name, encoder.width, max_mb)


class ActivationCache:
    """Texts to vectors under the tuned part as it is now; the frozen part runs once for each text.

    Args:
        folder: where the file is kept, None for memory.
        max_mb: largest size of the file.
    """

    def __init__(
        self, encoder: TextEncoder, tokenizer: Tokenizer, device: torch.device, folder: Path | None, max_mb: int
    ) -> None:
        self.encoder, self.tokenizer, self.device = encoder, tokenizer, device
        self._tokens: dict[str, NDArray[np.int64]] = {}
        self.store = open_store(encoder, tokenizer, folder, max_mb)

    def add(self, texts: list[str], parts: int = 1) -> None:
        """Run the frozen part over the texts not seen yet, a `parts`-th of LOWER_TOKENS at once."""
        if self.encoder.reach.cut == "tokens":
            new = [text for text in dict.fromkeys(texts) if text not in self._tokens]
            self._tokens |= zip(new, self._tokenised(new), strict=True)
            return
        new = [text for text in dict.fromkeys(texts) if text not in self.store]
        if not new:
            return
        tokens = self._tokenised(new)
        names: list[str] = []
        vectors: list[NDArray[np.float16]] = []
        with torch.inference_mode():
            for picked in same_length([len(row) for row in tokens], LOWER_TOKENS // parts):
                token_BT = torch.from_numpy(np.stack([tokens[index] for index in picked])).to(self.device)
                vectors.extend(self.encoder.lower(token_BT).to(torch.float16).cpu().numpy())
                names.extend(new[index] for index in picked)
                if sum(map(len, vectors)) > PUT_ROWS:
                    self.store.put(names, vectors)
                    names, vectors = [], []
        self.store.put(names, vectors)

    def _tokenised(self, texts: list[str]) -> list[NDArray[np.int64]]:
        return [np.array(encoding.ids, np.int64) for encoding in self.tokenizer.encode_batch(texts)]

    def batches(self, texts: list[str], parts: int = 1) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Places in `texts`, and what is kept for the texts there, in groups that need no padding, of a `parts`-th of
        UPPER_TOKENS each."""
        self.add(texts, parts)
        whole = self.encoder.reach.cut == "tokens"
        lengths = [len(self._tokens[text]) if whole else self.store.rows(text) for text in texts]
        for picked in same_length(lengths, UPPER_TOKENS // parts):
            if whole:
                kept = torch.from_numpy(np.stack([self._tokens[texts[index]] for index in picked]))
            else:
                half = np.stack([self.store.get(texts[index]) for index in picked])
                kept = torch.from_numpy(half).to(self.device).float()
            yield picked, kept.to(self.device)

    def vectors(self, texts: list[str], parts: int = 1) -> Tensor:
        """Text vectors [B, D] of `texts`, float32 on the CPU."""
        out_BD = torch.zeros(len(texts), self.encoder.width)
        with torch.inference_mode():
            for picked, kept in self.batches(texts, parts):
                out_BD[torch.from_numpy(picked)] = self.encoder.upper(kept).float().cpu()
        return out_BD
