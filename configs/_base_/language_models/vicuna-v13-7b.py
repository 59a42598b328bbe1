"""Vicuna-7B v1.3 and its tokenizer: LLaMA-7B's sizes."""

_base_ = "./llama-7b.py"

model = dict(language_model=dict(name_or_path="lmsys/vicuna-7b-v1.3"))
tokenizer = dict(name_or_path="lmsys/vicuna-7b-v1.3")
