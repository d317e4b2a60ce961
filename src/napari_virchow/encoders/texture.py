"""The built-in encoder: a classical, rotation-robust description of an H&E tile. No weights.

A tile is unmixed into haematoxylin and eosin, and five families of statistics are pooled over it:

========== ============================================================================ ========
family     what                                                                         source
========== ============================================================================ ========
colour     histograms of red, green, blue and of haematoxylin × eosin; moments            [1]
energy     multi-scale energy of steerable first and second derivatives (slope, ridge,   [2]
           blob), how much they agree in direction, and their balance
pattern    local binary patterns, grouped so that turning or mirroring changes nothing   [3]
shape      basic image features (flat, slope, dark or bright blob, dark or bright line,  [4]
           saddle), alone and paired across scales
grain      sizes of dark nuclei and of bright holes by opening and closing, peak counts   [5]
========== ============================================================================ ========

Every statistic is a sum over the whole tile of something that does not know left from up, so a tile
turned by 90° or mirrored has the same description, up to rounding. Counts enter as square roots
(Hellinger), energies as logarithms. A fixed shift and scale per number then makes the numbers
comparable and centred, so that cosine similarity means something; see `texture_scale.py`.

References
----------
.. [1] Ruifrok & Johnston, Quantification of histochemical staining by color deconvolution, 2001.
.. [2] Freeman & Adelson, The design and use of steerable filters, 1991; Burt & Adelson, The
   Laplacian pyramid as a compact image code, 1983.
.. [3] Ojala, Pietikäinen & Mäenpää, Multiresolution gray-scale and rotation invariant texture
   classification with local binary patterns, 2002.
.. [4] Crosier & Griffin, Using basic image features for texture classification, 2010.
.. [5] Matheron, Random sets and integral geometry, 1975 (granulometry).
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_virchow.encoders.texture_scale import SCALE, SHIFT

Plane = NDArray[np.float32]

VERSION: Final = "v1"

# Rows: optical density (R, G, B) of haematoxylin, eosin and a residual; Ruifrok & Johnston 2001.
_STAINS: Final = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
_LEVELS: Final = 5  # 1, 2, 4, 8, 16 px
_PATTERN_LEVELS: Final = 3
_SHAPE_LEVELS: Final = (1, 2, 3)
_RGB_BINS: Final = 16
_STAIN_BINS: Final = 8
_STAIN_MAX: Final = 1.2  # optical density beyond which a histogram bin is the last one
_FLAT: Final = 0.02  # optical density: below this slope a place is flat (scanner noise)
_PATTERN_NOISE: Final = 0.01  # a neighbour must be this much denser to count
_GRAIN_SIZES: Final = {1: (3,), 2: (3, 5, 9)}  # level → widths in its px: 6, 12, 20, 36 px in all
_EPS: Final = (
    1e-3  # floor under energies before the logarithm: white and constant tiles stay finite
)
_LIMIT: Final = 4.0  # soft limit of a centred and scaled number


def _unmixing() -> NDArray[np.float32]:
    stains = np.array(_STAINS)
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return np.linalg.inv(stains).astype(np.float32)


def _bracelets() -> tuple[NDArray[np.uint8], int]:
    """Give each 8-neighbour pattern the number of its class under turning and mirroring."""
    classes: dict[int, int] = {}
    table = np.zeros(256, np.uint8)
    for code in range(256):
        bits = [code >> k & 1 for k in range(8)]
        turned = [bits[k:] + bits[:k] for k in range(8)]
        same = turned + [ring[::-1] for ring in turned]
        smallest = min(sum(bit << k for k, bit in enumerate(ring)) for ring in same)
        table[code] = classes.setdefault(smallest, len(classes))
    return table, len(classes)


_UNMIX: Final = _unmixing()
_DENSITY: Final = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
_BRACELET, _N_BRACELETS = _bracelets()
# The ring of neighbours in order, as (row, column) slice starts of a 3 × 3 window.
_RING: Final = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))


def describe(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe tiles by colour, texture and grain.

    Parameters
    ----------
    tiles : ndarray of shape (n, 224, 224, 3), uint8
        RGB tiles. Other sides from 128 px on work too, if 16 divides them.

    Returns
    -------
    embeddings : ndarray of shape (n, DIM), float32
        Finite whatever is in the tile; about centred, about unit spread per number.

    Raises
    ------
    ValueError
        If `tiles` is not uint8 RGB, or a side is below 128 px or not a multiple of 16.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[-1] != 3:
        raise ValueError(f"tiles must be (n, h, w, 3) uint8, got {tiles.shape} {tiles.dtype}")
    coarsest = 2 ** (_LEVELS - 1)
    if (
        min(tiles.shape[1:3]) < 8 * coarsest
        or tiles.shape[1] % coarsest
        or tiles.shape[2] % coarsest
    ):
        raise ValueError(
            f"tile sides must be multiples of {coarsest} px, {8 * coarsest} px at least, "
            f"got {tiles.shape[1:3]}"
        )
    # Freeing one large block teaches glibc to keep memory instead of giving it back after every
    # plane; page faults would cost a third of the time.
    np.empty(1 << 24, np.uint8)
    raw = np.empty((len(tiles), DIM), np.float32)
    for i, tile in enumerate(tiles):
        raw[i] = _raw(tile)
    return _scaled(raw)


def _raw(tile: NDArray[np.uint8]) -> Plane:
    """Describe one tile before centring and scaling."""
    density = _DENSITY.take(tile.reshape(-1, 3))
    stains = np.ascontiguousarray((density @ _UNMIX).T).reshape(3, *tile.shape[:2])
    levels = [stains[:2]]
    for _ in range(_LEVELS - 1):
        levels.append(_half(levels[-1]))
    energy, codes = [], {}
    for level, planes in enumerate(levels):
        numbers, code = _derivatives(planes, level)
        energy.append(numbers)
        if code is not None:
            codes[level] = code
    groups = (
        _colour(tile, stains),
        np.concatenate(energy),
        np.concatenate([_patterns(planes) for planes in levels[:_PATTERN_LEVELS]]),
        _shapes(codes),
        _grain(levels),
    )
    return np.concatenate(groups)


def _half(planes: Plane) -> Plane:
    rows = planes[:, 0::2] + planes[:, 1::2]
    squares: Plane = (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)
    return squares


def _shares(codes: NDArray[np.integer], n: int) -> Plane:
    """Return the square root of how often each of `n` codes occurs."""
    counts = np.bincount(codes.ravel(), minlength=n)[:n]
    return np.sqrt(counts / np.float32(codes.size)).astype(np.float32)


def _colour(tile: NDArray[np.uint8], stains: Plane) -> Plane:
    """Histograms and moments of colour and stain."""
    groups = []
    binned = tile // np.uint8(256 // _RGB_BINS)
    for channel in range(3):
        groups.append(_shares(binned[..., channel], _RGB_BINS))
    scaled = stains[:2] * np.float32(_STAIN_BINS / _STAIN_MAX)
    bins = np.clip(scaled, 0, _STAIN_BINS - 1).astype(np.uint8)
    groups.append(_shares(bins[0] * np.uint8(_STAIN_BINS) + bins[1], _STAIN_BINS**2))
    flat = stains.reshape(3, -1)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    covariance = centred @ centred.T / flat.shape[1]
    spread = np.sqrt(np.diag(covariance)) + np.float32(_EPS)
    skew = (centred**2 * centred).mean(1) / spread**3
    correlation = covariance / np.outer(spread, spread)
    groups += [mean, np.log(spread), np.tanh(skew / 2), correlation[np.triu_indices(3, 1)]]
    return np.concatenate(groups)


def _derivatives(planes: Plane, level: int) -> tuple[Plane, NDArray[np.uint8] | None]:
    """Energies of first and second derivatives of one level, and what shape each place has."""
    rows = planes[:, :-2] + 2 * planes[:, 1:-1] + planes[:, 2:]
    smooth = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) * np.float32(1 / 16)
    middle = smooth[:, 1:-1, 1:-1]
    left, right = smooth[:, 1:-1, :-2], smooth[:, 1:-1, 2:]
    up, down = smooth[:, :-2, 1:-1], smooth[:, 2:, 1:-1]
    gx, gy = (right - left) * np.float32(0.5), (down - up) * np.float32(0.5)
    across, along = left + right - 2 * middle, up + down - 2 * middle
    twist = smooth[:, 2:, 2:] + smooth[:, :-2, :-2] - smooth[:, 2:, :-2] - smooth[:, :-2, 2:]
    blob = across + along
    line = np.sqrt((across - along) ** 2 + np.float32(0.25) * twist**2)
    even, odd = gx * gx - gy * gy, 2 * gx * gy
    power = gx * gx + gy * gy
    slope = np.sqrt(power)

    def mean(values: Plane) -> Plane:
        means: Plane = values.mean((1, 2))
        return means

    total = mean(power) + np.float32(_EPS**2)
    size = np.abs(blob)
    groups = [
        np.log(mean(slope) + _EPS),
        np.log(total) / 2,
        np.log(mean(size) + _EPS),
        np.log(mean(line) + _EPS),
        np.log(planes.std((1, 2)) + _EPS),
        _mean_product(blob, size) / (_mean_product(size, size) + np.float32(_EPS**2)),
        np.hypot(mean(even), mean(odd)) / total,
        mean(np.hypot(_blocks(even), _blocks(odd))) / total,
        _correlation(middle),
        _correlation(slope),
    ]
    code = _shape_codes(middle, slope, blob, line) if level in _SHAPE_LEVELS else None
    return np.concatenate(groups), code


def _blocks(planes: Plane) -> Plane:
    """Mean over centred square blocks, a quarter to an eighth of the tile wide."""
    n = planes.shape[1] // 8 if planes.shape[1] >= 64 else planes.shape[1] // 4
    n = max(n, 2)
    block = planes.shape[1] // n
    edge = (planes.shape[1] - n * block) // 2
    used = planes[:, edge : edge + n * block, edge : edge + n * block]
    means: Plane = used.reshape(2, n, block, n, block).mean((2, 4))
    return means


def _mean_product(first: Plane, second: Plane) -> Plane:
    products: Plane = np.einsum("kij,kij->k", first, second)
    return products / np.float32(first[0].size)


def _correlation(planes: Plane) -> Plane:
    """Correlate haematoxylin with eosin over the tile; 0 where either is constant."""
    flat = planes.reshape(2, -1)
    centred = flat - flat.mean(1, keepdims=True)
    (hh, he), (_, ee) = centred @ centred.T / flat.shape[1]
    return np.array([he / (np.sqrt(hh * ee) + _EPS**2)], np.float32)


def _shape_codes(middle: Plane, slope: Plane, blob: Plane, line: Plane) -> NDArray[np.uint8]:
    """Name each place by its strongest basic feature, 0 (flat) to 6 (saddle)."""
    root = np.float32(np.sqrt(0.5))
    line = 2 * line
    strengths = (2 * slope, -blob, blob, (line - blob) * root, (line + blob) * root, line)
    best = np.float32(_FLAT) + np.float32(0.05) * np.abs(middle)
    code = np.zeros(middle.shape, np.uint8)
    for number, strength in enumerate(strengths, start=1):
        code[strength > best] = number
        best = np.maximum(best, strength)
    return code


def _shapes(codes: dict[int, NDArray[np.uint8]]) -> Plane:
    """How often each basic feature occurs, alone and together with the next coarser level's."""
    groups = [_shares(plane, 7) for level in _SHAPE_LEVELS for plane in codes[level]]
    for fine, coarse in ((codes[a], codes[a + 1]) for a in _SHAPE_LEVELS[:-1]):
        wide = coarse.repeat(2, axis=1).repeat(2, axis=2)
        rows, cols = wide.shape[1:]
        inner = fine[:, 2 : 2 + rows, 2 : 2 + cols]
        groups += [_shares(plane, 49) for plane in inner * np.uint8(7) + wide]
    return np.concatenate(groups)


def _patterns(planes: Plane) -> Plane:
    """Local binary patterns of each stain."""
    middle = planes[:, 1:-1, 1:-1] + np.float32(_PATTERN_NOISE)
    height, width = middle.shape[1:]
    code = np.zeros(middle.shape, np.uint8)
    for bit, (row, col) in enumerate(_RING):
        denser = planes[:, row : row + height, col : col + width] > middle
        code |= denser.view(np.uint8) << np.uint8(bit)
    counts = [np.bincount(plane.ravel(), minlength=256) for plane in code]
    grouped = [np.bincount(_BRACELET, count, _N_BRACELETS) / (height * width) for count in counts]
    shares: Plane = np.sqrt(np.concatenate(grouped)).astype(np.float32)
    return shares


def _grain(levels: list[Plane]) -> Plane:
    """How much of the stain sits in grains of each size, and how many peaks there are."""
    numbers: list[float] = []
    for level, sizes in _GRAIN_SIZES.items():
        nuclei, dense = levels[level][0], levels[level].sum(0)
        for plane, outer, inner in (
            (nuclei, ndimage.minimum_filter, ndimage.maximum_filter),
            (dense, ndimage.maximum_filter, ndimage.minimum_filter),
        ):
            last = plane
            for size in sizes:
                sieved = inner(outer(plane, size), size)
                numbers.append(float(np.log(np.abs(last - sieved).mean() + _EPS)))
                last = sieved
    for planes in levels[1:3]:
        plane = planes[0]
        top = ndimage.maximum_filter(plane, 5)
        peak = (plane == top) & (plane > plane.mean() + plane.std()) & (plane > _FLAT)
        numbers += [
            float(np.log(peak.mean() + _EPS)),
            float(plane[peak].mean()) if peak.any() else 0.0,
        ]
    for planes in (levels[0], levels[2], levels[4]):
        numbers.append(float(np.sqrt((planes.sum(0) < 0.15).mean())))
    return np.array(numbers, np.float32)


def _scaled(raw: Plane) -> Plane:
    """Centre and scale, with a soft limit so that no single number decides a similarity."""
    scaled = (raw - _SHIFT) / _SCALE
    limited: Plane = scaled / np.sqrt(1 + (scaled / np.float32(_LIMIT)) ** 2)
    return limited


_SHIFT: Final = np.array(SHIFT.split(), np.float32)
_SCALE: Final = np.array(SCALE.split(), np.float32)

DIM: Final = len(_SHIFT)
PARAMETERS_HASH: Final = hashlib.sha256(
    repr(
        (
            VERSION,
            _STAINS,
            _LEVELS,
            _PATTERN_LEVELS,
            _SHAPE_LEVELS,
            _RGB_BINS,
            _STAIN_BINS,
            _STAIN_MAX,
        )
        + (_FLAT, _PATTERN_NOISE, _GRAIN_SIZES, _EPS, _LIMIT, _SHIFT.tolist(), _SCALE.tolist())
    ).encode()
).hexdigest()[:8]
