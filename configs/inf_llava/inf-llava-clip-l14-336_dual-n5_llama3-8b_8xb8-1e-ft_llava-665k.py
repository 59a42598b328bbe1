"""INF-LLaVA ablation, stage 2: N = 5, images of 1680 pixels.

Reproduces: row "336+1680" of Table 3.
Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
Multimodal Large Language Model", 2024, arXiv 2407.16198.
Command: tools/dist_train.sh configs/inf_llava/inf-llava-clip-l14-336_dual-n5_llama3-8b_8xb8-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: POPE 87.31, SEED 69.35, MM-Vet 33.99, LLaVA-W 64.5.
Ours: not measured.
"""

_base_ = "./inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k.py"

model = dict(connector=dict(fuser=dict(grid=5)))
load_from = dict(
    path="work_dirs/inf-llava-clip-l14-336_dual-n5_llama3-8b_8xb16-1e-pt_llava-558k"
)
