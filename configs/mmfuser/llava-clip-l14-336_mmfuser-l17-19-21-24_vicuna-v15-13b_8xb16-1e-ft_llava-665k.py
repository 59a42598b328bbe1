"""MMFuser 13B, stage 2, looking into layers 17, 19, 21, 24 instead of 3, 8, 13, 18.

Reproduces: an ablation of the paper; the same in all else as the parent.
Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for Fine-Grained
Vision-Language Understanding", 2024, arXiv 2410.11829.
Command: tools/dist_train.sh configs/mmfuser/llava-clip-l14-336_mmfuser-l17-19-21-24_vicuna-v15-13b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = "./llava-clip-l14-336_mmfuser_vicuna-v15-13b_8xb16-1e-ft_llava-665k.py"

model = dict(connector=dict(fuser=dict(select_layers=[17, 19, 21, 24, 23])))
load_from = dict(
    path="work_dirs/llava-clip-l14-336_mmfuser-l17-19-21-24_vicuna-v15-13b_8xb32-1e-pt_llava-558k"
)
