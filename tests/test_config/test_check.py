import re

import pytest

from mmvlm.config import ConfigError, check_config, load_config
from mmvlm.registry import CHAT_TEMPLATES, MODELS
from mmvlm.text.templates.base import ChatTemplate, Piece


def test_a_good_config_passes(chain):
    cfg = load_config(chain.base)

    assert cfg.model.connector.depth == 2
    assert check_config(cfg).warnings == []


def test_misspelt_option_names_the_nearest_key(chain):
    with pytest.raises(
        ConfigError,
        match=(
            r"model\.conector\.depth=3 \(--cfg-options\): no key 'conector' in model\. "
            r"Did you mean 'connector'\?"
        ),
    ) as error:
        load_config(chain.base, {"model.conector.depth": 3})
    assert "1 problem" in str(error.value)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("optim_wrapper.dtype", r"\[None, 'float32', 'bfloat16', 'float16', 'auto'\]"),
        ("test_cfg.dtype", r"\[None, 'float32', 'bfloat16', 'float16', 'auto'\]"),
        ("model.vision_encoder.torch_dtype", "'float32', 'bfloat16' or 'float16'"),
        ("model.language_model.torch_dtype", "'float32', 'bfloat16' or 'float16'"),
    ],
)
@pytest.mark.parametrize("name", ["bf16", "int8"])
def test_a_dtype_of_an_unknown_name_is_refused_with_those_that_are_known(
    path, allowed, name
):
    config = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
    options = {"+test_cfg.type": "VLMTestLoop", "train_cfg.max_itters": 3}
    options[f"+{path}"] = name
    told = rf"{re.escape(path)}='{name}' \(--cfg-options\): expected .*{allowed}"
    with pytest.raises(ConfigError, match=told) as error:
        load_config(config, options)
    assert "2 problems" in str(error.value)


def test_misspelt_branch_of_a_file_names_its_line(chain):
    path = chain.child("model = dict(\n    conector=dict(depth=3),\n)")

    with pytest.raises(
        ConfigError,
        match=(
            r"model\.conector=.* \(.*child\.py:3\): unexpected keyword 'conector' for "
            r"VisionLanguageModel\. Did you mean 'connector'"
        ),
    ):
        load_config(path)


def test_keyword_left_from_a_parents_type(chain):
    text = 'model = dict(\n    connector=dict(\n        type="LinearConnector"))'
    depth = chain.line("base.py", "depth=2")

    with pytest.raises(
        ConfigError,
        match=(
            r"model\.connector \(.*child\.py:4\): unexpected keyword 'depth' for "
            rf"LinearConnector; it was inherited from .*base\.py:{depth}\. "
            r"Add _delete_=True or remove it\."
        ),
    ):
        load_config(chain.child(text))
    with pytest.raises(ConfigError, match=r"inherited from .*base\.py"):
        load_config(chain.base, {"model.connector.type": "LinearConnector"})


def test_keyword_kept_through_a_change_of_type_is_warned_of(chain):
    text = 'model = dict(connector=dict(type="LinearConnector", depth=1))'
    cfg = load_config(chain.child(text), check=False)
    del cfg.model.connector["depth"]

    warnings = check_config(cfg).warnings

    assert len(warnings) == 1
    assert "kept from the parent: select_layers (" in warnings[0]
    clean = (
        'model = dict(connector=dict(_delete_=True, type="LinearConnector", '
        "random_init=True))"
    )
    assert check_config(load_config(chain.child(clean))).warnings == []


def test_unknown_component_names_the_nearest_of_its_kind(chain):
    path = chain.child('model = dict(connector=dict(type="MlpConnector"))')

    with pytest.raises(
        ConfigError,
        match=(
            r"model\.connector\.type='MlpConnector' \(.*child\.py:2\): no such "
            r"connector\. Did you mean 'MLPConnector'"
        ),
    ) as error:
        load_config(path)
    text = str(error.value)
    assert "list_components.py --kind connector" in text
    assert "HFVisionEncoder" not in text


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("train_dataloader.dataset.type", "LavaDataset", "no such dataset.*LLaVADat"),
        ("train_dataloader.dataset.pipeline.1.type", "PadSquare", "no such transform"),
        ("train_dataloader.sampler.type", "RandomBatch", "no such data sampler"),
        ("tokenizer.type", "HfTokenizer", "no such tokenizer.*'HFTokenizer'"),
        ("chat_template", "vicuna_v2", "no such chat template.*'vicuna_v1'"),
        ("optim_wrapper.optimizer.type", "AdmW", "no such optimizer.*'AdamW'"),
        ("optim_wrapper.constructor", "PartConstructor", "no such optimizer wrapper"),
        ("train_cfg.type", "VLMTrainLop", "no such loop.*'VLMTrainLoop'"),
    ],
)
def test_the_position_decides_the_registry(chain, field, value, match):
    with pytest.raises(ConfigError, match=rf"{re.escape(field)}='{value}' .*{match}"):
        load_config(chain.base, {field: value})


def test_scopes(chain):
    with pytest.raises(
        ConfigError, match=r"type='nolibrary\.X'.*unknown scope 'nolibrary'"
    ):
        load_config(chain.base, {"model.connector.type": "nolibrary.X"})
    with pytest.raises(
        ConfigError, match=r"type='mmengine\.NoHook'.*'mmengine' has no such hook"
    ):
        load_config(chain.base, {"+custom_hooks": [dict(type="mmengine.NoHook")]})
    for name in ("mmengine.EMAHook", "EMAHook", "mmengine.hooks.EMAHook"):
        cfg = load_config(chain.base, {"+custom_hooks": [dict(type=name)]})
        assert cfg.custom_hooks[-1].type == name


def test_every_keyword_of_mmengines_linear_warm_up_passes(chain):
    warm = dict(type="LinearLR", start_factor=0.1, end=5, by_epoch=False)

    cfg = load_config(chain.base, {"param_scheduler": [warm]})

    assert cfg.param_scheduler[0].start_factor == 0.1
    with pytest.raises(ConfigError, match="param_name"):
        load_config(chain.base, {"param_scheduler": [dict(warm, param_name="lr")]})


def test_a_component_of_the_wrong_kind_is_refused(chain):
    with pytest.raises(ConfigError, match="HFCausalLM is no Connector"):
        load_config(
            chain.child(
                'model = dict(connector=dict(_delete_=True, type="HFCausalLM"))'
            )
        )


def test_required_keyword_and_simple_type(chain):
    path = chain.child("train_dataloader = dict(dataset=dict(\n    ann_file=None))")
    with pytest.raises(
        ConfigError,
        match=r"dataset\.ann_file=None \(.*child\.py:3\): LLaVADataset expects str",
    ):
        load_config(path)
    text = "optim_wrapper = dict(_delete_=True, type='VLMOptimWrapper')"
    with pytest.raises(
        ConfigError, match="required keyword 'optimizer' of VLMOptimWrapper"
    ):
        load_config(chain.child(text))
    text = 'model = dict(_delete_=True, type="VisionLanguageModel")'
    with pytest.raises(
        ConfigError, match="required keyword 'language_model' of VisionLanguageModel"
    ):
        load_config(chain.child(text))
    with pytest.raises(
        ConfigError,
        match=r"model\.connector\.depth='3'.*MLPConnector expects int, got str",
    ):
        load_config(chain.base, {"model.connector.depth": "3"})
    with pytest.raises(ConfigError, match="a dataloader expects int"):
        load_config(chain.base, {"train_dataloader.batch_size": "2"})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"+model.language_model.lora": dict(alhpa=3)},
            "'alhpa' for add_lora.*'alpha'",
        ),
        ({"+model.language_model.quantization": dict(bit=4)}, "'bit'.*'bits'"),
        ({"+train_dataloader.dataset.bad_samples": dict(polcy="skip")}, "'policy'"),
        ({"+model.generation": dict(max_new_token=3)}, "'max_new_tokens'"),
        ({"+randomness": dict(sed=3)}, r"randomness\.sed=3.*'seed'"),
        ({"+load_from": [dict(pth="x")]}, r"load_from\.0\.pth='x'.*'path'"),
        ({"+model.language_model.config.hiden_size": 3}, "'hidden_size'"),
        ({"model.language_model.config.model_type": "lama"}, "'llama'"),
        ({"+optim_wrapper.paramwise_cfg.decays": 1}, "unknown keys .'decays'."),
    ],
)
def test_dicts_without_type_are_checked_too(chain, options, match):
    with pytest.raises(ConfigError, match=match):
        load_config(chain.base, options)


def test_every_keyword_of_lora_passes(chain):
    lora = dict(r=2, alpha=4, dropout=0.1, target_modules=["q_proj"], use_rslora=True)
    options = {
        "+model.language_model.lora": lora,
        "model.train_parts.language_model": "lora",
    }

    assert load_config(chain.base, options).model.language_model.lora.r == 2


def test_unknown_top_level_field_and_helpers(chain):
    with pytest.raises(ConfigError, match=r"wrok_dir \(.*:2\): unknown.*'work_dir'"):
        load_config(chain.child("wrok_dir = 'x'"))
    helper = chain.child("depth = 3\nmodel = dict(connector=dict(depth=depth))")
    assert load_config(helper).model.connector.depth == 3
    with pytest.raises(ConfigError, match=r"depth=4 .*helper.*changes nothing"):
        load_config(helper, {"depth": 4})


def test_parts_must_exist(chain):
    with pytest.raises(ConfigError, match=r"no part 'conector'.*'connector'"):
        load_config(chain.child("model = dict(train_parts=dict(conector=True))"))
    text = "optim_wrapper = dict(paramwise_cfg=dict(parts=dict(head=dict(lr=1))))"
    with pytest.raises(
        ConfigError, match=r"paramwise_cfg\.parts\.head .*no part 'head'"
    ):
        load_config(chain.child(text))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model.connector.select_layers": [-9]}, "select_layers has -9"),
        ({"model.connector.act": "swish"}, "act='swish'"),
        ({"model.train_parts.language_model": "lora"}, "lora is not given"),
        (
            {"train_dataloader.dataset.pipeline.2.max_length": 16},
            r"pipeline\.2\.max_length=16 \(--cfg-options\): an image alone takes 16",
        ),
    ],
)
def test_what_only_building_shows_is_found_without_weights(chain, options, match):
    with pytest.raises(ConfigError, match=match):
        load_config(chain.base, options)


def test_the_build_is_skipped_where_weights_would_be_read(chain):
    options = {
        "+model.language_model.name_or_path": "nobody/knows",
        "model.language_model.config": None,
        "model.connector.select_layers": [-9],
    }

    assert load_config(chain.base, options).model.connector.select_layers == [-9]


def test_missing_data_files(chain):
    load_config(chain.base)
    wanted = r"ann_file='a\.json' \(.*base\.py:\d+\): no such file 'nowhere/a\.json'"
    with pytest.raises(ConfigError, match=wanted):
        load_config(chain.base, check_files=True)
    with pytest.raises(ConfigError, match=wanted):
        load_config(chain.base, check_files=("train",))
    load_config(chain.base, check_files=("test",))
    (chain.folder / "a.json").write_text("[]")
    root = {"train_dataloader.dataset.data_root": str(chain.folder)}
    load_config(chain.base, root, check_files=True)
    prefix = {"+train_dataloader.dataset.image_prefix": "images"}
    with pytest.raises(ConfigError, match="no such folder"):
        load_config(chain.base, {**root, **prefix}, check_files=True)
    with pytest.raises(
        ConfigError,
        match=r"load_from\.path \(--cfg-options\): checkpoint 'gone\.pth' does not",
    ):
        load_config(
            chain.base, {**root, "+load_from": dict(path="gone.pth")}, check_files=True
        )


def test_load_from_may_be_a_work_dir(chain, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "iter_2.pth").touch()
    options = {"+load_from": [dict(path=str(run), parts=["connector"])]}
    only = dict(check_files=("load_from",))

    with pytest.raises(
        ConfigError,
        match=(
            r"load_from\.0\.path \(--cfg-options\): '.*run' holds no checkpoint of "
            r"a run.*last_checkpoint\. Checkpoints in that folder: \['iter_2\.pth'\]"
        ),
    ):
        load_config(chain.base, options, **only)
    load_config(chain.base, options, check_files=("test",))
    load_config(chain.base, {**options, "+resume": "auto"}, **only)
    (run / "last_checkpoint").write_text("iter_2.pth")
    load_config(chain.base, options, **only)
    with pytest.raises(ValueError, match=r"\['trian'\] are none of"):
        load_config(chain.base, check_files=("trian",))


def test_fields_that_only_the_constructor_knows_are_accepted(chain, monkeypatch):
    from transformers import (
        CONFIG_MAPPING,
        AutoModelForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    class MovingConfig(LlamaConfig):
        """Takes an older name that no signature shows, as transformers 5 does."""

        model_type = "moving"

        def __init__(self, *args, **kwargs):
            kwargs = self.move(kwargs)
            super().__init__(*args, **kwargs)

        def move(self, keywords):
            self.moved = keywords.pop("old_theta", None)
            return keywords

    models = AutoModelForCausalLM._model_mapping._extra_content
    monkeypatch.setitem(CONFIG_MAPPING._extra_content, "moving", MovingConfig)
    monkeypatch.setitem(models, MovingConfig, LlamaForCausalLM)
    kind = {"model.language_model.config.model_type": "moving"}
    prefix = "+model.language_model.config"

    load_config(chain.base, {f"{prefix}.rope_theta": 5e5})
    load_config(chain.base, {**kind, f"{prefix}.old_theta": 5e5})
    for key in ("older_theta", "hiden_size", "temperature"):
        with pytest.raises(ConfigError, match=f"1 problem\n.*{key}=.*no such"):
            load_config(chain.base, {**kind, f"{prefix}.{key}": 1})


class EndlessTemplate(ChatTemplate):
    """Answers have no end mark."""

    def render(self, conversation, *, add_generation_prompt=False):
        return [
            Piece(turn.text, supervised=turn.is_supervised)
            for turn in conversation.turns
        ]


@pytest.fixture
def endless():
    CHAT_TEMPLATES.register_module(name="endless", module=EndlessTemplate, force=True)
    yield "endless"
    CHAT_TEMPLATES.module_dict.pop("endless")


def test_template_without_eos(chain, endless):
    with pytest.raises(
        ConfigError, match=r"chat_template='endless' .*no supervised end mark \(EOS\)"
    ):
        load_config(chain.base, {"chat_template": endless})


def test_template_that_the_tokenizer_cannot_write(chain):
    (chain.folder / "a.json").write_text("[]")
    options = {
        "train_dataloader.dataset.data_root": str(chain.folder),
        "chat_template": "llama_3",
    }

    load_config(chain.base, options)
    with pytest.raises(ConfigError, match=r"chat_template='llama_3'.*<\|"):
        load_config(chain.base, options, check_files=True)


@pytest.mark.parametrize(
    ("geometry", "mode", "message"),
    [
        ("stretch", "train", "'stretch' writes fractions of .*PadToSquare pads"),
        ("square_pad", "generate", r"PrepareRegions\(mode='train'\), Encode.*one mode"),
    ],
)
def test_steps_that_do_not_fit_each_other(chain, geometry, mode, message):
    steps = [
        dict(type="LoadImages"),
        dict(type="PadToSquare"),
        dict(type="WriteRegions", codec=dict(type="ShikraCodec", geometry=geometry)),
        dict(type="PrepareRegions"),
        dict(type="EncodeConversation", mode=mode),
        dict(type="PackVLMInputs"),
    ]
    where = "train_dataloader.dataset.pipeline"

    with pytest.raises(ConfigError, match=f"1 problem\n.*{where}.*{message}"):
        load_config(chain.base, {where: steps})
    steps[2]["codec"]["geometry"] = "square_pad"
    steps[3]["mode"] = mode
    load_config(chain.base, {where: steps})


def test_missing_tokenizer(chain):
    (chain.folder / "a.json").write_text("[]")
    options = {
        "train_dataloader.dataset.data_root": str(chain.folder),
        "tokenizer": dict(type="HFTokenizer", name_or_path="./no-folder"),
    }

    with pytest.raises(ConfigError, match=r"tokenizer .*no such folder"):
        load_config(chain.base, options, check_files=True)


@pytest.mark.parametrize(
    ("world", "steps", "text"),
    [(2, 2, None), (1, 1, "1 GPU x 2 x 1 accumulated = 2"), (4, 1, None)],
)
def test_global_batch_is_compared(chain, world, steps, text):
    cfg = load_config(
        chain.base, {"base_batch_size": 8, "+optim_wrapper.accumulative_counts": steps}
    )

    warnings = check_config(cfg, world_size=world).warnings

    assert len(warnings) == (1 if text else 0)
    assert text is None or text in warnings[0]


def test_launched_world_size_counts(chain, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    cfg = load_config(chain.base, {"base_batch_size": 6})

    assert check_config(cfg).warnings == []
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "4 GPU x 2" in check_config(cfg).warnings[0]


def test_all_problems_come_at_once(chain):
    path = chain.child("wrok_dir = 'x'\nmodel = dict(conector=1)")

    with pytest.raises(ConfigError) as error:
        load_config(path, {"model.x": 1, "tokenizer.type": "Y"})

    assert len(error.value.problems) == 4
    assert "4 problems" in str(error.value)


def test_no_component_is_built_with_memory(chain, monkeypatch):
    """A doctor that touched weights would be slow; the meta device has none."""
    seen = []
    build = MODELS.build
    monkeypatch.setattr(
        MODELS, "build", lambda *a, **k: seen.append(build(*a, **k)) or seen[-1]
    )

    load_config(chain.base)

    assert seen
    assert all(p.is_meta for module in seen for p in module.parameters())


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"+custom_hooks": [dict(priority=3)]}, "custom_hooks.0"),
        ({"+default_hooks": dict(logger=dict(interval=3))}, "default_hooks.logger"),
        ({"tokenizer": dict(name_or_path="x")}, None),
        ({"train_dataloader.dataset.pipeline": [dict(size=3)]}, "pipeline.0"),
    ],
)
def test_a_component_needs_a_type(chain, options, where):
    if where is None:  # merged into the parent, whose type stays
        with pytest.raises(ConfigError, match="unexpected keyword 'name_or_path'"):
            load_config(chain.base, options)
    else:
        wanted = rf"{where} \(--cfg-options\): has no 'type'"
        with pytest.raises(ConfigError, match=wanted):
            load_config(chain.base, options)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("optim_wrapper.optimizer.lr", "2e-5", r"a number, got str.*: 2e-05"),
        ("optim_wrapper.optimizer.lr", "1e-4x", "a number, got str"),
        ("optim_wrapper.optimizer.lr", True, "a number, got bool"),
        ("optim_wrapper.optimizer.lr", -1e-4, "at least 0"),
        ("+optim_wrapper.optimizer.betas", ["0.9", 0.95], "list of float, str"),
        ("optim_wrapper.paramwise_cfg.parts.connector.lr", "2e-4", "a number"),
        ("+optim_wrapper.clip_grad", dict(max_norm="1.0"), r"max_norm='1\.0'"),
        ("+optim_wrapper.accumulative_counts", 0, "at least 1"),
        ("param_scheduler", dict(type="LinearLR", end="5"), r"end='5'"),
        ("param_scheduler", dict(type="WarmupCosineLR", min_ratio="0"), "min_ratio"),
        ("train_cfg.max_iters", "10", "int"),
        ("train_dataloader.batch_size", "4", r"without quotes: 4"),
        ("train_dataloader.batch_size", -4, "at least 1"),
        ("train_dataloader.num_workers", True, "got bool"),
        ("randomness", dict(seed="7"), "expects int"),
        ("model.language_model.config.hidden_size", "48", "LlamaConfig .* number"),
        ("model.connector.depth", "2", "expects int, got str"),
    ],
)
def test_number_given_as_text_is_refused_with_its_key(chain, path, value, said):
    key = re.escape(path.removeprefix("+"))

    with pytest.raises(ConfigError, match=rf"(?s){key}.*{said}"):
        load_config(chain.base, {path: value})


def test_optimizers_without_annotations_want_numbers_too():
    from mmvlm.config.signatures import accepted_keywords, wrong_type

    class Bare:
        def __init__(self, params, lr=1e-3, size=224, fused=False):
            pass

    names = accepted_keywords(Bare).names

    assert "without quotes: 0.001" in wrong_type("Bare", "1e-3", names["lr"])
    assert wrong_type("Bare", (224, 224), names["size"]) is None
    assert wrong_type("Bare", "auto", names["fused"]) is None
