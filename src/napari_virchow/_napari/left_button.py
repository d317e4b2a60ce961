"""Who has the left button on a canvas: one tool at a time, and napari while there is none."""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class ButtonTool(Protocol):
    """A tool that uses the left button."""

    def button_lost(self) -> None:
        """Stop using it: another tool has it now."""


class LeftButton:
    """The left button of one viewer; `left_button` gives it.

    While a tool has it, dragging does not move the slide; the wheel zooms all the same.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(viewer)
        self._owner: weakref.ref[Any] | None = None
        viewer.scene.camera.events.mouse_pan.connect(self._hold_camera)

    @property
    def owner(self) -> ButtonTool | None:
        """The tool that has the button, or None: then it is napari's."""
        return None if self._owner is None else self._owner()

    def claim(self, tool: ButtonTool) -> None:
        """Give the button to a tool; the one that had it is told so."""
        before = self.owner
        if before is tool:
            return
        self._owner = weakref.ref(tool)
        if before is not None:
            before.button_lost()
        self._hold_camera()

    def release(self, tool: ButtonTool) -> None:
        """Give the button back to napari, if this tool has it."""
        if self.owner is not tool:
            return
        self._owner = None
        viewer = self._viewer()
        if viewer is not None:
            active = viewer.layers.selection.active
            viewer.scene.camera.mouse_pan = active is None or active.mouse_pan

    def _hold_camera(self, event: object = None) -> None:
        """Keep the camera still; napari lets it go whenever another layer is chosen."""
        viewer = self._viewer()
        if viewer is not None and self.owner is not None:
            viewer.scene.camera.mouse_pan = False


_buttons: weakref.WeakKeyDictionary[Any, LeftButton] = weakref.WeakKeyDictionary()


def left_button(viewer: Any) -> LeftButton:
    """Return the left button of a viewer, the same for all docks.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer itself, as `viewer.plain` gives it.
    """
    if viewer not in _buttons:
        _buttons[viewer] = LeftButton(viewer)
    return _buttons[viewer]
