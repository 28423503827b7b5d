"""Edits that ask as a trained network makes of their gradients: MALMEN (arXiv 2311.04661), RLEdit (arXiv 2502.05759).

One pass forward and back gives an edit's inputs and output gradients where its target's tokens are predicted; the
network makes of each pair by how much the output is to change there. Its normaliser is frozen, so what an edit asks
for is a function of itself and the base, and one ridge solve writes all edits together.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.batch import batches
from memedit.consolidation.contexts import opening_ids
from memedit.consolidation.rows import prompt_ids, target_ids
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.gradients import ScoredRows, capture_gradients
from memedit.models.hypernet.files import load_network
from memedit.models.hypernet.network import HyperNetwork
from memedit.models.segments import Segments

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of the target behind it."""


def computed(
    loaded: LoadedModel, site: EditSite, requests: Sequence[EditRequest], settings: ConsolidationSettings
) -> Iterator[dict[str, EditArtefact]]:
    """Yield keys and wanted changes of edits, a batch at a time: a row for each target token behind the bare prompt.

    Raises:
        ModelNotFoundError: there is no network in ``settings.network``.
        FingerprintMismatchError: it was trained for another base.
        InputError: it edits other layers, or single edits only (MEND).
    """
    network = _network(loaded, site, settings)
    names, segments = [site.module_name(layer) for layer in site.layers], Segments(loaded.model)
    pairs = {request.id: (_pair(loaded, request),) for request in requests}
    for ids in batches(pairs, 2 * settings.batch_tokens, lambda pair: sum(map(len, pair))):
        chosen = [pairs[edit][0] for edit in ids]
        batch = ScoredRows.of(chosen, loaded.model.device, pad=loaded.tokenizer.pad_token_id or 0)
        found = capture_gradients(segments, names, batch)
        inputs = torch.stack([found.modules[name].inputs for name in names])
        with torch.no_grad():
            wanted = network.wanted(inputs, torch.stack([found.modules[name].gradients for name in names]))
        counts = [len(target) for _, target in chosen]
        parts = [torch.split(values.cpu(), counts, 1) for values in (inputs, wanted)]
        each = zip(*parts, found.losses.tolist(), strict=True)
        yield {edit: _artefact(site, network, *one) for edit, one in zip(ids, each, strict=True)}


def _network(loaded: LoadedModel, site: EditSite, settings: ConsolidationSettings) -> HyperNetwork:
    folder = Path(settings.network or "")
    network, record = load_network(folder, loaded.model, loaded.tokenizer)
    if not isinstance(network, HyperNetwork) or record.config.aggregate != "ridge":
        raise InputError(
            f"the hypernetwork in {folder} (preset {record.preset}) makes single edits' own factors; train one for a "
            "solve: memedit train hypernet --preset rledit"
        )
    if [site.module_name(layer) for layer in site.layers] != list(record.config.modules(site.spec)):
        raise InputError(
            f"the hypernetwork in {folder} edits layers {record.config.layers}, asked for were {site.layers}; leave "
            "layers and module as they are"
        )
    return network


def _pair(loaded: LoadedModel, request: EditRequest) -> Pair:
    prompt, _ = prompt_ids(loaded.tokenizer, request, spaced=False)
    return (*opening_ids(loaded.tokenizer), *prompt), tuple(target_ids(loaded.tokenizer, request))


def _artefact(site: EditSite, network: HyperNetwork, inputs: Tensor, wanted: Tensor, loss: float) -> EditArtefact:
    ridges = network.ridges.exp().tolist()
    return EditArtefact(
        keys={layer: inputs[i].numpy().copy() for i, layer in enumerate(site.layers)},
        residuals={layer: wanted[i].numpy().copy() for i, layer in enumerate(site.layers)},
        hidden=None,
        target=None,
        initial_loss=loss,
        final_loss=loss,
        steps=0,
        ridges=dict(zip(site.layers, ridges, strict=True)),
    )
