"""INF-LLaVA ablation, stage 1: N = 4, images of 1344 pixels.

Reproduces: row "336+1344" of Table 3.
Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
Multimodal Large Language Model", 2024, arXiv 2407.16198.
Command: tools/dist_train.sh configs/inf_llava/inf-llava-clip-l14-336_dual-n4_llama3-8b_8xb16-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = "./inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb16-1e-pt_llava-558k.py"

model = dict(connector=dict(fuser=dict(grid=4)))
