"""Train, test and report a miniature vision-language model, from nothing.

Writes TinyScenes, pretrains both towers, aligns them (stage 1), tunes on
instructions (stage 2), tests with the right and with wrong images, talks,
exports to transformers and writes a report. What is finished is skipped when the
command is given again; --fresh starts over. In the default work dir, the configs of
configs/tiny then find data and checkpoints where they look.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from pprint import pformat

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
CONFIGS = {
    "vision": "clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
    "text": "text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
    "stage1": "llava-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes",
    "stage2": "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
}
TITLES = {
    "data": "TinyScenes: images, questions, tokenizer",
    "towers": "Vision tower (image-phrase contrast), language model (next token)",
    "stage1": "Stage 1: connector, towers frozen",
    "stage2": "Stage 2: connector and language model",
    "test": "Test: held-out questions, each asked alone",
    "blind": "Blind test: every question with another image",
    "chat": "Chat",
    "export": "Export to transformers, verified by reloading",
    "report": "Report",
}
#: Stages of a row need nothing of each other: they run side by side on two cores.
GROUPS = (
    *(("data",), ("towers",), ("stage1",), ("stage2",)),
    *(("test", "blind"), ("chat", "export"), ("report",)),
)
CURVES = {
    "vision": "Vision tower: image-phrase contrast",
    "text": "Language model: next token",
    "stage1": TITLES["stage1"],
    "stage2": TITLES["stage2"],
}
LOADS = {"stage1": ("vision", "text"), "stage2": ("vision", "text", "stage1")}
#: Memory that a step frees stays for the next one, in large pages: asking the system
#: for it again takes a sixth of a step on a CPU.
ALLOCATOR = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in dict(
        hugetlb=1, mmap_threshold=2**25, trim_threshold=2**32, top_pad=2**28
    ).items()
)
PROMPTS = (
    "How many objects are there?",
    "What colour is the object at the top left?",
    "What is at the top left?",
)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", default="work_dirs/demo", help="all goes there")
    parser.add_argument("--fresh", action="store_true", help="forget finished stages")
    parser.add_argument("--num", type=int, default=48000, help="training scenes")
    parser.add_argument("--num-test", type=int, default=1350, help="test questions")
    parser.add_argument(
        "--iters", type=int, help="steps of every training stage, for a quick look"
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        default=[],
        metavar="NAME",
        help="write TinyScenes in these formats too (refcoco, gqa, ...) and train "
        "stage 2 on them beside LLaVA's",
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

    def run(self):
        """Run what is not finished yet."""
        for group in GROUPS:
            side_by_side([partial(self.run_stage, name) for name in group])

    def run_stage(self, name):
        """Run a stage unless it is finished."""
        head = f"[{list(TITLES).index(name) + 1}/{len(TITLES)}] {TITLES[name]}"
        if name != "report" and self.mark(name).exists():
            say(f"{head}: done before ({self.seconds(name):.0f} s)")
            return
        say(f"\n{head}")
        start = time.perf_counter()
        getattr(self, f"do_{name}")()
        self.mark(name).write_text(
            json.dumps(dict(seconds=time.perf_counter() - start))
        )
        say(f"    {name}: {self.seconds(name):.0f} s")

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
        if stage == "stage2" and self.args.formats:
            return str(self.work / f"{CONFIGS[stage]}.py")
        return str(ROOT / "configs" / "tiny" / f"{CONFIGS[stage]}.py")

    def write_config(self):
        """Write stage 2 with a mixture of LLaVA's JSON and the other formats."""
        from mmengine.config import Config

        import mmvlm  # noqa: F401
        from mmvlm.datasets.tiny_scenes.formats import format_datasets

        parent = ROOT / "configs" / "tiny" / f"{CONFIGS['stage2']}.py"
        llava = Config.fromfile(parent).train_dataloader.dataset.to_dict()
        llava["data_root"] = str(self.data)
        others = format_datasets(
            str(self.data),
            self.args.formats,
            llava["pipeline"],
            dict(type="LLaVACodec", geometry="stretch"),
        )
        mixture = dict(_delete_=True, type="MixtureDataset", datasets=[llava, *others])
        Path(self.config("stage2")).write_text(
            f"_base_ = {str(parent)!r}\n"
            f"train_dataloader = dict(dataset={pformat(mixture)})\n",
            encoding="utf-8",
        )

    def checkpoint(self, stage):
        """Return the last checkpoint of a training stage."""
        name = (self.folder(stage) / "last_checkpoint").read_text().strip()
        return str(self.folder(stage) / name)

    def options(self, stage, train=True):
        """Point a config at this run's data and checkpoints."""
        options = [f"tokenizer.name_or_path={self.data / 'tokenizer'}"]
        if train:
            if stage != "stage2" or not self.args.formats:
                options.append(f"train_dataloader.dataset.data_root={self.data}")
            if self.args.iters:
                options.append(f"train_cfg.max_iters={self.args.iters}")
        if stage in ("stage1", "stage2"):
            options.append(f"test_dataloader.dataset.data_root={self.data}")
        for number, part in enumerate(LOADS.get(stage, ())):
            options.append(f"load_from.{number}.path={self.checkpoint(part)}")
        return ["--cfg-options", *options]

    def call(self, tool, *arguments, log=None, out=None, processes=1, done=None):
        """Run a tool; its output goes to the terminal, or to files.

        ``log`` takes everything, or only stderr when ``out`` takes stdout, below what
        earlier tries wrote. ``done()`` tells of a failed command whether its work is
        done.
        """
        command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
        env = dict(os.environ, MMVLM_ENDS_WITH_PARENT="1")
        env.setdefault("GLIBC_TUNABLES", ALLOCATOR)
        if processes > 1:
            # Every line says whose it is: a crash of one makes the others complain.
            start = "-m mmvlm.utils.launch --standalone --redirects 3 --tee 3"
            command[1:1] = [*start.split(), "--nproc_per_node", str(processes)]
        if num_processes() > 1:  # as many as there are cores, or a stage beside it
            env["OMP_NUM_THREADS"] = "1"
        env["PYTHONPATH"] = os.pathsep.join(
            p for p in (str(ROOT), env.get("PYTHONPATH")) if p
        )
        if log is None:
            result, begin = subprocess.run(command, env=env, cwd=ROOT), 0
        else:
            with contextlib.ExitStack() as stack:
                file = stack.enter_context(open(log, "a", encoding="utf-8"))
                begin = file.tell()
                file.write(f"{time.strftime('%F %T')} {' '.join(command)}\n")
                file.flush()
                target = file if out is None else stack.enter_context(open(out, "w"))
                result = subprocess.run(
                    command, env=env, cwd=ROOT, stdout=target, stderr=file
                )
        if not result.returncode:
            return
        if done is not None and done():
            say(f"    complete, though it ended with {result.returncode}")
            return
        if log is not None:
            say("\n".join(last_words(log, begin)))
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
            *("--format", "llava", "densefusion", *self.args.formats),
        )

    def link(self, root):
        """Make data and stages appear where the configs look, if nothing is there."""
        places = {root / "data" / "tiny_scenes": self.data}
        places |= {
            root / "work_dirs" / name: self.work / name for name in CONFIGS.values()
        }
        for place, target in places.items():
            if place.is_symlink() and place.resolve() == target:
                continue
            if place.is_symlink() or place.exists():
                say(f"    {place} is not of this demo: left as it is")
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(target, place.parent))

    def do_towers(self):
        """Pretrain both towers, side by side where that is faster."""
        side_by_side([partial(self.train, stage, 1) for stage in ("vision", "text")])

    def do_stage1(self):
        """Train the connector."""
        self.train("stage1", num_processes())

    def do_stage2(self):
        """Train connector and language model."""
        if self.args.formats:
            self.write_config()
        self.train("stage2", num_processes())

    def train(self, stage, processes):
        """Train a stage, or go on where it was interrupted."""
        if not self.is_trained(stage):
            self.run_training(stage, processes)
        last = self.curve(stage).read_text(encoding="utf-8").splitlines()[-1]
        row = json.loads(last)
        say(f"    {CURVES[stage]}: step {row['step']}, loss {row['loss']:.3f}")

    def is_trained(self, stage):
        """Whether a stage has its last checkpoint; it is named when it is whole."""
        from mmengine.config import Config

        steps = (
            self.args.iters or Config.fromfile(self.config(stage)).train_cfg.max_iters
        )
        try:
            path = Path(self.checkpoint(stage))
        except FileNotFoundError:
            return False
        return path.name == f"iter_{steps}.pth" and path.is_file()

    def run_training(self, stage, processes):
        """Run the training of a stage from its newest checkpoint."""
        say(f"    log: {self.folder(stage)}.log")
        options = self.options(stage)
        if processes > 1:
            from mmengine.config import Config

            size = Config.fromfile(self.config(stage)).train_dataloader.batch_size
            options.append(f"train_dataloader.batch_size={size // processes}")
            options[:0] = ["--launcher", "pytorch"]
        self.call(
            "train.py",
            self.config(stage),
            *("--work-dir", self.folder(stage), "--resume"),
            *options,
            log=f"{self.folder(stage)}.log",
            processes=processes,
            done=lambda: self.is_trained(stage),
        )

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
        accuracy = 100 * metrics["tiny_scenes/accuracy"]
        say(f"    {name}: accuracy {accuracy:.1f} %")

    def do_blind(self):
        """Ask them again, each with the image of another."""
        self.do_test("blind", "test_dataloader.dataset.shuffle_images=True")

    def do_chat(self):
        """Talk about one held-out image."""
        image = self.first_image()
        out = self.work / "chat.txt"
        self.call(
            "chat.py",
            self.config("stage2"),
            self.checkpoint("stage2"),
            *("--image", image, "--no-stream", "--prompt", *PROMPTS),
            *self.options("stage2", train=False),
            log=self.work / "chat.log",
            out=out,
        )
        say(f"    {image}\n{out.read_text(encoding='utf-8').strip()}")

    def first_image(self):
        """Return the path of a test image with many objects, one at the top left."""
        records = json.loads((self.data / "test.json").read_text(encoding="utf-8"))
        captions = [r for r in records if r["task"] == "caption"]

        def fit(record):
            text = record["conversations"][1]["value"]
            return "top left" in text, text.count(" at ")

        return str(self.data / max(captions, key=fit)["image"])

    def dialogue(self):
        """Return the chat as question and answer pairs."""
        text = (self.work / "chat.txt").read_text(encoding="utf-8")
        pairs = [turn.partition("\n") for turn in text.split("> ")[1:]]
        talk = [dict(question=q, answer=answer.strip()) for q, _, answer in pairs]
        talk[0]["image"] = self.first_image()
        return talk

    def do_export(self):
        """Write a folder for plain transformers and compare logits."""
        out = self.work / "export.txt"
        self.call(
            "model_converters/to_hf.py",
            self.config("stage2"),
            self.checkpoint("stage2"),
            self.work / "llava-hf",
            *("--verify", "--overwrite", "--prompt", PROMPTS[0]),
            *self.options("stage2", train=False),
            log=self.work / "export.log",
            out=out,
        )
        say(f"    {self.verified()}")

    def verified(self):
        """Return what the export's verification said."""
        text = (self.work / "export.txt").read_text(encoding="utf-8")
        return " ".join(text[text.find("verify:") :].split())

    def do_report(self):
        """Write report.html and print the table."""
        sys.path.insert(0, str(ROOT / "tools"))
        from demo_report.report import format_table, write_report

        stages = [
            dict(name=TITLES[name], seconds=self.seconds(name))
            for name in TITLES
            if name != "report"
        ]
        stages += [
            dict(name=title, scalars=str(self.curve(name)))
            for name, title in CURVES.items()
        ]
        answers = [self.work / f"{name}.jsonl" for name in ("test", "blind")]
        path = write_report(
            self.work,
            stages=stages,
            answers=answers[0],
            blind_answers=answers[1],
            chat=self.dialogue(),
            export=dict(
                folder=self.work / "llava-hf", plain_transformers=self.verified()
            ),
        )
        whole = sum(max(map(self.seconds, group)) for group in GROUPS[:-1])
        say("\n" + format_table(*answers))
        if self.work == ROOT / "work_dirs" / "demo":
            self.link(ROOT)
        say(f"All stages: {whole / 60:.1f} minutes. Report: {path}")


def say(text):
    """Print a line at once and whole: stages side by side print too."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def last_words(log, begin, count=25):
    """Return the last lines of a try; of several processes, those of the first to fail.

    Args:
        log (str | Path): of one or more tries.
        begin (int): where the try begins in it.
        count (int): lines at most.
    """
    with open(log, "rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    failed = re.search(r"failed \(exitcode: .*?\) local_rank: (\d+)", "\n".join(lines))
    if failed:
        mark = re.compile(rf"\[\D+{failed[1]}\]:")
        own = [mark.sub("", line, count=1) for line in lines if mark.match(line)]
        lines = [*own, failed[0]]
    return lines[-count:]


def side_by_side(jobs):
    """Run functions at once on two cores, else one after the other."""
    with ThreadPoolExecutor(num_processes()) as pool:
        for run in [pool.submit(job) for job in jobs]:
            run.result()


def num_processes():
    """Return how many processes train at a time.

    On two CPU cores, two processes of one thread each train 1.3 times as fast as one
    of two; batches and losses are the same.
    """
    import torch

    return 1 if torch.cuda.is_available() or os.cpu_count() < 2 else 2


def main(argv=None):
    args = parse_args(argv)
    sys.path.insert(0, str(ROOT))
    import mmvlm  # noqa: F401
    from mmvlm.utils.files import writing_into

    with writing_into(args.work_dir):
        Demo(args).run()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from mmvlm.utils.entry import run_tool

    run_tool(main)
