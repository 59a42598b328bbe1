"""Encoder-decoders and native resolution in whole models, from pipeline to reply."""

import numpy as np
import pytest
import torch

from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.transforms.compose import Compose
from mmvlm.registry import CHAT_TEMPLATES, MODELS, TOKENIZERS
from mmvlm.structures import Conversation

SEQ2SEQ = dict(
    language_model=dict(
        type="Seq2SeqLM",
        config=dict(
            model_type="t5",
            vocab_size=512,
            d_model=48,
            d_kv=12,
            d_ff=96,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        ),
    ),
    vision_encoder=dict(
        type="HFVisionEncoder",
        config=dict(
            model_type="clip_vision_model",
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        ),
    ),
    connector=dict(type="MLPConnector"),
)
NATIVE = dict(
    language_model=dict(
        type="HFCausalLM",
        config=dict(
            model_type="qwen2_vl_text",
            vocab_size=512,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_scaling=dict(type="mrope", mrope_section=[2, 2, 2]),
        ),
    ),
    vision_encoder=dict(
        type="Qwen2VLVisionEncoder",
        config=dict(
            model_type="qwen2_vl",
            vision_config=dict(
                depth=2,
                embed_dim=32,
                num_heads=2,
                hidden_size=48,
                patch_size=4,
                mlp_ratio=2,
            ),
        ),
    ),
    connector=dict(type="NativeResolutionConnector"),
)
SYSTEMS = {
    "seq2seq": (SEQ2SEQ, "encoder_decoder", [dict(type="PadToSquare")]),
    "native": (NATIVE, "vicuna_v1", [dict(type="NativeResolution", min_pixels=64)]),
}
TALKS = [
    ("What is it?", "A red cat.", 1),
    ("Say it.", "It.", 0),
    ("Which of them is larger?", "The first", 2),
]


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request):
    """Return the model and what makes batches of some of the talks."""
    torch.manual_seed(0)
    config, template, views = SYSTEMS[request.param]
    model = MODELS.build(dict(type="VisionLanguageModel", **config)).eval()
    context = VLMProcessor(
        TOKENIZERS.build(dict(type="TinyTokenizer")),
        CHAT_TEMPLATES.build(dict(type=template)),
        model.vision_spec,
        model.token_count,
        requested_views=model.requested_views,
    )
    model.bind(context)
    generator = np.random.default_rng(0)
    images = [
        generator.integers(0, 256, (*size, 3), np.uint8)
        for size in ((20, 30), (41, 17), (24, 24))
    ]

    def batch(numbers, mode="train"):
        positions = dict(type="AddAxisPositions")
        steps = [*views, dict(type="EncodeConversation", mode=mode)]
        steps += [positions] if request.param == "native" else []
        pipeline = Compose([*steps, dict(type="PackVLMInputs")])
        pipeline.bind(context)
        items = []
        for number in numbers:
            question, answer, count = TALKS[number]
            own = images[number : number + count]
            talk = Conversation.from_texts(question, answer, images=own)
            item = dict(conversation=talk, images=own, dataset="d", index=number)
            items.append(pipeline(item))
        return model.data_preprocessor(collate_flat(items))

    return model, batch


def test_a_batch_has_the_losses_of_its_samples(system):
    model, batch = system
    together = model.loss(batch([0, 1, 2])["inputs"])["loss"]
    total = count = 0
    for number in range(3):
        one = batch([number])["inputs"]
        total += model.loss(one)["loss"] * one.text.num_targets
        count += one.text.num_targets
    torch.testing.assert_close(together, total / count)
    together.backward()
    assert all(p.grad is not None for p in model.connector.parameters())


def test_training_lowers_the_loss(system):
    model, batch = system
    data = batch([0, 1, 2])["inputs"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = model.loss(data)["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_replies_of_a_batch_are_those_of_its_samples(system):
    model, batch = system
    prompts = batch([0, 1, 2], "generate")["inputs"]
    together = model.predict(prompts, max_new_tokens=6)
    for number, sample in enumerate(together):
        prompt = batch([number], "generate")["inputs"]
        (alone,) = model.predict(prompt, max_new_tokens=6)
        assert sample.pred_ids == alone.pred_ids
        assert sample.finish == alone.finish


def test_a_batch_without_a_usable_sample_trains_nothing(system):
    model, _ = system
    model.zero_grad()
    empty = model.data_preprocessor(collate_flat([]))["inputs"]
    model.loss(empty)["loss"].backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and not any(grad.any() for grad in grads)


def test_every_part_runs_where_other_ranks_need_it(system):
    model, batch = system
    model.zero_grad()
    model.touch_all_parts = True
    model.loss(batch([1])["inputs"])["loss"].backward()
    model.touch_all_parts = False
    first = next(iter(model.vision_encoder.blocks))
    parts = (*first.parameters(), *model.connector.parameters())
    assert all(p.grad is not None and not p.grad.any() for p in parts)
