"""The model card of a version: what it is, how it was made, how it did, how to use and undo it."""

import json

from memedit.consolidation.records import VersionRecord
from memedit.consolidation.verdicts import Gate


def model_card(record: VersionRecord, *, lora: bool = False) -> str:
    """Return the card as Markdown with the header that model hubs read."""
    changed = ", ".join(f"`{name}`" for name in record.norms)
    lines = [
        "---",
        f"base_model: {json.dumps(record.base_name)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [memedit, knowledge-editing]",
        "---",
        "",
        f"# {record.base_name}, version {record.name}",
        "",
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


def _row(gate: Gate) -> str:
    figures = [_figure(gate.base), _figure(gate.candidate)]
    reason = gate.reason.replace("|", "\\|").replace("\n", " ")
    return f"| {gate.name} | {gate.verdict.value} | {figures[0]} | {figures[1]} | {gate.n} | {reason} |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
