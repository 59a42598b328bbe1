"""Half precision: answers that depend on no batch, or a word on how many do."""

import gc
import json

import pytest
import torch
from letters import NUM_ITEMS, write_letters

import mmvlm.engine.benchmarks.answering as answering
import mmvlm.engine.benchmarks.choosing as choosing
import mmvlm.engine.benchmarks.run as runs
from mmvlm.apis.benchmarks import BenchmarkOptions, run_benchmarks
from mmvlm.engine.benchmarks.float32_head import Float32Head
from mmvlm.engine.benchmarks.planner import BatchPolicy
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_letters(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(config_file, checkpoint, data, tmp_path):
    half = tmp_path / "half.py"
    half.write_text(
        config_file.read_text()
        + 'test_cfg = dict(type="VLMTestLoop", dtype="bfloat16")\n'
        + 'test_evaluator = dict(type="ExactMatchMetric")\n'
    )

    def run(out, config=half, **options):
        options = BenchmarkOptions(data_root=str(data), num_workers=0, **options)
        path = str(data / "letters.py")
        (row,) = run_benchmarks(config, checkpoint, path, tmp_path / out, options)
        lines = (tmp_path / out / "letters/answers.jsonl").read_text().splitlines()
        return row, [json.loads(line)["text"] for line in lines]

    return run


def test_every_question_has_a_shape_of_its_own(run, monkeypatch):
    shapes, real = [], answering.ModelAnswers._batch

    def watched(self, batch):
        shapes.append((len(batch), self.cache, self._shares))
        return real(self, batch)

    monkeypatch.setattr(answering.ModelAnswers, "_batch", watched)
    found = [
        run(f"out{tokens}", deterministic=True, policy=BatchPolicy(tokens))
        for tokens in (90, 16384)
    ]

    assert shapes == [(1, None, False)] * (2 * NUM_ITEMS)
    assert found[0][1] == found[1][1]
    row = found[0][0]
    assert row["deterministic"] is True and "flips" not in row


def test_a_run_says_how_many_answers_depend_on_their_batch(
    run, config_file, monkeypatch
):
    told = []
    monkeypatch.setattr(runs, "print_log", lambda text, **_: told.append(text))
    _, alone = run("alone", deterministic=True)
    told.clear()

    row, texts = run("out")

    differ = sum(one != other for one, other in zip(alone, texts, strict=True))
    assert row["flips"] == dict(asked=NUM_ITEMS, differ=differ)
    assert any(f"{differ} of {NUM_ITEMS} that were asked once more" in t for t in told)
    monkeypatch.setattr(runs, "_FLIP_ITEMS", (4, 8))
    real = answering._answered
    monkeypatch.setattr(
        answering,
        "_answered",
        lambda one, sample: {**real(one, sample), "text": f"{sample.pred_text}!"},
    )
    row, _ = run("out")  # nothing is left to answer: only what is asked once more
    assert row["flips"]["asked"] == row["flips"]["differ"] == 8
    assert "8 of 8 answers differ when asked alone" in row["note"]

    row, _ = run("float32", config_file)
    assert "flips" not in row


def test_nothing_is_said_of_answers_where_there_are_none(run, monkeypatch):
    told = []
    monkeypatch.setattr(runs, "print_log", lambda text, **_: told.append(text))
    monkeypatch.setattr(
        answering.ModelAnswers,
        "__call__",
        lambda _, asked: [dict(one.record, finish="error") for one in asked],
    )

    row, _ = run("out")

    assert row["failed"] == NUM_ITEMS and "flips" not in row
    assert not any("came out otherwise" in text for text in told)


@pytest.mark.parametrize("place", ["head", "batch"])
def test_a_run_ends_although_nothing_can_be_asked_once_more(run, monkeypatch, place):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    caches, real = [], answering.ModelAnswers._batch

    def batch(self, questions):
        if self.cache is None and place == "batch":
            full()
        caches.append(self.cache)
        return real(self, questions)

    if place == "head":
        monkeypatch.setattr(Float32Head, "__enter__", full)
    monkeypatch.setattr(answering.ModelAnswers, "_batch", batch)
    told = []
    monkeypatch.setattr(choosing, "print_log", lambda text, **_: told.append(text))

    row, texts = run("out")

    assert len(texts) == NUM_ITEMS and "flips" not in row and "metrics" in row
    assert len(told) == 1 and "how many do is not known" in told[0]
    assert caches[0].num_bytes == 0

    def broken(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(answering.ModelAnswers, "_batch", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("out")


def test_the_head_computes_in_float32_for_a_while(monkeypatch):
    torch.manual_seed(0)
    model = HFCausalLM.tiny().bfloat16().eval()
    states = torch.randn(3, 48, dtype=torch.bfloat16)
    before = model.logits(states)

    weight = model.model.lm_head.weight

    def copies():
        gc.collect()
        found = [one for one in gc.get_objects() if type(one) is torch.nn.Parameter]
        return sum(
            (one.dtype, one.shape) == (torch.float32, weight.shape) for one in found
        )

    made, deepcopy = [], torch.Tensor.__deepcopy__
    monkeypatch.setattr(
        *(torch.nn.Parameter, "__deepcopy__"),
        lambda one, memo: made.append(one) or deepcopy(one, memo),
    )
    others = copies()
    heads = [Float32Head(model.model) for _ in range(3)]  # of as many benchmarks
    assert copies() == others
    with heads[0], torch.autocast("cpu", torch.bfloat16):
        found = model.logits(states).detach()
        assert copies() == others + 1

    assert copies() == others and made == []
    assert found.dtype == torch.float32 and before.dtype == torch.bfloat16
    torch.testing.assert_close(found, states.float() @ weight.float().T)
    assert not torch.equal(found, before.float())
    assert torch.equal(model.logits(states), before)
