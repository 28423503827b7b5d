"""Texts as arguments of a command, a leading minus among them."""

import re
from typing import Any

from typer.core import TyperCommand, TyperOption

_TEXT = re.compile(r"-(?![A-Za-z])(?!-[A-Za-z])(?!-?$)")
"""What begins with a minus but names no option: "-40 °C", "- a list", "---" of a YAML document."""
_MARK = "\0"
"""Stands before such an argument while options are told from arguments; no argument can hold it."""


class TextCommand(TyperCommand):
    """A command whose arguments may be texts such as "-40 °C", which click takes for options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; what begins with a minus and cannot be an option is an argument."""
        valued = {name for p in self.params if isinstance(p, TyperOption) and not p.is_flag for name in p.opts}
        marked, rest = [], False
        for number, arg in enumerate(args):
            rest = rest or arg == "--"
            is_value = number > 0 and args[number - 1] in valued
            marked.append(_MARK + arg if _TEXT.match(arg) and not rest and not is_value else arg)
        left = super().parse_args(ctx, marked)
        ctx.params = {name: _plain(value) for name, value in ctx.params.items()}
        return left


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.removeprefix(_MARK) if value.startswith(_MARK) else value  # a choice stays a choice
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value
