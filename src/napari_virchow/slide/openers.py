"""Opening a file with tiffslide, OpenSlide or Zarr, and saying why with that one."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_virchow.slide.chunks import Level, Pixels
from napari_virchow.slide.readers import (
    GENERIC_TIFF,
    ICC_TAG,
    Opened,
    RegionSource,
    SlideError,
    fast_tiff_source,
    opaque,
    refuse_unless_rgb,
)
from napari_virchow.slide.remote import RemoteFile
from napari_virchow.tiles import Rect

_UM_PER_UNIT = {"micrometer": 1.0, "micron": 1.0, "nanometer": 1e-3, "millimeter": 1e3}
_UM_PER_UNIT |= {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}  # both mu signs occur


def open_with_tiffslide(path: str, remote: RemoteFile | None = None) -> Opened:
    """Open a TIFF of any vendor, also one on a server.

    Raises
    ------
    SlideError
        If it is a TIFF, but not a brightfield slide.
    Exception
        What tiffslide raises on anything else.
    """
    import tiffslide

    if remote is None:
        slide = tiffslide.TiffSlide(path)
    else:
        named = {"name": path.rpartition("/")[2]}
        slide = tiffslide.TiffSlide(remote.open(), tifffile_options=named)
    try:
        with warnings.catch_warnings():  # it warns of metadata that it does not read
            warnings.simplefilter("ignore")
            properties = dict(slide.properties)
        axes = properties.get("tiffslide.series-axes")
        if axes != "YXS":
            raise SlideError(
                f"{path} has the axes {axes}, so it is not an RGB brightfield slide (is it "
                "fluorescence?); napari can open it, but it cannot be embedded."
            )
        levels = _levels(slide.level_dimensions)
        series = slide.ts_tifffile.series[int(properties.get("tiffslide.series-index", 0))]
        refuse_unless_rgb(path, series.keyframe)

        def read(level: int, x: int, y: int, width: int, height: int) -> Pixels:
            region: Any = slide.zarr_group
            array = region[str(level)] if len(levels) > 1 or "0" in region else region
            pixels = np.asarray(array[y : y + height, x : x + width])
            return opaque(pixels, series.keyframe.extrasamples)

        regions = RegionSource(levels, read, slide.close)
        composed = properties.get("tiffslide.series-composition")
        fast = "the slide is put together from parts" if composed else None
        direct = fast or fast_tiff_source(path, levels, series, remote)
    except BaseException:
        slide.close()
        raise
    opened = Opened(
        reader="tiffslide",
        reason="its format is one that tiffslide reads",
        source=regions,
        fast=None if isinstance(direct, str) else direct,
        magnification=_number(properties.get("tiffslide.objective-power")),
        vendor=properties.get("tiffslide.vendor"),
        bounds=_bounds(properties, "tiffslide"),
        associated={
            name: partial(_rgb, slide.associated_images, name) for name in slide.associated_images
        },
    )
    if isinstance(direct, str):
        opened.reason += f"; slow path, as {direct}"
    _take_tiff_mpp(opened, properties, slide.ts_tifffile, series.kind)
    first: Any = series.levels[0].pages[0]
    tag = first.keyframe.tags.get(ICC_TAG)
    opened.icc_profile = bytes(tag.value) if tag is not None else None
    if opened.vendor == "ventana":
        opened.warnings += (
            "This is a Ventana BIF file: the overlap of its fields is not corrected, so that "
            "structures may be doubled at the seams.",
        )
    return opened


def open_with_openslide(path: str) -> Opened:
    """Open a file that OpenSlide knows (MRXS, DICOM, …); for a DICOM folder, one of its files.

    Raises
    ------
    OpenSlideError
        If OpenSlide cannot open it.
    """

    handle = _OpenSlideHandle(path)
    slide = handle.slide()
    properties = dict(slide.properties)
    levels = _levels(slide.level_dimensions)
    scales = slide.level_downsamples

    def read(level: int, x: int, y: int, width: int, height: int) -> Pixels:
        # OpenSlide divides by this again and interpolates at fractions: only the nearest whole
        # level-0 pixel is sharp.
        corner = round(x * scales[level]), round(y * scales[level])
        return opaque(handle.read(corner, level, (width, height)))

    profile = getattr(slide, "color_profile", None)
    mpp = _pair(properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"))
    generic = properties.get("openslide.vendor") in GENERIC_TIFF
    return Opened(
        reader="openslide",
        reason="its format is one that OpenSlide reads and tiffslide does not",
        source=RegionSource(levels, read, handle.close),
        mpp=None if generic else mpp,
        doubted_mpp=mpp if generic else None,
        mpp_note=properties.get("openslide.vendor", ""),
        magnification=_number(properties.get("openslide.objective-power")),
        vendor=properties.get("openslide.vendor"),
        bounds=_bounds(properties, "openslide"),
        icc_profile=profile.tobytes() if profile is not None else None,
        quick_hash=properties.get("openslide.quickhash-1"),
        associated={name: partial(handle.associated, name) for name in slide.associated_images},
    )


class _OpenSlideHandle:
    """An OpenSlide object that survives errors: after one, OpenSlide refuses all further reads.

    It is never closed by name, because that would pull the file from under threads that are reading
    in it; letting go of the last reference closes it.
    """

    def __init__(self, path: str) -> None:
        import openslide

        self._path, self._lock = path, threading.Lock()
        self._slide: Any = openslide.OpenSlide(path)

    def slide(self) -> Any:
        """Return the OpenSlide object."""
        if self._slide is None:
            raise SlideError(f"{Path(self._path).name} is closed.")
        return self._slide

    def read(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        """Return RGBA pixels; if that fails, try once more with the file opened afresh."""
        import openslide

        used = self.slide()
        try:
            return np.asarray(used.read_region(corner, level, size))
        except openslide.OpenSlideError:
            pass  # another thread's damaged chunk may have spoilt the object for ours
        with self._lock:
            fresh = openslide.OpenSlide(self._path)
            try:
                pixels = np.asarray(fresh.read_region(corner, level, size))
            except openslide.OpenSlideError:
                fresh = openslide.OpenSlide(self._path)
                raise
            finally:
                if self._slide is not None:
                    self._slide = fresh
            return pixels

    def associated(self, name: str) -> Pixels:
        """Return the RGB pixels of an image beside the slide."""
        return _rgb(self.slide().associated_images, name)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._slide = None


def _take_tiff_mpp(opened: Opened, properties: Mapping[str, Any], file: Any, kind: str) -> None:
    """Take the pixel size that a vendor or OME wrote; a bare resolution tag is only noted."""
    found = _pair(properties.get("tiffslide.mpp-x"), properties.get("tiffslide.mpp-y"))
    opened.mpp_note = f"{opened.vendor or kind}"
    ome = _ome_mpp(file.ome_metadata) if kind == "ome" else None
    generic = opened.vendor in GENERIC_TIFF and kind in GENERIC_TIFF
    if ome is not None:
        opened.mpp, opened.mpp_note = ome, "OME-XML"
    elif generic or (opened.vendor == "aperio" and "aperio.MPP" not in properties):
        opened.doubted_mpp = found
    else:
        opened.mpp = found


def _ome_mpp(xml: str | None) -> tuple[float, float] | None:
    """Return the (x, y) pixel size of the first image of an OME-XML text in µm, or None."""
    try:
        root = ElementTree.fromstring(xml or "")
    except ElementTree.ParseError:
        return None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    sizes = []
    for axis in "XY":
        size = _number(pixels.get(f"PhysicalSize{axis}"))
        factor = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is None or factor is None:
            return None
        sizes.append(size * factor)
    return sizes[0], sizes[1]


def open_with_zarr(path: str) -> Opened:
    """Open an OME-Zarr image, version 0.4 (Zarr 2) or 0.5 (Zarr 3).

    Raises
    ------
    SlideError
        If it is no OME-Zarr image, or not one of 8-bit RGB.
    """
    import zarr

    group = zarr.open_group(path, mode="r")
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, dict) or not ome.get("multiscales"):
        raise SlideError(f"{path} is a Zarr store without an OME image; give the image's folder.")
    image: Any = ome["multiscales"][0]
    arrays: list[Any] = [group[entry["path"]] for entry in image["datasets"]]
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in image["axes"]]
    first = arrays[0]
    channels = first.shape[axes.index("c")] if "c" in axes else 1
    if channels != 3 or first.dtype != np.uint8:
        raise SlideError(
            f"{path} has {channels} channel(s) of {first.dtype}, not 8-bit RGB, so it is not a "
            "brightfield slide; napari can open it, but it cannot be embedded."
        )
    where = {name: axes.index(name) for name in ("y", "x", "c")}
    levels = _levels([(a.shape[where["x"]], a.shape[where["y"]]) for a in arrays])

    def read(level: int, x: int, y: int, width: int, height: int) -> Pixels:
        index: list[Any] = [0] * len(axes)  # the first plane and time point
        index[where["y"]], index[where["x"]] = slice(y, y + height), slice(x, x + width)
        index[where["c"]] = slice(None)
        pixels = np.asarray(arrays[level][tuple(index)])
        left = sorted(where, key=lambda name: where[name])
        return pixels.transpose([left.index(name) for name in "yxc"])

    chunk = max(first.chunks[where["y"]], first.chunks[where["x"]])
    version = ome.get("version") or image.get("version") or "0.4"
    return Opened(
        reader="ome-zarr",
        reason=f"it is an OME-Zarr {version} image",
        source=RegionSource(levels, read, lambda: None, size=min(2048, max(256, chunk))),
        mpp=_zarr_mpp(image, where),
        mpp_note="OME-Zarr",
    )


def _zarr_mpp(image: Mapping[str, Any], where: Mapping[str, int]) -> tuple[float, float] | None:
    """Return the (x, y) scale of the finest level in µm, or None if no unit of length is given."""
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in image["axes"]]
    scale = [1.0] * len(units)
    steps = [*image["datasets"][0].get("coordinateTransformations", ())]
    for step in [*steps, *image.get("coordinateTransformations", ())]:
        if step.get("type") == "scale":
            scale = [a * b for a, b in zip(scale, step["scale"], strict=True)]
    factors = [_UM_PER_UNIT.get(str(units[where[name]])) for name in "xy"]
    if factors[0] is None or factors[1] is None:
        return None
    return scale[where["x"]] * factors[0], scale[where["y"]] * factors[1]


def dicom_in(folder: Path) -> Path | None:
    """Return the largest DICOM file of a folder (the level 0 of a slide), or None."""
    files = [p for p in folder.iterdir() if p.is_file() and is_dicom(p)]
    return max(files, key=lambda p: p.stat().st_size, default=None)


def is_dicom(path: Path) -> bool:
    """Say whether a file starts as DICOM does."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_zarr(folder: Path) -> bool:
    """Say whether a folder is a Zarr group."""
    if (folder / "zarr.json").is_file():
        kind = json.loads((folder / "zarr.json").read_text("utf-8")).get("node_type")
        return bool(kind == "group")
    return (folder / ".zgroup").is_file()


def _levels(sizes: Any) -> tuple[Level, ...]:
    width, height = sizes[0]
    return tuple(Level(int(w), int(h), (width / w + height / h) / 2) for w, h in sizes)


def _number(value: Any) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def _pair(x: Any, y: Any) -> tuple[float, float] | None:
    found = _number(x), _number(y)
    if found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


def _bounds(properties: Mapping[str, Any], prefix: str) -> Rect | None:
    numbers = [
        _number(properties.get(f"{prefix}.bounds-{n}")) for n in ("x", "y", "width", "height")
    ]
    x, y, width, height = numbers
    if x is None or y is None or not width or not height:
        return None
    return Rect(x, y, width, height)


def _rgb(images: Mapping[str, Any], name: str) -> Pixels:
    return np.asarray(images[name].convert("RGB"))
