"""The samples of a run: fields of tissue read straight from slides, and image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from napari_virchow.pretrain.config import Config, Data, PretrainError
from napari_virchow.pretrain.views import Views, make_views

if TYPE_CHECKING:
    from napari_virchow.slide import Slide
    from napari_virchow.tiles import TileGrid

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


class Batch(NamedTuple):
    """The crops of some samples.

    Parameters
    ----------
    large : Tensor of shape (2, n, 3, global_px, global_px), uint8
    small : Tensor of shape (n_local, n, 3, local_px, local_px), uint8
    """

    large: torch.Tensor
    small: torch.Tensor


class _Place(NamedTuple):
    """The fields of one slide at one magnification."""

    slide: int
    grid: TileGrid
    tiles: NDArray[np.int32]


class Fields(Dataset[Views]):
    """Samples without end: number n of a seed is always the same, whoever reads it.

    That is what makes a run resumable, and independent of the number of processes.

    Parameters
    ----------
    config : Config
        Its data, crops and seed.

    Raises
    ------
    PretrainError
        If there is nothing to read, naming what was looked at.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._paths = slide_paths(config.data)
        self._files = image_files(config.data.tiles)
        self._open: dict[int, Slide] = {}
        try:
            self._places = self._find_places() if self._paths else {}
        except BaseException:
            self.close()
            raise
        if not self._places and not self._files:
            self.close()
            raise PretrainError(
                f"no field of {config.data.field_px} px with "
                f"{100 * config.data.tissue:.0f} % tissue was found in {len(self._paths)} slides "
                f"at {', '.join(f'{mpp:g}' for mpp in config.data.mpp)} µm/px, and no image "
                "files: give other slides or tiles in [data]."
            )

    def __getitem__(self, number: int) -> Views:
        """Return the crops of sample `number`."""
        rng = np.random.default_rng([self.config.run.seed, number])
        return make_views(self.field(rng), self.config.crops, self.config.data.field_px, rng)

    def __getstate__(self) -> dict[str, object]:
        # Reading processes open the slides themselves: an open file cannot be sent to them.
        return self.__dict__ | {"_open": {}}

    def close(self) -> None:
        """Let go of the slides' files. Safe to call twice."""
        while self._open:
            self._open.popitem()[1].close()

    def describe(self) -> str:
        """Say in a few words what there is."""
        counts = {mpp: sum(len(p.tiles) for p in places) for mpp, places in self._places.items()}
        parts = [f"{n:,} fields at {mpp:g} µm/px" for mpp, n in sorted(counts.items())]
        if self._files:
            parts.append(f"{len(self._files):,} image files")
        return ", ".join(parts)

    def field(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw a field, (side, side, 3)."""
        share = self.config.data.tiles_share if self._places else 1.0
        if self._files and rng.random() < share:
            return _square(self._files[int(rng.integers(len(self._files)))])
        found = list(self._places)
        wanted = dict(zip(self.config.data.mpp, self.config.data.mpp_share, strict=True))
        shares = np.array([wanted[mpp] for mpp in found])
        if shares.sum() == 0:
            shares = np.ones(len(found))
        places = self._places[found[int(rng.choice(len(found), p=shares / shares.sum()))]]
        sizes = np.array([len(place.tiles) for place in places])
        at = int(rng.integers(sizes.sum()))
        which = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
        place = places[which]
        row, col = place.tiles[at - int(sizes[:which].sum())]
        from napari_virchow.tiles import Tile

        pixels = self._slide(place.slide).read_tiles(place.grid, [Tile(int(row), int(col))])
        return np.asarray(pixels[0])

    def _slide(self, number: int) -> Slide:
        if number not in self._open:
            from napari_virchow.slide import open_slide

            slide = open_slide(self._paths[number])
            if slide.mpp is None and self.config.data.slide_mpp is not None:
                slide.set_mpp(self.config.data.slide_mpp)
            self._open[number] = slide
        return self._open[number]

    def _find_places(self) -> dict[float, list[_Place]]:
        """Find the fields with enough tissue, by magnification."""
        from napari_virchow.slide import SlideError
        from napari_virchow.tissue import tissue_mask

        places: dict[float, list[_Place]] = {}
        for number, path in enumerate(self._paths):
            try:
                slide = self._slide(number)
                if slide.mpp is None:
                    raise PretrainError(
                        f"{path} does not say its pixel size: set slide_mpp in [data], or leave "
                        "the slide out."
                    )
                mask = tissue_mask(slide)
                for mpp in self.config.data.mpp:
                    if mpp < 0.9 * max(slide.mpp):
                        continue
                    grid = slide.grid(mpp, self.config.data.field_px)
                    tiles = np.argwhere(mask.tiles(grid, self.config.data.tissue))
                    if len(tiles):
                        places.setdefault(mpp, []).append(
                            _Place(number, grid, tiles.astype(np.int32))
                        )
            except SlideError as error:
                raise PretrainError(f"{error} Leave it out of [data].") from error
        return places


def collate(samples: Sequence[Views]) -> Batch:
    """Put samples together, crop by crop, as torch wants them."""

    def stack(parts: list[NDArray[np.uint8]]) -> torch.Tensor:
        return torch.from_numpy(
            np.ascontiguousarray(np.stack(parts, axis=1).transpose(0, 1, 4, 2, 3))
        )

    return Batch(stack([s.large for s in samples]), stack([s.small for s in samples]))


def slide_paths(data: Data) -> list[str]:
    """Return the slides that are meant, the sample slide among them if it is named.

    Raises
    ------
    PretrainError
        If one cannot be found.
    """
    from napari_virchow.cohort.facts import CohortError
    from napari_virchow.cohort.inputs import find_slides
    from napari_virchow.sample import sample_slide

    try:
        others = find_slides([one for one in data.slides if one != "sample"])
    except CohortError as error:
        raise PretrainError(f"{error}") from error
    return ([str(sample_slide())] if "sample" in data.slides else []) + others


def image_files(folders: Sequence[str]) -> list[Path]:
    """Return the image files in folders, through and through, sorted.

    Raises
    ------
    PretrainError
        If a folder has none.
    """
    found: list[Path] = []
    for folder in folders:
        here = sorted(
            p for p in Path(folder).expanduser().rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES
        )
        if not here:
            raise PretrainError(f"{folder} holds no image files: correct tiles in [data].")
        found += here
    return found


def _square(path: Path) -> NDArray[np.uint8]:
    """Read an image and cut the largest square from its middle."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise PretrainError(f"{path} cannot be read ({error}): leave it out.") from error
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]
