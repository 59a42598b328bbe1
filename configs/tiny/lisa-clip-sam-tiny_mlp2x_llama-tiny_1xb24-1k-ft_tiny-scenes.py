"""Tiny LISA: a language model says [SEG], a SAM makes a mask of the state before it.

Reproduces: LISA's parts, losses and sources in the small. SAM's image encoder, pretrained
on TinyScenes, stays frozen; its mask decoder learns, and so does, as at this size nothing
can be adapted by LoRA, the whole language model. As LISA starts from LLaVA, this one
starts from the demo's tiny LLaVA.
Command: tools/train.py configs/tiny/lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores. The data need `make_tiny_scenes.py --format llava refcoco
ade20k reason_seg`.
Expected: a gIoU of 0.82 (shapes 0.84, digits and words 0.77, reasoning 0.89), all masks
said; blind 0.09; 7 CPU minutes.
"""

_base_ = [
    "../_base_/models/lisa-clip-sam-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_masks.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False,
        sam=False,
        connector=True,
        language_model=True,
        mask=dict(frozen=["prompt_encoder"]),
    )
)
train_cfg = dict(max_iters=1000)
base_batch_size = 24
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
        parts=["connector", "language_model"],
    ),
    dict(
        path="work_dirs/sam-tiny_promptable_none_1xb24-400i-pt_tiny-scenes",
        parts=["sam"],
    ),
    dict(
        path="work_dirs/sam-tiny_promptable_none_1xb24-400i-pt_tiny-scenes",
        rename=dict(decoder="mask.decoder"),
        parts=["mask"],
        grow=True,
    ),
]
