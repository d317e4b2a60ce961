"""Weights: found, read, identified, refused; from disk, from a hub and behind an endpoint."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from napari_virchow.encoders import load_encoder
from napari_virchow.encoders.endpoint import Endpoint
from napari_virchow.encoders.hub import cached_weights, fetch_weights, log_in
from napari_virchow.encoders.specs import SPECS, EncoderUnavailable, ViTConfig
from napari_virchow.encoders.vit import build_on_meta, random_vit
from napari_virchow.encoders.weights import fill_model, find_weights, hash_weights, read_weights

CONFIG = ViTConfig(16, 16, 1, 2, 32)


@pytest.fixture
def state():
    return random_vit(CONFIG).state_dict()


def refusal(call: Callable[[], object]) -> str:
    """Return the message of the refusal, having checked that it is one sentence with a step."""
    with pytest.raises(EncoderUnavailable) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".") and ":" in message
    return message


# --- on disk


def test_every_kind_of_file_gives_the_same_weights(tmp_path, state):
    names = list(state)
    save_file(state, tmp_path / "one.safetensors")
    torch.save(state, tmp_path / "two.bin")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "three.pth")
    folder = tmp_path / "four"
    folder.mkdir()
    save_file({n: state[n] for n in names[:5]}, folder / "model-1.safetensors")
    save_file({n: state[n] for n in names[5:]}, folder / "model-2.safetensors")
    parts = {n: f"model-{1 if i < 5 else 2}.safetensors" for i, n in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))

    for path in ("one.safetensors", "two.bin", "three.pth", "four"):
        read = read_weights(find_weights(tmp_path / path))
        assert read.keys() == state.keys()
        assert all(torch.equal(read[n], state[n]) for n in names)


def test_a_folder_prefers_safetensors(tmp_path, state):
    torch.save(state, tmp_path / "pytorch_model.bin")
    save_file(state, tmp_path / "model.safetensors")
    assert find_weights(tmp_path) == (tmp_path / "model.safetensors",)


def test_half_precision_files_are_read_as_float32(tmp_path, state):
    save_file({n: t.half() for n, t in state.items()}, tmp_path / "half.safetensors")
    read = read_weights(find_weights(tmp_path / "half.safetensors"))
    assert {t.dtype for t in read.values()} == {torch.float32}


def test_files_that_are_not_weights_are_refused(tmp_path):
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\x10\x00\x00")
    dangerous = tmp_path / "dangerous.pth"
    torch.save({"layer": os.system}, dangerous)
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../../secret"}}')

    assert "torn.safetensors" in refusal(lambda: read_weights(find_weights(torn)))
    assert "safety" in refusal(lambda: read_weights(find_weights(dangerous)))
    assert "notes.txt" in refusal(lambda: find_weights(text))
    assert "no weights file" in refusal(lambda: find_weights(tmp_path / "absent.bin"))
    assert "index" in refusal(lambda: find_weights(index))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty" in refusal(lambda: find_weights(empty))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda s: s.pop("blocks.0.mlp.fc1.bias"), "no 'blocks.0.mlp.fc1.bias'"),
        pytest.param(lambda s: s.update(head=s["norm.bias"]), "unexpected 'head'"),
        pytest.param(lambda s: s.update({"norm.bias": s["cls_token"]}), r"shape (1, 1, 16)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, state, change, said):
    change(state)
    file = tmp_path / "mine.safetensors"
    message = refusal(lambda: fill_model(build_on_meta(CONFIG), state, file=file, title="Ours"))
    assert said in message
    assert "mine.safetensors" in message and "Ours" in message


def test_the_hash_follows_the_contents_and_is_remembered(tmp_path):
    file, known = tmp_path / "a.bin", tmp_path / "cache" / "known.json"
    file.write_bytes(b"one")
    first = hash_weights([file], remembered=known)
    assert len(first) == 12 and int(first, 16) >= 0
    moved = file.rename(tmp_path / "b.bin")
    assert hash_weights([moved], remembered=known) == first

    entries = json.loads(known.read_text())
    entries[str(moved)][2] = "remembered!!"
    known.write_text(json.dumps(entries))
    assert hash_weights([moved], remembered=known) == "remembered!!"

    moved.write_bytes(b"two!")
    assert hash_weights([moved], remembered=known) not in (first, "remembered!!")
    known.write_text("not json")
    assert len(hash_weights([moved, moved], remembered=known)) == 12


# --- over HTTP: one little server, told what to answer


class Answer:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.reply: Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            answer.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            answer.asked.append((self.command, self.path, dict(self.headers)))
            status, headers, body = answer.reply(self)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server():
    answer = Answer()
    with serving(answer) as url:
        yield answer, url


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(hub, "HF_TOKEN_PATH", str(tmp_path / "token"))


UNI = SPECS["uni"]


@pytest.mark.parametrize(
    ("status", "code", "token", "said"),
    [
        pytest.param(401, "GatedRepo", None, "no token was found", id="no token"),
        pytest.param(401, "RepoNotFound", "hf_wrong", "does not accept", id="wrong token"),
        pytest.param(401, "", "hf_wrong", "does not accept", id="wrong token, no code"),
        pytest.param(403, "GatedRepo", "hf_x", "no access to UNI yet", id="not approved"),
        pytest.param(403, "", "hf_x", "may not read", id="token without rights"),
        pytest.param(404, "RepoNotFound", "hf_x", "no MahmoodLab/UNI", id="repository gone"),
        pytest.param(404, "EntryNotFound", "hf_x", "none of the files", id="no such files"),
        pytest.param(404, "RevisionNotFound", "hf_x", "revision", id="revision gone"),
    ],
)
def test_each_refusal_of_the_hub_has_its_own_sentence(
    server, no_token, tmp_path, status, code, token, said
):
    answer, url = server
    answer.reply = lambda _: (status, {"X-Error-Code": code} if code else {}, b"")
    message = refusal(lambda: fetch_weights(UNI, token=token, endpoint=url, cache=tmp_path))
    assert said in message


def test_no_network_has_its_own_sentence(no_token, tmp_path):
    with serving(Answer()) as url:
        pass  # nobody listens there any more
    message = refusal(lambda: fetch_weights(UNI, endpoint=url, cache=tmp_path))
    assert "cannot be reached" in message


def test_weights_are_downloaded_once_and_then_found_without_network(server, no_token, tmp_path):
    answer, url = server
    content, heard = b"weights", []

    def reply(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if not request.path.endswith("pytorch_model.bin"):
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, {"ETag": '"abc"', "X-Repo-Commit": "c" * 40}, content

    answer.reply = reply
    assert cached_weights(UNI, cache=tmp_path) is None
    (file,) = fetch_weights(
        UNI, token="hf_x", endpoint=url, cache=tmp_path, on_progress=heard.append
    )
    assert file.read_bytes() == content
    assert file.name == "pytorch_model.bin"
    assert heard == ["Downloading UNI from MahmoodLab/UNI…"]
    assert {headers.get("authorization") for _, _, headers in answer.asked} == {"Bearer hf_x"}

    n_asked = len(answer.asked)
    again = fetch_weights(UNI, endpoint=url, cache=tmp_path, on_progress=heard.append)
    assert again == (file,)
    assert len(answer.asked) == n_asked and len(heard) == 1


def test_an_encoder_that_is_not_on_the_hub_says_so(tmp_path):
    message = refusal(lambda: fetch_weights(SPECS["virchow2g"], cache=tmp_path))
    assert "Azure" in message


def test_logging_in_names_the_account(server, no_token):
    answer, url = server
    answer.reply = lambda _: (200, {}, b'{"name": "ada", "type": "user"}')
    assert log_in("  hf_good ", endpoint=url) == "ada"
    assert answer.asked[0][2]["authorization"] == "Bearer hf_good"


def test_logging_in_with_a_wrong_token_or_none_is_refused(server, no_token):
    answer, url = server
    answer.reply = lambda _: (401, {}, b'{"error": "Invalid credentials"}')
    assert "does not know this token" in refusal(lambda: log_in("hf_bad", endpoint=url))
    assert "empty" in refusal(lambda: log_in("  ", endpoint=url))


# --- behind an endpoint

TILES = np.arange(3 * 224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 224, 224, 3)


def mean_colours(body: bytes) -> bytes:
    """Answer as the endpoint does, with each tile's mean colour for an embedding."""
    asked = json.loads(body)["input_data"]
    assert asked["columns"] == ["image"] and asked["index"] == list(range(len(asked["data"])))
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(d)))) for d in asked["data"]]
    return json.dumps([{"output": i.mean((0, 1)).tolist()} for i in images]).encode()


def test_an_endpoint_gets_the_tiles_and_the_key(server):
    answer, url = server
    answer.reply = lambda _: (200, {}, mean_colours(answer.bodies[-1]))
    embeddings = Endpoint(f"{url}/score", "secret").embed(TILES)
    np.testing.assert_allclose(embeddings, TILES.mean((1, 2)), rtol=1e-6)
    assert embeddings.dtype == np.float32
    method, path, headers = answer.asked[0]
    assert (method, path, headers["Authorization"]) == ("POST", "/score", "Bearer secret")


def test_an_endpoint_becomes_an_encoder(server):
    answer, url = server
    answer.reply = lambda _: (200, {}, mean_colours(answer.bodies[-1]))
    encoder = load_encoder("virchow2g", weights=f"{url}/score", token="secret")
    assert {headers["Authorization"] for _, _, headers in answer.asked} == {"Bearer secret"}
    # As long as its answers are, whatever the row expects; the key is nowhere to be seen.
    assert (encoder.dim, encoder.device) == (3, "endpoint")
    assert "127.0.0.1" in encoder.device_note
    assert "secret" not in repr(encoder) + encoder.identity
    np.testing.assert_allclose(encoder.encode(TILES), TILES.mean((1, 2)), rtol=1e-6)


def test_a_busy_endpoint_is_asked_again(server):
    answer, url = server
    answer.reply = lambda _: (
        (503, {"Retry-After": "0"}, b"")
        if len(answer.asked) < 3
        else (200, {}, mean_colours(answer.bodies[-1]))
    )
    assert Endpoint(url).embed(TILES[:1]).shape == (1, 3)


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        pytest.param(401, {}, b"", "key", id="wrong key"),
        pytest.param(500, {}, b"", "error 500", id="broken"),
        pytest.param(503, {"Retry-After": "0"}, b"", "error 503", id="busy for ever"),
        pytest.param(302, {"Location": "http://elsewhere/"}, b"", "error 302", id="redirect"),
        pytest.param(200, {}, b"<html>", "not a list", id="not JSON"),
        pytest.param(200, {}, b'[{"output": [1, 2]}]', "shape", id="too few rows"),
    ],
)
def test_a_failing_endpoint_says_what_to_do(server, status, headers, body, said):
    answer, url = server
    answer.reply = lambda _: (status, headers, body)
    assert said in refusal(lambda: Endpoint(url, "k").embed(TILES[:2]))


def test_an_endpoint_nobody_listens_at_is_refused():
    with serving(Answer()) as url:
        pass
    assert "cannot be reached" in refusal(lambda: Endpoint(url).embed(TILES[:1]))


@pytest.mark.parametrize("url", ["http://example.org/score", "ftp://localhost/", "https://"])
def test_an_endpoint_without_encryption_is_refused(url):
    refusal(lambda: Endpoint(url))


def test_the_endpoint_hash_depends_on_the_address_not_the_key():
    one = Endpoint("https://a.example/score", "k")
    assert one.hash == replace(one, key="other").hash != replace(one, url="https://b.example").hash
