"""The model card of a version: what it is, how it was made, how it did, how to use and undo it."""

import json
from collections.abc import Sequence

from memedit.consolidation.records import VersionRecord
from memedit.consolidation.verdicts import Gate
from memedit.types import Edit
from memedit.workflows.consolidate.exported import EDITS, Exported, ExportFormat

_SHOWN = 20
"""Edits that the card of an export shows; its file of edits has them all."""


def model_card(record: VersionRecord, *, lora: bool = False) -> str:
    """Return the card as Markdown with the header that model hubs read."""
    lines = [
        *_head(record),
        *_made(record),
        "",
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("path/of/this/folder")',
        'tokenizer = AutoTokenizer.from_pretrained("path/of/this/folder")',
        "```",
        "",
        "With the edit memory, which answers the edits left over and all later ones:",
        "",
        "```sh",
        'memedit ask --model champion "..."',
        "```",
        "",
        "## Undo",
        "",
        "`memedit rollback` takes the version before; `memedit withdraw ID` solves again without one edit. "
        "`delta.safetensors` holds the whole change: the base's weights are these less that.",
    ]
    if lora:
        lines += ["", "`lora/` holds the same change as a PEFT adapter for the base model."]
    return "\n".join(lines) + "\n"


def export_card(record: VersionRecord, exported: Exported, edits: Sequence[Edit]) -> str:
    """Return the card of an export: which edits are in it, what the gates measured, and how it did when asked."""
    lines = [*_head(record), *_made(record), "", "## Asked", ""]
    if exported.held is None:
        lines.append("Nothing was asked of this export.")
    else:
        held = exported.held
        lines.append(
            f"Loaded with transformers alone, it answers {held.value:.1f}% [{held.ci_low:.1f}, {held.ci_high:.1f}] of "
            f"{held.n} of its edits (95% interval); greedy, plain prompts."
        )
    if exported.lora is not None:
        lines += ["", f"LoRA of rank {exported.lora.rank}; of each layer's change it holds at least "
                      f"{100 * exported.lora.kept:.2f}% of the norm."]  # fmt: skip
    lines += ["", "## Edits", "", f"`{EDITS}` lists {len(edits)}.", "", "| prompt | answer |", "|---|---|"]
    lines += [f"| {_cell(edit.prompt)} | {_cell(edit.target)} |" for edit in edits[:_SHOWN]]
    return "\n".join([*lines, "", "## Use", "", *_use(record, exported)]) + "\n"


def _use(record: VersionRecord, exported: Exported) -> list[str]:
    if exported.format is ExportFormat.GGUF:
        file = next(path.name for path in exported.folder.glob("*.gguf"))
        return [f"`llama-server -m {file}`, or `from_pretrained(FOLDER, gguf_file={file!r})` in transformers."]
    code = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if exported.format is ExportFormat.PEFT:
        code += [
            "from peft import PeftModel",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({record.base_name!r})  # or where its checkpoint lies",
            'model = PeftModel.from_pretrained(base, "path/of/this/folder")',
        ]
    else:
        code += [
            "",
            'model = AutoModelForCausalLM.from_pretrained("path/of/this/folder")',
            'tokenizer = AutoTokenizer.from_pretrained("path/of/this/folder")',
        ]
    return ["```python", *code, "```"]


def _cell(text: str) -> str:
    shown = " ".join(text.split()).replace("|", "\\|")
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _head(record: VersionRecord) -> list[str]:
    """Return the header that model hubs read, and the title."""
    return [
        "---",
        f"base_model: {json.dumps(record.base_name)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [memedit, knowledge-editing]",
        "---",
        "",
        f"# {record.base_name}, version {record.name}",
        "",
    ]


def _made(record: VersionRecord) -> list[str]:
    """Return how the version was made and how it did."""
    changed = ", ".join(f"`{name}`" for name in record.norms)
    return [
        f"{len(record.edits)} edits written into the weights of `{record.base_name}` by {record.method} "
        f"(memedit {record.memedit}, {record.created_at}). The base's licence goes on to apply.",
        "",
        f"**Verdict: {record.verdict.value}**" + (": " + "; ".join(record.reasons) if record.reasons else ""),
        "",
        "| gate | verdict | base | this version | n | why |",
        "|---|---|---|---|---|---|",
        *(_row(gate) for gate in record.gates),
        "",
        f"{len(record.served)} edits passed their own check and are answered by the weights; {len(record.left_over)} "
        "did not, and need the edit memory beside the model. Changed weights: " + changed + ".",
    ]


def _row(gate: Gate) -> str:
    figures = [_figure(gate.base), _figure(gate.candidate)]
    reason = gate.reason.replace("|", "\\|").replace("\n", " ")
    return f"| {gate.name} | {gate.verdict.value} | {figures[0]} | {figures[1]} | {gate.n} | {reason} |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
