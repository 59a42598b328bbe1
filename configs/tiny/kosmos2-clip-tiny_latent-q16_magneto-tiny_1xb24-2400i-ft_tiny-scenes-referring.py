"""Tiny Kosmos-2: two tokens per box on a grid of 12 x 12 cells, a decoder of its own.

Reproduces: Kosmos-2's parts and location tokens in the small (32 x 32 would be cells of a
pixel and a half). All but the tower begins from nothing: nothing else has its decoder.
Command: tools/train.py configs/tiny/kosmos2-clip-tiny_latent-q16_magneto-tiny_1xb24-2400i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 64.5 % of 400 expressions, blind 10.5 %, 13 CPU minutes.
"""

_base_ = ["./shikra-clip-tiny_linear_llama-tiny_1xb48-600i-ft_tiny-scenes-referring.py"]

codec = dict(type="Kosmos2Codec", grid=12)
model = dict(
    vision_encoder=dict(final_norm=True),
    connector=dict(
        _delete_=True,
        type="LatentAttentionConnector",
        num_queries=16,
        heads=4,
        random_init=True,
    ),
    language_model=dict(
        _delete_=True,
        type="Kosmos2LM",
        random_init=True,
        config=dict(
            model_type="kosmos_2_text_model",
            vocab_size=768,
            embed_dim=128,
            ffn_dim=512,
            layers=4,
            attention_heads=4,
            max_position_embeddings=512,
            dropout=0.0,
            attention_dropout=0.0,
            init_std=0.06,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
    ),
    train_parts=dict(vision_encoder=True),
)
processor = dict(views=dict(type="ResizeSquare"), codec=dict(_delete_=True, **codec))
comprehension = dict(_base_.comprehension, answer="<boxes>", repeat_phrase=True)
train_dataloader = dict(
    batch_size=24, dataset=dict(task=dict(tasks=[comprehension, _base_.generation]))
)
test_dataloader = dict(dataset=dict(task=comprehension))
# The official rule reads 32 x 32 cells.
test_evaluator = dict(rule="regions")
train_cfg = dict(max_iters=2400)
# The tower knows the images, the decoder nothing yet.
optim_wrapper = dict(
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(parts=dict(vision_encoder=dict(lr=2e-4))),
)
base_batch_size = 24
tower = "work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes"
load_from = [dict(path=tower, parts=["vision_encoder"])]
