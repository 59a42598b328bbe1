"""What the plug-ins start from: a tiny LLaVA on TinyScenes' referring expressions."""

_base_ = [
    "../../configs/_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../../configs/_base_/default_runtime.py",
    "../../configs/_base_/schedules/tiny.py",
]

tokenizer = dict(type="HFTokenizer", name_or_path="data/tokenizer")
chat_template = dict(type="vicuna_v1", system="")
model = dict(language_model=dict(attention="segment"))
referring = dict(type="RefCOCODataset", data_root="data", image_prefix="images")
referring.update(ann_file="refcoco/refs(unc).p", per="ref", indices=16)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=referring,
)
optim_wrapper = dict(dtype=None)
train_cfg = dict(max_iters=30)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=20, max_keep=9), replies=None
)
visualizer = dict(_delete_=True, type="Visualizer", vis_backends=[])
