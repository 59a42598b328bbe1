"""Parent of the ablation: one layer of the frozen tower, an MLP of two layers.

Reproduces: LLaVA-1.5's connector in the small.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
All of them: tools/analysis/ablate.py configs/ablations/tiny_scenes --seeds 3
Hardware: sized for 2 CPU cores.
Expected: 85.3 % of coarse and 46.5 % of fine questions, three seeds.
"""

_base_ = [
    "../../_base_/models/llava-clip-tiny-l6_mlp2x_llama-tiny.py",
    "../../_base_/datasets/tiny_scenes_fine.py",
    "../../_base_/schedules/tiny.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True)
)
train_cfg = dict(max_iters=800)
optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.1))
base_batch_size = 96
load_from = [
    dict(
        path="work_dirs/clip-tiny-l6_contrastive_none_1xb192-1000i-pt_tiny-scenes-fine",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb48-500i-pt_tiny-scenes-fine",
        parts=["language_model"],
    ),
]
