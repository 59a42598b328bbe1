"""PINK-7B: CLIP ViT-L/14 and Llama-2-7B-chat with bottlenecks, one linear layer.

Tags stand around expressions, boxes, class names, predicates, questions and options of
what is asked; their rows are the only ones of the tables that learn.
"""

_base_ = [
    "../vision_encoders/clip-l14-224.py",
    "../language_models/llama-7b.py",
]

codec = dict(type="PinkCodec", add_marks=True)
tokenizer = dict(name_or_path="meta-llama/Llama-2-7b-chat-hf")
chat_template = dict(type="llama_2", system="", image_prefix="Image: ")
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="AdaptedVisionEncoder",
        vision_encoder=_base_.vision_encoder,
        hidden=8,
        dropout=0.1,
    ),
    connector=dict(type="LinearConnector", select_layers=[-2]),
    language_model=dict(
        name_or_path="meta-llama/Llama-2-7b-chat-hf",
        config=dict(max_position_embeddings=4096, rms_norm_eps=1e-5),
        adapters=[dict(type="BottleneckAdapter", hidden=8, dropout=0.1)],
        new_tokens=dict(codec=codec, train="rows"),
    ),
    generation=dict(max_new_tokens=256, do_sample=False),
)
processor = dict(
    views=dict(type="ResizeSquare", resample="bicubic"),
    codec=codec,
    max_length=2048,
    overflow="truncate_text",
    load_images=dict(any_suffix=True),
)
