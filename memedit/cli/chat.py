"""``memedit chat``: talk to the model and correct it on the way."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.ask import generation
from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.scope import print_decision
from memedit.cli.text import one_line, plain
from memedit.errors import MemeditError

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.runtime import EditableModel
    from memedit.types import ScopeDecision

HELP = """\
/fix ANSWER              write the right answer to your last question, its subject named
/edit ANSWER             correct the answer to your last question
/edit QUESTION => ANSWER write any correction; it is in force in the next answer
/why                     which edits fired on your last question, and what was considered
/undo                    withdraw the last correction of this chat
/edits                   list the corrections in force
/reset                   forget the conversation, not the corrections
/help                    this list
/quit                    leave (as does end of input)"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "chat", Needs.MEMORY | Needs.SCOPE | Needs.MODEL | Needs.CHAINS | Needs.RECHECK)
    def chat(
        session: "Session",
        max_new_tokens: Annotated[
            int | None,
            typer.Option(
                min=1, help="Length of each answer at most. [default: 128, more where an edit's target takes it]"
            ),
        ] = None,
        temperature: Annotated[float, typer.Option(min=0.0, help="0 decodes greedily.")] = 0.0,
        seed: Annotated[int | None, typer.Option(help="Seed for sampling.")] = None,
    ) -> None:
        """Talk to the model; /fix and /edit correct it, /why explains, /undo withdraws, /quit leaves.

        With --json every turn is one JSON document on a line of its own.
        """
        model = session.model(session.memory(absent="make"))
        options = generation(max_new_tokens or 128, temperature, seed)
        repl = Chat(session.output, model, options, stretches=max_new_tokens is None)
        if not session.output.json_mode:
            session.output.note("/help lists the commands; /quit leaves")
        repl.run()


class Chat:
    """A conversation: reads lines until ``/quit`` or the end of input.

    Args:
        output: where turns are printed.
        model: answers, and holds the memory that corrections go to.
        options: arguments of ``generate``.
        stretches: whether an answer may be longer than ``options`` say where an edit's target is.
    """

    def __init__(
        self, output: Output, model: "EditableModel", options: dict[str, Any], *, stretches: bool = False
    ) -> None:
        self._out = output
        self._model = model
        self._options, self._stretches = options, stretches
        self._messages: list[dict[str, str]] = []
        self._written: list[tuple[str, tuple[str, ...]]] = []
        self._last: ScopeDecision | None = None
        self._commands: dict[str, Callable[[str], dict[str, Any]]] = {
            "/fix": self._fix,
            "/edit": self._edit,
            "/why": self._why,
            "/undo": self._undo,
            "/edits": self._edits,
            "/reset": self._reset,
            "/help": self._help,
        }

    def run(self) -> None:
        """Read and answer lines."""
        while True:
            try:
                line = self._out.errors.input("" if self._out.json_mode else "> ").strip()
            except EOFError:
                return
            if line in {"/quit", "/exit"}:
                return
            if line:
                self._turn(line)

    def _turn(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        handler = self._commands.get(name, self._unknown) if line.startswith("/") else self._answer
        try:
            document = handler(rest.strip() if line.startswith("/") else line)
        except MemeditError as error:
            # one bad line must not end the conversation
            document = {"error": {"type": type(error).__name__, "message": str(error)}}
            self._out.note(f"error: {error}", style="red")
        if self._out.json_mode:
            self._out.console.out(json.dumps(plain(document), allow_nan=False), highlight=False)

    def _answer(self, question: str) -> dict[str, Any]:
        self._messages.append({"role": "user", "content": question})
        pieces: list[str] = []
        try:
            with self._model.stream(self._prompt(), **self._for(self._prompt())) as stream:
                self._last = stream.route.decision
                for piece in stream:
                    pieces.append(piece)
                    if not self._out.json_mode:
                        self._out.piece(piece)
        except KeyboardInterrupt:
            self._out.note(" (stopped)")  # what has been said so far stays in the conversation
        except MemeditError:
            self._messages.pop()
            raise
        if not self._out.json_mode:
            self._out.piece("\n")
        answer = "".join(pieces)
        self._messages.append({"role": "assistant", "content": answer})
        fired = self._last.fired if self._last is not None else ()
        return {"prompt": question, "answer": answer, "edits": [hit.edit.id for hit in fired]}

    def _for(self, prompt: Any) -> dict[str, Any]:
        """Return the arguments of ``generate`` for a prompt."""
        from memedit.workflows.asking import room_for

        if not self._stretches:
            return self._options
        length = room_for(self._model, self._model.explain(prompt), least=self._options["max_new_tokens"])
        return {**self._options, "max_new_tokens": length}

    def _edit(self, text: str) -> dict[str, Any]:
        question, separator, target = text.partition("=>")
        if not separator:
            question, target = self._last_question(), text
        if not question.strip() or not target.strip():
            self._out.note("usage: /edit ANSWER after a question, or /edit QUESTION => ANSWER")
            return {"error": {"type": "usage", "message": "/edit needs a question and an answer"}}
        return self._write(question.strip(), target.strip())

    def _fix(self, answer: str) -> dict[str, Any]:
        from memedit.workflows.fixing import explicit_question

        question = explicit_question(self._messages)
        if not question or not answer:
            self._out.note("usage: /fix ANSWER, after a question that was answered wrongly")
            return {"error": {"type": "usage", "message": "/fix needs a question before it and an answer"}}
        return self._write(question, answer)

    def _write(self, question: str, target: str) -> dict[str, Any]:
        """Put a correction in force; what it replaces is shown."""
        memory = self._model.memory
        draft = {"prompt": question, "target": target, "source": "chat"}
        report = memory.add_many([draft], on_conflict="supersede")
        edit = memory.get(report.ids[0])
        if report.added:
            self._written.append((edit.id, report.superseded))
        self._say(f"in force: {one_line(edit.prompt)} => {one_line(edit.target)}  ({edit.id})")
        for old in memory.get_many(report.superseded):
            self._say(f"replaces: {one_line(old.prompt)} => {one_line(old.target)}  ({old.id}); /undo brings it back")
        return {"edit": edit, "superseded": report.superseded, "conflicts": report.conflicts}

    def _why(self, _: str) -> dict[str, Any]:
        if self._last is None:
            self._say("nothing has been asked yet")
        elif not self._out.json_mode:
            print_decision(self._out, self._last)
        return {"decision": self._last}

    def _undo(self, _: str) -> dict[str, Any]:
        if not self._written:
            self._say("no correction of this chat is in force")
            return {"withdrawn": None}
        edit_id, superseded = self._written.pop()
        memory = self._model.memory
        memory.delete(edit_id)
        for older in superseded:
            memory.restore(older)
        self._say(f"withdrawn: {edit_id}" + (f"; in force again: {', '.join(superseded)}" if superseded else ""))
        return {"withdrawn": edit_id, "restored": superseded}

    def _edits(self, _: str) -> dict[str, Any]:
        edits = self._model.memory.list(state="active")
        if not self._out.json_mode:
            self._out.table(["id", "prompt", "target"], [[e.id, one_line(e.prompt), one_line(e.target)] for e in edits])
        return {"edits": edits}

    def _reset(self, _: str) -> dict[str, Any]:
        self._messages.clear()
        self._say("the conversation is forgotten; the corrections stay")
        return {"reset": True}

    def _help(self, _: str) -> dict[str, Any]:
        self._say(HELP)
        return {"help": HELP}

    def _unknown(self, _: str) -> dict[str, Any]:
        self._out.note("no such command; /help lists them")
        return {"error": {"type": "usage", "message": "no such command"}}

    def _say(self, text: str) -> None:
        if not self._out.json_mode:
            self._out.line(text)

    def _prompt(self) -> Any:
        """The conversation for models with a chat template, the last line for others."""
        chats = getattr(self._model.tokenizer, "chat_template", None) is not None
        return self._messages if chats else self._last_question()

    def _last_question(self) -> str:
        return next((m["content"] for m in reversed(self._messages) if m["role"] == "user"), "")
