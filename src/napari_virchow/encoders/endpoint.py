"""Encoders behind an Azure endpoint: tiles go out as PNG, embeddings come back."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_virchow.encoders.specs import EncoderUnavailable
from napari_virchow.encoders.weights import short_hash

KEY_VARIABLE = "NAPARI_VIRCHOW_ENDPOINT_KEY"
TIMEOUT_S = 120.0
BUSY = (429, 502, 503, 504)
ATTEMPTS = 3
MAX_WAIT_S = 10.0
LOCAL = ("localhost", "127.0.0.1", "::1")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: following one would hand the key to another host."""

    def redirect_request(self, *args: Any, **keywords: Any) -> None:
        """Return None, which makes a redirect an error."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An Azure endpoint that embeds tiles.

    Parameters
    ----------
    url : str
        Its scoring address; https, unless it is on this machine.
    key : str or None
        Sent as a bearer token.
    """

    url: str
    key: str | None = None

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL)
        if not safe or not parts.hostname:
            raise EncoderUnavailable(
                f"the endpoint address {self.url!r} cannot be used: it must begin with https://."
            )

    @property
    def host(self) -> str:
        """The host that computes."""
        return urllib.parse.urlsplit(self.url).hostname or self.url

    @property
    def hash(self) -> str:
        """12 hex digits that stand for this endpoint, since its weights cannot be seen."""
        return short_hash(self.url.encode())

    def embed(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed tiles in one request.

        Parameters
        ----------
        tiles : ndarray of shape (n, 224, 224, 3), uint8

        Returns
        -------
        ndarray of shape (n, dim), float32

        Raises
        ------
        EncoderUnavailable
            If the endpoint cannot be reached, refuses, or answers with something else.
        """
        body = {
            "input_data": {
                "columns": ["image"],
                "index": list(range(len(tiles))),
                "data": [_png(tile) for tile in tiles],
            },
            "params": {"device_type": "cuda"},
        }
        answer = self._post(json.dumps(body).encode())
        try:
            rows = np.array([row["output"] for row in json.loads(answer)], dtype=np.float32)
        except (ValueError, TypeError, KeyError) as error:
            raise EncoderUnavailable(
                f"the endpoint {self.host} answered with something that is not a list of "
                "embeddings: check that the address is the one for scoring."
            ) from error
        if rows.ndim != 2 or len(rows) != len(tiles):
            raise EncoderUnavailable(
                f"the endpoint {self.host} answered {len(tiles)} tiles with an array of shape "
                f"{rows.shape}: check that it serves a tile encoder."
            )
        return rows

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, body, headers)
        opener = urllib.request.build_opener(_NoRedirect)
        attempts_left = ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                with opener.open(request, timeout=TIMEOUT_S) as reply:
                    content: bytes = reply.read()
                    return content
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in BUSY or not attempts_left:
                        self._refused(error)
                    wait_s = _retry_after(error)
                time.sleep(wait_s)
            except (OSError, http.client.HTTPException) as error:
                raise EncoderUnavailable(
                    f"the endpoint {self.host} cannot be reached: "
                    "check its address and the network."
                ) from error

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        if error.code in (401, 403):
            raise EncoderUnavailable(
                f"the endpoint {self.host} does not accept the key: give the endpoint's key as the "
                f"token, or in the environment variable {KEY_VARIABLE}."
            ) from error
        raise EncoderUnavailable(
            f"the endpoint {self.host} answered with error {error.code}: "
            "check its address and that it is running."
        ) from error


def find_key(token: str | None) -> str | None:
    """Return the endpoint's key: the token if given, else from the environment."""
    return token or os.environ.get(KEY_VARIABLE) or None


def _png(tile: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, format="PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _retry_after(error: urllib.error.HTTPError) -> float:
    try:
        return min(MAX_WAIT_S, max(0.0, float(error.headers.get("Retry-After", "2"))))
    except ValueError:  # a date
        return 2.0
