"""Opening: which reader a file needs, whether its fast path is right, and who the slide is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from napari_virchow.slide.chunks import Chunk, Source, Window, read_windows
from napari_virchow.slide.openers import (
    dicom_in,
    is_dicom,
    is_zarr,
    open_with_openslide,
    open_with_tiffslide,
    open_with_zarr,
)
from napari_virchow.slide.readers import Opened, SlideError
from napari_virchow.slide.remote import RemoteFile, block_folder

IDENTITY_BLOCK = 64 << 10


def open_file(where: str) -> tuple[Opened, str]:
    """Open a file, folder or URL with the reader that fits, and tell its identity.

    Returns
    -------
    opened : Opened
        What the reader found.
    identity : str
        32 hex digits that follow the content, not the name or the place.

    Raises
    ------
    SlideError
        If it cannot be opened as a slide.
    """
    if not where.strip():
        raise SlideError("No slide was named; give the path of a file, a folder or a URL.")
    local = None if "://" in where else Path(where)
    if local is not None and not local.exists():
        raise SlideError(f"There is no file {where}; check the path.")
    remote = _remote(where) if local is None and not _names_zarr(where) else None
    try:
        opened = _open(where, local, remote)
    except PermissionError as error:
        raise SlideError(f"{where} may not be read; ask for permission to read it.") from error
    try:
        _take_fast_path(opened)
        return opened, _identity(local, remote, opened)
    except BaseException:
        opened.source.close()
        raise


def _names_zarr(where: str) -> bool:
    return where.rstrip("/").endswith(".zarr")


def _remote(where: str) -> RemoteFile:
    cache = block_folder()
    try:
        return RemoteFile(where, cache)
    except ImportError as error:
        raise SlideError(
            f"{where} needs another package ({error}): run pip install 'napari-virchow[remote]'."
        ) from error
    except Exception as error:  # noqa: BLE001  # each kind of server has errors of its own
        why = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise SlideError(f"{where} cannot be opened ({why}); check the address.") from error


def _open(where: str, local: Path | None, remote: RemoteFile | None) -> Opened:
    """Try the readers in turn; the last one's refusal becomes the sentence."""
    if local is not None and local.is_dir():
        if is_zarr(local):
            return open_with_zarr(where)
        dicom = dicom_in(local)
        if dicom is None:
            raise SlideError(f"The folder {where} holds no slide (no DICOM files, no OME-Zarr).")
        return _with_openslide(str(dicom), where)
    if local is not None and is_dicom(local):
        return _with_openslide(where, where)
    if local is None and remote is None:
        return open_with_zarr(where)
    try:
        return open_with_tiffslide(where, remote)
    except (SlideError, PermissionError):
        raise
    except Exception as error:  # noqa: BLE001  # tiffslide raises many kinds; OpenSlide is next
        if local is None:
            why = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            raise SlideError(f"{where} cannot be opened ({why}); check the address.") from error
        return _with_openslide(where, where)


def _with_openslide(path: str, shown: str) -> Opened:
    import openslide

    try:
        return open_with_openslide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise SlideError(
            f"{shown} is not a slide in any format that tiffslide or OpenSlide can read; "
            "is it the right file?"
        ) from error
    except openslide.OpenSlideError as error:
        why = str(error).replace(f"Reading {path}: ", "").rstrip(".")
        raise SlideError(
            f"{shown} cannot be read as a slide (OpenSlide says: {why}); the file may be damaged "
            "or of a kind that is not supported."
        ) from error


def _take_fast_path(opened: Opened) -> None:
    """Use the fast path if, on one chunk of the first and last level, it reads the same pixels."""
    fast, slow = opened.fast, opened.source
    if fast is None:
        return
    try:
        for number in {0, len(fast.levels) - 1}:
            chunk = fast.some_chunk(number)
            wide, high = fast.chunk_size(number)
            pixels = fast.decode(chunk)
            window = Window(number, chunk.col * wide, chunk.row * high, *pixels.shape[1::-1])
            same = np.empty_like(pixels)
            errors = read_windows(slow, [window], [same], slow.decode)
            if errors or not np.array_equal(pixels, same):
                raise SlideError("it reads other pixels")
    except Exception as error:  # noqa: BLE001  # tifffile's inner parts may change in any way
        opened.reason += f"; slow path, as the fast one fails ({error})"
        fast.close()
        opened.fast = None
    else:
        opened.source = fast
        opened.reason += "; fast path"
        opened.slow = slow


def _identity(local: Path | None, remote: RemoteFile | None, opened: Opened) -> str:
    """Hash what a slide is: sampled blocks of its bytes and its size, never its name or place."""
    digest = hashlib.blake2b(digest_size=16)
    sizes = ",".join(f"{level.width}x{level.height}" for level in opened.source.levels)
    digest.update(sizes.encode())
    if opened.quick_hash:  # OpenSlide's own, which covers slides of many files
        digest.update(opened.quick_hash.encode())
    elif remote is not None:
        with remote.open() as file:
            _hash_blocks(digest, file, remote.size)
    elif local is not None and not local.is_dir():
        with local.open("rb") as file:
            _hash_blocks(digest, file, local.stat().st_size)
    else:  # OME-Zarr: its description, and some pixels
        for pattern in ("zarr.json", ".zattrs", "*/zarr.json", "*/.zarray") if local else ():
            for described in sorted(Path(str(local)).glob(pattern)):
                digest.update(described.read_bytes())
        for level in {0, len(opened.source.levels) - 1}:
            _hash_middle(digest, opened.source, level)
    return digest.hexdigest()


def _hash_blocks(digest: Any, file: Any, size: int) -> None:
    digest.update(str(size).encode())
    for number in range(5):
        file.seek(max(0, (size - IDENTITY_BLOCK) * number // 4))
        digest.update(file.read(IDENTITY_BLOCK))


def _hash_middle(digest: Any, source: Source, level: int) -> None:
    wide, high = source.chunk_size(level)
    size = source.levels[level]
    middle = Chunk(level, size.height // 2 // high, size.width // 2 // wide)
    digest.update(source.decode(middle).tobytes())
