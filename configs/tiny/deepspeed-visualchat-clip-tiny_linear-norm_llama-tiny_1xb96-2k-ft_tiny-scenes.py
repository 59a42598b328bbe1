"""Tiny DeepSpeed-VisualChat: multi-modal causal attention, all parts learn.

Reproduces: MMCA in the small.
Command: tools/train.py configs/tiny/deepspeed-visualchat-clip-tiny_linear-norm_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    connector=dict(_delete_=True, type="LinearNormConnector"),
    language_model=dict(adapters=[dict(type="MMCAAdapter")]),
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
