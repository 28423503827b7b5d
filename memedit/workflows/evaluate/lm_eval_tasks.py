"""Tasks of the language model evaluation harness on a live answerer (extra ``eval``)."""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memedit.errors import InputError, MissingExtraError
from memedit.evaluation.answering import Answerer
from memedit.evaluation.metrics.perplexity import perplexity_requests
from memedit.evaluation.metrics.statistics import Estimate, rate

_METRICS = ("acc,none", "exact_match,strict-match", "exact_match,none", "exact_match,flexible-extract")
_WHOLE_TEXT = 10**9
_MAX_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class HarnessTasks:
    """Tasks to run: ``names`` as the harness knows them, ``folder`` of more as YAML, at most ``limit`` documents."""

    names: tuple[str, ...]
    folder: Path | None = None
    limit: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the choice without machine paths."""
        return {**asdict(self), "folder": None if self.folder is None else self.folder.name}


def check_installed() -> None:
    """Refuse early where the harness is not there.

    Raises:
        MissingExtraError: names the command that installs it.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm-eval", "eval")


def run_tasks(answerer: Answerer, tasks: HarnessTasks, *, batch_size: int = 64) -> dict[str, Estimate]:
    """Run harness tasks on an answerer; return the accuracy (or exact match) of each, in percent.

    Raises:
        MissingExtraError: the harness is not installed.
        InputError: a task is unknown, cannot be loaded (most need a hub), or has no accuracy.
    """
    check_installed()
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if tasks.folder is None else str(tasks.folder))
    try:
        found = simple_evaluate(
            model=harness_model(answerer, batch_size=batch_size),
            tasks=list(tasks.names),
            limit=tasks.limit,
            task_manager=manager,
            bootstrap_iters=0,
            verbosity=None,
        )
    except (ValueError, KeyError, OSError, ConnectionError) as error:
        raise InputError(f"the evaluation harness cannot run {', '.join(tasks.names)}: {error}") from error
    return {name: _estimate(name, found) for name in found["results"]}


def _estimate(task: str, found: dict[str, Any]) -> Estimate:
    results = found["results"][task]
    value = next((results[metric] for metric in _METRICS if metric in results), None)
    n = int(found["n-samples"].get(task, {}).get("effective", 0))
    if value is None or n == 0:
        raise InputError(f"harness task {task!r} has no accuracy; it reports {', '.join(map(str, results))}")
    right = round(float(value) * n)
    return rate([True] * right + [False] * (n - right))


def harness_model(answerer: Answerer, *, batch_size: int = 64) -> Any:
    """Return the answerer as a model of the harness; requests are sorted by length and batched here.

    Raises:
        MissingExtraError: the harness is not installed.
    """
    check_installed()
    from lm_eval.api.model import LM

    class LiveModel(LM):
        """Routes every request of the harness through the answerer, edits included."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return _loglikelihoods(answerer, [request.args for request in requests], batch_size)

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [_rolling(answerer, request.args[0]) for request in requests]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return [_generated(answerer, *request.args) for request in requests]

    return LiveModel()


def _loglikelihoods(answerer: Answerer, pairs: Sequence[tuple[str, str]], batch_size: int) -> list[tuple[float, bool]]:
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
    found: dict[int, tuple[float, bool]] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        # The harness asks for whole texts with an empty context; a model of ours always needs something to go on.
        contexts = [pairs[i][0] or "\n" for i in places]
        for i, score in zip(places, answerer.score(contexts, [pairs[i][1] for i in places]), strict=True):
            found[i] = (sum(score.logprobs), all(score.matches))
    return [found[i] for i in range(len(pairs))]


def _rolling(answerer: Answerer, text: str) -> float:
    """Return the log-likelihood of a text but for its first words, which have no context."""
    requests = perplexity_requests(text, answerer, tokens=_WHOLE_TEXT)
    scores = answerer.score([r.prompt for r in requests], [r.target for r in requests])
    return sum(sum(score.logprobs) for score in scores)


def _generated(answerer: Answerer, context: str, options: dict[str, Any]) -> str:
    until = options.get("until") or []
    until = [until] if isinstance(until, str) else list(until)
    limit = int(options.get("max_gen_toks") or _MAX_NEW_TOKENS)
    text = answerer.generate([context], max_new_tokens=limit, stop_at_newline=False)[0].text
    for stop in until:
        text = text.split(stop, 1)[0] if stop else text
    return text
