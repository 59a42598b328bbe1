"""gRefCOCO's files: several targets, one, or none; from the file to the loss."""

import json
import pickle

import numpy as np
import pytest
from grounding_helpers import annotations, build, make_image, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.tasks.generalized_segmentation import GeneralizedSegmentation
from mmvlm.datasets.tasks.segmentation import mask_region
from mmvlm.registry import DATA_TASKS, DATASETS, TRANSFORMS
from mmvlm.structures import Region, ViewLayout
from mmvlm.structures.masks import rle_area, rle_to_mask

SIZE = (30, 40)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Refs with two targets, one and none, in two images; gives a writer."""
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))

    def ref(ref_id, image_id, ann_id, *texts, split="train"):
        sentences = [
            dict(
                raw=t, sent=t.lower(), tokens=t.lower().split(), sent_id=10 * ref_id + n
            )
            for n, t in enumerate(texts)
        ]
        return dict(
            **dict(ref_id=ref_id, image_id=image_id, ann_id=ann_id, split=split),
            **dict(category_id=[1], file_name="x.jpg", sentences=sentences),
        )

    def thing(number, image_id, x, **more):
        ring = [x, 2.0, x + 8, 2.0, x + 8, 12.0, x, 12.0]
        return dict(
            **dict(id=number, image_id=image_id, category_id=1, bbox=[x, 2, 8, 10]),
            **dict(dict(segmentation=[ring], iscrowd=0), **more),
        )

    refs = [
        ref(1, 7, [50, 51], "Both Dogs", "the pair"),
        ref(2, 7, [51], "right dog"),
        ref(3, 7, [-1], "The Cat"),
        ref(4, 9, [52], "man", split="testA"),
    ]
    tables = dict(
        images=[
            dict(id=7, file_name="a.jpg", width=SIZE[1], height=SIZE[0]),
            dict(id=9, file_name="b.jpg", width=SIZE[1], height=SIZE[0]),
        ],
        annotations=[thing(50, 7, 3.0), thing(51, 7, 20.0), thing(52, 9, 1.0)],
        categories=[dict(id=1, name="dog")],
    )
    for name in ("a.jpg", "b.jpg"):
        make_image(tmp_path / "train2014" / name, SIZE[::-1])

    def write(edit=None, suffix="json"):
        folder = tmp_path / "grefcoco"
        folder.mkdir(exist_ok=True)
        if edit is not None:
            edit(refs, tables)
        data = json.dumps(refs).encode() if suffix == "json" else pickle.dumps(refs, 2)
        (folder / f"grefs(unc).{suffix}").write_bytes(data)
        (folder / "instances.json").write_text(json.dumps(tables))
        return dict(
            type="GRefCOCODataset",
            data_root=str(tmp_path),
            ann_file=f"grefcoco/grefs(unc).{suffix}",
            image_prefix="train2014",
        )

    return write


@pytest.mark.parametrize("suffix", ["json", "p"])
def test_a_sample_is_a_sentence_with_all_that_it_means(files, suffix):
    first, second, third, fourth = annotations(build(files(suffix=suffix)))

    assert [one.id for one in (first, second, third, fourth)] == [
        *("10", "11", "20", "30")
    ]
    (both,) = first.expressions
    assert (both.text, both.instances, both.id) == ("both dogs", (0, 1), "10")
    assert [i.id for i in first.instances] == ["50", "51"]
    assert all(not i.phrases and i.name == "dog" for i in first.instances)
    assert second.expressions[0].text == "the pair"
    assert [i.id for i in third.instances] == ["51"]
    assert fourth.instances == () and fourth.expressions[0].instances == ()
    assert first.meta == dict(
        image_id=7, split="train", ref_id=1, question_id=10, expression="both dogs"
    )


def test_an_image_joins_what_is_said_of_it(files):
    (whole,) = annotations(build(files(), per="image"))
    per_ref = annotations(build(files(), per="ref"))

    assert [i.id for i in whole.instances] == ["50", "51"]
    assert [one.instances for one in whole.expressions] == [(0, 1), (0, 1), (1,), ()]
    assert [len(one.expressions) for one in per_ref] == [2, 1, 1]
    (man,) = annotations(build(files(), split="testA"))
    assert man.expressions[0].text == "man"


@pytest.mark.parametrize(
    ("ann_id", "reason"),
    [
        ([], "'ann_id' is"),
        ([-1, 50], "'ann_id' is"),
        ([50, None], "'ann_id' is"),
        (None, "'ann_id'"),
        ([77], "77 is not among the annotations"),
        ([52], "'image_id' is 7, but 9 in annotation 52"),
    ],
)
def test_what_a_ref_means_is_checked(files, ann_id, reason):
    config = files(lambda refs, tables: refs[0].update(ann_id=ann_id))

    with pytest.raises(DataError, match=reason):
        build(config)[0]
    data = build(config, bad_samples=dict(policy="skip"))
    assert [isinstance(one, BadRecord) for one in data] == [True, False, False]


def test_crowds_are_no_targets_and_a_number_is_a_list_of_one(files):
    def edit(refs, tables):
        tables["annotations"][0]["iscrowd"] = 1
        refs[1]["ann_id"] = 51

    first, _, third, _ = annotations(build(files(edit)))
    assert [i.id for i in first.instances] == ["51"] == [i.id for i in third.instances]
    config = files(lambda refs, tables: tables["annotations"][1].update(iscrowd=1))
    with pytest.raises(DataError, match="crowds alone"):
        build(config)[0]


def talks(config, **task):
    task = dict(
        type="GeneralizedSegmentation",
        **dict(max_questions=1, questions="<name>", answers="<mask>"),
        **dict(refusals="no <name>", **task),
    )
    data = DATASETS.build({**config, "task": task})
    return [data[place]["conversation"] for place in range(len(data))]


def test_answers_are_one_mask_of_all_targets_or_a_refusal(files):
    both, _, one, none = talks(files())

    (region,) = (p for p in both.turns[-1].parts if isinstance(p, Region))
    mask = rle_to_mask(region.rles[0]) if region.rles[0] else None
    assert mask is None and len(region.polygons[0]) == 2  # the rings of both
    assert region.phrase == "both dogs"
    (single,) = (p for p in one.turns[-1].parts if isinstance(p, Region))
    assert len(single.polygons[0]) == 1
    assert none.turns[-1].text == "no the cat"
    assert not any(isinstance(p, Region) for p in none.turns[-1].parts)


def test_an_empty_mask_is_a_token_and_a_target(files):
    none = talks(files(), no_target="mask")[-1]
    (region,) = none.turns[-1].parts
    assert rle_area(region.rles[0]) == 0 and region.kind == "mask"

    write = TRANSFORMS.build(
        dict(type="WriteRegions", codec=dict(type="RegionTokenCodec"))
    )
    item = write(dict(conversation=none, index=0, layouts=()))
    assert item["conversation"].turns[-1].text == "the cat [SEG]"
    item["layouts"] = (ViewLayout(SIZE, SIZE),)
    (target,) = TRANSFORMS.build(dict(type="MaskTargets"))(item)["targets"]["mask"]
    assert target.tolist() == [SIZE[0] * SIZE[1]]
    # A codec of coordinates cannot say where nothing is.
    write = TRANSFORMS.build(dict(type="WriteRegions", codec=dict(type="ShikraCodec")))
    with pytest.raises(ValueError, match="has no area"):
        write(dict(conversation=none, index=0, layouts=()))


def test_the_reference_is_the_union_and_empty_without_a_target(files):
    config = {**files(), "evaluate": True}
    task = dict(type="GeneralizedSegmentation", max_questions=1)
    data = DATASETS.build({**config, "task": task})
    found = [data[place]["conversation"].meta["reference"] for place in range(4)]

    assert [rle_area(one) for one in found] == [160, 160, 80, 0]
    assert {tuple(one["size"]) for one in found} == {SIZE}
    whole = DATASETS.build({**config, "task": task, "per": "image"})
    with pytest.raises(DataError, match=r"4 expressions .* per='sentence'"):
        whole[0]


def test_what_tasks_do_not_take_is_refused():
    with pytest.raises(ValueError, match="max_questions=0"):
        GeneralizedSegmentation(max_questions=0)
    with pytest.raises(ValueError, match="no_target='x'"):
        GeneralizedSegmentation(no_target="x")
    region = mask_region([], SIZE)
    assert region.boxes.size == SIZE and rle_area(region.rles[0]) == 0


def test_scenes_have_every_number_of_targets(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))
    writer = write_scenes("grefcoco", tmp_path)
    counts = {}
    for split in ("train", "test"):
        (config,) = writer.readers(split)
        found = annotations(build(config))
        counts[split] = {len(one.expressions[0].instances) for one in found}
        for one in found:
            text = one.expressions[0].text
            if not one.expressions[0].instances:
                assert text.startswith("the ")
    assert counts["train"] >= {0, 1, 2} and 0 in counts["test"]
    # Both splits stand in one file, and writing one keeps the other.
    refs = json.loads((tmp_path / "grefcoco/grefs(unc).json").read_text())
    assert {one["split"] for one in refs} == {"train", "testA", "testB"}
    assert DATA_TASKS.get("GeneralizedSegmentation") is GeneralizedSegmentation
    assert np.unique([one["ref_id"] for one in refs]).size == len(refs)
