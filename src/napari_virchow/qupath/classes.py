"""QuPath's classes: names in parts, colours, and every way a file spells them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_virchow.labels.edits import PALETTE

Rgb = tuple[int, int, int]
SEPARATOR = ":"
# What a fresh QuPath gives these names; the last two are those of "Tumor: Positive" and the like.
DEFAULT_COLORS: Mapping[str, Rgb] = {
    "Tumor": (200, 0, 0),
    "Stroma": (150, 200, 150),
    "Immune cells": (160, 90, 160),
    "Necrosis": (50, 50, 50),
    "Other": (255, 200, 0),
    "Region*": (0, 0, 180),
    "Ignore*": (180, 180, 180),
    "Positive": (250, 62, 62),
    "Negative": (112, 112, 225),
}
DERIVED_COLORS: Mapping[str, Rgb] = {"Positive": (200, 50, 50), "Negative": (90, 90, 180)}


@dataclass(frozen=True, slots=True)
class PathClass:
    """A classification, such as "Tumor: Positive".

    Parameters
    ----------
    names : tuple of str
        Its parts, at least one; none is blank or has a colon.
    color : (int, int, int) or None
        Red, green, blue, 0 to 255; None where the file did not say it.

    Raises
    ------
    ValueError
        If a part is blank or has a colon.
    """

    names: tuple[str, ...]
    color: Rgb | None = None

    def __post_init__(self) -> None:
        if not self.names or any(not n.strip() or SEPARATOR in n for n in self.names):
            raise ValueError(f"a class needs names without colons, got {self.names!r}")

    @classmethod
    def of(cls, name: str, color: Rgb | str | None = None) -> PathClass:
        """Make a class of a whole name; the colour may be "#rrggbb".

        Raises
        ------
        ValueError
            If nothing is left of the name but blanks and colons.
        """
        parts = tuple(part.strip() for part in name.split(SEPARATOR) if part.strip())
        return cls(parts, rgb_of_hex(color) if isinstance(color, str) else color)

    @property
    def name(self) -> str:
        """The whole name, with ": " between its parts."""
        return ": ".join(self.names)

    @property
    def is_ignored(self) -> bool:
        """Whether QuPath leaves it out of training and counting: its name ends in "*"."""
        return self.names[-1].endswith("*")

    @property
    def hex_color(self) -> str:
        """The colour as "#rrggbb"; QuPath's, or one that follows the name, where none is said."""
        red, green, blue = self.color or default_color(self.names)
        return f"#{red:02x}{green:02x}{blue:02x}"

    def to_json(self) -> dict[str, Any]:
        """Return what every version of QuPath reads; it always has a colour."""
        color = list(self.color or default_color(self.names))
        if len(self.names) == 1:
            return {"name": self.names[0], "color": color}
        return {"names": list(self.names), "color": color}


def default_color(names: tuple[str, ...]) -> Rgb:
    """Return the colour of a class that nobody gave one; always the same for the same name."""
    table = DEFAULT_COLORS if len(names) == 1 else DERIVED_COLORS
    if names[-1] in table:
        return table[names[-1]]
    number = zlib.crc32(": ".join(names).encode()) % len(PALETTE)
    return rgb_of_hex(PALETTE[number])


def rgb_of_hex(text: str) -> Rgb:
    """Return "#rrggbb" as numbers; ValueError if it is none."""
    digits = text.strip().removeprefix("#")
    if len(digits) != 6:
        raise ValueError(f"a colour looks like #e69f00, got {text!r}")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def rgb_of_packed(packed: int) -> Rgb:
    """Return the colour of Java's packed ARGB, signed or not; alpha is left out."""
    return packed >> 16 & 255, packed >> 8 & 255, packed & 255


def packed_of_rgb(color: Rgb) -> int:
    """Return a colour as Java's signed packed ARGB, opaque: (200, 0, 0) is -3670016."""
    value = 255 << 24 | color[0] << 16 | color[1] << 8 | color[2]
    return value - (1 << 32)


def parse_color(value: Any) -> Rgb | None:
    """Return a colour that a file spells as a list, a packed number or "#rrggbb"; None if none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return rgb_of_packed(value)
    if isinstance(value, str):
        try:
            return rgb_of_hex(value)
        except ValueError:
            return None
    if isinstance(value, list) and len(value) in (3, 4):
        try:
            red, green, blue = (min(255, max(0, int(part))) for part in value[:3])
        except (TypeError, ValueError, OverflowError):
            return None
        return red, green, blue
    return None


def parse_class(value: Any) -> PathClass | None:
    """Return the class of a `classification`, however it is spelt; None for none.

    Raises
    ------
    ValueError
        If it is nothing that could be a class.
    """
    if value is None or value == {}:
        return None
    if isinstance(value, str):
        return _named([value], None)
    if not isinstance(value, dict):
        raise ValueError(f"classification is a {type(value).__name__}")
    names = _names(value)
    if names is None:
        return None
    return _named(names, parse_color(value.get("color", value.get("colorRGB"))))


def safe_class(value: Any) -> bool:
    """Say whether a `classification` is one that every version of QuPath reads, colour included."""
    if not isinstance(value, dict) or not safe_color(value.get("color")):
        return False
    names = value.get("names")
    if names is not None:
        good = isinstance(names, list) and bool(names)
        return good and all(_is_name(n) and SEPARATOR not in n for n in names)
    name = value.get("name")
    return _is_name(name) and all(part.strip() for part in str(name).split(SEPARATOR))


def safe_color(value: Any) -> bool:
    """Say whether every version of QuPath reads this colour."""
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _names(value: dict[str, Any]) -> list[str] | None:
    """Return the names of a class in JSON, the parent's (QuPath 0.3 and before) first."""
    found = value.get("names")
    listed = found if isinstance(found, list) else [value.get("name")]
    names = [str(name) for name in listed if isinstance(name, str | int | float)]
    parent = value.get("parentClass")
    if isinstance(parent, dict):
        names = [*(_names(parent) or ()), *names]
    return [n for n in names if n.strip()] or None


def _named(names: list[str], color: Rgb | None) -> PathClass | None:
    parts = tuple(p.strip() for name in names for p in name.split(SEPARATOR) if p.strip())
    return PathClass(parts, color) if parts else None
