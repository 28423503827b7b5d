"""Edits that ask by their gradient: one pass forward and back each, no optimisation, no subject.

After UltraEdit (arXiv 2505.14679). At every position that predicts a token of the target the edited map has an input
``x_t`` and the loss a gradient ``g_t`` at its output. Both are normalised coordinate by coordinate, and the output is
to move by ``v_t``, against the normalised gradient.

Two things are ours. The paper's step is absolute (1e-6) and does nothing to a model whose hidden states are large; here
it is relative to the map's own output. And the paper's normaliser runs along the stream of edits, so that their order
matters; a joint solve takes that of the whole set, which its order cannot change.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.batch import batches
from memedit.consolidation.contexts import Context, build_contexts
from memedit.consolidation.rows import EditRow, edit_rows
from memedit.consolidation.site import EditSite
from memedit.models import LoadedModel
from memedit.models.gradients import LinearGradients, ScoredRows, capture_gradients
from memedit.models.running import RunningMoments
from memedit.models.segments import Segments


def computed(
    loaded: LoadedModel, site: EditSite, requests: Sequence[EditRequest], settings: ConsolidationSettings
) -> Iterator[dict[str, EditArtefact]]:
    """Yield keys and gradients of edits, a batch at a time: a row for each target token under each context."""
    segments, contexts = Segments(loaded.model), build_contexts(loaded, settings)
    rows = {request.id: edit_rows(loaded.tokenizer, request, contexts) for request in requests}
    names = {layer: site.module_name(layer) for layer in site.layers}

    def length(row: EditRow) -> int:
        return sum(map(len, _pair(row, contexts)))

    for ids in batches(rows, 2 * settings.batch_tokens, length):
        owners = torch.tensor([place for place, edit in enumerate(ids) for _ in rows[edit]])
        chosen = [row for edit in ids for row in rows[edit]]
        pairs = [_pair(row, contexts) for row in chosen]
        batch = ScoredRows.of(pairs, loaded.model.device, pad=loaded.tokenizer.pad_token_id or 0)
        found = capture_gradients(segments, list(names.values()), batch, reduction="sum")
        losses = found.losses.cpu() / torch.tensor([len(row.targets) for row in chosen])
        parts = {layer: _of_edits(found.modules[name], owners) for layer, name in names.items()}
        yield {edit: _artefact(place, parts, float(losses[owners == place].mean())) for place, edit in enumerate(ids)}


def _pair(row: EditRow, contexts: Sequence[Context]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return prompt and target of a row, as they are fed."""
    return (*contexts[row.context].ids, *row.prefix, *row.tail[: row.scored + 1]), row.targets


def _of_edits(found: LinearGradients, owners: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return keys ``[k, d_in]`` and gradients ``[k, d_out]`` of each edit; ``owners`` ``[R]`` are the rows' edits."""
    counts = torch.bincount(owners[found.rows.cpu()], minlength=int(owners.max()) + 1).tolist()
    parts = (torch.split(values.cpu(), counts) for values in (found.inputs, found.gradients))
    return list(zip(*parts, strict=True))


def _artefact(place: int, parts: Mapping[int, list[tuple[Tensor, Tensor]]], loss: float) -> EditArtefact:
    return EditArtefact(
        keys={layer: own[place][0].numpy().copy() for layer, own in parts.items()},
        residuals={layer: own[place][1].numpy().copy() for layer, own in parts.items()},
        hidden=None,
        target=None,
        initial_loss=loss,
        final_loss=loss,
        steps=0,
    )


def joined(stored: Mapping[int, tuple[Tensor, Tensor]]) -> Tensor:
    """Return keys and gradients of all layers side by side, one below the other ``[layers * n, d_in + d_out]``."""
    return torch.cat([torch.cat(pair, 1) for _, pair in sorted(stored.items())])


def gathered(artefacts: Iterable[EditArtefact]) -> Tensor:
    """Return keys and gradients of all rows and layers of these edits ``[n, d_in + d_out]``."""
    rows = [
        joined({n: (torch.from_numpy(a.keys[n]), torch.from_numpy(a.residuals[n])) for n in a.layers})
        for a in artefacts
    ]
    return torch.cat(rows)


def asked(
    stored: Mapping[int, tuple[Tensor, Tensor]],
    weights: Mapping[int, Tensor],
    step: float,
    normaliser: RunningMoments | None = None,
) -> dict[int, Tensor]:
    """Return by how much the map's output is to change ``[n, d_out]``, by layer.

    With ``x^`` and ``g^`` the normalised keys and gradients, ``v = -step (|x^|^2 / d_in) rms(y) g^``, ``rms(y)`` being
    that of the layer's own outputs for these keys. A row without any gradient asks for nothing.

    Args:
        stored: keys ``[n, d_in]`` and gradients ``[n, d_out]`` by layer.
        weights: the maps' weights ``[d_out, d_in]`` by layer.
        step: length of the change, in units of the output's root mean square.
        normaliser: mean and deviation of ``[x ; g]``, which all layers share; None takes those of ``stored``.
    """
    moments = RunningMoments.of(joined(stored)) if normaliser is None else normaliser
    found = {}
    for layer, (keys, gradients) in stored.items():
        width = keys.shape[1]
        both = moments.normalised(torch.cat([keys, gradients], 1))
        x, g = both[:, :width], both[:, width:]
        outputs = (keys @ weights[layer].T).pow(2).mean().sqrt()
        wanted = -step * outputs * (x.pow(2).sum(1, keepdim=True) / width) * g
        found[layer] = wanted * (gradients != 0).any(1, keepdim=True)
    return found
