"""MMFuser 7B, stage 2, with a learning rate of 1e-4 for the fuser, as at 13B.

Reproduces: nothing published; the same in all else as the parent.
Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for Fine-Grained
Vision-Language Understanding", 2024, arXiv 2410.11829.
Command: tools/dist_train.sh configs/mmfuser/llava-clip-l14-336_mmfuser-fuser-lr_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = "./llava-clip-l14-336_mmfuser_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"

load_from = dict(
    path="work_dirs/llava-clip-l14-336_mmfuser-fuser-lr_vicuna-v15-7b_8xb32-1e-pt_llava-558k"
)
