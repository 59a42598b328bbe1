"""How to say a box: one of 1001 tokens per coordinate.

Reproduces: Shikra's variant of vocabulary.
Command: tools/train.py configs/ablations/tiny_scenes/boxes/shikra-bins-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 98.2 +- 0.7 % at IoU 0.5, three seeds.
"""

_base_ = "./shikra-numerals-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py"

processor = dict(codec=dict(tokens=True))
# Rows for 1001 bins and six marks.
model = dict(language_model=dict(new_tokens=dict(tokens=[None] * 1007, train=None)))
