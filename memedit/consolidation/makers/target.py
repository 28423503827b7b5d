"""Edits that ask for a hidden state behind their subject: the target of MEMIT, optimised on the frozen base."""

import copy
from collections.abc import Iterator, Sequence

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.batch import batches, cache_contexts, prepare_batch
from memedit.consolidation.contexts import build_contexts
from memedit.consolidation.keys import LayerKeys, layer_keys
from memedit.consolidation.optimise import Targets, optimise
from memedit.consolidation.rows import edit_rows
from memedit.consolidation.sensitivity import natural_direction, sensitivity
from memedit.consolidation.site import EditSite
from memedit.models import LoadedModel
from memedit.models.loading import DTYPES
from memedit.models.segments import Segments, frozen


def computed(
    loaded: LoadedModel, site: EditSite, requests: Sequence[EditRequest], settings: ConsolidationSettings
) -> Iterator[dict[str, EditArtefact]]:
    """Yield keys and targets of edits, a batch at a time: one key row an edit."""
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
            keys={layer: keys[i, None].cpu().numpy() for layer, keys in at_layers.keys.items()},
            residuals={layer: rest[i, None].cpu().numpy() for layer, rest in at_layers.residuals.items()},
            hidden=at_layers.hidden[i].cpu().numpy(),
            target=(at_layers.hidden[i] + targets.delta[i]).cpu().numpy(),
            initial_loss=float(targets.initial_loss[i]),
            final_loss=float(targets.final_loss[i]),
            steps=int(targets.steps[i]),
        )
