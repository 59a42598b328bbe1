"""Descriptions are given, images are answered: four embeddings, one after the other."""

_base_ = "base.py"
custom_imports = dict(imports="image_embeds")
tokenizer = dict(additional_special_tokens=["[IMG]", "[EMB]"])
tower = dict(type="TinyVisionEncoder", width=32, num_layers=1, image_size=32)
model = dict(
    vision_encoder=None,
    connector=None,
    encoders=dict(tower=dict(reads=["target_image"], random_init=True, **tower)),
    connectors=dict(pool=dict(type="PooledImage", random_init=True)),
    heads=dict(image=dict(type="NextEmbedding", random_init=True)),
)
pipeline = [
    dict(type="LoadImages"),
    dict(type="AnswerWithImage"),
    dict(type="EncodeConversation"),
    dict(type="TargetImage"),
    dict(type="PackVLMInputs"),
]
llava = dict(type="LLaVADataset", data_root="data", ann_file="pretrain.json")
data = dict(llava, _delete_=True, indices=16, pipeline=pipeline)
train_dataloader = dict(dataset=data)
