"""How to say a box: thousandths between tags.

Reproduces: Qwen-VL's syntax.
Command: tools/train.py configs/ablations/tiny_scenes/boxes/shikra-thousandths-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 47.7 +- 7.6 % at IoU 0.5, three seeds.
"""

_base_ = "./shikra-numerals-clip-tiny_linear_llama-tiny_1xb48-400i-ft_tiny-scenes-referring.py"

codec = dict(type="QwenVLCodec", geometry="square_pad")
processor = dict(codec=dict(_delete_=True, **codec))
