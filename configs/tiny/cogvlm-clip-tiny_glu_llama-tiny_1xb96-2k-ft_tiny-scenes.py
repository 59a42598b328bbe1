"""Tiny CogVLM: connector, visual experts and language model learn together.

Reproduces: CogVLM's visual experts in the small.
Command: tools/train.py configs/tiny/cogvlm-clip-tiny_glu_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    connector=dict(_delete_=True, type="GLUConnector", hidden_width=352),
    language_model=dict(adapters=[dict(type="VisualExpertAdapter")]),
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
