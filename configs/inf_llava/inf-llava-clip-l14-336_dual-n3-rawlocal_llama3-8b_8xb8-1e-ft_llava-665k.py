"""INF-LLaVA ablation, stage 2: local crops alone, no enhancement.

Reproduces: row "local crops" of Table 6.
Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
Multimodal Large Language Model", 2024, arXiv 2407.16198.
Command: tools/dist_train.sh configs/inf_llava/inf-llava-clip-l14-336_dual-n3-rawlocal_llama3-8b_8xb8-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: POPE 86.12, SEED 66.6, MM-Vet 27.8, LLaVA-W 56.3.
Ours: not measured.
"""

_base_ = "./inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k.py"

model = dict(connector=dict(fuser=dict(branches="local", enhance=False)))
load_from = dict(
    path="work_dirs/inf-llava-clip-l14-336_dual-n3-rawlocal_llama3-8b_8xb16-1e-pt_llava-558k"
)
