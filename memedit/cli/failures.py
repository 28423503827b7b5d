"""Errors on their way out of a command: one clear message, a fixed exit code, no traceback."""

import errno
import sys
from typing import Any

from typer.core import TyperGroup

from memedit.errors import ConflictError, MemeditError, MemoryNotFoundError

OK = 0
FAILED = 1
USAGE = 2
CONFLICT = 3
INTERNAL = 70
INTERRUPTED = 130

EXIT_CODES = {
    OK: "success",
    FAILED: "a memedit error: bad input, unknown name, damaged or read-only store ...; one message on stderr",
    USAGE: "wrong usage: unknown option, missing argument, file or memory that does not exist",
    CONFLICT: "the edit contradicts one in force; nothing was written",
    INTERNAL: "a defect in memedit: the traceback is on stderr",
    INTERRUPTED: "interrupted (Ctrl-C)",
}


def exit_code(error: BaseException) -> int:
    """Return the exit code for ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, ConflictError):
        return CONFLICT
    if isinstance(error, MemoryNotFoundError):
        return USAGE
    return FAILED if isinstance(error, MemeditError | OSError) else INTERNAL


def report(error: MemeditError | OSError, *, json_mode: bool) -> None:
    """Print ``error`` on stderr and, in JSON mode, as a document on stdout too."""
    from memedit.cli.output import Output

    output = Output(json_mode=json_mode)
    message = str(error)
    if json_mode:
        document = {"error": {"type": type(error).__name__, "message": message, "exit_code": exit_code(error)}}
        output.emit(document, lambda _: None)
    output.note(f"error: {message}", style="red")


class MemeditGroup(TyperGroup):
    """The root command: turns every expected error of any sub-command into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the sub-command; see :data:`EXIT_CODES`."""
        words = [*getattr(ctx, "_protected_args", []), *ctx.args]
        options = words[: words.index("--")] if "--" in words else words
        try:
            return super().invoke(ctx)
        except (MemeditError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            report(error, json_mode="--json" in options)
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
