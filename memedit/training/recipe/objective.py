"""RECIPE's training objective (arXiv 2405.03279, section 3.4): two contrastive terms and the editing terms."""

import torch
from torch import Tensor
from torch.nn import functional


def neighbour_contrastive(queries: Tensor, knowledge: Tensor, sentinel: Tensor, *, scale: float) -> Tensor:
    """Neighbour-oriented term: each query must find its own knowledge among the batch's and the sentinel.

    Args:
        queries: r_q of in-scope queries ``[n, r]``; row i belongs to knowledge i.
        knowledge: r_k ``[n, r]``.
        sentinel: ``[1, r]``.
        scale: what inner products are multiplied by.

    Returns:
        Mean cross-entropy, a scalar.
    """
    scores = queries @ torch.cat([knowledge, sentinel]).T * scale
    return functional.cross_entropy(scores, torch.arange(len(queries), device=scores.device))


def sentinel_contrastive(queries: Tensor, knowledge: Tensor, sentinel: Tensor, *, scale: float) -> Tensor:
    """Sentinel-oriented term for in-scope queries: once its own knowledge is taken away, the sentinel must win.

    Together with :func:`neighbour_contrastive` this places the sentinel between a query's own knowledge and all
    other knowledge. Shapes as there.
    """
    scores = queries @ knowledge.T
    own = torch.eye(len(queries), dtype=torch.bool, device=scores.device)
    scores = torch.where(own, queries @ sentinel.T, scores) * scale
    return functional.cross_entropy(scores, torch.arange(len(queries), device=scores.device))


def out_of_scope_contrastive(queries: Tensor, knowledge: Tensor, sentinel: Tensor, *, scale: float) -> Tensor:
    """Sentinel-oriented term for queries no knowledge bears on ``[m, r]``: the sentinel must win over all."""
    scores = queries @ torch.cat([knowledge, sentinel]).T * scale
    last = torch.full((len(queries),), len(knowledge), device=scores.device)
    return functional.cross_entropy(scores, last)


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of ``logits [b, t, v]`` against ``labels [b, t]``; -100 is ignored."""
    return functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)


def locality_loss(logits: Tensor, base_logits: Tensor, mask: Tensor) -> Tensor:
    """Mean KL(base || with prompt) over the positions of ``mask [b, t]``; logits ``[b, t, v]``."""
    chosen = mask.bool()
    edited = functional.log_softmax(logits[chosen].float(), dim=-1)
    base = functional.log_softmax(base_logits[chosen].float(), dim=-1)
    return functional.kl_div(edited, base, log_target=True, reduction="batchmean")
