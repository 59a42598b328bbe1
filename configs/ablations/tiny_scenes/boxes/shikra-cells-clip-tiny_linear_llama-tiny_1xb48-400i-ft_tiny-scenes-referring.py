"""How to say a box: a token per corner, on a grid of 32 x 32 cells.

Reproduces: Kosmos-2's syntax and vocabulary.
Command: tools/train.py configs/ablations/tiny_scenes/boxes/shikra-cells-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 89.4 +- 8.2 % at IoU 0.5, three seeds.
"""

_base_ = "./shikra-numerals-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py"

codec = dict(type="Kosmos2Codec", geometry="square_pad")
processor = dict(codec=dict(_delete_=True, **codec))
# Rows for 1024 cells and six tags.
model = dict(language_model=dict(new_tokens=dict(tokens=[None] * 1030, train=None)))
