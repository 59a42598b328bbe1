"""Systems that the package does not know: a module and a config of 25 lines each.

Every plug-in of ``tests/plugins`` is trained, resumed, asked, and run on two ranks of
which one never sees its kind of input. None needs a change in the package.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import mmvlm  # noqa: F401  isort: skip

import pytest
import torch
from transformers import AutoTokenizer

HERE = Path(__file__).parent / "plugins"
sys.path.insert(0, str(HERE))

from flops import count_flops  # noqa: E402
from job import build, train, weights_of  # noqa: E402

from mmvlm import registry  # noqa: E402
from mmvlm.apis import VLMInferencer  # noqa: E402
from mmvlm.config import ConfigError, load_config  # noqa: E402
from mmvlm.config.dry_run import dry_run, render  # noqa: E402
from mmvlm.config.signatures import accepted_keywords  # noqa: E402
from mmvlm.datasets.collate import collate_flat  # noqa: E402
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes  # noqa: E402
from mmvlm.engine.hooks.progress_hook import read_scalars  # noqa: E402
from mmvlm.engine.runner.checkpoint import load_file  # noqa: E402
from mmvlm.registry import DATASETS, MODELS, SCENE_WRITERS, TRANSFORMS  # noqa: E402

PLUGINS = sorted(path.stem.removesuffix("_config") for path in HERE.glob("*_config.py"))
FORMATS = ("llava", "refcoco", "modalities")
#: What the second rank sees: questions about images without regions, or texts alone
#: where images are what the plug-in adds.
REGION_PLUGINS = ("region_encoder", "mask_head", "box_head")
MOST_LINES = 25
FIRST = range(8)


def config(name):
    return str(HERE / f"{name}_config.py")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A folder with TinyScenes where base.py expects it."""
    folder = tmp_path_factory.mktemp("plugins")
    SCENE_WRITERS.import_from_location()
    make_tiny_scenes(folder / "data", num_train=40, num_test=6, formats=FORMATS)
    return folder


@pytest.fixture(scope="session")
def runs():
    """Runner of every plug-in that was trained, by name."""
    return {}


@pytest.fixture
def trained(workspace, runs, name, monkeypatch):
    """The runner of a plug-in after 30 steps; each is trained once."""
    monkeypatch.chdir(workspace)
    torch.set_num_threads(1)
    if name not in runs:
        runs[name] = train(config(name), workspace / "work" / name)
    return runs[name]


@pytest.fixture(scope="module", autouse=True)
def _registries_of_others():
    """Forget what plug-ins registered: other tests look at all that is registered."""
    nodes = [n for n in vars(registry).values() if isinstance(n, registry.Registry)]
    before = [dict(node._module_dict) for node in nodes]
    yield
    for node, known in zip(nodes, before, strict=True):
        node._module_dict.clear()
        node._module_dict.update(known)


def each_plugin(test):
    return pytest.mark.parametrize("name", PLUGINS)(test)


@each_plugin
def test_a_config_is_short(name):
    tree = ast.parse(Path(config(name)).read_text())
    docstring, *rest = tree.body

    assert ast.get_docstring(tree)
    assert rest[-1].end_lineno - docstring.end_lineno <= MOST_LINES


@each_plugin
@pytest.mark.slow
def test_losses_fall(trained, name):
    rows = read_scalars(trained.work_dir)

    assert [row["step"] for row in rows] == list(range(1, 31))
    for loss in [key for key in rows[0] if key.startswith("loss")]:
        values = [row[loss] for row in rows]
        first, last = sum(values[:5]) / 5, sum(values[-5:]) / 5
        assert last < 0.85 * first, (loss, first, last)


@each_plugin
@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(trained, name, workspace):
    whole = Path(trained.work_dir)

    train(config(name), workspace / "again" / name, resume=str(whole / "iter_20.pth"))

    folders = (whole, workspace / "again" / name)
    one, other = (load_file(f / "iter_30.pth")["state_dict"] for f in folders)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


# Answers ------------------------------------------------------------------------


def samples_of(runner, mode, rows=FIRST):
    """Return a batch of a plug-in's own samples, the first ones by default."""
    data = runner.cfg.train_dataloader.dataset.to_dict()
    dataset = DATASETS.build({**data, "pipeline": []})
    pipeline = runner.processor.pipeline(mode)
    return collate_flat([pipeline(dataset[row]) for row in rows])


def ask(runner, rows=FIRST, **generation):
    """Let the model answer questions of its own data."""
    batch = runner.model.data_preprocessor(samples_of(runner, "generate", rows), False)
    options = dict(dict(max_new_tokens=14), **generation)
    return runner.model.eval().predict(
        batch["inputs"], batch["data_samples"], **options
    )


def force(ids):
    """Say tokens, one after the other, as the second of every reply and on."""

    def on_step(step):
        number = step.ids.shape[1] - 1
        if 0 <= number < len(ids):
            for row in range(len(step.ids)):
                step.allow(row, [ids[number]])

    return on_step if ids else None


def check_mask_head(sample, said):
    assert len(sample.pred_masks) == said
    for mask in sample.pred_masks:
        assert mask.shape == sample.layouts[0].original_size and mask.dtype == bool


def check_box_head(sample, said):
    boxes = sample.pred_boxes
    assert len(boxes) == said and boxes.size == sample.layouts[0].original_size
    limit = [boxes.size[1], boxes.size[0]] * 2
    assert ((boxes.xyxy >= 0) & (boxes.xyxy <= limit)).all() and boxes.xyxy.max() > 1


def check_image_codes(sample, said):
    assert sample.pred_image.shape == (3, 3, 3)


def check_image_embeds(sample, said):
    embeds = sample.pred_embeds
    assert embeds.shape == (4, 128) and len(embeds.unique(dim=0)) == 4


def check_seq2seq_boxes(sample, said):
    (region,) = sample.pred_regions
    x1, y1, x2, y2 = region.boxes.to("unit").xyxy[0] * 8
    assert 0 <= x1 < x2 <= 8 and 0 <= y1 < y2 <= 8 and not sample.problems


@each_plugin
@pytest.mark.slow
def test_a_plugin_answers(trained, name):
    heads = trained.model.heads.values()
    tokens = [head.tokens[0] for head in heads if head.tokens]
    ids = trained.processor.tokenizer.convert_tokens_to_ids(tokens)

    samples = ask(trained, on_step=force(ids))

    check = globals().get(f"check_{name}")
    for sample in samples:
        assert sample.pred_ids and isinstance(sample.pred_text, str)
        assert sample.finish in ("stop_id", "stop_string", "length")
        said = sum(sample.pred_ids.count(number) for number in ids)
        assert said or not ids
        if check is not None:
            check(sample, said)


@each_plugin
@pytest.mark.slow
def test_a_batch_is_answered_as_its_samples_alone(trained, name):
    names = ("pred_boxes", "pred_masks", "pred_embeds", "pred_image")
    for row, sample in enumerate(ask(trained, range(4))):
        (alone,) = ask(trained, [row])

        assert sample.pred_ids == alone.pred_ids and sample.finish == alone.finish
        for key in [key for key in names if key in sample]:
            one, other = (getattr(s, key) for s in (sample, alone))
            one, other = (getattr(b, "xyxy", b) for b in (one, other))
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


# Ranks and mistakes -------------------------------------------------------------


def two_ranks(job, *arguments):
    """Run a script on two ranks; it must end well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(HERE / job), *map(str, arguments)]
    paths = [str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS="1")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]


@each_plugin
@pytest.mark.slow
@pytest.mark.multiproc
def test_a_rank_that_never_sees_the_kind_keeps_step(name, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    folder = workspace / "ranks" / name

    file = "train.json" if name in REGION_PLUGINS else "text.json"
    two_ranks("job.py", config(name), folder, file, '{"train_cfg.max_iters": 4}')

    one, other = (torch.load(folder / f"rank{rank}.pth") for rank in (0, 1))
    assert one.keys() == other.keys() and one
    for key, weight in one.items():
        assert torch.equal(weight, other[key]), key


def write_other_kinds(data):
    """Write questions without images, and questions about two images, as files."""
    rows = [row for row in json.loads((data / "train.json").read_text())][:80]
    texts, pairs = [], []
    for row, other in zip(rows[::2], rows[1::2], strict=True):
        turns = row["conversations"]
        first = dict(turns[0], value=turns[0]["value"].replace("<image>", "").strip())
        texts.append(dict(id=row["id"], conversations=[first, *turns[1:]]))
        first = dict(turns[0], value=f"<image>\n{turns[0]['value']}")
        shown = [row["image"], other["image"]]
        pairs.append(dict(row, image=shown, conversations=[first, *turns[1:]]))
    (data / "texts.json").write_text(json.dumps(texts))
    (data / "pairs.json").write_text(json.dumps(pairs))


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.parametrize(("name", "size"), [("one_step", 8), ("mixed_step", 200)])
def test_gradients_do_not_depend_on_how_samples_are_dealt(
    name, size, workspace, monkeypatch
):
    monkeypatch.chdir(workspace)
    torch.set_num_threads(1)
    write_other_kinds(workspace / "data")
    config, found, options = str(HERE / f"{name}.py"), workspace / name, {}
    if name == "mixed_step":  # the place of its new row, behind what is written here
        rows = len(AutoTokenizer.from_pretrained(workspace / "data" / "tokenizer"))
        options["model.language_model.new_tokens.first_id"] = rows
    before = weights_of(build(config, found, **options))
    steps = {f"{size} x 1": weights_of(train(config, found, **options))}
    options["train_dataloader.batch_size"] = size // 2
    options["optim_wrapper.accumulative_counts"] = 2
    steps[f"{size // 2} x 2"] = weights_of(train(config, found, **options))
    options["train_dataloader.batch_size"] = size // 4
    two_ranks("job.py", config, found, "", json.dumps(options))
    for rank in (0, 1):
        steps[f"rank {rank} of 2"] = torch.load(found / f"rank{rank}.pth")

    expected = steps.pop(f"{size} x 1")
    losses = read_scalars(found)[0]
    assert all(losses[f"loss_{name}"] > 0 for name in ("text", "mask_bce", "mask_dice"))
    learns = ("mask.", "connector.", "language_model.")
    frozen = {
        key for key, weight in expected.items() if torch.equal(weight, before[key])
    }
    old_rows = {
        f"language_model.model.{table}.weight"
        for table in ("model.embed_tokens", "lm_head")
    }
    assert {key for key in frozen if key.startswith(learns)} == (
        old_rows if name == "mixed_step" else set()
    )
    for key, weight in expected.items():
        for way, weights in steps.items():
            torch.testing.assert_close(
                weights[key], weight, atol=1e-5, rtol=1e-5, msg=f"{way}: {key}"
            )


def own_keywords(name, value, path=()):
    """Find dotted paths to keywords that classes of a plug-in's module take."""
    if isinstance(value, dict):
        kind = value.get("type")
        own = MODELS.get(kind) or TRANSFORMS.get(kind) if isinstance(kind, str) else 0
        if own and own.__module__ == name:
            known = [key for key in accepted_keywords(own).names if key != "init_cfg"]
            yield from (".".join((*path, key)) for key in known[-1:])
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        if isinstance(child, dict | list | tuple):
            yield from own_keywords(name, child, (*path, str(key)))


@each_plugin
def test_a_misspelt_key_is_refused(name):
    cfg = load_config(config(name), check=False)
    fields = {key: cfg[key] for key in ("model", "train_dataloader")}
    paths = list(own_keywords(name, fields))
    assert paths
    wrong = {path: f"{path[:-2]}{path[-1]}{path[-2]}" for path in paths}

    with pytest.raises(ConfigError) as error:
        load_config(config(name), {f"+{key}": 1 for key in wrong.values()})

    for path, key in wrong.items():
        part, _, keyword = path.rpartition(".")
        assert part in str(error.value) and key.rpartition(".")[2] in str(error.value)
        assert f"Did you mean '{keyword}'" in str(error.value)


@each_plugin
def test_a_dry_run_describes_it(name):
    cfg = load_config(config(name))
    result = dry_run(cfg)

    connector = cfg.model.get("connector")
    assert "language_model" in [row.part for row in result.parts]
    assert bool(result.image_tokens) == (connector is not None)
    assert ("an image: " in render(result)) == (connector is not None)
    if connector is not None:
        layers = connector.get("select_layers") or result.select_layers
        assert result.select_layers == list(layers) != []


def test_flops_are_counted_of_a_system_that_is_asked_without_images():
    report = count_flops(load_config(config("image_embeds")))

    assert report.image_tokens == 0 and report.forward > 0


# What single plug-ins show --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["region_encoder"])
def test_regions_are_boxes_points_and_masks(trained, name):
    batch = samples_of(trained, "train", range(16))["inputs"]

    covered = batch.inputs["region"].values.flatten(1)
    whole = (covered == covered.round()).all(1)
    one = covered.sum(1) == 1
    assert (whole & one).any() and (whole & ~one).any() and (~whole).any()
    assert len(batch.inputs["region"].slot_index) == len(covered)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two_sizes"])
def test_images_of_two_sizes_meet_in_a_batch(trained, name):
    inputs = samples_of(trained, "train")["inputs"].inputs

    assert set(inputs["image"].slot_lens) == {9, 16}
    assert {shape[1:] for shape in inputs["image"].shapes} == {(36, 36), (48, 48)}
    assert inputs["image_hi"].values.shape == (8, 3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["native_tower"])
def test_positions_have_three_axes(trained, name):
    batch = samples_of(trained, "train")["inputs"]

    assert batch.text.position_ids.shape == (3, len(batch.text))
    assert len(set(batch.inputs["image"].slot_lens)) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image_embeds"])
def test_embeddings_that_are_fed_back_are_read(trained, name):
    fed = ask(trained, max_new_tokens=6)
    not_fed = ask(trained, max_new_tokens=6, on_step=lambda step: step.fed.clear())

    for one, other in zip(fed, not_fed, strict=True):
        same = torch.isclose(one.pred_embeds, other.pred_embeds, atol=1e-6).all(1)
        assert same.tolist() == [True, False, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sound"])
def test_a_sound_and_an_image_are_asked_about(trained, name, workspace):
    talk = VLMInferencer(trained.work_dir, device="cpu")
    image, sound = (
        str(workspace / "data" / path)
        for path in ("images/train/000/000000.png", "audio/train/000/000000.wav")
    )
    question, audio = "How many tones sound?", dict(audio=[sound])

    conversation = talk.conversation(image, question, media=audio)
    reply = talk.chat(image, question, media=audio, max_new_tokens=4)

    assert set(talk.encode([conversation]).inputs) == {"image", "audio"}
    parts = [{"image": image}, "\n", {"audio": sound}, f"\n{question}"]
    assert reply and reply == talk.chat(None, parts, max_new_tokens=4)
