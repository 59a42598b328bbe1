"""Train, test and report a miniature vision-language model, from nothing.

Writes TinyScenes, pretrains both towers, aligns them (stage 1), tunes on
instructions (stage 2), tests with the right and with wrong pictures, talks,
exports to transformers and writes a report. About 15 minutes on 2 CPU cores. What
is finished is skipped when the command is given again; --fresh starts over.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
CONFIGS = {
    "vision": "clip-tiny_contrastive_none_1xb192-1k-pt_tiny-scenes",
    "text": "text_none_llama-tiny_1xb48-300i-pt_tiny-scenes",
    "stage1": "llava-clip-tiny_mlp2x_llama-tiny_1xb64-400i-pt_tiny-scenes",
    "stage2": "llava-clip-tiny_mlp2x_llama-tiny_1xb48-1k-ft_tiny-scenes",
}
TITLES = {
    "data": "TinyScenes: pictures, questions, tokenizer",
    "vision": "Vision tower: image-phrase contrast",
    "text": "Language model: next token",
    "stage1": "Stage 1: connector, towers frozen",
    "stage2": "Stage 2: connector and language model",
    "test": "Test: held-out questions, each asked alone",
    "blind": "Blind test: every question with another picture",
    "chat": "Chat",
    "export": "Export to transformers, verified by reloading",
    "report": "Report",
}
LOADS = {"stage1": ("vision", "text"), "stage2": ("vision", "text", "stage1")}
#: Accuracy that the report calls reached: over all questions, and in every task.
GOAL, TASK_GOAL = 0.95, 0.85


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", default="work_dirs/demo", help="all goes there")
    parser.add_argument("--fresh", action="store_true", help="forget finished stages")
    parser.add_argument("--num", type=int, default=24000, help="training scenes")
    parser.add_argument("--num-test", type=int, default=1350, help="test questions")
    parser.add_argument(
        "--iters", type=int, help="steps of every training stage, for a quick look"
    )
    return parser.parse_args(argv)


class Demo:
    """The stages, each a command of its own."""

    def __init__(self, args):
        self.args = args
        self.work = Path(args.work_dir).resolve()
        self.data = self.work / "data"
        self.marks = self.work / "finished"
        if args.fresh:
            shutil.rmtree(self.work, ignore_errors=True)
        self.marks.mkdir(parents=True, exist_ok=True)
        self.precision = precision_options()

    def run(self):
        """Run what is not finished yet."""
        for number, name in enumerate(TITLES, 1):
            head = f"[{number}/{len(TITLES)}] {TITLES[name]}"
            if name != "report" and self.mark(name).exists():
                print(f"{head}: done before ({self.seconds(name):.0f} s)", flush=True)
                continue
            print(f"\n{head}", flush=True)
            start = time.perf_counter()
            getattr(self, f"do_{name}", lambda stage=name: self.train(stage))()
            self.mark(name).write_text(
                json.dumps(dict(seconds=time.perf_counter() - start))
            )
            print(f"    {self.seconds(name):.0f} s", flush=True)

    def mark(self, name):
        """Return the file that says that a stage is finished."""
        return self.marks / f"{name}.json"

    def seconds(self, name):
        """Return how long a finished stage took."""
        return json.loads(self.mark(name).read_text())["seconds"]

    def folder(self, stage):
        """Return the work dir of a training stage."""
        return self.work / CONFIGS[stage]

    def config(self, stage):
        """Return the config of a training stage."""
        return str(ROOT / "configs" / "tiny" / f"{CONFIGS[stage]}.py")

    def checkpoint(self, stage):
        """Return the last checkpoint of a training stage."""
        name = (self.folder(stage) / "last_checkpoint").read_text().strip()
        return str(self.folder(stage) / name)

    def options(self, stage, train=True):
        """Point a config at this run's data and checkpoints."""
        options = [f"tokenizer.name_or_path={self.data / 'tokenizer'}"]
        if train:
            options.append(f"train_dataloader.dataset.data_root={self.data}")
            if self.args.iters:
                options.append(f"train_cfg.max_iters={self.args.iters}")
        if stage in ("stage1", "stage2"):
            options.append(f"test_dataloader.dataset.data_root={self.data}")
        for number, part in enumerate(LOADS.get(stage, ())):
            options.append(f"load_from.{number}.path={self.checkpoint(part)}")
        options += [o for o in self.precision if stage != "vision" or "optim" in o]
        return ["--cfg-options", *options]

    def call(self, tool, *arguments, log=None):
        """Run a tool; its output goes to the terminal, or to a file."""
        command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
        env = dict(os.environ)
        env["PYTHONPATH"] = os.pathsep.join(
            p for p in (str(ROOT), env.get("PYTHONPATH")) if p
        )
        if log is None:
            result = subprocess.run(command, env=env, cwd=ROOT)
        else:
            with open(log, "w", encoding="utf-8") as file:
                result = subprocess.run(
                    command, env=env, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
                )
        if result.returncode:
            if log is not None:
                lines = Path(log).read_text(encoding="utf-8").splitlines()
                print("\n".join(lines[-25:]))
            sys.exit(
                f"demo: '{' '.join(command)}' failed with {result.returncode}"
                + (f"; its output is in {log}" if log else "")
                + ". Give the command again to go on from the last finished stage."
            )

    def do_data(self):
        """Write TinyScenes."""
        self.call(
            "dataset_converters/make_tiny_scenes.py",
            *("--out", self.data, "--num", self.args.num),
            *("--num-test", self.args.num_test),
        )

    def train(self, stage):
        """Train a stage, or go on where it was interrupted."""
        print(f"    log: {self.folder(stage)}.log", flush=True)
        self.call(
            "train.py",
            self.config(stage),
            *("--work-dir", self.folder(stage), "--resume"),
            *self.options(stage),
            log=f"{self.folder(stage)}.log",
        )
        last = self.curve(stage).read_text(encoding="utf-8").splitlines()[-1]
        row = json.loads(last)
        print(f"    step {row['step']}: loss {row['loss']:.3f}", flush=True)

    def curve(self, stage):
        """Return the scalars of a training stage."""
        return self.folder(stage) / "scalars.jsonl"

    def do_test(self, name="test", *more):
        """Ask every held-out question."""
        self.call(
            "test.py",
            self.config("stage2"),
            self.checkpoint("stage2"),
            *("--work-dir", self.work / name, "--out", self.work / f"{name}.json"),
            *self.options("stage2", train=False),
            f"test_evaluator.out_file={self.work / name}.jsonl",
            *more,
            log=self.work / f"{name}.log",
        )
        metrics = json.loads((self.work / f"{name}.json").read_text())["metrics"]
        print(f"    accuracy {100 * metrics['tiny_scenes/accuracy']:.1f} %", flush=True)

    def do_blind(self):
        """Ask them again, each with the picture of another."""
        self.do_test("blind", "test_dataloader.dataset.shuffle_images=True")

    def do_chat(self):
        """Talk about one held-out picture."""
        row = self.rows("test")[0]
        log = self.work / "chat.log"
        self.call(
            "chat.py",
            self.config("stage2"),
            self.checkpoint("stage2"),
            *("--image", row["image"], "--no-stream", "--prompt"),
            "Describe the picture.",
            "How many objects are there?",
            "What colour is the object at the top left?",
            *self.options("stage2", train=False),
            log=log,
        )
        print(log.read_text(encoding="utf-8").strip(), flush=True)

    def do_export(self):
        """Write a folder for plain transformers and compare logits."""
        self.call(
            "model_converters/to_hf.py",
            self.config("stage2"),
            self.checkpoint("stage2"),
            self.work / "llava-hf",
            *("--verify", "--overwrite", "--prompt", "Describe the picture."),
            *self.options("stage2", train=False),
            log=self.work / "export.log",
        )
        text = (self.work / "export.log").read_text(encoding="utf-8").strip()
        print("\n".join(text.splitlines()[-4:]), flush=True)

    def rows(self, name):
        """Return the judged answers of a test."""
        from mmvlm.visualization.tiny_report import read_rows

        return read_rows(self.work / f"{name}.jsonl")

    def do_report(self):
        """Write report.html and print the table."""
        from mmvlm.evaluation.functional.tiny_scenes import find_box, summarise
        from mmvlm.visualization.tiny_report import result_table, write_tiny_report

        rows = self.rows("test")
        table, blind = summarise(rows), summarise(self.rows("blind"))
        done = [n for n in TITLES if n != "report"]
        stages = [(TITLES[name], self.seconds(name)) for name in done]
        stages.append(("all stages", sum(seconds for _, seconds in stages)))
        notes = [
            verdict(table, blind),
            "Blind: every question got the picture of another one. Majority answer: "
            "the best constant answer to each form of question.",
        ]
        path = write_tiny_report(
            self.work,
            rows=rows,
            table=table,
            blind=blind,
            curves={TITLES[s].split(":")[0]: self.curve(s) for s in CONFIGS},
            stages=stages,
            read_box=find_box,
            notes=notes,
            chat=(self.work / "chat.log").read_text(encoding="utf-8").strip(),
        )
        header, lines = result_table(table, blind)
        print("\n" + text_table(header, lines) + "\n")
        print(notes[0])
        print(f"All stages: {stages[-1][1] / 60:.1f} minutes. Report: {path}")


def precision_options():
    """Take bfloat16 off where the processor would emulate it."""
    import torch

    if torch.cuda.is_available():
        return []
    fast = [
        getattr(torch.cpu, f"_is_{name}_supported", bool)()
        for name in ("avx512_bf16", "amx_tile")
    ]
    if any(fast):
        return []
    return ["optim_wrapper.dtype=None", "model.language_model.attention=segment"]


def verdict(table, blind):
    """Say in one sentence whether the goals are reached."""
    total = table["all"]
    tasks = {task: line["strict"] for task, line in table.items() if task != "all"}
    worst = min(tasks, key=tasks.get)
    gap = 100 * (blind["all"]["strict"] - total["majority"])
    good = total["strict"] >= GOAL and tasks[worst] >= TASK_GOAL and abs(gap) <= 5
    return (
        f"{'Reached' if good else 'NOT reached'}: {100 * total['strict']:.1f} % of "
        f"{total['number']} questions (goal {100 * GOAL:.0f}), worst task '{worst}' "
        f"{100 * tasks[worst]:.1f} % (goal {100 * TASK_GOAL:.0f}), blind run "
        f"{gap:+.1f} points from the majority answer (goal within 5)."
    )


def text_table(header, lines):
    """Return a table as aligned text."""
    rows = [header, *lines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main(argv=None):
    args = parse_args(argv)
    sys.path.insert(0, str(ROOT))
    import mmvlm  # noqa: F401

    Demo(args).run()


if __name__ == "__main__":
    main()
