"""The reader: edits as text in the prompt, and a small LoRA that makes the model use them."""
