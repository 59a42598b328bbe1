"""Mini-Gemini 7B HD, stage 2: CLIP sees the whole and 2 x 2 crops.

Reproduces: the official recipe (2e-5, 4 samples per GPU, 128 per step, 2,880 tokens per
image); stage 1 is that of the model at 336 and 768 pixels.
Paper: Li et al., "Mini-Gemini: Mining the Potential of Multi-modality Vision Language
Models", 2024, arXiv 2403.18814.
Command: tools/dist_train.sh configs/mini_gemini/mini-gemini-hd-clip-l14-336-convnext-l-1536_mining_vicuna-v15-7b_8xb4-1e-ft_mgm-instruct.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: TextVQA 68.4, MMB 65.8, MME 1546/319, MM-Vet 41.3,
MMMU 36.8/32.9, MathVista 32.2. Ours: not measured.
"""

_base_ = "./mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b_8xb8-1e-ft_mgm-instruct.py"

model = dict(vision_encoder=dict(image_size=1536, grid=2))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare"),
            dict(type="EncodeConversation", max_length=4096, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ]
    ),
)
optim_wrapper = dict(accumulative_counts=4)
