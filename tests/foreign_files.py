"""A slide, embeddings of its tiles, and files as other tools write them."""

from __future__ import annotations

import h5py
import numpy as np
from tests.slides import picture, write_svs

from napari_virchow.interop import SlideEmbeddings
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile
from napari_virchow.training import stored_of

MPP = 0.2527  # a tile of 112 µm is 443.2 pixels
SIZE = (2300, 1700)
CORNERS = [(0, 0), (896, 448), (1792, 896)]


def write_slide(folder):
    """Write a slide of 4 rows and 6 columns of tiles."""
    return write_svs(folder / "some.svs", picture(SIZE[1], SIZE[0]), mpp=MPP)


def embed_slide(root, slide, encoder):
    """Keep our own embeddings of 19 tiles of a slide; return them as they would be exported."""
    grid = slide.grid(0.5)
    tiles = [Tile(r, c) for r in range(4) for c in range(5)][:-1]
    with EmbeddingStore.open(
        root,
        slide=slide.identity,
        encoder=encoder.identity,
        grid=grid,
        dim=encoder.dim,
        writable=True,
    ) as made:
        made.append(tiles[::-1], encoder.encode(slide.read_tiles(grid, tiles[::-1])))
    return SlideEmbeddings.of(slide, stored_of(root, slide.identity, encoder.identity, grid.name))


def rows_for(n, dim=6):
    """Return embeddings that mean nothing."""
    return np.random.default_rng(3).normal(size=(n, dim)).astype(np.float32)


def trident_file(path, corners, rows, *, side=448, size=(2300, 1700), **more):
    """Write a file as TRIDENT does: see its save_h5 and coords_to_h5 in the specification."""
    facts = {
        "patch_size": 224,
        "patch_size_level0": side,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "some",
        "savetodir": "/there",
        "level0_width": size[0],
        "level0_height": size[1],
    }
    with h5py.File(path, "w") as file:
        if rows is not None:
            made = file.create_dataset("features", data=rows, maxshape=(None, rows.shape[1]))
            said = {"name": "some", "savetodir": "/there", "encoder": "uni_v1"}
            made.attrs.update(said | {k: v for k, v in more.items() if k in said})
        made = file.create_dataset("coords", data=np.array(corners, np.int64), maxshape=(None, 2))
        made.attrs.update(facts | {k: v for k, v in more.items() if k in facts})
    return path


def clam_pair(folder, corners, rows, *, level=0, downsample=1.0, size=224):
    with h5py.File(folder / "p.h5", "w") as file:
        made = file.create_dataset("coords", data=np.array(corners))
        made.attrs.update(
            {
                "patch_size": size,
                "patch_level": level,
                "downsample": (downsample, downsample),
                "downsampled_level_dim": (575, 425) if level else (2300, 1700),
                "level_dim": (575, 425) if level else (2300, 1700),
                "name": "some",
                "save_path": "there",
            }
        )
    with h5py.File(folder / "f.h5", "w") as file:
        file["features"], file["coords"] = rows, np.array(corners, np.int32)
    return folder / "f.h5", folder / "p.h5"
