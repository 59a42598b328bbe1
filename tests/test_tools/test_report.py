import base64
import json
import re

import cv2
import numpy as np
import pytest
from demo_report.grid import boxes_of, draw_grid, select_rows
from demo_report.loss_curves import draw_loss_curves, read_losses, smooth
from demo_report.report import format_table, write_report
from demo_report.results import load_answers, result_lines

BLACK = (0, 0, 0)
TRUE_BGR, PREDICTED_BGR = (0x5E, 0xC5, 0x22), (0x16, 0x73, 0xF9)


def answer(number, task, gt, pred, form=None, **more):
    return dict(
        sample_id=f"test-{number}",
        index=number,
        image="images/black.png",
        task=task,
        form=form or task,
        question=f"What about <{task}>?",
        gt=gt,
        pred=pred,
        **more,
    )


def run(right=1.0):
    """20 questions of each of three tasks; the first of a task are right."""
    rows = []
    for number in range(20):
        good = number < right * 20
        side = "left" if number % 2 else "right"
        rows += [
            answer(3 * number, "side", side, side if good else "up"),
            answer(3 * number + 1, "digit", str(number % 10), str(number % 10)),
            answer(
                3 * number + 2,
                "pointing",
                "[25, 0, 50, 50]",
                "[25, 0, 50, 50]" if good else "[75, 50, 100, 100]",
                form="box",
                box=[10, 0, 20, 10],
                size=[20, 40],
            ),
        ]
    return rows


def blind_run():
    return [{**row, "pred": "left" if row["task"] == "side" else ""} for row in run()]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/black.png"), np.zeros((20, 40, 3), np.uint8))
    lines = [json.dumps(dict(step=s, loss=9 / s, lr=1)) for s in range(1, 60)]
    lines.insert(3, json.dumps({"step": 3, "val/accuracy": 0.5}))
    text = "\n".join(lines) + '\n{"step": 60, "lo'
    (tmp_path / "scalars.jsonl").write_text(text)
    return tmp_path


def has_colour(path, colour):
    return bool((np.abs(cv2.imread(str(path)).astype(int) - colour).max(2) < 8).any())


# ----------------------------------------------------------------- results
def test_result_lines_hold_accuracy_blind_and_chance():
    lines = {line.task: line for line in result_lines(run(0.65), blind_run())}

    assert list(lines) == ["side", "digit", "pointing", "overall"]
    assert lines["side"].accuracy == pytest.approx(0.65)
    assert (lines["side"].blind, lines["side"].chance) == (0.5, 0.5)
    assert lines["digit"].chance == pytest.approx(0.1)
    assert not lines["side"].passed
    assert lines["digit"].passed
    assert not lines["overall"].passed


def test_overall_passes_only_with_the_blind_run_at_chance():
    assert result_lines(run())[-1].passed
    assert not result_lines(run(), run())[-1].passed


def test_table_marks_what_is_below_its_mark():
    table = format_table(run(0.65), blind_run())

    lines = {line.split()[0]: line for line in table.splitlines()}
    assert re.search(r"20 +65\.0% +65\.0% +50\.0% +50\.0% +7  below", lines["side"])
    assert "below" not in lines["digit"]
    assert "-" in format_table(run()).splitlines()[2]


def test_blind_run_of_other_questions_is_refused():
    with pytest.raises(ValueError, match="blind run answers 59 questions, the test 60"):
        result_lines(run(), blind_run()[1:])


def test_answers_are_read_from_json_lines(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in run(0.5)))

    assert load_answers(path) == load_answers(run(0.5))


def test_missing_and_empty_answers_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no answers file.*a\.jsonl"):
        load_answers(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="no answers in"):
        load_answers([])


# -------------------------------------------------------------------- grid
def test_selection_covers_tasks_and_shows_wrong_answers():
    rows = load_answers(run(0.5))

    chosen = select_rows(rows, 9, max_wrong=3)

    tasks = [row["task"] for row in chosen]
    assert tasks == sorted(tasks, key=("side", "digit", "pointing").index)
    assert {tasks.count(task) for task in tasks} <= {2, 3, 4}
    assert len(chosen) == 9
    assert sum(not row["strict"] for row in chosen) == 3
    assert len({row["sample_id"] for row in chosen}) == 9


@pytest.mark.parametrize(("right", "num_wrong"), [(1.0, 0), (0.0, 2)])
def test_selection_takes_what_there_is(right, num_wrong):
    rows = [row for row in load_answers(run(right)) if row["task"] == "side"][:2]

    chosen = select_rows(rows, 9, max_wrong=1)

    assert len(chosen) == 2
    assert sum(not row["strict"] for row in chosen) == num_wrong


def test_boxes_are_the_true_and_the_predicted_one_in_pixels():
    row = run(0.0)[2]

    assert [(name, box) for name, _, box in boxes_of(row)] == [
        ("true", (10, 0, 20, 10)),
        ("predicted", (30, 10, 40, 20)),
    ]
    assert [name for name, *_ in boxes_of({**row, "pred": "there"})] == ["true"]
    assert boxes_of(run()[0]) == []


def test_grid_draws_both_boxes(root):
    pointing, side = load_answers(run(0.0))[2], load_answers(run())[0]

    draw_grid([pointing], root / "boxes.png", image_root=root)
    draw_grid([side], root / "plain.png", image_root=root)

    assert has_colour(root / "boxes.png", TRUE_BGR)
    assert has_colour(root / "boxes.png", PREDICTED_BGR)
    assert not has_colour(root / "plain.png", TRUE_BGR)
    assert has_colour(root / "plain.png", BLACK)


def test_grid_takes_questions_without_image(root):
    row = {**load_answers(run())[0], "image": None}

    draw_grid([row], root / "text.png")

    assert not has_colour(root / "text.png", TRUE_BGR)


def test_missing_or_broken_image_is_named(root):
    row = load_answers(run())[0]

    with pytest.raises(FileNotFoundError, match=r"'test-0': no image.*image_root"):
        draw_grid([row], root / "grid.png")
    (root / "images/black.png").write_text("text")
    with pytest.raises(ValueError, match="is not an image"):
        draw_grid([row], root / "grid.png", image_root=root)


# ------------------------------------------------------------------ curves
def test_losses_are_read_without_validation_rows_and_cut_lines(root):
    losses = read_losses(root / "scalars.jsonl")

    assert losses[:3] == [(1, 9.0), (2, 4.5), (3, 3.0)]
    assert losses[-1][0] == 59


def test_smooth_does_not_lag():
    line = [float(v) for v in range(48)]

    assert smooth(line)[2:-2] == line[2:-2]
    assert smooth([4.0, 2.0]) == [4.0, 2.0]


def test_curves_say_where_losses_end(root):
    stage = dict(name="one", scalars=root / "scalars.jsonl")

    last = draw_loss_curves([stage, stage, stage], root / "curves.png")

    assert last == pytest.approx([9 / 58] * 3, rel=0.01)
    height, width, _ = cv2.imread(str(root / "curves.png")).shape
    assert (width, height) == (1344, 696)


def test_scalars_that_are_missing_or_hold_no_loss_are_refused(root):
    with pytest.raises(FileNotFoundError, match="no scalars file"):
        read_losses(root / "none.jsonl")
    (root / "empty.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="holds no loss"):
        read_losses(root / "empty.jsonl")


# ------------------------------------------------------------------ report
def test_report_is_one_file_that_holds_everything(root):
    path = write_report(
        root / "out",
        stages=[
            dict(name="data", seconds=5),
            dict(name="stage <1>", seconds=65, scalars=root / "scalars.jsonl"),
        ],
        answers=run(0.9),
        blind_answers=blind_run(),
        image_root=root,
        chat=[dict(image="images/black.png", question="Hi?", answer="<b>Hello")],
        export={"folder": "hf", "difference": 1e-7},
        num_images=6,
    )

    page = open(path, encoding="utf-8").read()
    for name in ("loss_curves.png", "grid.png"):
        assert cv2.imread(str(root / "out" / name)) is not None
    table = (root / "out/results.txt").read_text()
    assert table == format_table(run(0.9), blind_run()) + "\n"
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 6 + 1 + 1
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    black = (root / "images/black.png").read_bytes()
    assert base64.b64encode(black).decode() in page
    assert not re.search(r"https?://|<script|<link", page)
    assert "What about &lt;side&gt;?" in page
    assert "&lt;b&gt;Hello" in page
    assert "stage &lt;1&gt;" in page
    assert "1 min 10 s" in page
    assert "left:25.00%;top:0.00%;width:25.00%;height:50.00%" in page
    assert "93.3%" in page


def test_report_without_extras_leaves_their_sections_out(root):
    path = write_report(
        root / "out", stages=[], answers=run(), image_root=root, num_images=3
    )

    page = open(path, encoding="utf-8").read()
    assert re.findall("<h2>(.*?)</h2>", page) == ["Results", "Held-out images"]
    assert not (root / "out/loss_curves.png").exists()
    assert "blind: images" not in page


def test_report_shows_a_chat_given_as_text(root):
    path = write_report(
        root / "out",
        stages=[],
        answers=run(),
        image_root=root,
        num_images=3,
        chat="USER: <x>",
    )

    assert "<pre>USER: &lt;x&gt;</pre>" in open(path, encoding="utf-8").read()
