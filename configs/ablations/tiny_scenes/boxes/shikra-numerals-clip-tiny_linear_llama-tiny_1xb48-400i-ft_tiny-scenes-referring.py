"""How to say a box: numerals of three decimals, the parent.

Reproduces: Shikra's syntax; scored as the others are.
Command: tools/train.py configs/ablations/tiny_scenes/boxes/shikra-numerals-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 88.3 +- 5.7 % at IoU 0.5, three seeds.
"""

_base_ = "../../../tiny/shikra-clip-tiny_linear_llama-tiny_1xb48-600i-ft_tiny-scenes-referring.py"

test_evaluator = dict(rule="regions")
train_cfg = dict(max_iters=400)
