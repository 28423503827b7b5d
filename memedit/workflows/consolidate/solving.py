"""From a selection of edits to a solution whose every edit has been asked about."""

from collections.abc import Callable, Mapping, Sequence

from memedit.consolidation import EditArtefact, Statistics, applied, build_statistics, compute_artefacts, solve
from memedit.consolidation.base import EditRequest, artefact_fingerprint
from memedit.consolidation.trainers import TRAINERS, is_trainer
from memedit.evaluation.answering import Answerer
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.types import Edit, WeightDelta
from memedit.workflows.consolidate.building import Solved
from memedit.workflows.consolidate.checking import ChatForm, EditCheck, check_edits, questions_of
from memedit.workflows.consolidate.judging import generated_wordings, judged
from memedit.workflows.consolidate.planning import artefact_kind, kept_artefacts
from memedit.workflows.consolidate.selecting import Selection, edit_requests
from memedit.workflows.consolidate.settings import JobSettings

Step = Callable[[int, int], None]
_SAVED_AT_ONCE = 64


def statistics_of(loaded: LoadedModel, settings: JobSettings, progress: Step | None = None) -> Statistics | None:
    """Gather the key statistics, or read them where they are kept; None where the method needs none."""
    if is_trainer(settings.method):
        return None
    text = settings.statistics_text
    texts = None if text is None else [text.read_text(encoding="utf-8")]
    return build_statistics(loaded, settings.solver, texts, tokens=settings.statistics_tokens, progress=progress)


class _Keeper:
    """Stores keys and targets in the memory as they are computed, some at a time: a kill loses seconds of work."""

    def __init__(self, memory: EditMemory, kind: str, fingerprint: str) -> None:
        self._memory, self._kind, self._fingerprint = memory, kind, fingerprint
        self._waiting: dict[str, bytes] = {}

    def __call__(self, batch: Mapping[str, EditArtefact]) -> None:
        self._waiting |= {edit_id: artefact.to_bytes() for edit_id, artefact in batch.items()}
        if len(self._waiting) >= _SAVED_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        if self._waiting:
            self._memory.put_artefacts(self._kind, self._fingerprint, self._waiting)
        self._waiting = {}


def artefacts_of(
    memory: EditMemory, loaded: LoadedModel, selection: Selection, settings: JobSettings, progress: Step | None = None
) -> dict[str, EditArtefact]:
    """Return keys and targets of the edits: those the memory keeps, and the others computed and kept there.

    A method that needs none has none.
    """
    if is_trainer(settings.method):
        return {}
    known = kept_artefacts(memory, loaded, selection, settings)
    keeper = _Keeper(memory, artefact_kind(settings), artefact_fingerprint(loaded.fingerprint, settings.solver))
    try:
        requests = selection.requests(closing=settings.closing)
        return compute_artefacts(loaded, requests, settings.solver, progress=progress, known=known, save=keeper)
    finally:
        keeper.flush()


def chat_form(loaded: LoadedModel, settings: JobSettings) -> ChatForm | None:
    """Return how to ask as a chat turn, where that is wished for and the model has chat turns."""
    if not settings.chat or getattr(loaded.tokenizer, "chat_template", None) is None:
        return None
    return ChatForm(loaded.tokenizer)


def solution(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    artefacts: Mapping[str, EditArtefact],
    *,
    statistics: Statistics | None,
    settings: JobSettings,
    progress: Step | None = None,
) -> WeightDelta:
    """Solve for the change of weights that makes the requests hold, or train it, as the settings' method has it."""
    if statistics is None:
        return TRAINERS.get(settings.method)(loaded, requests, settings.solver, progress=progress)
    chosen = {request.id: artefacts[request.id] for request in requests}
    return solve(loaded, chosen, statistics, settings.solver, settings.method, requests=requests, progress=progress)


def settle(
    loaded: LoadedModel,
    answerer: Answerer,
    edits: Sequence[Edit],
    artefacts: Mapping[str, EditArtefact],
    *,
    statistics: Statistics | None,
    settings: JobSettings,
    progress: Step | None = None,
) -> Solved | None:
    """Solve for all edits, ask each, leave out those that fail, and solve again; None when none is left.

    The outcome depends on the set of edits alone. In the last round what fails stays in the weights, and what passes is
    asked in other words.
    """
    form = chat_form(loaded, settings)
    left, rejected = list(edits), list[EditCheck]()
    total = (questions_of(edits) + settings.solver.polish) * settings.rounds + settings.wordings * len(edits)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(min(done, total), total)

    for number in range(settings.rounds):
        if not left:
            return None
        requests = edit_requests(left, closing=settings.closing)
        delta = solution(
            loaded, requests, artefacts, statistics=statistics, settings=settings, progress=lambda *_: tick(1)
        )
        with applied(loaded, delta):
            checks = check_edits(answerer, left, settings, chat=form, tick=tick)
        failed = [check for check in checks if not check.passed]
        if not failed or number == settings.rounds - 1:
            wordings = generated_wordings(loaded, left, settings)
            with applied(loaded, delta):
                checks = judged(answerer, checks, wordings, settings, tick)
            return Solved(delta, tuple(checks), tuple(rejected))
        rejected += failed
        left = [check.edit for check in checks if check.passed]
    return None
