"""Each loss of pretraining against a slow second implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_virchow.pretrain.losses import (
    assign,
    class_token_loss,
    crowding,
    kernel_density,
    nearest_distance,
    patch_loss,
)


def rows(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def log_softmax(x):
    return [float(v) - math.log(sum(math.exp(float(w)) for w in x)) for v in x]


def test_assignment_agrees_with_alternating_by_hand():
    scores = rows(5, 3)
    q = np.exp(scores.numpy().astype(np.float64) / 0.5)
    for _ in range(3):
        for prototype in range(3):
            q[:, prototype] /= q[:, prototype].sum() * 3
        for sample in range(5):
            q[sample] /= q[sample].sum() * 5
    np.testing.assert_allclose(assign(scores, 0.5), q * 5, rtol=1e-5)


def test_assignment_gives_every_prototype_its_share_where_scores_would_give_one_all():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.1], [0.85, 0.1], [0.95, 0.1]])
    shares = assign(scores, 0.04, iterations=50)
    np.testing.assert_allclose(shares.sum(0), [2, 2], rtol=1e-3)
    np.testing.assert_allclose(shares.sum(1), [1, 1, 1, 1], rtol=1e-5)


def test_assignment_of_nothing_is_nothing():
    assert assign(torch.empty(0, 3), 0.1).shape == (0, 3)


def test_class_token_loss_agrees_with_a_loop_over_pairs():
    student = [rows(3, 4, seed) for seed in range(4)]  # two large crops, two small ones
    teacher = [torch.softmax(rows(3, 4, seed), -1) for seed in (7, 8)]
    pairs = []
    for crop, scores in enumerate(student):
        for other, said in enumerate(teacher):
            if crop == other:
                continue
            each = [
                -sum(
                    float(p) * q for p, q in zip(said[n], log_softmax(scores[n] / 0.1), strict=True)
                )
                for n in range(3)
            ]
            pairs.append(sum(each) / 3)
    assert len(pairs) == 6
    assert float(class_token_loss(student, teacher, 0.1)) == pytest.approx(sum(pairs) / 6, rel=1e-5)


def test_patch_loss_weighs_images_alike_whatever_is_hidden_of_them():
    student, teacher = rows(3, 4), torch.softmax(rows(3, 4, 9), -1)
    weights = torch.tensor([1.0, 0.5, 0.5])  # one hidden patch in the first image, two in the next
    by_hand = 0.0
    for n in range(3):
        logs = log_softmax(student[n] / 0.1)
        loss = sum(float(p) * q for p, q in zip(teacher[n], logs, strict=True))
        by_hand -= loss * float(weights[n])
    assert float(patch_loss(student, teacher, weights, 3, 0.1)) == pytest.approx(
        by_hand / 3, rel=1e-5
    )


def test_kernel_density_agrees_with_a_double_loop():
    tokens = rows(5, 3)
    x, total = unit(tokens), 0.0
    for i in range(5):
        near = sum(math.exp(5.0 * float(x[i] @ x[j])) for j in range(5) if j != i)
        total += math.log(near / 4)
    assert float(crowding(tokens, kernel_density)) == pytest.approx(total / 5, rel=1e-5)


def test_nearest_distance_agrees_with_a_double_loop():
    tokens = rows(5, 3)
    x, total = unit(tokens), 0.0
    for i in range(5):
        total -= math.log(min(float(np.linalg.norm(x[i] - x[j])) for j in range(5) if j != i))
    assert float(crowding(tokens, nearest_distance)) == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize("measure", [kernel_density, nearest_distance])
def test_spreading_points_lowers_the_regulariser(measure):
    crowded = torch.tensor([1.0, 0.0]) + 0.1 * rows(7, 2)
    spread = torch.tensor(
        [[math.cos(k * 2 * math.pi / 7), math.sin(k * 2 * math.pi / 7)] for k in range(7)]
    )
    assert crowding(spread, measure) < crowding(crowded, measure)

    crowded.requires_grad_()
    before = crowding(crowded, measure)
    before.backward()
    after = crowding(crowded.detach() - 0.01 * crowded.grad, measure)
    assert after < before


def test_kernel_density_does_not_break_down_where_two_tiles_are_the_same():
    tokens = torch.tensor([[1.0, 2.0], [1.0, 2.0], [-2.0, 1.0]], requires_grad=True)
    crowding(tokens, kernel_density).backward()
    assert torch.isfinite(tokens.grad).all()
    assert tokens.grad.abs().max() < 5


@pytest.mark.parametrize("measure", [kernel_density, nearest_distance])
def test_mixed_precision_does_not_round_the_regulariser(measure):
    tokens = 1 + 0.01 * rows(9, 5)  # so near each other that bfloat16 cannot tell them apart
    with torch.autocast("cpu", torch.bfloat16):
        mixed = crowding(tokens, measure)
    assert mixed == crowding(tokens, measure)


def test_one_token_alone_is_refused():
    with pytest.raises(ValueError, match="2 or more"):
        crowding(torch.ones(1, 3), kernel_density)
