"""What edits ask for: what a consolidation computes on the model, batched, kept, and never computed twice."""

from collections.abc import Callable, Mapping, Sequence

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.makers import MAKERS
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel

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
    """Return what every request asks for, by its id, found out in the way of ``settings.maker``.

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
        for batch in MAKERS.get(settings.maker)(loaded, site, missing, settings):
            found |= batch
            done += len(batch)
            if save is not None:
                save(batch)
            if progress is not None:
                progress(done, len(requests))
    return {edit: found[edit] for edit in asked}
