"""Pools of wordings."""

import json

import numpy as np
import pytest

from mmvlm.datasets.tasks.draws import Draws, draws_of
from mmvlm.datasets.tasks.templates import TemplatePool, fill
from mmvlm.structures import Text


def texts(parts):
    return [part.text for part in parts]


def test_pool_from_list_text_file_and_json_is_the_same(tmp_path):
    wordings = ["Where is <expr>?", "Find <expr>."]
    (tmp_path / "pool.txt").write_text("\n".join(wordings) + "\n\n")
    (tmp_path / "pool.json").write_text(json.dumps(wordings))

    pools = [
        TemplatePool(wordings, ["expr"]),
        TemplatePool(str(tmp_path / "pool.txt"), ["expr"]),
        TemplatePool(str(tmp_path / "pool.json"), ["expr"]),
    ]

    assert {pool.texts for pool in pools} == {tuple(wordings)}


def test_holes_are_filled_with_texts_and_parts():
    parts = fill("A <one>, <two>", dict(one="x", two=[Text("y"), Text("z")]))

    assert texts(parts) == ["A ", "x", ", ", "y", "z"]


def test_every_wording_is_drawn_and_the_same_seed_draws_the_same():
    pool = TemplatePool(["a", "b", "c"])

    def run(seed):
        draws = Draws(np.random.default_rng(seed))
        return [texts(pool.draw(draws))[0] for _ in range(40)]

    assert set(run(0)) == {"a", "b", "c"} and run(0) == run(0) != run(1)


def test_ignored_holes_are_taken_out_with_the_space_before():
    pool = TemplatePool("In <image>, find <expr> <image>", ["expr"], ignored=["image"])

    assert pool.texts == ("In, find <expr>",)


@pytest.mark.parametrize(
    "source, options, match",
    [
        (["<a>", "none"], dict(holes=["a"]), r"wording 1, 'none'.*\['a'\].*once: <a>"),
        ("<a> <a>", dict(holes=["a"]), "exactly once: <a>"),
        ("<a> <b>", dict(holes=["a"]), r"wrong holes \['b'\]"),
        ("<b> <b>", dict(optional=["b"]), "at most once: <b>"),
        ([], {}, "no wording"),
        ([1], {}, "1 is not a string"),
    ],
)
def test_bad_pools_are_refused(source, options, match):
    with pytest.raises(ValueError, match=match):
        TemplatePool(source, **options)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.txt' does not exist"):
        TemplatePool("nowhere.txt")
    (tmp_path / "cut.json").write_text('["a", ')
    with pytest.raises(ValueError, match=r"cut.json' cannot be read"):
        TemplatePool(str(tmp_path / "cut.json"))
    (tmp_path / "map.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"map.json': no wording"):
        TemplatePool(str(tmp_path / "map.json"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 <a>")
    with pytest.raises(ValueError, match=r"latin.txt' cannot be read"):
        TemplatePool(str(tmp_path / "latin.txt"), ["a"])


def test_draws_are_seeded_and_kept():
    draws = Draws(np.random.default_rng(3))
    assert draws_of(draws) is draws

    rolled = [draws_of(np.random.default_rng(3)) for _ in range(2)]
    first, second = (
        (d.choice("abc"), d.integer(9), d.chance(), d.shuffle("abcd"), d.normal(0, 1))
        for d in rolled
    )
    assert first == second
    assert sorted(first[3]) == list("abcd")
    assert draws.choice("ab", weights=[0, 1]) == "b"
    assert len(set(draws.sample("abcd", 3))) == 3
