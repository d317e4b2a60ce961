"""Colouring tiles by likeness, in a real window."""

from __future__ import annotations


def test_tiles_are_coloured_once_the_engine_rests(viewer, open_slide, dock, slide_file, until):
    open_slide(slide_file)
    widget = dock()
    widget.magnification.setCurrentIndex(widget.magnification.findData(0.5))
    widget.likeness.click()
    until(lambda: widget.likeness.layer is not None and widget.likeness.layer.data[..., 3].any())
    widget.whole.click()
    slide = next(iter(widget.session.slides.values()))

    def drawn():
        tiles, _ = widget.session.embeddings(slide, 0.5)
        return len(tiles) > 20 and (widget.likeness.layer.data[..., 3] > 0).sum() == len(tiles)

    until(drawn)
    layer, (below, *_) = widget.likeness.layer, [x for x in viewer.layers if x.name == "small.tif"]
    # A raster pixel is a tile: 112 µm, its corner on the slide's.
    assert tuple(layer.scale) == (112, 112)
    assert tuple(layer.translate - 56) == tuple(below.translate - 0.25)
    widget.likeness.click()
    assert layer not in viewer.layers


def test_the_colours_go_with_their_slide(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    widget.likeness.click()
    until(lambda: widget.likeness.layer is not None)
    viewer.layers.remove(layer)
    until(lambda: widget.likeness.layer is None)
    until(lambda: not any("likeness" in x.name for x in viewer.layers))
