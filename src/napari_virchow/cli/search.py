"""The command `search`: tiles that look like a place, on its slide or in the whole store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_virchow.cli.arguments import add_json

if TYPE_CHECKING:
    from napari_virchow.search import Answer
    from napari_virchow.session import Session

EPILOG = """\
X,Y and X,Y,W,H are level-0 pixels. Whatever is not embedded is not found: run napari-virchow embed
on the slides first. --also, --not, --region and --image may be given several times."""


def add_search_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `search` takes."""
    command.epilog = EPILOG
    command.add_argument("slide", metavar="SLIDE", help="the slide of the places")
    add = command.add_argument
    add("--at", type=_point, metavar="X,Y", help="find tiles that look like the one here")
    add("--also", type=_point, action="append", default=[], metavar="X,Y", help="and here")
    add("--not", dest="against", type=_point, action="append", default=[], metavar="X,Y")
    add("--region", type=_box, action="append", default=[], metavar="X,Y,W,H")
    add("--image", type=Path, action="append", default=[], metavar="FILE", help="and like this")
    add("--k", type=int, default=50, metavar="N", help="how many; default: 50")
    add("--scope", choices=("slide", "store"), default="slide", help="default: slide")
    add("--encoder", metavar="NAME", help="where there are embeddings by several")
    add("--mpp", type=float, metavar="M", help="of the tiles, where there are several")
    add("--slide-mpp", type=float, metavar="M", help="of the slide itself, if it does not say")
    add("--exclude", type=int, default=1, metavar="N", help="tiles around the place; default: 1")
    add("--group", action="store_true", help="of hits side by side keep the best")
    add("--center", action="store_true", help="subtract the mean embedding first")
    add("--whiten", action="store_true", help="let every principal direction count equally")
    add("--class-token", action="store_true", help="compare class tokens only")
    add("--csv", type=Path, metavar="FILE", help="write a table")
    add("--geojson", type=Path, metavar="FILE", help="write tiles for QuPath, a file per slide")
    add("--gallery", type=Path, metavar="PNG", help="draw the hits")
    add("--store", type=Path, metavar="DIR", help="folder of the embeddings")
    command.set_defaults(study=run_search)
    add_json(command)


def run_search(
    options: argparse.Namespace, store: Path, _: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """Search as typed; return what to say, as text and for JSON."""
    from napari_virchow.search import Options
    from napari_virchow.session import Session
    from napari_virchow.tiles import Rect

    here = ([] if options.at is None else [options.at]) + options.also
    places = [*here, *(Rect(*box) for box in options.region), *options.image]
    if not places:
        raise ValueError("Say what to look for: --at X,Y, --region X,Y,W,H or --image FILE.")
    how = Options(
        scope=options.scope,
        center=options.center,
        whiten=options.whiten,
        class_token_only=options.class_token,
        exclude_within=options.exclude,
        group_neighbours=options.group,
        k=options.k,
    )
    with Session(store) as session:
        slide = session.open_slide(options.slide, mpp=options.slide_mpp)
        answer = session.search(
            slide,
            places,
            against=options.against,
            options=how,
            encoder=options.encoder,
            mpp=options.mpp,
        )
        written = _write(options, session, answer)
    facts = {"slide": options.slide, "identity": slide.identity, **_facts(answer), "files": written}
    return _describe(answer, written), facts


def _write(options: argparse.Namespace, session: Session, answer: Answer) -> list[str]:
    from napari_virchow.pictures import SlidesAtHand
    from napari_virchow.search import export

    written: list[str] = []
    at_hand = SlidesAtHand(session)
    try:
        if options.csv is not None:
            export.write_csv(options.csv, answer.hits)
            written.append(str(options.csv))
        if options.geojson is not None:
            files = export.write_geojson(options.geojson, answer.hits, at_hand)
            written += [str(file) for file in files]
        if options.gallery is not None:
            export.write_gallery(options.gallery, answer.hits, at_hand)
            written.append(str(options.gallery))
    finally:
        at_hand.close()
    return written


def _facts(answer: Answer) -> dict[str, Any]:
    compared = answer.compared
    return {
        "encoder": compared.kind.encoder,
        "pooling": compared.kind.pooling,
        "mpp": compared.kind.mpp,
        "searched": {"tiles": compared.n_tiles, "slides": compared.n_slides},
        "others": [
            {"encoder": k.encoder, "mpp": k.mpp, "slides": k.n_slides} for k in compared.others
        ],
        "seconds": round(answer.seconds, 4),
        "hits": [
            {
                "slide": hit.slide,
                "name": hit.slide_name,
                "path": hit.slide_path,
                "row": hit.tile.row,
                "col": hit.tile.col,
                "x": round(hit.rect.x, 2),
                "y": round(hit.rect.y, 2),
                "width": round(hit.rect.width, 2),
                "height": round(hit.rect.height, 2),
                "score": round(hit.score, 6),
            }
            for hit in answer.hits
        ],
    }


def _describe(answer: Answer, written: list[str]) -> str:
    kind, compared = answer.compared.kind, answer.compared
    lines = [
        f"{len(answer.hits)} hits among {compared.n_tiles} tiles on {compared.n_slides} slide(s), "
        f"by {kind.encoder} at {kind.mpp:g} µm/px"
    ]
    if written:
        return "\n".join([*lines, *(f"  {file}" for file in written)])
    lines += [
        f"{hit.score:8.4f}  {hit.slide_name}  at {hit.rect.x:.0f},{hit.rect.y:.0f}  "
        f"(row {hit.tile.row}, column {hit.tile.col})"
        for hit in answer.hits
    ]
    return "\n".join(lines)


def _point(text: str) -> tuple[float, float]:
    x, y = _numbers(text, 2, "X,Y")
    return x, y


def _box(text: str) -> tuple[float, ...]:
    box = _numbers(text, 4, "X,Y,W,H")
    if min(box[2:]) <= 0:
        raise argparse.ArgumentTypeError(f"must have a width and a height above 0, got {text!r}")
    return box


def _numbers(text: str, n: int, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != n or not all(abs(number) < 1e9 for number in numbers):
        raise argparse.ArgumentTypeError(f"must look like {form} in level-0 pixels, got {text!r}")
    return numbers
