"""Tiny InternLM-XComposer2: partial LoRA for image tokens, all parts learn.

Reproduces: XComposer2's PLoRA in the small.
Command: tools/train.py configs/tiny/internlm-xcomposer2-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    connector=dict(_delete_=True, type="MLPConnector", depth=2, select_layers=[-1]),
    language_model=dict(
        adapters=[dict(type="PLoRAAdapter", r=16, alpha=16, dropout=0.05)]
    ),
)
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
