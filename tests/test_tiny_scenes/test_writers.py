"""Files on disk, read back by the normal reader and by the phrase reader."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.contrastive import ImagePhraseDataset, collate_phrases
from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.registry import DATASETS, SCENE_WRITERS, TOKENIZERS
from mmvlm.structures import VisionEncoderSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes")
    make_tiny_scenes(path, num_train=40, num_test=18, seed=3)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return TOKENIZERS.build(
        dict(type="HFTokenizer", name_or_path=str(folder / "tokenizer"))
    )


def records(folder, name):
    return json.loads((folder / name).read_text())


def test_everything_is_written_once_per_scene(folder):
    for name in ("pretrain", "phrases"):
        assert len(records(folder, f"{name}.json")) == 40
    for name, most in (("train", 3 * 40), ("text", 3 * 40)):
        names = [record["id"] for record in records(folder, f"{name}.json")]
        assert most - 5 < len(names) == len(set(names)) <= most
    assert len(records(folder, "test.json")) == 18
    assert len(list((folder / "images").rglob("*.png"))) == 58
    assert records(folder, "tiny_scenes.json")["seed"] == 3


def test_images_are_the_rendered_scenes(folder):
    for sample, record in zip(
        training_samples(5, 3), records(folder, "pretrain.json"), strict=False
    ):
        image = np.asarray(PIL.Image.open(folder / record["image"]))
        assert np.array_equal(image, sample.image())


def test_the_normal_reader_reads_conversations_back(folder):
    data = DATASETS.build(
        dict(type="LLaVADataset", data_root=str(folder), ann_file="train.json")
    )
    samples = {sample.id: sample for sample in training_samples(40, 3)}

    for number in range(120):
        talk = data[number]["conversation"]
        scene, _, part = talk.id.rpartition("-")
        sample = samples[scene]
        said = [turn.text.strip() for turn in talk.turns]
        if part in ("0", "1"):
            turns = sample.turns[3 * int(part) : 3 * int(part) + 3]
        else:
            turns = sample.description
            assert {q.task for q in turns} == {part}
        assert said == [t for q in turns for t in (q.text, q.answer)]
        assert len(talk.images) == 1
        if part != "listing" and len(sample.scene.objects) > 1:
            assert (sample.caption in said) == (part == "caption")


def test_test_records_hold_what_scoring_needs(folder):
    data = DATASETS.build(
        dict(type="LLaVADataset", data_root=str(folder), ann_file="test.json")
    )
    samples = held_out(18, 3, taken=set())

    for number, _ in enumerate(samples):
        meta = data[number]["conversation"].meta
        assert {"task", "form", "size"} <= set(meta)
        assert ("box" in meta) == (meta["task"] == "pointing")


def test_the_same_seed_gives_the_same_files(folder, tmp_path):
    make_tiny_scenes(tmp_path, num_train=40, num_test=18, seed=3)

    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == (
                path.read_bytes()
            ), path


def test_the_text_set_tells_what_the_image_shows(folder):
    samples = {sample.id: sample for sample in training_samples(40, 3)}

    for record in records(folder, "text.json"):
        first = record["conversations"][0]["value"]
        sample = samples[record["id"].rpartition("-")[0]]
        assert "image" not in record
        assert first.startswith(f"{sample.caption}\n")
        assert not any("[" in turn["value"] for turn in record["conversations"])


def test_every_description_names_all_objects_of_its_scene():
    for number, sample in enumerate(training_samples(60, 3)):
        wanted = sorted(sample.caption.split(", "))
        task = sample.description[0].task
        assert task == ("caption", "listing", "finding")[number % 3]
        if task == "finding":
            assert len(sample.description) == len(wanted)
        else:
            (question,) = sample.description
            assert sorted(question.answer.split(", ")) == wanted
            assert task == "listing" or question.answer == sample.caption


def test_the_tokenizer_keeps_words_whole(folder, tokenizer):
    ids = tokenizer(" a red circle at the top left", add_special_tokens=False)

    assert len(ids["input_ids"]) == 7
    assert len(tokenizer) <= 640


def test_jpeg_and_unknown_formats(tmp_path):
    make_tiny_scenes(tmp_path, num_train=4, num_test=2, image_format="jpg")
    assert len(list(tmp_path.rglob("*.jpg"))) == 6

    with pytest.raises(KeyError, match=r"no writer for \['coco'\]; registered: \["):
        make_tiny_scenes(tmp_path, num_train=4, num_test=2, formats=("coco",))
    with pytest.raises(ValueError, match="num_train=0"):
        make_tiny_scenes(tmp_path, num_train=0, num_test=2)
    with pytest.raises(ValueError, match="image_format='gif'"):
        SCENE_WRITERS.build(
            dict(type="llava", folder=str(tmp_path), image_format="gif")
        )


def phrase_data(folder, tokenizer, size=48):
    data = ImagePhraseDataset("phrases.json", data_root=str(folder))
    spec = VisionEncoderSpec(16, 2, 8, size)
    data.bind(SimpleNamespace(tokenizer=tokenizer, spec=spec))
    return data


def test_phrases_are_collated_once_each(folder, tokenizer):
    data = phrase_data(folder, tokenizer)
    items = [data[i] for i in range(12)]

    batch = collate_phrases(items)["inputs"]

    texts = [
        tokenizer.decode(ids[mask]).strip()
        for ids, mask in zip(batch["phrase_ids"], batch["phrase_mask"], strict=True)
    ]
    assert len(set(texts)) == len(texts)
    for row, record in enumerate(data.records[:12]):
        wanted = {p["text"] for p in record["phrases"]}
        got = {t for t, true in zip(texts, batch["is_true"][row], strict=True) if true}
        assert got == wanted
        kinds = {p["text"]: data.kinds.index(p["kind"]) for p in record["phrases"]}
        for text, kind in kinds.items():
            assert batch["group"][texts.index(text)] == kind
    assert batch["pixel_values"].shape == (12, 3, 48, 48)
    assert batch["pixel_values"].dtype == torch.uint8


def test_larger_images_are_made_as_small_as_the_encoder_takes(folder, tokenizer):
    data = phrase_data(folder, tokenizer, 32)

    with PIL.Image.open(f"{data.image_root}/{data.records[0]['image']}") as image:
        wanted = image.convert("RGB").resize((32, 32), PIL.Image.BICUBIC)
    got = data[0]["pixel_values"].permute(1, 2, 0)
    assert np.array_equal(got, np.asarray(wanted))


def test_phrase_reader_errors(folder, tokenizer):
    with pytest.raises(FileNotFoundError, match="make_tiny_scenes"):
        ImagePhraseDataset("none.json", data_root=str(folder))
    with pytest.raises(RuntimeError, match="bind"):
        ImagePhraseDataset("phrases.json", data_root=str(folder))[0]
    with pytest.raises(ValueError, match=r"train-000000.*encoder takes \(64, 64\)"):
        phrase_data(folder, tokenizer, 64)[0]


def test_the_tool_tells_of_every_format_in_a_line(tmp_path, capsys):
    tool = Path(__file__).parents[2] / "tools/dataset_converters/make_tiny_scenes.py"
    args = f"--out {tmp_path / 'a'} --num 12 --num-test 9 --format llava ade20k"

    assert runpy.run_path(str(tool))["main"](args.split()) == 0

    first, *lines = capsys.readouterr().out.strip().splitlines()
    assert "12 training scenes and 9 test questions" in first
    assert [line.partition(":")[0].strip() for line in lines] == ["llava", "ade20k"]
    assert all(len(line) < 200 for line in lines) and lines[1].endswith(" more")
