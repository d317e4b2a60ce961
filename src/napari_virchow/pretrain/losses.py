"""The losses of DINOv2 and of Virchow2: small pure functions over rows of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from napari_virchow.pretrain.ranks import greatest_over_ranks, rows_of_all_ranks, sum_over_ranks


@torch.no_grad()
def assign(scores: Tensor, temperature: float, *, iterations: int = 3) -> Tensor:
    """Share samples among prototypes evenly, with the Sinkhorn-Knopp algorithm.

    What the teacher says, without collapse: every prototype gets the same weight over the batch
    of all processes (Caron et al. 2020, SwAV, as in DINOv2).

    Parameters
    ----------
    scores : Tensor of shape (n, n_prototypes)
        Of the teacher's head; n may differ between processes.
    temperature : float
        Of the teacher.
    iterations : int
        Alternations of normalising prototypes and samples.

    Returns
    -------
    Tensor of shape (n, n_prototypes), float32
        Each row sums to 1.
    """
    logits = scores.float() / temperature
    top = greatest_over_ranks(
        logits.amax() if len(logits) else torch.full((), -torch.inf, device=logits.device)
    )
    shares = torch.exp(logits - top)
    total = sum_over_ranks(shares.sum())
    shares = shares / total
    n = sum_over_ranks(torch.tensor(float(len(scores)), device=scores.device))
    for _ in range(iterations):
        shares = shares / (sum_over_ranks(shares.sum(0)) * scores.shape[1]).clamp_min(1e-30)
        shares = shares / (shares.sum(1, keepdim=True) * n)
    return shares * n


def class_token_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float
) -> Tensor:
    """Compare what the student says of each crop with what the teacher says of the others.

    Parameters
    ----------
    student : sequence of Tensor of shape (n, n_prototypes)
        Scores of every crop; the large crops first, in the teacher's order.
    teacher : sequence of Tensor of shape (n, n_prototypes)
        Probabilities of the large crops, of `assign`.
    temperature : float
        Of the student.

    Returns
    -------
    Tensor of shape ()
        Cross-entropy, averaged over all pairs of a crop and another large crop (DINO).
    """
    losses = []
    for number, scores in enumerate(student):
        logs = functional.log_softmax(scores.float() / temperature, dim=-1)
        losses += [
            -(said * logs).sum(-1).mean() for other, said in enumerate(teacher) if other != number
        ]
    return torch.stack(losses).mean()


def patch_loss(
    student: Tensor, teacher: Tensor, weights: Tensor, n_images: int, temperature: float
) -> Tensor:
    """Compare what the student guesses of hidden patches with what the teacher sees there (iBOT).

    Parameters
    ----------
    student, teacher : Tensor of shape (n_hidden, n_prototypes)
        Scores of the student, and probabilities of `assign`.
    weights : Tensor of shape (n_hidden,)
        One over the number of hidden patches in the same image.
    n_images : int
        How many images there are, with hidden patches or not.
    temperature : float
        Of the student.
    """
    logs = functional.log_softmax(student.float() / temperature, dim=-1)
    return -((teacher * logs).sum(-1) * weights).sum() / n_images


def crowding(tokens: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Measure how crowded the class tokens of all processes are; spreading them lowers it.

    In float32, whatever autocast says: a rounded cosine hides which of two tiles is nearer.

    Parameters
    ----------
    tokens : Tensor of shape (n, width)
        Of one large crop of each image, in this process.
    measure : callable
        `kernel_density` or `nearest_distance`; given the rows of all processes, each of length 1.

    Raises
    ------
    ValueError
        If there are fewer than two tokens.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        rows = rows_of_all_ranks(functional.normalize(tokens.float(), dim=-1))
        if len(rows) < 2:
            raise ValueError(
                f"how crowded {len(rows)} token is cannot be told: the batch must be 2 or more"
            )
        return measure(rows)


def kernel_density(rows: Tensor, kappa: float = 5.0) -> Tensor:
    """Return the mean log density at each row, from all others, of a von Mises-Fisher kernel.

    The kernel is exp(kappa x.y): Virchow2's replacement of KoLeo (arXiv 2408.00738), which does
    not break down where tiles are nearly the same.

    Parameters
    ----------
    rows : Tensor of shape (n, width), float32
        Of length 1; n is 2 or more.
    kappa : float
        Sharpness of the kernel.
    """
    near = kappa * (rows @ rows.T)
    itself = torch.eye(len(rows), dtype=torch.bool, device=near.device)
    others = near.masked_fill(itself, -torch.inf)
    return torch.logsumexp(others, dim=1).mean() - torch.log(torch.tensor(float(len(rows) - 1)))


def nearest_distance(rows: Tensor) -> Tensor:
    """Return minus the mean log distance of each row to the nearest other one (DINOv2's KoLeo).

    Parameters
    ----------
    rows : Tensor of shape (n, width), float32
        Of length 1; n is 2 or more.
    """
    near = (rows @ rows.T).detach()
    near.fill_diagonal_(-torch.inf)
    nearest = rows[near.argmax(dim=1)]
    distance = torch.linalg.vector_norm(rows - nearest + 1e-8, dim=-1)
    return -torch.log(distance + 1e-8).mean()
