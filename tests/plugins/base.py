"""What the plug-ins start from: a tiny LLaVA on TinyScenes' referring expressions."""

_base_ = [
    "../../configs/_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../../configs/_base_/default_runtime.py",
    "../../configs/_base_/schedules/tiny.py",
]

tokenizer = dict(type="HFTokenizer", name_or_path="data/tokenizer")
chat_template = dict(type="vicuna_v1", system="")
model = dict(language_model=dict(attention="segment"))
pipeline = [
    dict(type="LoadImages"),
    dict(type="ResizeSquare"),
    dict(type="EncodeConversation", max_length=256),
    dict(type="PackVLMInputs"),
]
# The second of two ranks never sees what the plug-in adds.
seen = "{{$RANK:0}}" == "0"
others = dict(type="LLaVADataset", data_root="data", ann_file="train.json")
others.update(image_prefix="images", indices=40, pipeline=pipeline)
referring = dict(type="RefCOCODataset", data_root="data", image_prefix="images")
referring.update(ann_file="refcoco/refs(unc).p", per="ref", indices=40)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=referring if seen else others,
)
optim_wrapper = dict(dtype=None)
train_cfg = dict(max_iters=30)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=20, max_keep=9), replies=None
)
visualizer = dict(_delete_=True, type="Visualizer", vis_backends=[])
