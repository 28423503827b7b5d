"""Keys and targets of edits: what a consolidation computes on the model, batched, kept, and never computed twice."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.batch import batches, cache_contexts, prepare_batch
from memedit.consolidation.contexts import build_contexts
from memedit.consolidation.keys import LayerKeys, layer_keys
from memedit.consolidation.optimise import Targets, optimise
from memedit.consolidation.rows import edit_rows
from memedit.consolidation.sensitivity import natural_direction, sensitivity
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.loading import DTYPES
from memedit.models.segments import Segments, frozen

Progress = Callable[[int, int], None]
Save = Callable[[Mapping[str, EditArtefact]], None]


def compute_artefacts(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    settings: ConsolidationSettings,
    *,
    progress: Progress | None = None,
    known: Mapping[str, bytes] | None = None,
    save: Save | None = None,
) -> dict[str, EditArtefact]:
    """Return keys and targets of every request, by its id.

    An edit's result does not depend on which others are asked for with it (to float tolerance: batches round
    differently).

    Args:
        loaded: the frozen base.
        requests: the edits, each id once.
        settings: see :class:`~memedit.consolidation.base.ConsolidationSettings`.
        progress: called with (edits done, edits asked for).
        known: results kept under :func:`~memedit.consolidation.base.artefact_fingerprint` of this base and these
            settings; they are read, not computed.
        save: called with the results of each batch as it is finished, so that a run that is stopped keeps them.

    Raises:
        InputError: an id comes twice, or a prompt or target has no tokens.
        UnsupportedModelError: edits cannot be written into this model's weights; says what to do instead.
    """
    found = {edit: EditArtefact.from_bytes(data) for edit, data in (known or {}).items()}
    asked = [request.id for request in requests]
    if len(set(asked)) < len(asked):
        twice = next(edit for edit in asked if asked.count(edit) > 1)
        raise InputError(f"edit {twice} is asked for twice; pass each edit once")
    site = EditSite.of(loaded, settings)
    missing = [request for request in requests if request.id not in found]
    if missing:
        done = len(requests) - len(missing)
        for batch in _computed(loaded, site, missing, settings):
            found |= batch
            done += len(batch)
            if save is not None:
                save(batch)
            if progress is not None:
                progress(done, len(requests))
    return {edit: found[edit] for edit in asked}


def _computed(
    loaded: LoadedModel, site: EditSite, requests: Sequence[EditRequest], settings: ConsolidationSettings
) -> Iterator[dict[str, EditArtefact]]:
    damping = settings.damping
    natural = None if damping is None else natural_direction(sensitivity(loaded, settings), damping)
    segments = Segments(loaded.model)
    above = _in_dtype(segments, settings.target_dtype)
    contexts = build_contexts(loaded, settings)
    rows = {request.id: edit_rows(loaded.tokenizer, request, contexts) for request in requests}
    with frozen(loaded.model):
        cache = cache_contexts(segments, contexts, loaded.tokenizer.pad_token_id or 0)
        for ids in batches(rows, settings.batch_tokens, lambda row: len(row.tail)):
            batch = prepare_batch(segments, site, cache, [rows[edit] for edit in ids])
            targets = optimise(above, batch.to(above.model.dtype), site.layers[-1], settings, natural)
            yield dict(zip(ids, _packed(layer_keys(segments, site, batch, targets.delta), targets), strict=True))


def _in_dtype(segments: Segments, dtype: str) -> Segments:
    """Return the model in a dtype: itself when it has it already, else a copy."""
    wanted = segments.model.dtype if dtype == "model" else DTYPES[dtype]
    if wanted == segments.model.dtype:
        return segments
    return Segments(copy.deepcopy(segments.model).to(wanted))


def _packed(at_layers: LayerKeys, targets: Targets) -> Iterator[EditArtefact]:
    for i in range(len(targets.delta)):
        yield EditArtefact(
            keys={layer: keys[i].cpu().numpy() for layer, keys in at_layers.keys.items()},
            residuals={layer: rest[i].cpu().numpy() for layer, rest in at_layers.residuals.items()},
            hidden=at_layers.hidden[i].cpu().numpy(),
            target=(at_layers.hidden[i] + targets.delta[i]).cpu().numpy(),
            initial_loss=float(targets.initial_loss[i]),
            final_loss=float(targets.final_loss[i]),
            steps=int(targets.steps[i]),
        )
