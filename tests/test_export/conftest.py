"""Fixtures of the export tests."""

import pytest
from export_helpers import PlainTalk, make_llava


@pytest.fixture(scope="session")
def hf_llava():
    return make_llava()


@pytest.fixture(scope="session")
def hf_folder(hf_llava, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava-hf")
    hf_llava.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE of about 300 tokens with BOS, EOS and chat marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
    )
    inner.train_from_iterator(
        ["What colour is the red circle? USER: ASSISTANT:"], trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def context(tokenizer):
    """Tokenizer, a one-family template and the tiny CLIP's spec."""
    from mmvlm.datasets.processor import VLMProcessor
    from mmvlm.structures import PatchTokenCount, VisionEncoderSpec

    spec = VisionEncoderSpec(
        width=32,
        num_layers=3,
        patch_size=8,
        image_size=32,
        num_prefix_tokens=1,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    return VLMProcessor(tokenizer, PlainTalk(), spec, PatchTokenCount(8))
