"""Pretraining end to end at a tiny size: steps, resuming, several processes, what comes out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.slides import picture, write_svs

from napari_virchow.cli import main
from napari_virchow.encoders import find_spec, load_encoder
from napari_virchow.pretrain import Config, PretrainError, read_config
from napari_virchow.pretrain.config import (
    Crops,
    Data,
    Loss,
    Model,
    Optimiser,
    Run,
    preset_names,
    preset_text,
)
from napari_virchow.pretrain.fields import Batch, Fields, collate
from napari_virchow.pretrain.masks import draw_masks
from napari_virchow.pretrain.network import Network, initialise
from napari_virchow.pretrain.optimisers import make_optimiser, set_values
from napari_virchow.pretrain.schedules import Now, values_at
from napari_virchow.pretrain.step import losses_of
from napari_virchow.pretrain.train import train
from napari_virchow.pretrain.views import make_views, translated_box

TINY = Config(
    name="tiny",
    licence="ours",
    data=Data(field_px=56, mpp=(0.5,), mpp_share=(1.0,)),
    crops=Crops(global_px=28, local_px=14, n_local=2),
    model=Model(width=24, depth=2, heads=2, hidden=48, image_px=28),
    loss=Loss(prototypes=16, bottleneck=8, head_hidden=16),
    optimiser=Optimiser(batch=4, steps=4, warmup=1, lr=0.02),
    run=Run(precision="float32", log_every=1, checkpoint_every=2),
)
TOML = """
name = "tiny"
[data]
tiles = ["tiles"]
field_px = 56
mpp = [0.5]
mpp_share = [1.0]
[crops]
global_px = 28
local_px = 14
n_local = 2
[model]
width = 24
depth = 2
heads = 2
hidden = 48
image_px = 28
[loss]
prototypes = 16
bottleneck = 8
head_hidden = 16
[optimiser]
batch = 4
steps = 4
warmup = 1
lr = 0.02
[run]
precision = "float32"
log_every = 1
"""


@pytest.fixture(autouse=True)
def one_thread():
    """Such small networks only wait for each other on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiles(tmp_path):
    """Nine noisy images of 56 px, half of them reddish, half bluish."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for n in range(9):
        pixels = rng.integers(60, 160, (56, 56, 3))
        pixels[..., 2 * (n % 2)] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def config(tiles):
    return replace(TINY, data=replace(TINY.data, tiles=(str(tiles),)))


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {f"{who}.{name}": t for who in ("student", "teacher") for name, t in state[who].items()}


# ---- views and fields


def test_translated_crops_keep_the_size_of_cells_and_lie_inside():
    rng = np.random.default_rng(0)
    boxes = np.array([translated_box(392, 224 / 392, rng) for _ in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area = width * height / 392**2
    assert boxes.min() >= 0
    assert boxes.max() <= 392
    assert 0.2645 - 1e-4 <= area.min() < 0.27  # the areas published for torchvision
    assert 0.385 < area.max() <= 0.3951 + 1e-4
    assert (width / height).min() >= 0.95 - 1e-9
    assert (width / height).max() <= 1.05 + 1e-9


@pytest.mark.parametrize("method", ["translate", "resize"])
def test_views_have_the_sides_asked_for_and_follow_the_generator(method):
    field = np.random.default_rng(1).integers(0, 256, (56, 56, 3), np.uint8)
    crops = replace(TINY.crops, method=method)
    one, same, other = (make_views(field, crops, 56, np.random.default_rng(s)) for s in (5, 5, 6))
    assert one.large.shape == (2, 28, 28, 3)
    assert one.small.shape == (2, 14, 14, 3)
    np.testing.assert_array_equal(one.large, same.large)
    assert (one.large != other.large).any()


def test_a_sample_is_the_same_whoever_reads_it(config):
    first, again = Fields(config), Fields(config)
    again[3]
    np.testing.assert_array_equal(first[7].large, again[7].large)


def test_fields_of_a_slide_lie_on_tissue(tmp_path, config):
    from napari_virchow.sample import write_sample

    path = tmp_path / "slide.tif"
    write_sample(path, width=1024, height=768)
    data = Data(slides=(str(path),), field_px=56, mpp=(0.25, 0.5, 1.0), mpp_share=(0.2, 0.4, 0.4))
    fields = Fields(replace(config, data=data))
    assert "at 0.5" in fields.describe()
    assert "at 0.25" not in fields.describe()  # the slide has no such pixels
    rng = np.random.default_rng(0)
    grey = [float(fields.field(rng).std()) for _ in range(5)]
    fields.close()
    assert min(grey) > 5  # not glass


def test_a_slide_without_pixel_size_needs_one_in_the_configuration(tmp_path, config):
    path = write_svs(tmp_path / "slide.svs", picture(), mpp=None)
    data = Data(slides=(str(path),), field_px=56, mpp=(0.5,), mpp_share=(1.0,), tissue=0.0)
    with pytest.raises(
        PretrainError, match=r"slide\.svs does not say its pixel size: set slide_mpp"
    ):
        Fields(replace(config, data=data))
    fields = Fields(replace(config, data=replace(data, slide_mpp=0.25)))
    said, field = fields.describe(), fields.field(np.random.default_rng(0))
    fields.close()
    assert "at 0.5 µm/px" in said
    assert field.shape == (56, 56, 3)


def test_nothing_to_read_is_said(config):
    with pytest.raises(PretrainError, match="no field of 56 px"):
        Fields(replace(config, data=replace(config.data, tiles=())))


# ---- schedules and optimiser


def test_values_rise_and_fall_as_written_down():
    config = replace(TINY, optimiser=Optimiser(batch=256, steps=100, warmup=10, lr=1e-3))
    top = 1e-3 * 0.5  # the square root of 256 / 1024
    assert values_at(0, config).lr == pytest.approx(top / 10)
    assert values_at(10, config).lr == pytest.approx(top)
    assert values_at(55, config).lr == pytest.approx((top + 1e-6) / 2)
    assert values_at(100, config) == pytest.approx((1e-6, 0.2, 1.0, 0.04))
    assert values_at(0, config).temperature == 0.07
    assert values_at(5, config).temperature == pytest.approx(0.055)


def steps_of(network, *, stable, sizes):
    """How far each step moves the fastest weight, where all gradients are of these sizes."""
    settings = Optimiser(stable=stable, beta2=0.95)
    optimiser, moved = make_optimiser(network, settings), []
    set_values(optimiser, Now(lr=0.1, decay=0.0, momentum=1.0, temperature=1.0))
    for size in sizes:
        before = [weight.detach().clone() for weight in network.parameters()]
        for weight in network.parameters():
            weight.grad = torch.full_like(weight, size)
        optimiser.step()
        after = zip(network.parameters(), before, strict=True)
        moved.append(max(float((now - then).detach().abs().max()) for now, then in after))
    return moved


def test_a_stable_step_shrinks_when_a_gradient_outgrows_its_past():
    sizes = (1.0, 1.0, 1.0, 1000.0)
    stable, plain = (
        steps_of(initialise(Network(TINY), 0), stable=stable, sizes=sizes)
        for stable in (True, False)
    )
    assert stable[:3] == pytest.approx([0.1] * 3, rel=1e-4)
    # The gradient over its own past, sqrt(v): the last gradient's share of v is what counts.
    assert stable[3] == pytest.approx(plain[3] * (0.05 / (1 - 0.95**4)) ** 0.5, rel=1e-3)


def test_without_its_package_stable_is_refused_in_a_sentence(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optimi", None)
    stable = replace(config, optimiser=replace(config.optimiser, stable=True))
    with pytest.raises(PretrainError, match=r"pip install 'napari-virchow\[pretrain\]'"):
        train(stable, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


# ---- one step


def test_a_student_learns_what_a_fixed_teacher_says(config):
    fields = Fields(config)
    batch = collate([fields[n] for n in range(4)])
    student, teacher = (initialise(Network(config), seed) for seed in (0, 1))
    teacher.eval().requires_grad_(False)
    hidden = torch.from_numpy(draw_masks(4, 2, config.loss, 0, 0))
    optimiser = torch.optim.AdamW(student.parameters(), lr=5e-3)
    seen = []
    for _ in range(60):
        losses = losses_of(student, teacher, batch, hidden, config, 0.07)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        seen.append(float(losses.dino))
    # Not to 0: it cannot fall below the entropy of what the teacher says.
    assert seen[-1] < 0.6 * seen[0]


def test_only_the_student_gets_gradients_and_all_of_it_does(config):
    fields = Fields(config)
    batch = collate([fields[n] for n in range(4)])
    student, teacher = (initialise(Network(config), seed) for seed in (0, 1))
    teacher.requires_grad_(False)
    hidden = torch.ones(2, 4, 4, dtype=torch.bool)
    losses_of(student, teacher, batch, hidden, config, 0.07).total.backward()
    without = [name for name, p in student.named_parameters() if p.grad is None or not p.grad.any()]
    # The patch embedding still sees the small crops; nothing may be left out.
    assert without == []
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    ("preset", "parameters"), [("virchow2", 631_239_424), ("virchow2g", 1_843_000_000)]
)
def test_the_published_sizes_run_a_step_without_memory(preset, parameters):
    config = read_config(preset)
    with torch.device("meta"):
        student, teacher = Network(config), Network(config)
        large = torch.empty(2, 2, 3, 224, 224, dtype=torch.uint8)
        small = torch.empty(8, 2, 3, 98, 98, dtype=torch.uint8)
    made = student(large.flatten(0, 1).float())
    assert made.of_patches.shape == (4, 256, config.model.width)
    assert student.class_head(made.of_class).shape == (4, 131072)
    assert student(small.flatten(0, 1).float()).of_patches.shape[1] == 49
    assert teacher(large.flatten(0, 1).float()).of_class.shape == (4, config.model.width)
    found = sum(p.numel() for p in student.encoder.parameters())
    assert found == pytest.approx(parameters, rel=0 if preset == "virchow2" else 0.002)
    student.class_head(made.of_class).sum().backward()


# ---- whole runs


def test_two_steps_leave_an_encoder_that_embeds(config, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path / "store"))
    done = train(config.with_steps(2), tmp_path / "run", device="cpu")
    assert done.steps == 2
    assert [row["step"] for row in log_of(tmp_path / "run")] == [0, 1]
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    encoder = load_encoder(str(done.encoder), device="cpu")
    rows = encoder.encode(np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8))
    assert rows.shape == (3, 48)
    assert np.isfinite(rows).all()
    assert encoder.spec.licence == "ours"
    assert encoder.identity.startswith("tiny-")
    assert find_spec("tiny").allowed_mpp == (0.5,)  # its name is enough from now on
    assert load_encoder("tiny", device="cpu").identity == encoder.identity


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"loss": replace(TINY.loss, regulariser="koleo")}, id="KoLeo"),
        pytest.param({"crops": replace(TINY.crops, method="resize", n_local=0)}, id="resize"),
        pytest.param(
            {"run": replace(TINY.run, precision="bfloat16", recompute=True)}, id="bfloat16"
        ),
        pytest.param({"model": replace(TINY.model, drop_path=0.5, layer_scale=True)}, id="drop"),
        pytest.param({"run": replace(TINY.run, readers=1)}, id="a reading process"),
    ],
)
def test_two_steps_of_every_switch(config, change, tmp_path):
    if "run" in change and change["run"].readers:
        change = {"run": replace(change["run"], checkpoint_every=9)}
    done = train(replace(config, **change).with_steps(2), tmp_path / "run", device="cpu")
    assert np.isfinite(done.loss)


@pytest.mark.parametrize("stable", [False, True], ids=["AdamW", "StableAdamW"])
def test_a_run_that_was_stopped_goes_on_exactly(config, tmp_path, stable):
    config = replace(config, optimiser=replace(config.optimiser, stable=stable))
    train(config, tmp_path / "straight", device="cpu")

    class Stop(Exception):
        pass

    def stop(words):
        if words.startswith("Step 3"):  # after the checkpoint of step 2
            raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path / "stopped", device="cpu", tell=stop)
    train(config, tmp_path / "stopped", device="cpu")

    straight, stopped = log_of(tmp_path / "straight"), log_of(tmp_path / "stopped")
    assert [row["step"] for row in stopped] == [0, 1, 2, 3]
    assert [row["loss"] for row in stopped] == [row["loss"] for row in straight]
    one, other = weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_process_loses_only_what_came_after_its_checkpoint(config, tmp_path):
    (tmp_path / "tiny.toml").write_text(TOML + "checkpoint_every = 1\n")

    def run(folder, kill):
        words = [sys.executable, "-c", RUN, str(tmp_path / "tiny.toml"), str(folder), kill]
        return subprocess.run(words, check=False, env=environment()).returncode

    assert run(tmp_path / "killed", "Step 3") == -9
    assert run(tmp_path / "killed", "never") == 0
    assert run(tmp_path / "whole", "never") == 0
    killed, whole = log_of(tmp_path / "killed"), log_of(tmp_path / "whole")
    assert [row["loss"] for row in killed] == [row["loss"] for row in whole]


RUN = """
import os, signal, sys
from pathlib import Path
from napari_virchow.pretrain import read_config
from napari_virchow.pretrain.train import train
def tell(words):
    if words.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
train(read_config(sys.argv[1]), Path(sys.argv[2]), device="cpu", tell=tell)
"""


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_finishes_the_step_and_the_run_goes_on_exactly(config, tmp_path):
    train(config, tmp_path / "straight", device="cpu")

    def press(words):
        if words.startswith("Step 3"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", device="cpu", tell=press)
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["step"] == 3
    train(config, tmp_path / "stopped", device="cpu")
    one, other = weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("shard", "stable"),
    [(False, False), (True, False), (True, True)],
    ids=["whole", "sharded", "sharded, StableAdamW"],
)
def test_two_processes_learn_what_one_does(config, tmp_path, shard, stable):
    config = replace(config, optimiser=replace(config.optimiser, stable=stable))
    words = TOML.replace("[run]", f"stable = {str(stable).lower()}\n[run]")
    (tmp_path / "tiny.toml").write_text(words + f"shard = {str(shard).lower()}\n")
    train(config, tmp_path / "one", device="cpu")
    run_two(tmp_path)
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=2e-4)
    alone, together = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, atol=2e-3, rtol=1e-2)


def run_two(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-c",
        "import sys; from napari_virchow.cli import main; sys.exit(main())",
    ]
    words += ["pretrain", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "two")]
    words += ["--device", "cpu", "--debug"]
    processes = [
        subprocess.Popen(
            words,
            env=environment(
                RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
            ),
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode()[-3000:]


def environment(**more):
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | more


def test_a_student_is_distilled_from_the_teacher_of_another_run(config, tmp_path):
    train(config.with_steps(2), tmp_path / "big", device="cpu")
    small = replace(
        config,
        name="small",
        distil_from=str(tmp_path / "big"),
        model=replace(config.model, width=12, heads=1, hidden=24),
    )
    done = train(small.with_steps(2), tmp_path / "small", device="cpu")
    assert load_encoder(str(done.encoder), device="cpu").dim == 24


# ---- what can go wrong is said


def test_going_on_with_another_configuration_is_refused(config, tmp_path):
    train(config.with_steps(1), tmp_path / "run", device="cpu")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    other = replace(config, loss=replace(config.loss, kappa=3.0))
    with pytest.raises(PretrainError, match="begun with another loss"):
        train(other, tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_a_run_from_before_blocks_goes_on_with_single_patches_only(config, tmp_path):
    single = replace(config, loss=replace(config.loss, masks="single"))
    train(single.with_steps(1), tmp_path / "run", device="cpu")
    known = tmp_path / "run" / "config.json"
    facts = json.loads(known.read_text())
    del facts["loss"]["masks"]
    known.write_text(json.dumps(facts))
    with pytest.raises(PretrainError, match="begun with another loss"):
        train(config, tmp_path / "run", device="cpu")
    assert train(single.with_steps(2), tmp_path / "run", device="cpu").steps == 2


def test_a_damaged_checkpoint_is_named(config, tmp_path):
    train(config.with_steps(1), tmp_path / "run", device="cpu")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(PretrainError, match=r"checkpoint.pt cannot be read"):
        train(config, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("[model]\nwidth = 25", "heads|divide"),
        ("[model]\nwidht = 24", "no setting model.widht"),
        ("[crops]\nmethod = 'zoom'", "crops.method cannot be 'zoom'"),
        ("[crops]\nglobal_px = 30", "not a multiple of the patch"),
        ("[data]\nmpp = [0.5]", "of one length"),
        ("[data", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, capsys, change, said):
    file = tmp_path / "wrong.toml"
    file.write_text(change)
    with pytest.raises(PretrainError, match=said):
        read_config(str(file))
    assert main(["pretrain", str(file)]) == 2
    assert "wrong.toml" in capsys.readouterr().err


def test_every_preset_is_a_configuration(capsys):
    for name in preset_names():
        assert read_config(name).name
        assert main(["pretrain", name, "--print"]) == 0
        assert capsys.readouterr().out.rstrip() == preset_text(name).rstrip()
    assert main(["pretrain", "--list"]) == 0
    assert "first-steps" in capsys.readouterr().out
    assert main(["pretrain", "no-such"]) == 2


def test_a_missing_or_damaged_encoder_of_ones_own_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path / "store"))
    (tmp_path / "encoder.json").write_text("{}")
    assert main(["embed", "x.tif", "--encoder", str(tmp_path)]) == 2
    assert "does not describe an encoder" in capsys.readouterr().err


def test_a_batch_holds_crop_by_crop():
    views = [
        make_views(np.full((56, 56, 3), 40 * n, np.uint8), TINY.crops, 56, np.random.default_rng(n))
        for n in range(3)
    ]
    batch = collate(views)
    assert isinstance(batch, Batch)
    assert batch.large.shape == (2, 3, 3, 28, 28)
    assert batch.small.shape == (2, 3, 3, 14, 14)
    np.testing.assert_array_equal(batch.large[1, 2].permute(1, 2, 0), views[2].large[1])
