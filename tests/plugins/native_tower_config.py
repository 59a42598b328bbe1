"""Images at their own sizes; positions in time, height and width in the decoder."""

_base_ = "base.py"
custom_imports = dict(imports="native_tower")
sizes = dict(depth=2, num_heads=2, patch_size=4, embed_dim=32, hidden_size=96)
tower = dict(_delete_=True, type="QwenTower", random_init=True, config=sizes)
axes = dict(type="mrope", mrope_section=[4, 6, 6])
decoder = dict(model_type="qwen2_vl_text", rope_scaling=axes)
model = dict(
    vision_encoder=tower,
    connector=dict(_delete_=True, type="NativeResolutionConnector"),
    language_model=dict(config=decoder),
)
pipeline = [
    dict(type="LoadImages"),
    dict(type="DrawnShape"),
    dict(type="NativeResolution", min_pixels=64),
    dict(type="EncodeConversation"),
    dict(type="AddAxisPositions"),
    dict(type="PackVLMInputs"),
]
data = dict(_delete_=True, type="LLaVADataset", data_root="data", indices=16)
data.update(ann_file="train.json", pipeline=pipeline)
train_dataloader = dict(dataset=data)
