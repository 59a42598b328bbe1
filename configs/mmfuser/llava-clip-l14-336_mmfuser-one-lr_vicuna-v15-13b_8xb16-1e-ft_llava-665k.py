"""MMFuser 13B, stage 2, with one learning rate for fuser and projector.

Reproduces: nothing published; the same in all else as the parent.
Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for Fine-Grained
Vision-Language Understanding", 2024, arXiv 2410.11829.
Command: tools/dist_train.sh configs/mmfuser/llava-clip-l14-336_mmfuser-one-lr_vicuna-v15-13b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = "./llava-clip-l14-336_mmfuser_vicuna-v15-13b_8xb16-1e-ft_llava-665k.py"

load_from = dict(
    path="work_dirs/llava-clip-l14-336_mmfuser-one-lr_vicuna-v15-13b_8xb32-1e-pt_llava-558k"
)
