"""Asking a file of questions: which edits fire on each, and whether that is what the file expects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.errors import FieldError
from memedit.evaluation.asks import alternatives, lacking
from memedit.memory import EditMemory
from memedit.memory.formats.files import read_rows
from memedit.memory.formats.rows import Place
from memedit.scope import Scope
from memedit.types import ScopeDecision
from memedit.workflows.open import CANDIDATES
from memedit.workflows.scope import explain

if TYPE_CHECKING:
    from memedit.runtime import EditableModel

Asked = str | Sequence[Mapping[str, Any]]
_BATCH = 64
_QUESTION = ("q", "query", "question", "prompt")
_EXPECTED = ("edited", "unchanged")


@dataclass(frozen=True, slots=True)
class ExpectedQuestion:
    """A question of the file.

    ``fires`` are prompts or ids of edits of which one must fire; () is any, and None expects nothing of what fires.
    With ``silent`` no edit may. An answer must hold one of the alternatives of each of ``must_contain``.
    """

    place: str
    asked: Asked
    fires: tuple[str, ...] | None = None
    silent: bool = False
    must_contain: tuple[tuple[str, ...], ...] = ()
    note: str = ""

    @property
    def text(self) -> str:
        """What is looked up without a language model: the text, or the last message of a user."""
        if isinstance(self.asked, str):
            return self.asked
        users = [message["content"] for message in self.asked if message.get("role") == "user"]
        return str((users or [message["content"] for message in self.asked])[-1])


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """The questions of a file, and the edits that it brings with it."""

    questions: tuple[ExpectedQuestion, ...]
    drafts: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class FiredText:
    """An edit that fired: id, prompt, target and score."""

    id: str
    prompt: str
    target: str
    score: float


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """What came of a question; ``problem`` says what is not as expected, empty where all is.

    ``checked`` says that something was expected that could be looked at.
    """

    place: str
    question: str
    expected: str
    fired: tuple[FiredText, ...]
    answer: str | None
    checked: bool
    problem: str
    note: str


@dataclass(frozen=True, slots=True)
class QuestionReport:
    """All results, and how many are not as expected; ``unchecked`` are questions of which nothing is expected."""

    results: tuple[QuestionResult, ...]
    failed: int
    unchecked: int


def read_test_file(path: Path) -> QuestionFile:
    """Read questions.

    A row is a question (``q``, ``query``, ``question`` or ``prompt``: text or messages) with what is expected of it, if
    anything: ``expect`` "edited" or "unchanged", ``edits`` a list of ids or prompts (empty: none may fire),
    ``must_contain`` a list of texts, each with alternatives parted by ``|``, ``note``. Or a row is an ``edit`` that the
    file brings with it and a list ``ask`` of such questions about it.

    Raises:
        DatasetError: a row is of neither form; names row and field.
    """
    questions: list[ExpectedQuestion] = []
    drafts: list[Mapping[str, Any]] = []
    for raw in read_rows(path).rows():
        try:
            if raw.row is None:
                raise FieldError("", raw.problem)
            if "ask" in raw.row:
                draft, found = _group(raw.row, raw.place)
                drafts.append(draft)
                questions += found
            else:
                questions.append(_question(raw.row, raw.place, None))
        except FieldError as error:
            raise raw.place.error(error.reason, str(path), error.field or None) from error
    return QuestionFile(tuple(questions), tuple(drafts))


def _group(row: Mapping[str, Any], place: Place) -> tuple[Mapping[str, Any], list[ExpectedQuestion]]:
    draft, asks = row.get("edit"), row["ask"]
    if not isinstance(draft, Mapping) or not isinstance(draft.get("prompt"), str):
        raise FieldError("edit", f"expected an object with prompt and target, got {str(draft)[:80]!r}")
    if not isinstance(asks, list) or not all(isinstance(ask, Mapping) for ask in asks):
        raise FieldError("ask", f"expected a list of objects, got {str(asks)[:80]!r}")
    return draft, [_question(ask, place, draft["prompt"]) for ask in asks]


def _question(row: Mapping[str, Any], place: Place, own: str | None) -> ExpectedQuestion:
    """Return the question of a row; ``own`` is the prompt of the edit that it is about."""
    name = next((name for name in _QUESTION if name in row), None)
    if name is None:
        raise FieldError("query", f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}")
    expect, edits = row.get("expect") or None, row.get("edits")
    if expect not in (None, *_EXPECTED):
        raise FieldError("expect", f"{expect!r} is neither of {', '.join(_EXPECTED)}")
    if edits is not None and not isinstance(edits, list):
        raise FieldError("edits", f"expected a list of ids or prompts, got {str(edits)[:80]!r}")
    fires: tuple[str, ...] | None = None
    if expect == "edited" or edits:
        fires = tuple(map(str, edits or ([] if own is None else [own])))
    return ExpectedQuestion(
        str(place).removeprefix(", "),
        _asked(row[name], name),
        fires,
        expect == "unchanged" or edits == [],
        _alternatives(row.get("must_contain")),
        str(row.get("note") or ""),
    )


def _asked(value: Any, name: str) -> Asked:
    if isinstance(value, str) and value.strip():
        return value
    fine = isinstance(value, list) and all(isinstance(m, Mapping) and isinstance(m.get("content"), str) for m in value)
    if not fine or not value:
        raise FieldError(name, f"expected a question or a list of messages, got {str(value)[:80]!r}")
    found: Asked = value
    return found


def _alternatives(value: Any) -> tuple[tuple[str, ...], ...]:
    wanted = [value] if isinstance(value, str) else value or []
    if not isinstance(wanted, list) or not all(isinstance(text, str) for text in wanted):
        raise FieldError("must_contain", f"expected texts, got {str(value)[:80]!r}")
    return alternatives(wanted)


def memory_of(drafts: Sequence[Mapping[str, Any]], like: EditMemory) -> EditMemory:
    """Return a memory of a file's own edits, in this process, with the encoder of another."""
    memory = EditMemory(":memory:", encoder=like.encoder)
    memory.add_many(drafts, on_conflict="keep")
    return memory


def run_tests(
    questions: Sequence[ExpectedQuestion],
    memory: EditMemory,
    scope: Scope,
    *,
    k: int = CANDIDATES,
    progress: Callable[[int, int], None] | None = None,
) -> QuestionReport:
    """Look every question up, as an answer would, without a language model. Of a chat the last turn is looked up."""
    results: list[QuestionResult] = []
    for part in _parts(questions):
        decisions = explain(memory, scope, [question.text for question in part], k=k)
        results += [_result(question, found, None) for question, found in zip(part, decisions, strict=True)]
        if progress is not None:
            progress(len(results), len(questions))
    return _report(results)


def run_asking(
    questions: Sequence[ExpectedQuestion],
    model: "EditableModel",
    *,
    max_new_tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> QuestionReport:
    """Ask the model every question, greedily, and look at its answers too."""
    from memedit.workflows.asking import as_prompt

    results: list[QuestionResult] = []
    for question in questions:
        asked = question.asked
        prompt = as_prompt(model, asked) if isinstance(asked, str) else asked
        answer = model.answer([prompt], max_new_tokens=max_new_tokens, do_sample=False)[0]
        results.append(_result(question, answer.route.decision, answer.text))
        if progress is not None:
            progress(len(results), len(questions))
    return _report(results)


def _parts(questions: Sequence[ExpectedQuestion]) -> Iterator[Sequence[ExpectedQuestion]]:
    for start in range(0, len(questions), _BATCH):
        yield questions[start : start + _BATCH]


def _report(results: Sequence[QuestionResult]) -> QuestionReport:
    unchecked = sum(not result.checked for result in results)
    return QuestionReport(tuple(results), sum(bool(result.problem) for result in results), unchecked)


def _result(question: ExpectedQuestion, decision: ScopeDecision, answer: str | None) -> QuestionResult:
    hits = (*decision.fired, *decision.in_weights)
    fired = tuple(FiredText(hit.edit.id, hit.edit.prompt, hit.edit.target, hit.score) for hit in hits)
    if question.silent:
        expected = "no edit"
    elif question.fires is None:
        expected = ""
    else:
        expected = " or ".join(question.fires) or "an edit"
    problem = _firing_problem(question, fired) or _answer_problem(question, answer)
    checked = question.silent or question.fires is not None or (answer is not None and bool(question.must_contain))
    return QuestionResult(question.place, question.text, expected, fired, answer, checked, problem, question.note)


def _firing_problem(question: ExpectedQuestion, fired: Sequence[FiredText]) -> str:
    if question.silent:
        return "an edit fires" if fired else ""
    if question.fires is None:
        return ""
    if not fired:
        return "no edit fires"
    named = {name for hit in fired for name in (hit.id, hit.prompt)}
    return "" if not question.fires or named & set(question.fires) else "another edit fires"


def _answer_problem(question: ExpectedQuestion, answer: str | None) -> str:
    if answer is None:
        return ""
    lacks = lacking(answer, question.must_contain)
    return f"the answer lacks {lacks}" if lacks else ""
