"""``memedit ask``: one answer, with the edits behind it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import chain_text, one_line, plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.runtime import Answer
    from memedit.types import Hit


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "ask", Needs.MEMORY | Needs.SCOPE | Needs.MODEL | Needs.CHAINS | Needs.RECHECK)
    def ask(
        session: "Session",
        *,
        prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="Questions; - reads one from stdin.")],
        max_new_tokens: Annotated[
            int | None,
            typer.Option(
                min=1, help="Length of the answer at most. [default: 64, more where an edit's target takes it]"
            ),
        ] = None,
        temperature: Annotated[float, typer.Option(min=0.0, help="0 decodes greedily.")] = 0.0,
        seed: Annotated[int | None, typer.Option(help="Seed for sampling.")] = None,
        raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it stands: no chat template.")] = False,
        why: Annotated[bool, typer.Option(help="Say which edits fired.")] = True,
    ) -> None:
        """Answer questions with the memory's edits in force, and say which edit fired."""
        from memedit.workflows.asking import as_prompt, room_for

        questions = [sys.stdin.read() if prompt == "-" else prompt for prompt in prompts]
        model = session.model()
        with session.output.working("answering"):
            prompts_given = [as_prompt(model, question, raw=raw) for question in questions]
            plan = model.plan(prompts_given)
            length = max_new_tokens or max(room_for(model, route, least=64) for route in plan.routes)
            answers = model.answer(prompts_given, plan=plan, **generation(length, temperature, seed))
        documents = [answer_document(question, answer) for question, answer in zip(questions, answers, strict=True)]

        def show(out: Output) -> None:
            for prompt, answer in zip(prompts_given, answers, strict=True):
                out.verbatim(printed(answer, after_text=isinstance(prompt, str)))
                if why:
                    out.note(provenance(answer))

        session.output.emit(documents[0] if len(documents) == 1 else documents, show)


def generation(max_new_tokens: int, temperature: float, seed: int | None) -> dict[str, Any]:
    """Return arguments of ``generate``; a seed fixes torch's generator first."""
    if temperature <= 0.0:
        return {"max_new_tokens": max_new_tokens, "do_sample": False}
    if seed is not None:
        import torch

        torch.manual_seed(seed)
    return {"max_new_tokens": max_new_tokens, "do_sample": True, "temperature": temperature}


def printed(answer: "Answer", *, after_text: bool) -> str:
    """Return an answer as it is printed: an edit's to the letter, but for the blank that parts it from a text."""
    if not answer.edits:
        return answer.text.strip()
    return answer.text.removeprefix(" ") if after_text else answer.text


def answer_document(question: str, answer: "Answer") -> dict[str, Any]:
    """Return an answer and its provenance as JSON types."""
    decision = answer.route.decision
    return {
        "prompt": question,
        "answer": answer.text,
        "adapter": answer.route.adapter,
        "scope": decision.scope,
        "threshold": decision.threshold,
        "abstained": decision.abstained,
        "edits": [
            {"id": hit.edit.id, "prompt": hit.edit.prompt, "target": hit.edit.target, "score": hit.score}
            | {"similarity": hit.similarity, "reasons": plain(hit.reasons)}
            for hit in decision.fired
        ],
        "in_weights": [
            {"id": hit.edit.id, "prompt": hit.edit.prompt, "target": hit.edit.target, "score": hit.score}
            for hit in decision.in_weights
        ],
        "chain": plain(decision.chain),
        "token_ids": plain(answer.token_ids),
    }


def provenance(answer: "Answer") -> str:
    """Return one line that says which edits fired and why."""
    decision = answer.route.decision
    if not decision.fired and decision.in_weights:
        return f"[in the weights: {_named(decision.in_weights)}; threshold {decision.threshold:.2f}]"
    if not decision.fired:
        best = decision.considered[0].score if decision.considered else None
        near = f", best score {best:.2f} < {decision.threshold:.2f}" if best is not None else ""
        return f"[no edit: the bare model's answer{near}]"
    if decision.chain:
        score = decision.fired[0].score
        return (
            f"[{answer.route.adapter}: {chain_text(decision.chain)} ({score:.2f}); threshold {decision.threshold:.2f}]"
        )
    return f"[{answer.route.adapter}: {_named(decision.fired)}; threshold {decision.threshold:.2f}]"


def _named(hits: "Sequence[Hit]") -> str:
    return "; ".join(f"{one_line(h.edit.prompt)} -> {one_line(h.edit.target, 30)} ({h.score:.2f})" for h in hits)
