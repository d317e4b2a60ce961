"""What the live link to QuPath says: plain frozen facts, passed along by signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.reading import Problem

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 25333  # of QuPath's py4j extension


class LiveError(Exception):
    """The live link could not do something; one sentence says why and what to do."""


class LinkLost(LiveError):  # noqa: N818  # a fact more than a fault
    """QuPath is not there any more: closed, or its gateway stopped."""


class LinkStatus(StrEnum):
    """Whether there is a link."""

    OFF = "off"
    CONNECTING = "connecting"
    ON = "on"


class Follow(StrEnum):
    """Whose view follows: none, ours follows QuPath's, QuPath's follows ours, or both ways."""

    OFF = "off"
    QUPATH = "qupath"
    NAPARI = "napari"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class QuPathImage:
    """The image that QuPath shows.

    Parameters
    ----------
    key : str
        Tells it from other images, and from other series of the same file.
    name : str
        As QuPath shows it.
    uris : tuple of str
        Its files.
    width, height : int
        In QuPath's pixels.
    builder : mapping
        QuPath's description of it; empty where QuPath would not give it.
    """

    key: str
    name: str
    uris: tuple[str, ...]
    width: int
    height: int
    builder: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinkState:
    """How things stand with the link.

    Parameters
    ----------
    status : LinkStatus
        Off, connecting or on.
    address : str
        "127.0.0.1:25333", or empty.
    image : QuPathImage or None
        What QuPath shows.
    slide : str or None
        Identity of the open slide that this is; None while it is not open here, or does not fit.
    frame : Frame or None
        Where the image lies on the slide.
    problem : str
        Why nothing can be pulled or pushed although there is a link, as a sentence; else empty.
    task : str
        "pull", "push", or empty.
    done, wanted : int
        Objects that the task has sent, of how many.
    follow : Follow
        Whose view follows.
    error : str
        The last failure, as a sentence; emptied by the next success.
    """

    status: LinkStatus = LinkStatus.OFF
    address: str = ""
    image: QuPathImage | None = None
    slide: str | None = None
    frame: Frame | None = None
    problem: str = ""
    task: str = ""
    done: int = 0
    wanted: int = 0
    follow: Follow = Follow.OFF
    error: str = ""

    @property
    def ready(self) -> bool:
        """Whether objects can be pulled and pushed now."""
        return self.status is LinkStatus.ON and self.frame is not None and not self.task


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """Objects came from QuPath.

    Parameters
    ----------
    slide : str
        Identity of the slide they lie on.
    objects : tuple of PathObject
        In level-0 pixels of the slide, with all that QuPath knows of them.
    selected : frozenset of str
        Ids of the objects that are selected in QuPath, also of those that were not pulled.
    frame : Frame
        To write them back with.
    problems : tuple of Problem
        Objects that could not be read: (index, reason).
    """

    slide: str
    objects: tuple[PathObject, ...]
    selected: frozenset[str]
    frame: Frame
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Pushed:
    """Objects went to QuPath.

    Parameters
    ----------
    slide : str
        Identity of the slide they lie on.
    sent, wanted : int
        Objects that are in QuPath now, of those that were to be; fewer only after `cancel`.
    added, replaced : int
        How many were new there, and how many took the place of one with the same id.
    seconds : float
        From the first to the last.
    """

    slide: str
    sent: int
    wanted: int
    added: int
    replaced: int
    seconds: float

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped before all were sent."""
        return self.sent < self.wanted


@dataclass(frozen=True, slots=True)
class LinkView:
    """A place that is looked at.

    Parameters
    ----------
    slide : str
        Identity.
    x, y : float
        Its middle, in level-0 pixels.
    downsample : float
        Level-0 pixels per pixel of the screen.
    rotation : float
        Of QuPath's view, in radians.
    z, t : int
        Where in a stack.
    """

    slide: str
    x: float
    y: float
    downsample: float
    rotation: float = 0.0
    z: int = 0
    t: int = 0
