"""Each shim: what breaks without it, and that it mends exactly that."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import torch

from mmvlm import compat

ROOT = Path(__file__).parents[1]
TRANSFORMERS_5 = compat._installed("transformers") >= (5,)

# One process imports torch, then forks a child per scenario: imports that must
# fail, and imports that must not touch the process of pytest.
PROBE = r"""
import json, os, sys
import torch

def remove(module, *names):
    # The state of the library that the shim was written for.
    for name in names:
        vars(module).pop(name, None)

def mend_all():
    import torchvision
    from torchvision.transforms import v2
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    iou = torchvision.ops.box_iou(box, box).item()
    rois = torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), [torch.ones(1, 4)], 2)
    import transformers.modeling_utils, transformers.utils
    remove(transformers.modeling_utils, "apply_chunking_to_forward",
           "find_pruneable_heads_and_indices", "prune_linear_layer")
    remove(transformers.utils, "is_safetensors_available")
    import mmpretrain.models, xtuner.model
    from mmpretrain.registry import MODELS
    from xtuner.utils import PROMPT_TEMPLATE
    return dict(iou=iou, rois=list(rois.shape), bf16=torch.cpu.is_bf16_supported(),
                ofa=type(MODELS.get("OFA")).__name__,
                vit=MODELS.get("VisionTransformer").__name__,
                vicuna="vicuna" in PROMPT_TEMPLATE)

def torchvision_alone():
    import torchvision

def mmpretrain_alone():
    import transformers.modeling_utils
    remove(transformers.modeling_utils, "apply_chunking_to_forward",
           "find_pruneable_heads_and_indices", "prune_linear_layer")
    import mmpretrain.models

def mmpretrain_on_transformers_5():
    from mmvlm import compat
    compat._installed = lambda package: (5, 0)
    mmpretrain_alone()
    from mmpretrain.registry import MODELS
    return [MODELS.get("VisionTransformer").__name__, type(MODELS.get("OFA")).__name__]

def xtuner_alone():
    import transformers.utils
    remove(transformers.utils, "is_safetensors_available")
    try:
        import xtuner.utils
    except ImportError as error:
        first = str(error)
    transformers.utils.is_safetensors_available = lambda: True
    import xtuner.model
    return [first, hasattr(torch.cpu, "is_bf16_supported")]

children = {}
for name, disabled in json.loads(sys.argv[1]).items():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.environ["MMVLM_DISABLE_SHIMS"] = disabled
        torch.set_num_threads(1)
        try:
            import mmvlm
            answer = ["value", globals()[name]()]
        except BaseException as error:
            answer = [type(error).__name__, str(error)]
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    children[name] = reading
results = {name: json.load(os.fdopen(end)) for name, end in children.items()}
print("RESULTS", json.dumps(results))
"""

SCENARIOS = {
    "mend_all": "",
    "torchvision_alone": "torchvision",
    "mmpretrain_alone": "transformers_names,mmpretrain_multimodal",
    "mmpretrain_on_transformers_5": "transformers_names",
    "xtuner_alone": "xtuner_safetensors,xtuner_bf16",
}


@pytest.fixture(scope="module")
def probe():
    """What each scenario gave: ['value', result] or [error type, message]."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(SCENARIOS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("RESULTS ")]
    assert lines, done.stderr[-2000:]
    return json.loads(lines[0].removeprefix("RESULTS "))


@pytest.mark.slow
class TestLibraries:
    def test_all_import_with_the_shims(self, probe):
        kind, found = probe["mend_all"]
        assert kind == "value", found
        # A placeholder function where transformers 5 took away what OFA needs.
        assert (found.pop("ofa") == "function") is TRANSFORMERS_5
        assert found == {
            "iou": 1.0,
            "rois": [1, 1, 2, 2],
            "bf16": True,
            "vit": "VisionTransformer",
            "vicuna": True,
        }

    def test_what_is_installed_imports_without_shims(self):
        code = (
            "import torchvision; from transformers import LlavaForConditionalGeneration"
            "; print(torchvision.ops.nms.__name__)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd="/"
        )
        assert done.stdout == "nms\n", done.stderr

    def test_torchvision_needs_its_operators(self, probe):
        if torch.version.cuda or "+cpu" in metadata.version("torchvision"):
            pytest.skip("torchvision's extension fits this torch")
        kind, message = probe["torchvision_alone"]
        assert kind == "RuntimeError"
        assert "torchvision::nms" in message

    def test_mmpretrain_needs_the_moved_names(self, probe):
        kind, message = probe["mmpretrain_alone"]
        assert (kind, message) == ("TypeError", "NoneType takes no arguments")

    def test_mmpretrain_on_transformers_5_keeps_its_backbones(self, probe):
        assert probe["mmpretrain_on_transformers_5"] == [
            "value",
            ["VisionTransformer", "function"],
        ]

    def test_xtuner_needs_both_probes(self, probe):
        kind, (message, has_bf16) = probe["xtuner_alone"]
        assert kind == "value"
        assert "is_safetensors_available" in message
        assert has_bf16 is False


class TestCheckpointLoader:
    """mmengine's own checkpoints hold pickled objects."""

    @pytest.fixture
    def path(self, tmp_path):
        from mmengine.logging import HistoryBuffer

        path = tmp_path / "mmengine.pth"
        torch.save({"x": torch.ones(2), "message_hub": HistoryBuffer()}, path)
        return str(path)

    def test_refuses_objects_and_names_the_way(self, path):
        from mmengine.runner import CheckpointLoader

        with pytest.raises(
            pickle.UnpicklingError, match=r"mmengine\.pth.*MMVLM_TRUST_CHECKPOINTS=1"
        ):
            CheckpointLoader.load_checkpoint(path, map_location="cpu")

    def test_loads_objects_when_trusted(self, path, monkeypatch):
        from mmengine.runner import CheckpointLoader

        with compat.trusted_checkpoints():
            inside = CheckpointLoader.load_checkpoint(path, map_location="cpu")
        monkeypatch.setenv(compat.TRUST_VARIABLE, "1")
        by_variable = CheckpointLoader.load_checkpoint(path, map_location="cpu")

        assert inside["x"].sum() == by_variable["x"].sum() == 2
        assert type(inside["message_hub"]).__name__ == "HistoryBuffer"

    def test_trust_ends_with_the_block(self, path):
        from mmengine.runner import CheckpointLoader

        with pytest.raises(KeyError), compat.trusted_checkpoints():
            raise KeyError
        with pytest.raises(pickle.UnpicklingError):
            CheckpointLoader.load_checkpoint(path, map_location="cpu")

    def test_loads_tensors_without_trust(self, tmp_path):
        from mmengine.runner import CheckpointLoader

        torch.save({"state_dict": {"w": torch.ones(3)}}, tmp_path / "plain.pth")

        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "plain.pth"))

        assert loaded["state_dict"]["w"].tolist() == [1, 1, 1]

    def test_missing_file_is_named(self, tmp_path):
        from mmengine.runner import CheckpointLoader

        with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
            CheckpointLoader.load_checkpoint(str(tmp_path / "gone.pth"))


class TestVersions:
    @pytest.mark.parametrize(
        ("text", "release"),
        [("2.13.0+cpu", (2, 13, 0)), ("5.0.0rc1", (5, 0, 0)), ("4.57.dev3", (4, 57))],
    )
    def test_release_reads_the_numbers(self, text, release):
        assert compat._release(text) == release

    def test_installed_set_is_accepted_in_silence(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compat.check_versions()

    def test_too_old_is_refused(self, monkeypatch):
        monkeypatch.setattr(compat.metadata, "version", lambda name: "4.40.2")
        with pytest.raises(ImportError, match=r"transformers >= 4\.48, found 4\.40\.2"):
            compat.check_versions({"transformers": ((4, 48), (6,))})

    def test_missing_is_named(self):
        with pytest.raises(ImportError, match="no_such_package >= 1"):
            compat.check_versions({"no_such_package": ((1,), (2,))})

    def test_newer_than_tested_gives_one_warning(self, monkeypatch):
        monkeypatch.setattr(compat.metadata, "version", lambda name: "9.1")
        with pytest.warns(UserWarning, match=r"torch 9\.1.*mmengine 9\.1") as caught:
            compat.check_versions(
                {"torch": ((2, 6), (2, 14)), "mmengine": ((0, 10, 6), (0, 11))}
            )
        assert len(caught) == 1


class TestHook:
    def test_unknown_shim_is_an_error(self, monkeypatch):
        monkeypatch.setenv(compat.DISABLE_VARIABLE, "torchvison")
        with pytest.raises(ValueError, match=r"torchvison.*torchvision"):
            compat.disabled_shims()

    def test_all_disables_all(self, monkeypatch):
        monkeypatch.setenv(compat.DISABLE_VARIABLE, "all")
        assert compat.disabled_shims() == set(compat._SHIMS)

    def test_second_apply_adds_nothing(self):
        before = list(sys.meta_path)
        compat.apply()
        assert sys.meta_path == before

    def test_a_new_import_of_mmvlm_replaces_the_finder(self, tmp_path, monkeypatch):
        # coverage --source imports mmvlm, and forgets it before the tests do.
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "shimmed_twice.py").touch()
        spec = importlib.util.spec_from_file_location("mmvlm.compat", compat.__file__)
        again = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(again)
        monkeypatch.setattr(again, "_SHIMS", {"x": ("shimmed_twice", "before", print)})
        old = compat._ShimFinder({"shimmed_twice": ("before", print)})
        sys.meta_path.insert(0, old)

        again.apply()
        sys.meta_path.append(old)
        found = sys.meta_path[0].find_spec("shimmed_twice")

        assert found.origin.startswith(str(tmp_path))
        kinds = [type(finder) for finder in sys.meta_path]
        assert kinds.count(again._ShimFinder) == 1 and kinds[0] is again._ShimFinder
        assert kinds.count(compat._ShimFinder) == 1

    def test_coverage_of_a_module_can_be_asked_for(self):
        code = (
            "import sys, mmvlm, importlib.util\n"
            "for name in [n for n in sys.modules if n.split('.')[0] == 'mmvlm']:\n"
            "    del sys.modules[name]\n"
            "import mmvlm\n"
            "print(importlib.util.find_spec('torchvision').name)\n"
            "print(sum(type(x).__name__ == '_ShimFinder' for x in sys.meta_path))\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )

        assert done.stdout.split() == ["torchvision", "1"], done.stderr[-2000:]

    def test_a_finder_that_asks_again_gets_an_answer(self, monkeypatch):
        class Asking:
            def find_spec(self, name, path=None, target=None):
                return ours.find_spec(name, path, target)

        ours = compat._ShimFinder({"colorsys": ("before", print)})
        monkeypatch.setattr(sys, "meta_path", [Asking(), *sys.meta_path])

        assert ours.find_spec("colorsys").origin.endswith("colorsys.py")
        assert ours.find_spec("colorsys") is not None

    def test_other_modules_pass_untouched(self):
        finder = compat._ShimFinder({"json": ("after", print)})
        assert finder.find_spec("csv") is None

    def test_missing_module_stays_missing(self):
        finder = compat._ShimFinder({"no_such_module_here": ("after", print)})
        assert finder.find_spec("no_such_module_here") is None

    def test_torchvision_raises_other_errors_untouched(self):
        def execute():
            raise RuntimeError("something else")

        with pytest.raises(RuntimeError, match="something else"):
            compat._run_torchvision(execute, None)

    def test_order_of_before_and_after(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        events = []
        monkeypatch.setitem(vars(importlib.util), "EVENTS", events)
        (tmp_path / "shimmed_module.py").write_text(
            "import importlib.util\nseen = list(importlib.util.EVENTS)\n"
        )
        finder = compat._ShimFinder(
            {"shimmed_module": ("before", lambda: events.append("before"))}
        )
        monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])

        import shimmed_module

        assert shimmed_module.seen == ["before"]
        sys.modules.pop("shimmed_module")


LATE = """
import sys, mmvlm
from mmvlm.engine.runner import build_runner
from mmengine.registry import OPTIMIZERS
def loaded():
    return [p for p in ("bitsandbytes", "deepspeed", "sklearn") if p in sys.modules]
from transformers import LlamaForCausalLM
from transformers.generation import candidate_generator
first, none = loaded(), OPTIMIZERS.get("NoSuchOptimizer")
print(first, none, loaded())
if hasattr(candidate_generator, "roc_curve"):  # before transformers 5
    hits = candidate_generator.roc_curve([0, 1], [0.2, 0.8])[1]
    assert hits.tolist() == [0, 1, 1], hits
"""


def test_slow_packages_are_imported_when_they_are_used():
    """DeepSpeed's lines go to stdout, all three take seconds."""
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", LATE], env=env, capture_output=True, text=True
    )
    found = [n for n in ("bitsandbytes",) if importlib.util.find_spec(n)]

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"[] None {found}\n"
