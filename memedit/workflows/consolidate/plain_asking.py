"""Ask a model with transformers alone. Run as a program, isolated (``python -I``): it must not know of memedit.

Reads ``{"model": folder, "gguf_file": name or null, "adapter": folder or null, "rows": [{"prompt", "tokens"}]}`` as
JSON on stdin and writes the greedy continuations as a JSON list.
"""

import json
import sys
from typing import Any


def ask(task: Any) -> list[str]:
    """Return the continuation of each row's prompt, at most so many tokens of it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {} if task["gguf_file"] is None else {"gguf_file": task["gguf_file"]}
    tokenizer = AutoTokenizer.from_pretrained(task["model"], **options)
    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32, **options)
    if task["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, task["adapter"])
    model.eval()
    found = []
    for row in task["rows"]:
        ids = tokenizer(row["prompt"], return_tensors="pt")
        with torch.no_grad():
            out = model.generate(
                input_ids=ids["input_ids"],
                attention_mask=ids["attention_mask"],
                max_new_tokens=row["tokens"],
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
            )
        found.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    return found


if __name__ == "__main__":
    answers = ask(json.load(sys.stdin))
    assert "memedit" not in sys.modules
    sys.stdout.write(json.dumps(answers))
