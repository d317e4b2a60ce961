"""Hits leave the program: as a table, for QuPath, and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_virchow.pictures import read_picture
from napari_virchow.qupath.export import SlideTiles, write_tiles
from napari_virchow.qupath.frame import Frame, SlideBox, bounds_frame
from napari_virchow.search.facts import Hit, Hits, HitSlide
from napari_virchow.slide import Slide, SlideError
from napari_virchow.tiles import TileGrid

COLUMNS = ("rank", "slide", "name", "path", "row", "col", "x", "y", "width", "height", "score")
MOST_PICTURES = 1000  # of a gallery: more makes a file that few programs open
_PAD, _LINE = 8, 14
_GRADES_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Slides(Protocol):
    """Finds a slide by its identity, as `SlidesAtHand` does."""

    def get(self, identity: str) -> Slide: ...  # noqa: D102


class _SimilarClass(NamedTuple):
    id: int = 1
    name: str = "Similar"
    color: str = "#e69f00"


def write_csv(path: Path | str, hits: Hits) -> int:
    """Write one line per hit (CSV, UTF-8), best first, in one step; returns how many.

    The columns are those of `COLUMNS`; x, y, width and height are level-0 pixels.

    Raises
    ------
    OSError
        If the file cannot be written; what was there before stays.
    """
    partial = _partial(Path(path))
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for rank, hit in enumerate(hits, 1):
                box = hit.rect
                sizes = [f"{v:.2f}" for v in (box.x, box.y, box.width, box.height)]
                where = hit.slide, hit.slide_name, hit.slide_path, *hit.tile
                writer.writerow([rank, *where, *sizes, f"{hit.score:.6f}"])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(hits)


def write_geojson(path: Path | str, hits: Hits, slides: Slides | None = None) -> list[Path]:
    """Write hits as tiles for QuPath, measured by rank and score; one file per slide.

    Parameters
    ----------
    path : Path or str
        The file; where there are hits on several slides, the slides' names are put before its
        ending.
    slides : Slides, optional
        Finds slides, so that tiles lie right where QuPath crops one to its bounds.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ValueError
        If there are no hits.
    GeoJsonError
        If the name of the file is of no format that QuPath reads.
    OSError
        If it cannot be written.
    """
    if len(hits) == 0:
        raise ValueError("There are no hits to write: search for something first.")
    path = Path(path)
    written = []
    for number, slide in enumerate(hits.slides):
        mine = np.flatnonzero(hits.of == number)
        target = path
        if len(hits.slides) > 1:
            name = f"{path.stem}-{Path(slide.name).stem}-{slide.identity[:8]}"
            target = path.with_name(name + path.suffix)
        where = SlideTiles(slide.identity, slide.grid, hits.tiles[mine], _frame(slide, slides))
        columns = {"similarity": hits.scores[mine], "rank": mine.astype(np.float32) + 1}
        write_tiles(target, where, np.ones(len(mine), np.intp), [_SimilarClass()], columns)
        written.append(target)
    return written


def draw_gallery(
    hits: Hits,
    slides: Slides,
    *,
    columns: int = 10,
    size_px: int = 128,
    cancelled: Callable[[], bool] = lambda: False,
) -> Image.Image:
    """Draw the pictures of hits, with rank, score, slide name and a scale bar each; reads slides.

    Parameters
    ----------
    hits : Hits
        The first 1,000 are drawn.
    slides : Slides
        Finds the slides. A tile that cannot be read is drawn grey.
    columns : int
        Pictures side by side.
    size_px : int
        Side of a picture.
    cancelled : callable
        Asked before each picture; ends the drawing early.

    Returns
    -------
    Image
        RGB.

    Raises
    ------
    ValueError
        If there are no hits.
    """
    n = min(len(hits), MOST_PICTURES)
    if n == 0:
        raise ValueError("There are no hits to draw: search for something first.")
    columns = min(columns, n)
    wide, high = size_px + _PAD, size_px + _PAD + 2 * _LINE
    page = Image.new("RGB", (columns * wide + _PAD, -(-n // columns) * high + _PAD), "white")
    for number in range(n):
        if cancelled():
            break
        row, col = divmod(number, columns)
        at = _PAD + col * wide, _PAD + row * high
        grid = hits.slides[int(hits.of[number])].grid
        _draw_hit(page, at, size_px, (number + 1, hits[number], grid), slides)
    return page


def write_gallery(path: Path | str, hits: Hits, slides: Slides, *, columns: int = 10) -> int:
    """Write what `draw_gallery` draws as PNG, in one step; returns how many hits are on it.

    Raises
    ------
    ValueError
        If there are no hits.
    OSError
        If the file cannot be written.
    """
    page = draw_gallery(hits, slides, columns=columns)
    partial = _partial(Path(path))
    try:
        page.save(partial, "PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return min(len(hits), MOST_PICTURES)


def _draw_hit(
    page: Image.Image,
    at: tuple[int, int],
    size_px: int,
    what: tuple[int, Hit, TileGrid],
    slides: Slides,
) -> None:
    rank, hit, grid = what
    draw = ImageDraw.Draw(page)
    x, y = at
    try:
        pixels = read_picture(slides.get(hit.slide), hit.rect, size_px)
        page.paste(Image.fromarray(pixels).resize((size_px, size_px)), at)
    except (SlideError, ValueError, OSError):
        draw.rectangle((x, y, x + size_px - 1, y + size_px - 1), fill="#dddddd")
        draw.text((x + 4, y + size_px // 2), "cannot be read", fill="#555555")
    fitting = [um for um in _GRADES_UM if um <= grid.tile_um / 2] or [_GRADES_UM[0]]
    length = round(size_px * fitting[-1] / grid.tile_um)
    foot = y + size_px - 5
    draw.rectangle((x + 3, foot - 3, x + 5 + length, foot + 2), fill="white")
    draw.rectangle((x + 4, foot - 2, x + 4 + length, foot), fill="black")
    words = _micrometres(fitting[-1])
    box = draw.textbbox((x + 4, foot - 14), words, font=_font(10))
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), fill="white")
    draw.text((x + 4, foot - 14), words, fill="black", font=_font(10))
    draw.text((x, y + size_px + 2), f"{rank}.  {hit.score:.3f}", fill="black", font=_font(12))
    name = _shortened(draw, hit.slide_name, size_px)
    draw.text((x, y + size_px + 2 + _LINE), name, fill="#555555", font=_font(10))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font of this machine; Pillow's own, which knows no µ, where none is found."""
    for name in ("DejaVuSans.ttf", "Arial.ttf", "Helvetica.ttc"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _micrometres(um: int) -> str:
    font, own = _font(10), ImageFont.load_default(10)
    unit = "µm" if bytes(font.getmask("µ")) != bytes(own.getmask("µ")) else "um"
    return f"{um} {unit}"


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    if draw.textlength(text, font=_font(10)) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=_font(10)) > width:
        text = text[:-1]
    return f"{text}…"


def _frame(slide: HitSlide, slides: Slides | None) -> Frame | None:
    """Return how QuPath shows a slide; None (the whole slide) where its file cannot be had."""
    if slides is None:
        return None
    try:
        return bounds_frame(SlideBox.of(slides.get(slide.identity)))
    except SlideError:
        return None


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
