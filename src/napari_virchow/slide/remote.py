"""Files on servers: the byte ranges that are asked for, in few requests, and kept on disk."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache as remembered
from pathlib import Path
from typing import Any

from napari_virchow.paths import remote_cache_bytes, remote_cache_dir

BLOCK = 256 << 10
MAX_REQUEST = 32  # blocks: larger ranges are asked for in several requests, which run side by side
AT_ONCE = 256  # blocks that are under way at the same time
IN_MEMORY = 128  # blocks
_log = logging.getLogger(__name__)


class RemoteFile:
    """A file on a server that gives byte ranges: http(s), S3 and whatever else fsspec knows.

    What was read once is on disk and is not asked for again, also by other processes and another
    day, as long as the server says that the file is the same. Every method may be called from any
    thread.

    Parameters
    ----------
    url : str
        As fsspec takes it.
    cache : BlockFolder, optional
        Where blocks are kept; that of `paths.remote_cache_dir` if left out.

    Raises
    ------
    ImportError
        If fsspec needs another package for such a URL.
    OSError
        If it cannot be reached, or the server does not say how long the file is.
    """

    def __init__(self, url: str, cache: BlockFolder | None = None) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        self._fs, self._path = url_to_fs(url)
        info = self._fs.info(self._path)
        if info.get("size") is None or info.get("partial") is False:
            raise OSError("the server gives the file only as a whole; download it first")
        self.size = int(info["size"])
        said = [
            info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "Last-Modified")
        ]
        stamp = hashlib.sha256(repr((url, self.size, said)).encode()).hexdigest()[:32]
        self._cache = cache or block_folder()
        self._folder = stamp
        self._lock = threading.Lock()
        self._near: OrderedDict[int, bytes] = OrderedDict()
        self._coming: dict[int, Future[bytes]] = {}

    def read_at(self, offset: int, count: int) -> bytes:
        """Return bytes of the file; fewer at its end.

        Raises
        ------
        OSError
            If the server does not give them.
        """
        count = max(0, min(count, self.size - offset))
        if count == 0:
            return b""
        first, last = offset // BLOCK, (offset + count - 1) // BLOCK
        blocks = self._blocks(range(first, last + 1))
        data = b"".join(blocks[number] for number in range(first, last + 1))
        start = offset - first * BLOCK
        return data[start : start + count]

    def prepare(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch (offset, count) ranges before they are read, neighbours in one request.

        What cannot be had is left for `read_at` to try again and to complain about.
        """
        wanted: dict[int, None] = {}
        for offset, count in ranges:
            if count > 0 and 0 <= offset < self.size:
                end = min(offset + count, self.size) - 1
                wanted.update(dict.fromkeys(range(offset // BLOCK, end // BLOCK + 1)))
        missing = sorted(n for n in wanted if not self._is_here(n))
        for start in range(0, len(missing), AT_ONCE):
            try:
                self._fetch(missing[start : start + AT_ONCE])
            except Exception as error:  # noqa: BLE001  # a server may fail in any way; told later
                _log.debug("%s was not read ahead", self.url, exc_info=error)
                return

    def open(self) -> io.BufferedReader:
        """Return the file as Python's own kind, with a place of its own."""
        return io.BufferedReader(_Handle(self), BLOCK)

    def _is_here(self, number: int) -> bool:
        return number in self._near or self._cache.has(self._folder, number)

    def _blocks(self, numbers: Sequence[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for number in numbers:
            with self._lock:
                data = self._near.get(number)
                if data is not None:
                    self._near.move_to_end(number)
            if data is None:
                data = self._cache.get(self._folder, number)
                if data is not None and len(data) == self._length(number):
                    self._keep_near({number: data})
                else:
                    data = None
            if data is not None:
                found[number] = data
        missing = [number for number in numbers if number not in found]
        return found | self._fetch(missing) if missing else found

    def _fetch(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Return blocks from the server; those that another thread fetches are waited for."""
        mine: dict[int, Future[bytes]] = {}
        with self._lock:
            others = {n: self._coming[n] for n in numbers if n in self._coming}
            for number in numbers:
                if number not in others:
                    mine[number] = self._coming[number] = Future()
        found: dict[int, bytes] = {}
        try:
            found = self._ask(list(mine))
            self._keep_near(found)
            for number, data in found.items():
                self._cache.put(self._folder, number, data)
                mine[number].set_result(data)
        except BaseException as error:
            for future in mine.values():
                if not future.done():
                    future.set_exception(error)
            raise
        finally:
            with self._lock:
                for number in mine:
                    self._coming.pop(number, None)
        return found | {number: future.result() for number, future in others.items()}

    def _ask(self, numbers: list[int]) -> dict[int, bytes]:
        runs = merged(numbers)
        if not runs:
            return {}
        starts = [first * BLOCK for first, _ in runs]
        ends = [min((last + 1) * BLOCK, self.size) for _, last in runs]
        answers = self._fs.cat_ranges([self._path] * len(runs), starts, ends, on_error="raise")
        found = {}
        for (first, last), data in zip(runs, answers, strict=True):
            for number in range(first, last + 1):
                at = (number - first) * BLOCK
                found[number] = bytes(data[at : at + BLOCK])
                if len(found[number]) != self._length(number):
                    raise OSError("the server gave fewer bytes than were asked for")
        return found

    def _length(self, number: int) -> int:
        return min(BLOCK, self.size - number * BLOCK)

    def _keep_near(self, blocks: dict[int, bytes]) -> None:
        with self._lock:
            self._near.update(blocks)
            while len(self._near) > IN_MEMORY:
                self._near.popitem(last=False)


class _Handle(io.RawIOBase):
    """A place in a remote file, for libraries that want a file."""

    def __init__(self, remote: RemoteFile) -> None:
        self._remote, self._at = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._remote.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._remote.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class BlockFolder:
    """Blocks of remote files on disk, the latest used ones, up to a number of bytes.

    Several processes may share a folder. A folder that cannot be written is done without.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None  # counted when first something is put
        self._warned = False

    def has(self, name: str, number: int) -> bool:
        """Say whether a block is there."""
        return self._path(name, number).is_file()

    def get(self, name: str, number: int) -> bytes | None:
        """Return a block, and note that it was used."""
        path = self._path(name, number)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, name: str, number: int, data: bytes) -> None:
        """Keep a block, and let go of those that were not used for longest."""
        path = self._path(name, number)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            if not self._warned:
                self._warned = True
                _log.warning("%s cannot be written (%s); slides are read anew.", self.folder, error)
            return
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._listed())
            else:
                self._bytes += len(data)
            if self._bytes > self.max_bytes:
                self._clear(0.9 * self.max_bytes)

    def _clear(self, wanted: float) -> None:
        listed = sorted(self._listed())  # others may have put and removed some
        total = sum(size for _, size, _ in listed)
        for _, size, path in listed:
            if total <= wanted:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        self._bytes = total

    def _listed(self) -> list[tuple[float, int, str]]:
        """Return when each block was used, its size and its path."""
        found = []
        for file in self.folder.glob("*/*.block"):
            try:
                facts = file.stat()
            except OSError:  # another process removed it
                continue
            found.append((facts.st_mtime, facts.st_size, str(file)))
        return found

    def _path(self, name: str, number: int) -> Path:
        return self.folder / name / f"{number}.block"


def block_folder() -> BlockFolder:
    """Return the folder that `paths` names, one for all slides of this process.

    Raises
    ------
    ValueError
        If the environment says no sensible size.
    """
    return _folder_of(remote_cache_dir(), remote_cache_bytes())


@remembered
def _folder_of(folder: Path, max_bytes: int) -> BlockFolder:
    return BlockFolder(folder, max_bytes)


def merged(numbers: Sequence[int], most: int = MAX_REQUEST) -> list[tuple[int, int]]:
    """Return runs of neighbours, (first, last), of at most `most` blocks each."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1 and number - runs[-1][0] < most:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs
