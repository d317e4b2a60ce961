"""Is an embedding from a file what we would compute? Some tiles are embedded again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.encoders.hub import cached_weights
from napari_virchow.encoders.specs import SPECS, EncoderSpec
from napari_virchow.interop.placing import Placed
from napari_virchow.interop.table import TileTable
from napari_virchow.training import encoder_name

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.slide import Slide

ALIKE = 0.95  # other tools resize tiles differently, which costs a few hundredths
# What TRIDENT and LazySlide call encoders, without case and signs, where it is not our own name.
_ELSEWHERE = {
    "univ1": "uni",
    "univ2": "uni2-h",
    "uni2": "uni2-h",
    "hoptimus0": "h-optimus-0",
    "hoptimus1": "h-optimus-1",
    "provgigapath": "gigapath",
    "kaikovits16": "kaiko-s16",
    "kaikovits8": "kaiko-s8",
    "kaikovitb16": "kaiko-b16",
    "kaikovitb8": "kaiko-b8",
    "kaikovitl14": "kaiko-l14",
    "lunitvits16": "lunit-s16",
    "lunitvits8": "lunit-s8",
}


@dataclass(frozen=True, slots=True)
class Check:
    """What came of embedding tiles again.

    Attributes
    ----------
    encoder : str
        Identity of the encoder that did it.
    n : int
        How many tiles.
    median, lowest : float
        Cosine of the new embeddings to those of the file; NaN if their lengths differ.
    own : float
        Share of the tiles whose new embedding is nearer to its own in the file than to that of any
        other of the tiles: low where the file's tiles lie elsewhere.
    problem : str
        One sentence if they do not agree, else "".
    """

    encoder: str
    n: int
    median: float
    lowest: float
    own: float
    problem: str

    @property
    def agrees(self) -> bool:
        """Whether the file's embeddings are what this encoder gives for these tiles."""
        return not self.problem

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        finite = np.isfinite(self.median)
        return {
            "encoder": self.encoder,
            "tiles": self.n,
            "cosine_median": round(self.median, 6) if finite else None,
            "cosine_lowest": round(self.lowest, 6) if finite else None,
            "own": round(self.own, 4),
            "agrees": self.agrees,
            "problem": self.problem,
        }


def encoder_named(name: str) -> EncoderSpec | None:
    """Return our row for what another tool calls an encoder; None if there is none."""
    if (whole := encoder_name(name)) in SPECS:  # a name of ours, or an identity
        return SPECS[whole]
    plain = _plain(name)
    own = {_plain(one): one for one in SPECS}
    found = own.get(plain) or _ELSEWHERE.get(plain)
    return SPECS[found] if found is not None else None


def at_hand(spec: EncoderSpec) -> bool:
    """Say whether an encoder can be loaded without a download."""
    return spec.architecture is None or cached_weights(spec) is not None


def check_embeddings(
    table: TileTable, placed: Placed, slide: Slide, encoder: Encoder, *, n: int = 16, seed: int = 0
) -> Check | None:
    """Embed random tiles again and compare them with what the file has.

    Parameters
    ----------
    table, placed
        With embeddings; only tiles that lie where the file has them are looked at.
    slide : Slide
        To read them from.
    encoder : Encoder
        The one that the file is said to be made with.
    n : int
        How many tiles at most.
    seed : int
        Another one chooses other tiles.

    Returns
    -------
    Check or None
        None if no tile lies where the file has it, so that nothing can be compared.

    Raises
    ------
    SlideError
        If a tile cannot be read.
    ValueError
        If the file has no embeddings.
    """
    if table.embeddings is None:
        raise ValueError(f"{table.path} has no embeddings.")
    fit = np.flatnonzero(placed.exact)
    if not len(fit):
        return None
    dim = table.embeddings.shape[1]
    if dim != encoder.dim:
        problem = (
            f"{table.path} has {dim} numbers per tile but {encoder.identity} gives {encoder.dim}: "
            "it was made by another encoder, or with another pooling."
        )
        return Check(encoder.identity, 0, np.nan, np.nan, 0.0, problem)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(fit, min(n, len(fit)), replace=False))
    tiles = [placed.tile_list()[number] for number in chosen]
    again = encoder.encode(slide.read_tiles(placed.grid, tiles))
    cosines = _unit(again) @ _unit(table.embeddings[placed.rows[chosen]]).T
    same = np.diag(cosines)
    own = float(np.mean(same >= cosines.max(axis=1) - 1e-4))
    median, lowest = float(np.median(same)), float(same.min())
    problem = ""
    if median < ALIKE or own < 0.5:
        problem = (
            f"The embeddings in {table.path} are not what {encoder.identity} gives for these tiles "
            f"(median cosine {median:.3f} of {len(chosen)} tiles, {own:.0%} of them nearest to "
            "their own): they are by another encoder, of another magnification or of another slide."
        )
    return Check(encoder.identity, len(chosen), median, lowest, own, problem)


def _unit(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    norm: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(norm > 0, norm, 1)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
