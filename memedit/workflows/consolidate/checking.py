"""Whether a candidate answers an edit by itself: each edit's own check, with the memory out of the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memedit.evaluation.answering import Answerer
from memedit.evaluation.protocols import first_line, is_contained, is_exact, is_prefix
from memedit.evaluation.requests import GenerateRequest, ScoreRequest, continuation
from memedit.types import Edit
from memedit.workflows.consolidate.asking import Tick, generate_all, score_all
from memedit.workflows.consolidate.settings import Check, JobSettings

_SLACK_TOKENS, _ROUND_TOKENS, _CHAT_TOKENS = 6, 8, 16
_JUDGES = {Check.PREFIX: is_prefix, Check.EXACT: is_exact, Check.CONTAINS: is_contained}


@dataclass(frozen=True, slots=True)
class EditCheck:
    """How one edit did. ``preferred``: the target is likelier than the old answer, None where none is known.

    ``paraphrases`` says for each of the edit's stored paraphrases whether it passed too, ``chat`` whether the target
    occurs in the answer to the prompt as a chat turn; None where the model has no chat turns. ``generated`` says how
    wordings did that nobody stored, ``any_wording`` whether yet others may be left to the weights (see
    :mod:`~memedit.workflows.consolidate.judging`).
    """

    edit: Edit
    passed: bool
    answer: str
    paraphrases: tuple[bool, ...]
    preferred: bool | None
    chat: bool | None = None
    generated: tuple[bool, ...] = ()
    any_wording: bool = False

    @property
    def rows(self) -> tuple[bool, ...]:
        """Whether each wording passed that was asked: the prompt, the stored paraphrases, the generated ones."""
        return (self.passed, *self.paraphrases, *self.generated)

    @property
    def reason(self) -> str:
        """Why it failed; empty where it passed."""
        if self.passed:
            return ""
        return f"the weights answer {self.answer[:80]!r}"


@dataclass(frozen=True, slots=True)
class ChatForm:
    """Renders a prompt as a model's chat turn."""

    tokenizer: Any

    def __call__(self, prompt: str) -> str:
        """Return the text of the turn, up to where the answer begins."""
        messages = [{"role": "user", "content": prompt}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def check_edits(
    answerer: Answerer,
    edits: Sequence[Edit],
    settings: JobSettings,
    *,
    chat: ChatForm | None = None,
    tick: Tick | None = None,
) -> list[EditCheck]:
    """Ask every edit's prompt, paraphrases and, with ``chat``, chat turn; return how each edit did, in order.

    Without ``chat`` no edit is taken to be answered in chats.
    """
    asked = [(edit, prompt) for edit in edits for prompt in (edit.prompt, *edit.paraphrases)]
    lines = _lines(answerer, asked, settings, tick)
    held = _held(asked, lines, settings)
    turns = _chat_turns(answerer, edits, settings, chat)
    preferred = _preferred(answerer, edits, settings)
    checks, start = [], 0
    for edit, turn, likelier in zip(edits, turns, preferred, strict=True):
        stop = start + 1 + len(edit.paraphrases)
        checks.append(EditCheck(edit, held[start], lines[start], tuple(held[start + 1 : stop]), likelier, turn))
        start = stop
    return checks


def ask_wordings(
    answerer: Answerer, asked: Sequence[tuple[Edit, str]], settings: JobSettings, tick: Tick | None = None
) -> list[bool]:
    """Say whether each edit's answer to a text passes its check."""
    return _held(asked, _lines(answerer, asked, settings, tick), settings) if asked else []


def _lines(
    answerer: Answerer, asked: Sequence[tuple[Edit, str]], settings: JobSettings, tick: Tick | None
) -> list[str]:
    """Return the answers to each edit's text."""
    answers = generate_all(answerer, _requests(answerer, asked), batch_size=settings.batch_size, tick=tick)
    return [first_line(answer.text) for answer in answers]


def _held(asked: Sequence[tuple[Edit, str]], lines: Sequence[str], settings: JobSettings) -> list[bool]:
    judge = _JUDGES[settings.check]
    return [judge(line, [edit.target]) for (edit, _), line in zip(asked, lines, strict=True)]


def questions_of(edits: Sequence[Edit]) -> int:
    """Return how many prompts a check of these edits asks."""
    return sum(1 + len(edit.paraphrases) for edit in edits)


def _requests(answerer: Answerer, asked: Sequence[tuple[Edit, str]]) -> list[GenerateRequest]:
    """Give every prompt room for its target and a little more; limits are rounded so that batches can be shared."""
    tokens = answerer.count_tokens([continuation(prompt, edit.target) for edit, prompt in asked])
    rounded = [-(-(n + _SLACK_TOKENS) // _ROUND_TOKENS) * _ROUND_TOKENS for n in tokens]
    return [GenerateRequest(prompt, limit) for (_, prompt), limit in zip(asked, rounded, strict=True)]


def _chat_turns(
    answerer: Answerer, edits: Sequence[Edit], settings: JobSettings, chat: ChatForm | None
) -> list[bool | None]:
    if chat is None:
        return [None if settings.chat else False] * len(edits)
    requests = [GenerateRequest(chat(edit.prompt), _CHAT_TOKENS) for edit in edits]
    answers = generate_all(answerer, requests, batch_size=settings.batch_size)
    return [is_contained(answer.text, [edit.target]) for edit, answer in zip(edits, answers, strict=True)]


def _preferred(answerer: Answerer, edits: Sequence[Edit], settings: JobSettings) -> list[bool | None]:
    """Compare the target with the old answer by mean log-probability of a token (ROME's efficacy)."""
    known = [i for i, edit in enumerate(edits) if edit.ground_truth and edit.ground_truth.strip()]
    pairs = [(edits[i].prompt, text) for i in known for text in (edits[i].target, str(edits[i].ground_truth))]
    requests = [ScoreRequest(prompt, continuation(prompt, text)) for prompt, text in pairs]
    scores = [sum(s.logprobs) / max(1, len(s.logprobs)) for s in _scored(answerer, requests, settings.batch_size)]
    found: list[bool | None] = [None] * len(edits)
    for place, i in enumerate(known):
        found[i] = scores[2 * place] > scores[2 * place + 1]
    return found


def _scored(answerer: Answerer, requests: Sequence[ScoreRequest], batch_size: int) -> Any:
    return score_all(answerer, requests, batch_size=batch_size) if requests else []
