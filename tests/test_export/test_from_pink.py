"""PINK's saved parameters under our names."""

import mmvlm  # noqa: F401  isort: skip

import pytest
import torch
from export_helpers import llama_7b, meta_tensors

from mmvlm.config import load_config
from mmvlm.config.tiny import make_tiny
from mmvlm.engine.runner.checkpoint import load_parts
from mmvlm.export.from_pink import fit_pink, import_pink
from mmvlm.export.importing import meta_model, meta_state
from mmvlm.registry import MODELS

CONFIG = "pink/pink-clip-l14-224_linear_llama2-7b-chat_8xb4-6e-ft_pink-mix.py"
TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def saved_shapes(blocks=(32, 23), widths=(4096, 1024), rows=32013, hidden=8):
    """The key list of ``saved_parameters.pth``: ``<im_patch>`` and twelve tags."""
    language, vision = widths
    shapes = {table: (rows, language) for table in TABLES}
    shapes |= {"mm_projector.weight": (language, vision)}
    shapes |= {"mm_projector.bias": (language,)}
    owners = ("model.layers", "vision_model.vision_model.encoder.layers")
    for owner, count, width in zip(owners, blocks, widths, strict=True):
        for n in range(count):
            name = f"{owner}.{n}.adapter_attn.tune_adapter_"
            shapes |= {f"{name}a.weight": (hidden, width), f"{name}a.bias": (hidden,)}
            shapes |= {f"{name}b.weight": (width, hidden), f"{name}b.bias": (width,)}
    return shapes


@pytest.fixture(scope="module")
def full():
    return load_config(f"configs/{CONFIG}", check=False).model.to_dict()


@pytest.fixture(scope="module")
def tiny():
    return make_tiny(load_config(f"configs/{CONFIG}", check=False)).model.to_dict()


@pytest.mark.parametrize("with_llama", [True, False])
def test_saved_parameters_map_completely(full, with_llama):
    saved = meta_tensors(saved_shapes())
    trained = sum(v.numel() for k, v in saved.items() if k not in TABLES)
    assert trained == 400_568 + 4_198_400 + 2_228_480
    base = meta_tensors(llama_7b(32000)) if with_llama else {}

    imported = fit_pink(base | saved, full, "pink")

    target = meta_state(full)
    left = set(imported.omitted)
    assert set(imported.state_dict) == set(target) - left
    layers = [key for key in left if key.startswith("language_model.")]
    assert len(layers) == (0 if with_llama else 32 * 9 + 1)
    tower = left - set(layers)
    assert all(key.startswith("vision_encoder.vision_model.") for key in tower)


def test_values_arrive_and_the_row_of_the_patch_token_goes(tiny, tmp_path):
    model = meta_model(tiny)
    decoder = model.language_model
    rows = decoder.vocab_size + 1
    sizes = (len(decoder.blocks), len(model.vision_encoder.adapters))
    widths = (decoder.width, model.vision_encoder.spec.width)
    torch.manual_seed(0)
    shapes = saved_shapes(sizes, widths, rows, tiny["vision_encoder"]["hidden"])
    saved = {key: torch.randn(shape) for key, shape in shapes.items()}
    torch.save(saved, tmp_path / "saved_parameters.pth")

    imported = import_pink(tmp_path, tiny)

    found, first = imported.state_dict, rows - 13
    for name in TABLES:
        table = found[f"language_model.model.{name}"]
        assert torch.equal(table[:first], saved[name][:first])
        assert torch.equal(table[first:], saved[name][first + 1 :])
    name = "adapter_attn.tune_adapter_a.bias"
    assert torch.equal(
        found["language_model.adapters.bottleneck.layers.1.tune_adapter_a.bias"],
        saved[f"model.layers.1.{name}"],
    )
    assert torch.equal(
        found["vision_encoder.adapters.0.tune_adapter_a.bias"],
        saved[f"vision_model.vision_model.encoder.layers.0.{name}"],
    )
    assert torch.equal(found["connector.proj.weight"], saved["mm_projector.weight"])

    imported.save(tmp_path / "pink.pth")
    whole = MODELS.build(tiny)
    report = load_parts(whole, tmp_path / "pink.pth")
    assert report.is_clean and set(report.kept) == {"language_model", "vision_encoder"}
    state = whole.state_dict()
    assert all(torch.equal(state[key].to(v), v) for key, v in found.items())


def test_what_is_missing_or_unknown_is_listed(full):
    saved = meta_tensors(saved_shapes())
    lost = "model.layers.31.adapter_attn.tune_adapter_b.bias"
    less = {key: value for key, value in saved.items() if key != lost}

    with pytest.raises(ValueError, match=r"pink: .*1 missing: .*bottleneck.layers.31"):
        fit_pink(less, full, "pink")
    with pytest.raises(ValueError, match=r"1 keys .* not have: .*adapter_mlp"):
        odd = {"model.layers.0.adapter_mlp.tune_adapter_a.bias": saved[lost]}
        fit_pink(saved | odd, full, "pink")
    with pytest.raises(ValueError, match=r"embed_tokens.weight \(32005, 4096\) != "):
        fit_pink(meta_tensors(saved_shapes(rows=32005)), full, "pink")
