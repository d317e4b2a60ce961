"""The parts of stock DINOv2 give what those of lightly give, which others wrote and use."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tests.beside_torchvision import load
from torch.nn import functional

from napari_virchow.pretrain import Config
from napari_virchow.pretrain.config import Crops, Loss, Model, Optimiser
from napari_virchow.pretrain.fields import Batch
from napari_virchow.pretrain.losses import assign, crowding, nearest_distance
from napari_virchow.pretrain.masks import draw_blocks, draw_masks
from napari_virchow.pretrain.network import Head, Network, initialise
from napari_virchow.pretrain.schedules import values_at
from napari_virchow.pretrain.step import losses_of, normalised

STOCK = Config(
    crops=Crops(method="resize", global_px=42, local_px=28, n_local=3),
    model=Model(width=24, depth=2, heads=2, hidden=48, image_px=42),
    loss=Loss(prototypes=17, bottleneck=8, head_hidden=16, regulariser="koleo"),
    optimiser=Optimiser(batch=256, steps=37, warmup=5),
)


def rows(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_koleo_and_its_gradient_are_lightlys():
    tokens = rows(11, 5).requires_grad_()
    ours, theirs = crowding(tokens, nearest_distance), load("lightly.loss").KoLeoLoss()(tokens)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad(loss, tokens)[0] for loss in (ours, theirs))
    torch.testing.assert_close(*gradients)


def test_assignment_is_lightlys():
    scores = functional.normalize(rows(7, 13), dim=-1)
    theirs = load("lightly.loss.swav_loss").sinkhorn(scores, epsilon=0.04)
    torch.testing.assert_close(assign(scores, 0.04), theirs, rtol=1e-5, atol=1e-7)


# It names a torch function that is deprecated, and has a length for each prototype: here 1.
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_head_is_lightlys_with_prototypes_of_length_1():
    head = Head(24, STOCK.loss)
    theirs = load("lightly.models.modules.heads").DINOv2ProjectionHead(24, 16, 8, 17)
    weights = [weight for name, weight in theirs.named_parameters() if "weight_g" not in name]
    with torch.no_grad():
        for ours, weight in zip([*head.narrow.parameters(), head.prototypes], weights, strict=True):
            ours.copy_(weight)
    torch.testing.assert_close(head(rows(3, 24)), theirs(rows(3, 24)))


def test_a_step_of_stock_dinov2_has_lightlys_losses():
    student, teacher = (initialise(Network(STOCK), seed).requires_grad_(False) for seed in (0, 1))
    pixels = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.randint(256, (2, 5, 3, 42, 42), dtype=torch.uint8, generator=pixels),
        torch.randint(256, (3, 5, 3, 28, 28), dtype=torch.uint8, generator=pixels),
    )
    hidden = torch.from_numpy(draw_masks(5, 3, STOCK.loss, 0, seed=0))
    assert 0 < hidden.any(-1).sum() < 10  # some images hide nothing
    ours = losses_of(student, teacher, batch, hidden, STOCK, 0.07)

    theirs = load("lightly.loss")
    sinkhorn = load("lightly.loss.swav_loss").sinkhorn
    masks, large = hidden.flatten(0, 1), normalised(batch.large)
    seen, made = teacher(large), student(large, masks)
    # They turn scores into probabilities by a softmax about a centre: of a logarithm, about 0.
    said = sinkhorn(teacher.class_head(seen.of_class), epsilon=0.07).log().chunk(2)
    shown = sinkhorn(teacher.patch_head(seen.of_patches[masks]), epsilon=0.07).log()
    scores = [*student.class_head(made.of_class).chunk(2)]
    scores += student.class_head(student(normalised(batch.small)).of_class).chunk(3)
    dino = theirs.DINOLoss(17)(said, scores, teacher_temp=1.0)
    guessed = student.patch_head(made.of_patches[masks])
    ibot = theirs.IBOTPatchLoss(17)(shown, guessed, masks.view(-1, 3, 3), teacher_temp=1.0)
    spread = sum(theirs.KoLeoLoss()(tokens) for tokens in made.of_class.chunk(2))
    torch.testing.assert_close(ours[1:], (dino, ibot, spread))
    weight = STOCK.loss.regulariser_weight
    torch.testing.assert_close(ours.total, dino + ibot + weight * spread)


def test_hidden_blocks_are_lightlys_on_average():
    random.seed(0)
    rng = np.random.default_rng(0)
    draw = load("lightly.models.utils").random_block_mask_image
    ours = np.stack([draw_blocks(16, 77, rng) for _ in range(400)])
    theirs = np.stack([draw((16, 16), 77).numpy() for _ in range(400)])
    of_ours, of_theirs = (
        [(one[..., 1:] & one[..., :-1]).sum((1, 2)), (one[:, 1:] & one[:, :-1]).sum((1, 2))]
        for one in (ours, theirs)
    )  # pairs that touch: side by side, one above the other
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.02)
    assert np.mean(of_ours, axis=1) == pytest.approx(np.mean(of_theirs, axis=1), rel=0.02)
    # Wide and tall blocks differ in which pairs they have more of, squares do not.
    assert np.diff(of_ours, axis=0).std() == pytest.approx(
        np.diff(of_theirs, axis=0).std(), rel=0.15
    )
    # Both hide the middle more often than the edges.
    assert np.corrcoef(ours.mean(0).ravel(), theirs.mean(0).ravel())[0, 1] > 0.8


def test_rate_decay_and_momentum_go_as_lightlys():
    schedule = load("lightly.utils.scheduler")
    one = STOCK.optimiser
    for step in range(one.steps):
        now, end = (
            values_at(step, STOCK),
            one.steps + 1,
        )  # theirs ends with the last step, not after
        lr = schedule.cosine_warmup_schedule(step, end, one.lr / 2, one.lr_end, one.warmup, 0.0)
        decay = schedule.cosine_schedule(step, end, one.decay_start, one.decay_end)
        momentum = schedule.cosine_schedule(step, end, one.momentum_start, 1.0)
        assert now[:3] == pytest.approx((lr, decay, momentum), rel=1e-12)
