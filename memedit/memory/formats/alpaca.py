"""Alpaca: an instruction, what it is about, and the answer."""

from typing import Any

from memedit.memory.formats.base import JsonRow, Parsed, optional_text, target_of, text_of
from memedit.types import Edit


class AlpacaFormat:
    """``instruction, input, output``; the prompt is the instruction, then on a line of its own the input, if any."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have an instruction and an output."""
        return "instruction" in row and "output" in row

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row."""
        prompt, about = text_of(row, "instruction"), optional_text(row, "input")
        fields = {"prompt": f"{prompt}\n{about}" if about else prompt, "target": target_of(row, "output")}
        return Parsed(fields, names={"prompt": "instruction", "target": "output"})

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one row."""
        return {"instruction": edit.prompt, "input": "", "output": edit.target}


FORMAT = AlpacaFormat()
