"""MMFuser 13B, stage 1, with dense attention over all positions.

Reproduces: an ablation of the paper; the same in all else as the parent.
Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for Fine-Grained
Vision-Language Understanding", 2024, arXiv 2410.11829.
Command: tools/dist_train.sh configs/mmfuser/llava-clip-l14-336_mmfuser-global_vicuna-v15-13b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2. Ours: not measured.
"""

_base_ = "./llava-clip-l14-336_mmfuser_vicuna-v15-13b_8xb32-1e-pt_llava-558k.py"

model = dict(connector=dict(fuser=dict(attention="global")))
