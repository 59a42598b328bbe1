"""Ablations of boxes, regions and LISA: the parent, but for what is compared."""

from pathlib import Path

import pytest

from mmvlm.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / "configs/ablations/tiny_scenes"
#: Folder to its variants, the parent first, and to the keys that they may change.
FAMILIES = dict(
    boxes=(
        "numerals bins cells head thousandths",
        "processor.codec processor.targets model.heads model.connectors "
        "model.language_model.new_tokens",
    ),
    regions=(
        "sampler coordinates extractor mean roi tokens",
        "processor.codec model.connector load_from",
    ),
    lisa=(
        "all at frozen no-classes no-expressions no-questions no-reasoning",
        "train_dataloader.dataset.datasets train_dataloader.dataset.weights "
        "model.heads.mask.position model.train_parts.mask",
    ),
)
PAIRS = [
    (family, name)
    for family, (names, _) in FAMILIES.items()
    for name in names.split()[1:]
]
#: Names that a file keeps for its own use.
NOT_READ = ("codec", "demo", "sources")


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(FOLDER.parents[2])


def variants(family):
    """Map the variants of a family to their files."""
    files = sorted((FOLDER / family).glob("*.py"))
    names = [path.stem.split("-clip-")[0].split("-", 1)[1] for path in files]
    return dict(zip(names, files, strict=True))


def flat(value, path=""):
    if isinstance(value, dict) and value:
        return {
            k: v for key in value for k, v in flat(value[key], f"{path}.{key}").items()
        }
    return {path.lstrip("."): value}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_all_variants(family):
    found = variants(family)

    assert set(found) == set(FAMILIES[family][0].split())
    assert all(path.read_text().count("\n") <= 60 for path in found.values())


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_a_variant_changes_what_is_compared_alone(family, name):
    names, allowed = map(str.split, FAMILIES[family])
    found = variants(family)
    parent, own = (
        flat(load_config(found[one], check=False).to_dict()) for one in (names[0], name)
    )

    changed = {key for key in {*parent, *own} if parent.get(key) != own.get(key)}

    changed -= {key for key in changed if key.split(".")[0] in NOT_READ}
    assert changed
    assert [key for key in changed if not key.startswith(tuple(allowed))] == []


def test_boxes_are_all_scored_as_they_are_read():
    for path in variants("boxes").values():
        assert load_config(path, check=False).test_evaluator.rule == "regions"


def test_sources_of_lisa_keep_their_shares():
    whole = load_config(variants("lisa")["all"], check=False).train_dataloader.dataset
    shares = dict(zip((one.name for one in whole.datasets), whole.weights, strict=True))
    assert list(shares.values()) == [9, 3, 3, 1]
    for name, path in variants("lisa").items():
        own = load_config(path, check=False).train_dataloader.dataset
        names = [one.name for one in own.datasets]
        assert own.weights == [shares[one] for one in names]
        assert set(shares) - set(names) == ({name[3:]} if name[:3] == "no-" else set())
