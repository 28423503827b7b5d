"""What an edit asks of the weights, by the name of how it is found out."""

from collections.abc import Callable, Iterator, Sequence

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.site import EditSite
from memedit.models import LoadedModel
from memedit.registry import Registry

Maker = Callable[
    [LoadedModel, EditSite, Sequence[EditRequest], ConsolidationSettings], Iterator[dict[str, EditArtefact]]
]
"""Yields the artefacts of the requests, some at a time; each is a function of its own request and the frozen base."""

MAKERS: Registry[Maker] = Registry("target maker")
MAKERS.register("target", "memedit.consolidation.makers.target:computed")
MAKERS.register("gradient", "memedit.consolidation.makers.gradient:computed")
MAKERS.register("hypernet", "memedit.consolidation.makers.hypernet:computed")
