"""Tiny transformers models, a template and batches for the export tests."""

import copy

import torch

from mmvlm.export.verify import hf_inputs
from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID
from mmvlm.testing.builders import make_batch
from mmvlm.text.templates.base import ChatTemplate, Piece


def llava_fields(vocab_size=96, image_token_index=90, tie=False, **fields):
    from transformers import CLIPVisionConfig, LlamaConfig

    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    text = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tie,
    )
    return dict(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token_index,
        tie_word_embeddings=tie,
        **fields,
    )


def make_llava(seed=0, **fields):
    """A random transformers LLaVA whose biases are not zero."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(LlavaConfig(**llava_fields(**fields)))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.normal_(std=0.1)
    return model.eval()


class PlainTalk(ChatTemplate):
    """The smallest chat template: ``USER: q ASSISTANT: a</s>``."""

    stop_strings = ("</s>",)

    def render(self, conversation, *, add_generation_prompt=False):
        pieces = []
        for turn in conversation.turns:
            if turn.role == "system":
                pieces.append(Piece(f"{turn.text} "))
                continue
            user = turn.role == "user"
            pieces.append(Piece("USER: " if user else " ASSISTANT: "))
            for part in turn.parts:
                index = getattr(part, "index", None)
                text = "" if index is not None else part.text
                pieces.append(Piece(text, supervised=not user, image=index))
            if not user:
                pieces.append(Piece("</s>", supervised=True))
        if add_generation_prompt:
            pieces.append(Piece(" ASSISTANT:"))
        return pieces


def make_question(positions=16, seed=1, tail=(5, 40, 41, 66)):
    """A flat batch of one sample: text, an image's positions, text."""
    generator = torch.Generator().manual_seed(seed)
    ids = [1, 7, 12, *[SLOT_TOKEN_ID] * positions, *tail]
    pixels = torch.randn(1, 3, 32, 32, generator=generator)
    return make_batch([(ids, [IGNORE_INDEX] * len(ids))], pixels)


def build(imported, **changes):
    """Build the model of an import and load it strictly."""
    from mmvlm.registry import MODELS

    model = MODELS.build({**copy.deepcopy(imported.model_cfg), **changes})
    model.load_state_dict(imported.state_dict)
    return model.eval()


@torch.no_grad()
def hf_logits(llava, batch):
    return llava(**hf_inputs(batch, llava.config)).logits[0]


def hf_ids(context, texts, processor):
    """Our prompt of a dialogue, images as the processor's image token."""
    import numpy as np

    from mmvlm.datasets.collate import collate_flat
    from mmvlm.datasets.transforms.compose import Compose
    from mmvlm.text.llava_format import parse_llava_conversation

    steps = [
        dict(type="LoadImages"),
        dict(type="PadToSquare"),
        dict(type="EncodeConversation", mode="generate"),
        dict(type="PackVLMInputs"),
    ]
    pipeline = Compose(steps)
    pipeline.bind(context)
    turns = [
        {"from": ("human", "gpt")[place % 2], "value": text}
        for place, text in enumerate(texts)
    ]
    images = [np.zeros((20, 30, 3), np.uint8)] if "<image>" in texts[0] else []
    talk = parse_llava_conversation(dict(id="1", conversations=turns), images=images)
    rng = np.random.default_rng(0)
    item = pipeline(dict(conversation=talk, dataset="x", index=0, rng=rng))
    ids = collate_flat([item])["inputs"].text.input_ids.tolist()
    return [processor.image_token_id if n == SLOT_TOKEN_ID else n for n in ids]


def meta_tensors(shapes):
    """Tensors without memory, as checkpoints of whole size have them."""
    return {
        key: torch.empty(shape, dtype=torch.float16, device="meta")
        for key, shape in shapes.items()
    }


def llama_7b(rows):
    """The key list of a LLaMA of 7 billion weights with its sizes."""
    width, inner = 4096, 11008
    table = (rows, width)
    shapes = {"model.embed_tokens.weight": table, "lm_head.weight": table}
    shapes["model.norm.weight"] = (width,)
    for n in range(32):
        layer = f"model.layers.{n}."
        for name in "qkvo":
            shapes[f"{layer}self_attn.{name}_proj.weight"] = (width, width)
        for name in ("gate", "up"):
            shapes[f"{layer}mlp.{name}_proj.weight"] = (inner, width)
        shapes[f"{layer}mlp.down_proj.weight"] = (width, inner)
        for name in ("input", "post_attention"):
            shapes[f"{layer}{name}_layernorm.weight"] = (width,)
    return shapes
