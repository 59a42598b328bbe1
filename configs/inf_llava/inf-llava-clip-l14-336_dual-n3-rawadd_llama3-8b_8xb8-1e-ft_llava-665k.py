"""INF-LLaVA ablation, stage 2: both kinds of crops added, no enhancement.

Reproduces: row "DCM with addition" of Table 6.
Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
Multimodal Large Language Model", 2024, arXiv 2407.16198.
Command: tools/dist_train.sh configs/inf_llava/inf-llava-clip-l14-336_dual-n3-rawadd_llama3-8b_8xb8-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: POPE 85.77, SEED 68.89, MM-Vet 18.9, LLaVA-W 60.1.
Ours: not measured.
"""

_base_ = "./inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k.py"

model = dict(connector=dict(fuser=dict(fusion="add", enhance=False)))
load_from = dict(
    path="work_dirs/inf-llava-clip-l14-336_dual-n3-rawadd_llama3-8b_8xb16-1e-pt_llava-558k"
)
