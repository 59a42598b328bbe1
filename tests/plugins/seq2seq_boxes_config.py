"""A tiny T5 reads image and expression; its decoder writes the box in four tokens."""

_base_ = "base.py"
custom_imports = dict(imports="seq2seq_boxes")
codec = dict(type="CellCodec", cells=8)
tokenizer = dict(codec=codec)
chat_template = dict(_delete_=True, type="encoder_decoder")
t5 = dict(model_type="t5", vocab_size=640, d_model=128, d_kv=32, d_ff=256)
t5.update(num_layers=2, num_heads=4, dropout_rate=0.0, decoder_start_token_id=0)
model = dict(
    language_model=dict(_delete_=True, type="Seq2SeqLM", random_init=True, config=t5),
    heads=dict(tree=dict(type="BoxTree", cells=8)),
)
pipeline = [
    dict(type="LoadImages"),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=codec),
    dict(type="EncodeConversation"),
    dict(type="PackVLMInputs"),
]
task = dict(type="ReferringComprehension")
train_dataloader = dict(dataset=dict(task=task, pipeline=pipeline))
