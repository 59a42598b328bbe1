"""Shikra-7B, stage 0, with one of 1001 tokens per coordinate in place of numerals.

Reproduces: the paper's variant of vocabulary; numerals are at least as good there.
Paper: Chen et al., "Shikra: Unleashing Multimodal LLM's Referential Dialogue Magic",
2023, arXiv 2306.15195.
Command: tools/dist_train.sh configs/shikra/shikra-tokens-clip-l14-224_linear_vicuna-7b_8xb8-1e-ft_shikra-rec.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = "./shikra-clip-l14-224_linear_vicuna-7b_8xb8-1e-ft_shikra-rec.py"

codec = dict(type="ShikraCodec", tokens=True)
processor = dict(codec=codec)
model = dict(language_model=dict(new_tokens=dict(codec=codec)))
