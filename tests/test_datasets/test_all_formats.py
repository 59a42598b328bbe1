"""What holds of every format: suites over all writers of TinyScenes.

A new writer is tested here without being listed. Damage that fits every format has
two documented outcomes: ValueError at opening that names the file, or samples that
are counted as bad.
"""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from data_doctor import check_data
from format_helpers import (
    CASES,
    FORMATS,
    NUM_SCENES,
    build,
    has_media,
    is_document,
    pipeline,
    tiny_context,
    write_format,
)
from fuzzing.fuzz import fuzz, replaced, sources_of, walk, watchdog
from sample_browser import collect_card
from sample_page import write_sample_page
from torch.utils.data import DataLoader

from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.structures import Region, Text

over_cases = pytest.mark.parametrize(
    ("name", "split"), CASES, ids=[f"{name}-{split}" for name, split in CASES]
)


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """Return a function that writes a format once and gives its place."""
    written = {}
    cache = tmp_path_factory.mktemp("cache")
    before = os.environ.get("MMVLM_CACHE")
    os.environ["MMVLM_CACHE"] = str(cache)

    def get(name):
        if name not in written:
            written[name] = write_format(name, tmp_path_factory.mktemp(name))
        return written[name]

    yield get
    os.environ.pop("MMVLM_CACHE")
    if before is not None:
        os.environ["MMVLM_CACHE"] = before


@pytest.fixture
def readers(formats, name, split):
    written = formats(name).readers
    assert written["train"], "SceneWriter.readers gives nothing"
    if not written[split]:
        pytest.skip("the public set has no such split")
    return written[split]


WORDS = ["USER: what is at the top left of it? ASSISTANT: a red 0 1 2 3.5 [ ] < >"] * 3


@pytest.fixture(scope="module")
def contexts():
    """Of conversations, and of documents."""
    return tiny_context(WORDS), tiny_context(WORDS, type="plain", require_image=False)


def bound(config, contexts, split):
    """Return a reader with the pipeline that fits, its context and its mode."""
    dataset = build(config)
    document, media = is_document(dataset), has_media(dataset)
    mode = "train" if document or split == "train" else "generate"
    # Transforms of other inputs depend on the modality.
    steps = [] if media else pipeline(mode=mode)
    dataset = build(config, pipeline=steps)
    context = None if media else contexts[document]
    if context is not None:
        dataset.bind(context)
    return dataset, context, mode


def talk_of(item):
    return item["conversation"]


def said(item):
    """Everything of a conversation that can be compared."""
    talk = talk_of(item)
    images = [p if isinstance(p, str) else repr(p)[:200] for p in talk.images]
    return repr((talk.turns, images, talk.id, sorted(talk.meta), sorted(talk.media)))


def collate(items):
    return [item if isinstance(item, BadRecord) else said(item) for item in items]


@over_cases
def test_every_item_is_a_checked_conversation(readers, name, split):
    for config in readers:
        dataset = build(config)
        assert len(dataset) >= 1
        for position in range(len(dataset)):
            item = dataset[position]
            talk = talk_of(item)
            talk.check()
            roles = [turn.role for turn in talk.turns if turn.role != "system"]
            if roles != ["assistant"]:  # a document
                assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
            assert split == "test" or roles[-1] == "assistant"
            for turn in talk.turns:
                for part in turn.parts:
                    assert not isinstance(part, Text) or isinstance(part.text, str)
                    if isinstance(part, Region):
                        assert_inside(part, talk)
            if dataset.image_root and talk.images and isinstance(talk.images[0], str):
                assert (Path(dataset.image_root) / talk.images[0]).is_file()


def assert_inside(region, talk):
    assert 0 <= region.image < len(talk.images)
    (height, width), boxes = region.boxes.size, region.boxes.to("pixel").xyxy
    assert (boxes >= -1e-6).all()
    assert (boxes <= np.array([width, height] * 2) + 1e-6).all()
    extent = boxes[:, 2:] - boxes[:, :2]
    assert (extent > 0).all() or region.kind == "point"


@over_cases
def test_every_item_is_encoded(readers, contexts, name, split):
    for config in readers:
        dataset, context, mode = bound(config, contexts, split)
        for position in range(len(dataset) if context is not None else 0):
            item = dataset[position]
            encoded, images = item["encoded"], len(item["conversation"].images)
            assert [slot.length for slot in encoded.slots] == [36] * images
            assert (encoded.labels >= 0).any() == (mode == "train")


@over_cases
def test_doctor_finds_nothing_and_browser_shows_all(
    readers, contexts, tmp_path, name, split
):
    cards = []
    for config in readers:
        dataset, context, mode = bound(config, contexts, split)

        report = check_data(
            dataset, training=mode == "train", bound=context is not None
        )

        assert [f for f in report.findings if f.level == "problem"] == []
        assert report.num_seen == len(dataset) == report.num_planned
        places = range(min(4, len(dataset)))
        cards += [collect_card(dataset, place, context) for place in places]
    page = Path(write_sample_page(cards, tmp_path / "page.html"))
    assert [card.reason for card in cards] == [None] * len(cards)
    text = page.read_text()
    assert text.count("<article") == len(cards)
    regions = sum(len(card.regions) for card in cards)
    assert text.count('class="chip" style=') == regions


@over_cases
def test_workers_and_copies_give_the_same_items(readers, name, split):
    for config in readers:
        dataset = build(config)
        alone = collate([dataset[i] for i in range(len(dataset))])

        loader = DataLoader(dataset, batch_size=5, num_workers=2, collate_fn=collate)
        assert [item for batch in loader for item in batch] == alone
        copied = pickle.loads(pickle.dumps(dataset))
        assert collate([copied[i] for i in range(len(copied))]) == alone
        again = build(config)
        assert collate([again[i] for i in range(len(again))]) == alone
        records = [repr(again.record_at(i)) for i in range(len(again))]
        assert records == [repr(dataset.record_at(i)) for i in range(len(again))]


@over_cases
@pytest.mark.parametrize("damage", ["half", "random", "empty"])
def test_a_damaged_source_is_refused_or_counted(readers, damage, name, split):
    change = dict(
        half=lambda data: data[: _inside_a_line(data)],
        random=lambda data: np.random.default_rng(0).bytes(min(4096, len(data))),
        empty=lambda data: b"",
    )[damage]
    for config in readers:
        paths = sources_of(build(config))
        assert paths
        names = [os.path.basename(path) for path in paths]
        for path in paths[:4]:
            with replaced(path, change):
                outcome = walk(config, names=names)
            assert outcome.failure is None, path
            assert outcome.seen == outcome.good + outcome.bad
            harmed = outcome.refused or outcome.bad > 0
            assert harmed or not is_read(config, path), path


def is_read(config, path):
    """Whether a reader misses a file of its folder."""
    whole = walk(config)
    os.rename(path, f"{path}.away")
    try:
        return walk(config) != whole
    finally:
        os.rename(f"{path}.away", path)


def _inside_a_line(data):
    """Return a place near the middle with characters of one line on both sides."""
    at = len(data) // 2
    while at > 1 and {data[at - 1], data[at]} & set(b"\r\n"):
        at -= 1
    return at


@over_cases
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_image_is_counted_and_no_other(readers, damage, name, split):
    for config in readers:
        steps = [dict(type="LoadImages")]
        dataset = build(config, pipeline=steps, bad_samples=dict(policy="skip"))
        own = [dataset.facts_at(i)["path"] for i in range(len(dataset))]
        files = [p for p in own if os.path.isfile(p) and p != dataset.ann_file]
        if not files:
            continue  # images inside of the source, or none
        content = Path(files[0]).read_bytes()
        try:
            with watchdog():
                if damage == "missing":
                    os.remove(files[0])
                else:
                    Path(files[0]).write_bytes(content[: len(content) // 2])
                items = [dataset[i] for i in range(len(dataset))]
        finally:
            Path(files[0]).write_bytes(content)

        bad = [isinstance(item, BadRecord) for item in items]
        assert bad == [path == files[0] for path in own]
        reasons = {item.reason for item in items if isinstance(item, BadRecord)}
        assert all(os.path.basename(files[0]) in reason for reason in reasons)


def test_formats_are_as_large_as_what_was_written(formats):
    seen = {
        name: sum(len(build(config)) for config in formats(name).readers["train"])
        for name in FORMATS
    }
    assert {name: n for name, n in seen.items() if n < NUM_SCENES // 3} == {}


def test_a_share_of_the_fuzz_run():
    tallies = fuzz(max(300, 12 * len(FORMATS)), seed=1)

    assert [line for tally in tallies.values() for line in tally.failures] == []
    for tally in tallies.values():
        assert tally.seen == tally.good + tally.bad
        assert tally.good > 0
