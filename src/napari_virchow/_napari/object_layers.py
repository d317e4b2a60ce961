"""The objects of QuPath as layers over a slide: drawn and edited, or seen as one picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QObject, QTimer, Signal

from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.layers import over
from napari_virchow._napari.link import Links
from napari_virchow._napari.piece_layer import POINT, PieceLayer
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import add_quietly, main_window
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.drawing import new_annotation, with_pieces
from napari_virchow.qupath.kept import KeptObjects, ObjectsChange
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.raster import Picture
from napari_virchow.qupath.scene import Scene, drawn_of, scene_of
from napari_virchow.slide import Slide

FEW = 50  # objects redrawn one by one; more are drawn anew
LOOK_MS = 150
PICTURE_OPACITY = 0.5
LINE = 2.5  # pixels on the screen
THICKER = 1.6  # lines are drawn anew once they look that much thicker or thinner


class ObjectLayers(QObject):
    """Draws the objects of one slide, and takes in what is edited there.

    There is one for each slide of a viewer, whatever docks are open; see `object_layers`.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers go.
    slide : Slide
        Whose objects they are.
    below : Layer
        The slide's layer, which they lie on.
    kept : KeptObjects
        What is drawn; every edit goes there, and with it to the disk.
    parent : QObject
        Ends with it.
    """

    drawn = Signal()
    failed = Signal(object)
    selected = Signal(tuple)

    def __init__(
        self, viewer: Any, slide: Slide, below: Layer, kept: KeptObjects, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self.slide, self._below, self.kept = viewer, slide, below, kept
        self.scene: Scene | None = None
        self.picture: Labels | None = None
        self._seen: tuple[Any, Any] = (None, None)  # its colours, and where it lies
        self.new_class: PathClass | None = None
        self.busy = self._draw_wanted = False
        self._generation = 0
        self._tasks = Tasks(self)
        self._camera = CameraFollower(viewer, self)
        self._camera.settled.connect(self._on_settled)
        self._width = self._fitting_width()
        self.shapes = PieceLayer(self._make_shapes, self._width, self)
        self.points = PieceLayer(self._make_points, self._width, self)
        for layer in (self.shapes, self.points):
            layer.edited.connect(self._on_edited)
            layer.selected.connect(self.selected)
            layer.fed.connect(self._on_fed)
        self._look = QTimer(self)
        self._look.setSingleShot(True)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(lambda: self.refresh(draw=False))
        self._links = Links(self, (kept.changed, self._on_changed))
        self._sweep = QTimer(self)  # napari must not lose layers while it tells of another's end
        self._sweep.setSingleShot(True)
        self._sweep.timeout.connect(self._on_sweep)
        viewer.layers.events.removed.connect(self._on_layer_gone)
        self._camera.attach()
        self.refresh()

    # ---- drawing

    def refresh(self, *, draw: bool = True) -> None:
        """Draw everything anew: what is to be seen is worked out in a worker.

        With `draw` False only the picture is, and what is under the cursor.
        """
        self._draw_wanted = draw or (self.busy and self._draw_wanted)
        self._generation += 1
        self.busy = True
        generation, kept = self._generation, self.kept

        def work() -> tuple[int, Scene]:
            return generation, scene_of(kept.objects)

        self._tasks.run(work, done=self._on_scene, failed=self.failed.emit)

    def draw(self, mode: str) -> None:
        """Let the user draw: "add_polygon", "add_ellipse", "add_path" or "add_point"."""
        pieces = self.points if mode == "add_point" else self.shapes
        layer = pieces.needed()
        self._viewer.layers.selection.active = layer
        layer.mode = "add" if mode == "add_point" else mode

    def edit(self) -> None:
        """Let the user move the corners of what is drawn."""
        layer = self.shapes.needed()
        self._viewer.layers.selection.active = layer
        layer.mode = "direct"

    def select(self, ids: Sequence[str]) -> None:
        """Mark objects, and make their layer the active one."""
        for pieces in (self.shapes, self.points):
            if pieces.select(ids) and pieces.layer is not None:
                self._viewer.layers.selection.active = pieces.layer

    @property
    def chosen(self) -> set[str]:
        """The objects that are selected, or all that are drawn if none is."""
        selected = {*self.shapes.chosen, *self.points.chosen}
        return selected or self.shapes.ids | self.points.ids

    def to_slide(self, position: Sequence[float]) -> tuple[float, float]:
        """Return a place in the viewer's world as y, x in level-0 pixels."""
        y, x = self._below.world_to_data(position)[-2:]
        return float(y) + 0.5, float(x) + 0.5

    def slide_pixels_per_screen_pixel(self) -> float:
        """Return how many level-0 pixels a pixel on the screen is wide."""
        return float(1 / (self._viewer.scene.camera.zoom * self._below.scale[-1]))

    def remove(self) -> None:
        """Take the layers away; the objects stay on disk."""
        self._links.close()
        self._viewer.layers.events.removed.disconnect(self._on_layer_gone)
        self._camera.detach()
        self._generation += 1
        self.shapes.remove(self._viewer)
        self.points.remove(self._viewer)
        self._drop_picture()
        self.deleteLater()

    def _fitting_width(self) -> float:
        """Return how wide a line must be on the slide to look `LINE` pixels wide now."""
        return float(np.clip(LINE * self.slide_pixels_per_screen_pixel(), 0.2, 500))

    def _on_settled(self) -> None:
        width = self._fitting_width()
        if not 1 / THICKER < width / self._width < THICKER:
            self._width = width
            self.shapes.set_width(width)
            self.points.set_width(width)

    def _on_layer_gone(self, event: object = None) -> None:
        self._sweep.start(0)

    def _on_sweep(self) -> None:
        """Go with the slide; without one of our own layers, make it again when it is needed."""
        if self._below not in self._viewer.layers:
            self.remove()
            return
        for pieces in (self.shapes, self.points):
            pieces.forget_if_gone(self._viewer)

    def _on_scene(self, answer: tuple[int, Scene]) -> None:
        generation, scene = answer
        if generation != self._generation or self._below not in self._viewer.layers:
            return
        self.scene = scene
        self._show_picture(scene)
        if not self._draw_wanted:
            self._on_fed()
            return
        self._draw_wanted = False
        lines = [(one.id, p, one.color) for one in scene.drawn for p in one.pieces]
        self.shapes.feed([line for line in lines if line[1].kind != "point"])
        self.points.feed([line for line in lines if line[1].kind == "point"])

    def _on_fed(self) -> None:
        if not self.shapes.feeding and not self.points.feeding:
            self.busy = False
            self.drawn.emit()

    def _show_picture(self, scene: Scene) -> None:
        picture = scene.picture
        if picture is None:
            self._drop_picture()
            return
        place = over(self._below, picture.step)
        corner = np.array(picture.origin[::-1]) * np.asarray(self._below.scale)[-2:]
        place["translate"] = tuple(place["translate"] + np.asarray(self._below.rotate) @ corner)
        colors: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
        for value, color in picture.colors.items():
            colors[value] = (*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)
        names = {
            "index": list(picture.names),
            "class": [n or "no class" for n in picture.names.values()],
        }
        layer = self.picture
        seen = self._seen
        self._seen = (colors, self._where(picture))
        if layer is not None and layer in self._viewer.layers:
            # Each of these is drawn at once: what is as it was is left alone.
            if seen[0] != colors:
                layer.colormap = DirectLabelColormap(color_dict=colors)
            layer.data = picture.values
            layer.features = names
            if seen[1] != self._seen[1]:
                for attribute, value in place.items():
                    setattr(layer, attribute, value)
            return
        self.picture = Labels(
            picture.values,
            name=f"QuPath objects · {self.slide.name}",
            colormap=DirectLabelColormap(color_dict=colors),
            features=names,
            opacity=PICTURE_OPACITY,
            axis_labels=("y", "x"),
            metadata={"objects_of": self.slide.identity},
            **place,
        )
        self.picture.editable = False
        self._add(self.picture)

    def _where(self, picture: Picture) -> tuple[Any, ...]:
        """Return what the place of a picture follows from, to be compared."""
        below = self._below
        arrays = (below.scale, below.translate, below.rotate, below.affine.affine_matrix)
        placed = (np.asarray(one).tobytes() for one in arrays)
        return (picture.step, picture.origin, below.units, *placed)

    def _drop_picture(self) -> None:
        if self.picture is not None and self.picture in self._viewer.layers:
            self._viewer.layers.remove(self.picture)
        self.picture = None

    # ---- editing

    def _on_edited(self) -> None:
        """Take in what the user did to a layer, as one step."""
        pieces = self.shapes if self.sender() is self.shapes else self.points
        edit = pieces.take()
        changes: dict[str, PathObject | None] = {}
        locked = False
        for uid in edit.ids:
            one = self.kept.get(uid)
            if one is None:
                continue
            if one.is_locked:
                locked = True
                continue
            mine = [*self.shapes.pieces(uid), *self.points.pieces(uid)]
            changes[uid] = with_pieces(one, mine)
        made = [new_annotation(piece, self.new_class) for piece in edit.made]
        if changes:
            gone = sum(one is None for one in changes.values())
            verb = "remove" if gone else "edit"
            self._try(self.kept.update, changes, f"{verb} {_count(len(changes))}")
        if new := [one for one in made if one is not None]:
            self._try(self.kept.add, new, f"draw {_count(len(new))}")
        if locked:
            self.failed.emit(ValueError("That annotation is locked: unlock it under Edit first."))
        self._redraw(edit.untidy if not locked else edit.ids)

    def _try(self, verb: Any, *args: Any) -> None:
        try:
            with self.shapes.quiet(), self.points.quiet():
                verb(*args)
        except KeyError:
            self.refresh()  # somebody took it away meanwhile

    def _on_changed(self, change: ObjectsChange) -> None:
        if self.shapes.is_quiet:  # it came from the layers themselves
            known = {uid for pieces in (self.shapes, self.points) for uid in pieces.ids}
            if new := [uid for uid in change.ids if uid not in known]:
                self._redraw(new)
        elif len(change.ids) > FEW:
            self.refresh()
            return
        else:
            self._redraw(self._with_nested(change.ids))
        self._look.start()  # the picture, and what is under the cursor

    def _with_nested(self, ids: Iterable[str]) -> list[str]:
        tops = [self.kept.get(uid) for uid in ids]
        inner = [one.id for one in flatten([top for top in tops if top is not None])]
        return list(dict.fromkeys([*ids, *inner]))

    def _redraw(self, ids: Sequence[str]) -> None:
        """Draw some objects anew, at once."""
        if not ids:
            return
        for pieces, points in ((self.shapes, False), (self.points, True)):
            rows = []
            for uid in ids:
                one = self.kept.get(uid)
                if one is not None and one.object_type in ("annotation", "tmaCore"):
                    drawn = drawn_of(one)
                    wanted = [p for p in drawn.pieces if (p.kind == "point") is points]
                    rows += [(uid, piece, drawn.color) for piece in wanted]
            pieces.replace(ids, rows)
        self.drawn.emit()

    # ---- layers

    def _make_shapes(self, width: float) -> Shapes:
        layer = Shapes(
            ndim=2,
            name=f"Annotations · {self.slide.name}",
            edge_width=width,
            opacity=1.0,
            **self._common(),
        )
        layer.current_edge_width = width
        layer.current_edge_color = "#ff0000"
        layer.current_face_color = "#00000000"
        return self._add(layer)

    def _make_points(self, width: float) -> Points:
        layer = Points(
            np.empty((0, 2)),
            name=f"Annotated points · {self.slide.name}",
            size=POINT * width,
            canvas_size_limits=(7, 60),
            border_color="white",
            opacity=1.0,
            **self._common(),
        )
        layer.current_face_color = "#ff0000"
        return self._add(layer)

    def _common(self) -> dict[str, Any]:
        return {
            "axis_labels": ("y", "x"),
            "metadata": {"objects_of": self.slide.identity},
            **over(self._below, (1, 1)),
        }

    def _add(self, layer: Any) -> Any:
        if not isinstance(layer, Labels):
            layer.bind_key("Control-Z", lambda _: self.kept.undo(), overwrite=True)
            layer.bind_key("Control-Shift-Z", lambda _: self.kept.redo(), overwrite=True)
        add_quietly(self._viewer, layer)
        return layer


def object_layers(viewer: Any, slide: Slide, below: Layer, kept: KeptObjects) -> ObjectLayers:
    """Return what draws the objects of a slide in a viewer; made when first asked for."""
    window = main_window(viewer)
    for known in window.findChildren(ObjectLayers):
        if known.kept is kept:
            return known
    return ObjectLayers(viewer, slide, below, kept, window)


def objects_in(viewer: Any, layer: Layer | None) -> ObjectLayers | None:
    """Return what draws objects into a layer, or None where that is no layer of objects."""
    if layer is None or "objects_of" not in layer.metadata:
        return None
    every = main_window(viewer).findChildren(ObjectLayers)
    return next((one for one in every if layer in (one.shapes.layer, one.points.layer)), None)


def _count(n: int) -> str:
    return "annotation" if n == 1 else f"{n} annotations"
