"""Files that LLaVADataset reads, in the layouts in which they are published."""

import pytest
from qa_helpers import (
    SKIP,
    dump,
    make_images,
    own_cache,  # noqa: F401
    reasons,
    said,
    talks,
    written,
)

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.writers.densefusion_jsonl import dense_caption
from mmvlm.datasets.tiny_scenes.writers.llava_mix import SHORT


def llava(root, *rows, name="d.json", **options):
    dump(root / name, rows)
    file = dict(data_root=str(root), ann_file=name)
    return dict(type="LLaVADataset", **file, **options)


def record(ask="<image>\nWhat?", answer="A cat.", **change):
    said = [{"from": "human", "value": ask}, {"from": "gpt", "value": answer}]
    return dict(id="1", conversations=said, **change)


def test_the_mixture_of_665k(tmp_path):
    samples, (mix, _) = written("llava_mix", tmp_path, num=9)

    found = talks(mix)

    with_image = [t for t in found if t.images]
    text = [t for t in found if not t.images]
    for talk, sample in zip(with_image, samples, strict=True):
        first, *rest = questions_of(sample)
        wanted = [f"{first.text}\n{SHORT}", first.answer]
        wanted += [x for q in rest for x in (q.text, q.answer)]
        assert said(talk) == wanted
    assert [t.meta["model"] for t in text] == ["", "gpt-4", ""]
    ids = [t.id for t in found]
    assert len(set(ids)) == 9 < len(ids)  # numbers and texts, and some again
    assert len([p for p in make_images(mix) if p]) == 9


def test_several_images_stay_where_they_stand(tmp_path):
    samples, (_, several) = written("llava_mix", tmp_path, num=4)

    found = talks(several)

    for talk, (a, b) in zip(found, (samples[:2], samples[2:]), strict=True):
        kinds = [type(part).__name__ for part in talk.turns[0].parts]
        assert kinds == ["Text", "Image"] * 2 + ["Text"]
        assert [t.text for t in talk.turns[1::2]] == [a.caption, b.caption]
        assert talk.meta == {"data_source": "tiny_scenes"}
    assert [len(p) for p in make_images(several)] == [2, 2]


def test_sharegpt4v_and_its_folders(tmp_path):
    samples, (config,) = written("sharegpt4v", tmp_path, num=8)

    found = talks(config)

    assert [said(t)[1] for t in found] == [dense_caption(s.scene) for s in samples]
    assert all(type(t.turns[0].parts[0]).__name__ == "Image" for t in found)
    folders = {t.images[0].split("/")[0] for t in found}
    assert folders == {"coco", "sam", "llava", "share_textvqa"}
    assert len(make_images(config)) == 8


def test_pretraining_file_of_558k(tmp_path):
    ask = "Render a clear and concise summary of the photo.\n<image>"
    row = record(ask, "select luxury furniture", image="00453/004539375.jpg")
    config = llava(tmp_path, {**row, "id": "004539375"})

    (talk,) = talks(config)

    assert talk.id == "004539375" and talk.images == ["00453/004539375.jpg"]
    assert [type(p).__name__ for p in talk.turns[0].parts] == ["Image", "Text"]


def test_scienceqa_in_llavas_form(tmp_path):
    ask = "Context: N/A\nQuestion: Which?\nOptions: (A) a (B) b"
    config = llava(
        tmp_path,
        record(f"{ask}\n<image>", "The answer is B.", image="11/image.png"),
        record(ask, "LECTURE: x\nSOLUTION: y\n###\nANSWER: B."),
    )

    first, second = talks(config)

    assert said(first) == [ask, "The answer is B."] and first.images == ["11/image.png"]
    assert said(second)[0] == ask and second.images == []


def test_images_of_later_turns(tmp_path):
    turns = [
        {"from": "human", "value": "<image>\nWhat?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "And this? <image>"},
        {"from": "gpt", "value": "A dog."},
    ]
    row = dict(id=3, image=["a.png", "b.png"], conversations=turns)

    (talk,) = talks(llava(tmp_path, row))

    shown = [p.index for t in talk.turns for p in t.parts if hasattr(p, "index")]
    assert shown == [0, 1] and talk.id == "3"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(image=["a.png", "b.png"]), "1 <image> placeholder but 2 images"),
        (dict(image=[]), None),
        (dict(image=None), None),
        (dict(image=["a.png", None]), "'image' must be a path or a list of paths"),
        (dict(conversations=[]), "'conversations' must be a list of turns"),
        (dict(conversations=[{"from": "human"}]), "must be an object with 'from'"),
    ],
)
def test_odd_records(tmp_path, change, reason):
    good = record(image="a.png")
    config = llava(tmp_path, good, {**good, **change})

    found = talks(config, **SKIP)

    if reason is None:  # no image: the tag is plain text, as LLaVA has it
        assert found[1].images == [] and "<image>" in said(found[1])[0]
    else:
        assert len(reasons(found)) == 1 and reason in found[1].reason
