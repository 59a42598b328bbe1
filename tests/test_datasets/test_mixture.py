from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.registry import DATASETS


@pytest.fixture
def parts(llava, make):
    config = llava.write([make.record(i, images=i % 2, words=i + 1) for i in range(10)])

    def build():
        return [
            LLaVADataset(**config, name="a"),
            LLaVADataset(**config, name="b", indices=4),
        ]

    return build


def rows(mixture):
    return [
        (i["dataset"], i["index"])
        for i in map(mixture.__getitem__, range(len(mixture)))
    ]


def test_weight_one_is_the_data_sets_side_by_side(parts):
    mixture = MixtureDataset(parts())

    assert rows(mixture) == [("a", i) for i in range(10)] + [("b", i) for i in range(4)]
    expected = np.concatenate([d.lengths for d in mixture.datasets])
    assert mixture.lengths.tolist() == expected.tolist()


def test_fraction_covers_all_before_it_repeats(parts):
    mixture = MixtureDataset(parts(), weights=[0.3, 2.5], seed=1)
    seen = Counter()

    for epoch in range(10):
        mixture.set_epoch(epoch)
        now = rows(mixture)
        assert len(now) == len(mixture) == 3 + 10
        seen.update(now)
        for name, size in (("a", 10), ("b", 4)):
            counts = [seen[name, i] for i in range(size)]
            assert max(counts) - min(counts) <= 1

    assert [seen["a", i] for i in range(10)] == [3] * 10
    assert [seen["b", i] for i in range(4)] == [25] * 4


def test_choice_depends_on_seed_and_epoch_only(parts):
    one, two = (MixtureDataset(parts(), [0.5, 1.5], seed=7) for _ in range(2))
    other = MixtureDataset(parts(), [0.5, 1.5], seed=8)
    for epoch in (0, 1, 2):  # the other one jumps straight to the last epoch
        one.set_epoch(epoch)
    two.set_epoch(2)
    other.set_epoch(2)

    assert rows(one) == rows(two) != rows(other)
    assert one.lengths.tolist() == two.lengths_at(2).tolist()
    two.set_epoch(3)
    assert rows(one) != rows(two)


def test_lengths_follow_the_samples_of_the_epoch(parts):
    mixture = MixtureDataset(parts(), [0.5, 1.5])
    mixture.set_epoch(3)

    own = {d.name: d.lengths for d in mixture.datasets}
    assert mixture.lengths.tolist() == [own[n][i] for n, i in rows(mixture)]


def test_visits_of_one_sample_draw_different_numbers(parts):
    inner = MixtureDataset(parts(), [1, 3], name="inner")
    mixture = MixtureDataset([inner], [2])
    items = [mixture[i] for i in range(len(mixture))]

    noise = [int(i["rng"].integers(2**62)) for i in items if i["dataset"] == "b"]
    assert len(noise) == 24 and len(set(noise)) == 24


def test_epoch_reaches_persistent_workers(parts):
    mixture = MixtureDataset(parts(), [0.5, 1.5])
    loader = DataLoader(
        mixture,
        batch_size=3,
        num_workers=2,
        persistent_workers=True,
        collate_fn=lambda items: [
            (i["dataset"], i["index"], int(i["rng"].integers(2**62))) for i in items
        ],
    )

    for epoch in range(3):
        mixture.set_epoch(epoch)
        here = [mixture[i] for i in range(len(mixture))]
        expected = [
            (i["dataset"], i["index"], int(i["rng"].integers(2**62))) for i in here
        ]
        assert [row for batch in loader for row in batch] == expected


def test_bind_reaches_all_members(parts):
    class Seen(list):
        def bind(self, context):
            self.append(context)

        def __call__(self, item):
            return item

    members = parts()
    for member in members:
        member.pipeline.transforms.append(Seen())

    MixtureDataset([MixtureDataset(members)]).bind("context")

    assert [m.pipeline.transforms[-1] for m in members] == [["context"], ["context"]]


def test_describe_tells_what_an_epoch_holds(parts):
    text = MixtureDataset(parts(), [0.3, 2.5]).describe()

    assert "13 samples per epoch" in text
    assert "10 samples x 0.3 =         3 ( 23.1 %)" in text
    assert "4 samples x 2.5 =        10 ( 76.9 %)" in text


def test_builds_from_config(llava, make):
    config = llava.write([make.record(0, images=0)])
    member = dict(type="LLaVADataset", **config)

    mixture = DATASETS.build(
        dict(
            type="MixtureDataset",
            datasets=[dict(member, name="x"), dict(member, name="y")],
        )
    )

    assert len(mixture) == 2
    assert [d["name"] for d in mixture.metainfo["datasets"]] == ["x", "y"]


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ("", None, "datasets is empty"),
        ("ab", [1], r"weights=\[1\] for 2 datasets"),
        ("ab", [1, 0], "expected one number above 0"),
        ("ab", [1, float("nan")], "expected one number above 0"),
        ("aa", None, r"names \['a', 'a'\] are not distinct"),
    ],
)
def test_wrong_options_are_named(parts, names, weights, message):
    a, b = parts()
    members = [dict(a=a, b=b)[n] for n in names]

    with pytest.raises(ValueError, match=message):
        MixtureDataset(members, weights)


def test_position_outside_is_an_index_error(parts):
    with pytest.raises(IndexError, match=r"position 14 outside 0\.\.13"):
        MixtureDataset(parts())[14]


class Tokens:
    """A member that knows its token lengths once it is bound."""

    def __init__(self, name, tokens, images=1):
        self.name, self.tokens, self.bound = name, np.array(tokens), False
        self.images = images

    def __len__(self):
        return len(self.tokens)

    def set_epoch(self, epoch):
        pass

    def bind(self, context):
        self.bound = True

    def token_lengths_at(self, epoch, repeat=0):
        assert self.bound, "tokens are asked for before the model is known"
        return (self.tokens + epoch + 1000 * repeat).astype(np.int32)

    def num_images_at(self, epoch):
        return np.full(len(self), self.images)


def members():
    return [
        Tokens("short", np.resize([10, 30], 600)),
        Tokens("long", np.resize([100, 300], 200), images=2),
    ]


def test_samples_are_shared_out_by_weight():
    mixture = MixtureDataset(members(), [3, 1], by="samples", size=400)

    assert mixture.counts == [300, 100] and len(mixture) == 400
    whole = MixtureDataset(members(), [1, 1], by="samples")
    assert whole.counts == [400, 400]


def test_tokens_are_shared_out_by_weight():
    mixture = MixtureDataset(members(), [1, 3], by="tokens", size=24_000)
    mixture.bind("model")

    assert mixture.counts == [300, 90]
    for epoch in range(3):
        rows, _ = mixture.rows_at(epoch)
        tokens = [
            m.tokens[r].sum() for m, r in zip(mixture.datasets, rows, strict=True)
        ]
        assert 0.22 < tokens[0] / sum(tokens) < 0.28
    whole = MixtureDataset(members(), [1, 3], by="tokens")
    whole.bind("model")
    pairs = zip(whole.datasets, whole.rows_at(0)[0], strict=True)
    tokens = sum(m.tokens[r].sum() for m, r in pairs)
    assert tokens == pytest.approx(600 * 20 + 200 * 200, rel=0.05)


def test_limits_bound_the_samples_of_an_epoch_and_all_come_in_time():
    mixture = MixtureDataset(members(), [1, 2], limits=[150, None])

    assert mixture.counts == [150, 400]
    seen = Counter()
    for epoch in range(4):
        seen.update(mixture.rows_at(epoch)[0][0].tolist())
    assert set(seen.values()) == {1} and len(seen) == 600


def test_token_lengths_and_images_follow_the_samples_of_the_epoch():
    mixture = MixtureDataset(members(), [0.5, 1.5])
    mixture.bind("model")

    lengths = mixture.token_lengths_at(2)

    (short, long), (_, visits) = mixture.rows_at(2)
    first, second = (m.tokens for m in mixture.datasets)
    assert set(visits.tolist()) == {0, 1}
    # The second visit of a sample is number 2 for the reader, as in fetch.
    expected = [*(first[short] + 2), *(second[long] + 2 + 2000 * visits)]
    assert lengths.tolist() == expected
    assert lengths.dtype == np.int32
    assert mixture.num_images_at(2).tolist() == [1] * 300 + [2] * 300
    outer = MixtureDataset([mixture], [1])
    assert outer.token_lengths_at(2).tolist() == lengths.tolist()


def test_describe_counts_the_tokens_of_an_epoch():
    mixture = MixtureDataset(members(), [1, 0.5])
    mixture.bind("model")

    text = mixture.describe(0)

    tokens = members()[1].tokens[mixture.rows_at(0)[0][1]].sum()
    assert f"{12_000 + tokens} tokens in epoch 0" in text
    assert f"{100 * tokens / (12_000 + tokens):5.1f} %)" in text.splitlines()[2]
    assert "12000 tokens" in text.splitlines()[1]


def test_member_without_token_lengths_is_named(parts):
    class NoTokens:
        name = "blind"

        def __len__(self):
            return 3

    mixture = MixtureDataset([NoTokens()], [1])

    with pytest.raises(TypeError, match=r"'blind' \(NoTokens\) offers no token_"):
        mixture.token_lengths_at(0)


def test_fingerprint_tells_a_changed_mixture():
    def facts(**options):
        inner = MixtureDataset(members(), [1, 2], name="inner", **options)
        return MixtureDataset([inner]).fingerprint(0)

    assert facts() == facts()
    assert facts() != facts(seed=1) and facts() != facts(limits=[5, None])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(by="words"), r"by='words', expected one of \['epochs', 'samples', 'tok"),
        (dict(size=9), "size=9 with by='epochs'"),
        (dict(by="tokens", size=1), "size=1 with by='tokens'; expected at least 2"),
        (dict(limits=[1]), r"limits=\[1\] for 2 datasets"),
        (dict(limits=[1, 0]), "expected one int above 0, or None, per dataset"),
    ],
)
def test_wrong_shares_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureDataset(members(), [1, 1], **options)
