"""The meta-architecture: parts, freezing, merging, loss, prediction."""

import copy
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mmvlm
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.vlms.base import VisionLanguageModel
from mmvlm.registry import MODELS
from mmvlm.structures import VLMDataSample
from mmvlm.testing import tiny_batch, tiny_vlm


class Words:
    """A tokenizer of one word per id, as far as ``predict`` needs one."""

    eos_token_id = 2
    unk_token_id = 0
    all_special_tokens = ("<2>",)

    def __len__(self):
        return 128

    def decode(self, ids, skip_special_tokens=False):
        keep = [i for i in ids if not (skip_special_tokens and i == 2)]
        return " ".join(f"<{i}>" for i in keep)

    def convert_tokens_to_ids(self, text):
        found = re.fullmatch(r"<(\d+)>", text)
        return int(found[1]) if found else 0


def _bind(model, *stops):
    template = SimpleNamespace(stop_strings=stops)
    model.bind(VLMProcessor(Words(), template, steps={}))
    return model


def _text_only(**options):
    return VisionLanguageModel(HFCausalLM.tiny(), **options)


def test_built_from_a_config_equals_built_from_parts():
    config = dict(
        type="VisionLanguageModel",
        vision_encoder=dict(
            type="HFVisionEncoder",
            config=dict(
                model_type="clip_vision_model", hidden_size=32, image_size=32,
                patch_size=8, num_hidden_layers=3, num_attention_heads=4,
                intermediate_size=64,
            ),
        ),
        connector=dict(type="MLPConnector", depth=3, select_layers=[-1]),
        language_model=dict(
            type="HFCausalLM",
            config=dict(
                model_type="llama", hidden_size=48, intermediate_size=96,
                num_hidden_layers=2, num_attention_heads=4, vocab_size=128,
            ),
        ),
        train_parts=dict(vision_encoder=False),
    )  # fmt: skip

    model = MODELS.build(config)

    assert list(model.parts) == ["vision_encoder", "connector", "language_model"]
    assert model.connector.vision_spec is model.vision_spec
    assert model.connector.out_width == 48
    assert {key.partition(".")[0] for key in model.state_dict()} == set(model.parts)


def test_part_table_counts_trainable_parameters():
    model = tiny_vlm(
        train_parts=dict(vision_encoder=dict(last_blocks=1), language_model=False)
    )

    table = {row["part"]: row for row in model.part_table()}

    block = sum(p.numel() for p in model.vision_encoder.blocks[-1].parameters())
    assert table["vision_encoder"]["trainable"] == block
    assert table["connector"]["trainable"] == table["connector"]["params"] == 3936
    assert table["language_model"]["trainable"] == 0
    assert table["language_model"]["type"] == "HFCausalLM"


@pytest.mark.parametrize(
    "rule, blocks, others",
    [
        (False, (), False),
        (True, (0, 1, 2), True),
        (dict(last_blocks=2), (1, 2), False),
        (dict(from_block=1), (1, 2), False),
        (dict(from_block=0), (0, 1, 2), False),
        (dict(from_block=-1), (0, 1, 2), True),
        (dict(last_blocks=0), (), False),
    ],
)
def test_freezing_rules(rule, blocks, others):
    encoder = tiny_vlm(train_parts=dict(vision_encoder=rule)).vision_encoder

    for name, parameter in encoder.named_parameters():
        found = re.search(r"layers\.(\d)\.", name)
        expected = int(found[1]) in blocks if found else others
        assert parameter.requires_grad == expected, name


def test_named_modules_stay_frozen():
    vlm = tiny_vlm(train_parts=dict(connector=dict(frozen=["proj.2", "proj.0.bias"])))

    trained = {n for n, p in vlm.connector.named_parameters() if p.requires_grad}

    assert trained == {"proj.0.weight"}


@pytest.mark.parametrize(
    "rule, match",
    [
        (dict(frozen=["norm"]), r"frozen=\['norm'\], but no param.* below 'norm'"),
        ("all", r"train_parts\.vision_encoder='all': expected False, True"),
        (dict(last_blocks=4), "vision_encoder has 3 blocks"),
        (dict(first_blocks=1), "expected False, True"),
        ("lora", "lora is not given"),
    ],
)
def test_wrong_freezing_rules_are_refused(rule, match):
    with pytest.raises(ValueError, match=match):
        tiny_vlm(train_parts=dict(vision_encoder=rule))


def test_unknown_part_and_half_a_vision_side_are_refused():
    with pytest.raises(ValueError, match=r"\['conector'\].*'connector'"):
        tiny_vlm(train_parts=dict(conector=True))
    with pytest.raises(ValueError, match="give both"):
        VisionLanguageModel(HFCausalLM.tiny(), connector=dict(type="MLPConnector"))


def test_frozen_parts_stay_in_eval_mode():
    model = tiny_vlm(train_parts=dict(vision_encoder=False)).train()

    assert not any(m.training for m in model.vision_encoder.modules())
    assert model.connector.training and model.language_model.training
    model.eval()
    assert not any(m.training for m in model.modules())


def test_only_named_modules_are_trained_and_the_others_stay_in_eval_mode():
    rule = dict(only=["proj.2"])
    connector = tiny_vlm(train_parts=dict(connector=rule)).train().connector

    trained = {n for n, p in connector.named_parameters() if p.requires_grad}
    assert trained == {"proj.2.weight", "proj.2.bias"}
    assert connector.training
    with pytest.raises(ValueError, match=r"lies below 'prj'.*has \['proj'\]"):
        tiny_vlm(train_parts=dict(connector=dict(only=["prj"])))


def test_frozen_encoder_runs_without_graph():
    model = tiny_vlm(train_parts=dict(vision_encoder=False)).train()
    seen = []
    model.connector.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].hidden_states[0].requires_grad)
    )

    model(tiny_batch(), mode="loss")["loss"].backward()
    model_all = tiny_vlm().train()
    model_all.connector.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].hidden_states[0].requires_grad)
    )
    model_all(tiny_batch(), mode="loss")

    assert seen == [False, True]


def test_text_only_model_trains_and_refuses_images():
    model = _text_only().train()

    loss = model(tiny_batch(num_images=(0, 0, 0)), mode="loss")["loss"]

    loss.backward()
    assert model.vision_spec is None and model.token_count is None
    with pytest.raises(ValueError, match=r"'sample-0' has 'image', .*text only"):
        model(tiny_batch(), mode="loss")


def test_wrong_slot_length_names_the_sample():
    batch = tiny_batch(num_images=(0, 1, 1), tokens_per_image=15)

    with pytest.raises(ValueError, match=r"sample 'sample-1'.*gives 16 tokens"):
        tiny_vlm()(batch, mode="loss")


def test_denominator_divides_the_summed_loss():
    model, batch = tiny_vlm(), tiny_batch()
    own = model(batch, mode="loss")["loss"]

    batch.denominators["text"] = torch.tensor(100.0)
    scaled = model(batch, mode="loss")["loss"]

    torch.testing.assert_close(scaled * 100, own * batch.text.num_targets)


def test_batch_without_trained_token_gives_zero_loss_and_gradients_everywhere():
    model = tiny_vlm().train()
    batch = tiny_batch()
    stream = batch.text
    stream.target_rows, stream.targets = stream.target_rows[:0], stream.targets[:0]

    loss = model(batch, mode="loss")["loss"]
    loss.backward()

    assert loss.item() == 0
    for name, parameter in model.language_model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_tensor_mode_gives_logits_of_every_position():
    model, batch = tiny_vlm(), tiny_batch()

    logits = model(batch, mode="tensor")

    assert logits.shape == (len(batch.text.input_ids), 128)
    rows = logits[batch.text.target_rows]
    loss = torch.nn.functional.cross_entropy(rows, batch.text.targets)
    torch.testing.assert_close(loss, model(batch, mode="loss")["loss"])
    with pytest.raises(ValueError, match="mode='train'"):
        model(batch, mode="train")


@pytest.mark.parametrize("flag", [False, True])
def test_image_less_batch_touches_vision_parts_when_told(flag):
    model = tiny_vlm().train()
    model.touch_all_parts = flag
    batch = tiny_batch(num_images=(0, 0, 0))
    text_only = _text_only()
    text_only.language_model.load_state_dict(model.language_model.state_dict())

    loss = model(batch, mode="loss")["loss"]
    loss.backward()

    touched = [p.grad is not None for p in model.connector.parameters()]
    assert all(touched) if flag else not any(touched)
    if flag:
        assert not any(p.grad.any() for p in model.connector.parameters())
    torch.testing.assert_close(loss, text_only(batch, mode="loss")["loss"])


def test_train_step_runs_through_mmengine():
    from mmengine.optim import OptimWrapper

    model = tiny_vlm(train_parts=dict(vision_encoder=False)).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(parameters, lr=0.1))
    data = dict(inputs=tiny_batch(), data_samples=None)

    first = model.train_step(data, wrapper)["loss"].item()
    for _ in range(5):
        last = model.train_step(data, wrapper)["loss"].item()

    assert last < first


def test_predict_equals_batch_one_and_fills_data_samples():
    model = _bind(tiny_vlm(lm=dict(initializer_range=0.3), generation={}))
    batch = tiny_batch(text_lens=(5, 9, 7), num_images=(1, 0, 2))

    together = model(batch, [VLMDataSample() for _ in range(3)], mode="predict")

    for number, sample in enumerate(together):
        alone = _one_sample(batch, number)
        (single,) = model.predict(alone)
        assert single.pred_text == sample.pred_text
        assert sample.pred_ids
    assert len({sample.pred_text for sample in together}) == 3


def _one_sample(batch, number):
    from mmvlm.testing import make_batch

    ids = batch.text.input_ids.split(batch.text.seq_lens)[number].tolist()
    images = batch.inputs["image"]
    mine = [k for k, owner in enumerate(images.owner) if owner == number]
    pixels = images.values[mine] if mine else None
    return make_batch([(ids, [-100] * len(ids))], pixels)


def test_equal_images_are_encoded_once_in_inference():
    model, batch = _bind(tiny_vlm()), tiny_batch(num_images=(1, 1, 2))
    pixels = batch.inputs["image"].values
    pixels[2] = pixels[0]
    seen = []
    model.vision_encoder.register_forward_pre_hook(
        lambda _, args: seen.append(len(args[0]))
    )

    shared = [s.pred_ids for s in model.predict(batch, max_new_tokens=4)]
    model.share_equal_views = False
    alone = [s.pred_ids for s in model.predict(batch, max_new_tokens=4)]
    model.share_equal_views = True
    model.train()(batch, mode="loss")

    assert shared == alone
    assert seen == [3, 4, 4]


def test_parts_of_different_dtypes_work_together():
    model, batch = tiny_vlm(), tiny_batch()
    expected = model(batch, mode="loss")["loss"]

    model.vision_encoder.to(torch.bfloat16)
    model.language_model.to(torch.bfloat16)
    loss = model(batch, mode="loss")["loss"]

    assert loss.dtype == torch.float32
    assert abs(loss.item() - expected.item()) < 0.05
    loss.backward()
    assert model.connector.proj[0].weight.grad.dtype == torch.float32


def _long_reply(batch, length):
    """Return a model and its reply of distinct ids: initial weights are a draw."""
    for seed in range(100):
        model = _bind(tiny_vlm(seed, lm=dict(initializer_range=0.3)))
        reply = model.predict(batch, max_new_tokens=length)[0].pred_ids
        if len(set(reply)) == length and Words.eos_token_id not in reply:
            return model, reply
    raise AssertionError("no model of a hundred gives such a reply")


def test_predict_cuts_at_stop_strings():
    batch = tiny_batch()
    model, free = _long_reply(batch, 6)

    _bind(model, f"<{free[2]}> <{free[3]}>")
    cut = model.predict(batch, max_new_tokens=6)[0]
    _bind(model, f"<{free[2]}>")
    by_id = model.predict(batch, max_new_tokens=6)[0]

    expected = " ".join(f"<{i}>" for i in free[:2])
    assert cut.pred_text == by_id.pred_text == expected
    assert by_id.pred_ids == free[: free.index(free[2]) + 1]


def test_predict_before_bind_and_of_an_empty_batch():
    model = tiny_vlm()

    with pytest.raises(RuntimeError, match=r"call model\.bind"):
        model.predict(tiny_batch())
    assert _bind(model).predict(tiny_batch(), []) == []


def test_model_pickles_copies_and_reloads():
    model, batch = tiny_vlm(), tiny_batch()
    expected = model(batch, mode="loss")["loss"]
    other = tiny_vlm(seed=1)

    other.load_state_dict(model.state_dict())

    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(batch, mode="loss")["loss"], expected)


def test_init_weights_leaves_pretrained_weights_alone():
    model = tiny_vlm()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    model.init_weights()

    for key, value in model.state_dict().items():
        if not key.startswith("connector."):
            assert torch.equal(value, before[key]), key


def test_meta_model_has_parts_and_spec():
    with torch.device("meta"):
        model = tiny_vlm()

    model.init_weights()

    assert all(p.is_meta for p in model.parameters())
    assert model.part_table()[1]["params"] == 3936


def test_model_code_knows_no_rank_device_or_autocast():
    forbidden = re.compile(
        r"torch\.distributed|mmengine\.dist|get_rank|get_world_size|autocast"
        r"|\.cuda\(|[\"']cuda|is_main_process|\bprint\("
    )
    folder = Path(mmvlm.__file__).parent / "models"
    # Operators choose a kernel by the device of their input.
    files = [file for file in folder.rglob("*.py") if file.parent.name != "ops"]
    assert len(files) > 15

    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            assert not forbidden.search(line), f"{file}:{number}: {line.strip()}"
