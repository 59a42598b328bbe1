"""The index on disk among processes: made by one, mapped by all."""

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest
from dataset_helpers import identity
from torch.utils.data import DataLoader

from mmvlm.datasets.index import records
from mmvlm.datasets.readers.llava import LLaVADataset


@pytest.fixture(autouse=True)
def small_files_count(monkeypatch):
    monkeypatch.setattr(records, "SMALL_FILE", 0)


@pytest.fixture
def data(llava, make):
    """A set of 50 records; gives the reader's arguments."""
    rows = [make.record(i, images=i % 3, words=i + 1) for i in range(50)]
    return llava.write(rows, images=False)


OPEN = """
import sys, mmvlm
from mmvlm.datasets.index import records, arrays
from mmvlm.datasets.readers.llava import LLaVADataset
import mmvlm.datasets.index.scanner as scanner
import time
records.SMALL_FILE = 0
build = records.JSONRecords._build
def slow(self, *given):
    open(sys.argv[2] + "/" + str(time.time_ns()), "w").close()
    time.sleep(float(sys.argv[3]))
    return build(self, *given)
records.JSONRecords._build = slow
print("ready", flush=True)
sys.stdin.readline()
data = LLaVADataset("ann.json", data_root=sys.argv[1])
print(len(data), int(data.lengths.sum()), data[49]["conversation"].id)
"""


def start(root, marks, pause):
    command = [sys.executable, "-c", OPEN, str(root), str(marks), str(pause)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_open_at_once_make_one_index(llava, data, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    processes = [start(llava.root, marks, 0.3) for _ in range(3)]

    answers = {process.communicate("go\n", timeout=60)[0] for process in processes}

    assert len(answers) == 1 and answers.pop().startswith("50 ")
    assert len(list(marks.iterdir())) == 1


def test_a_process_killed_while_building_leaves_no_trace(
    llava, data, tmp_path, cache, builds
):
    marks = tmp_path / "marks"
    marks.mkdir()
    process = start(llava.root, marks, 60)
    process.stdin.write("go\n")
    process.stdin.flush()
    while not list(marks.iterdir()):
        time.sleep(0.01)
    (folder,) = (p for p in cache.glob("index/*") if p.is_dir())
    (folder / ".spans-1.npy.tmp").write_bytes(b"half")  # as a writer killed later
    (folder / "spans-1.npy").write_bytes(b"half")
    process.send_signal(signal.SIGKILL)
    process.wait()

    dataset = LLaVADataset(**data)

    assert len(builds) == 1 and dataset[49]["conversation"].id == "id49"
    assert len(list(folder.iterdir())) == 5


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_map_the_same_index(llava, make, builds, context):
    rows = [make.record(i, images=0, words=i + 1) for i in range(9)]
    dataset = LLaVADataset(**llava.write(rows), pipeline=[Mapped()])
    loader = DataLoader(
        dataset,
        batch_size=3,
        num_workers=2 if context == "fork" else 1,
        collate_fn=identity,
        multiprocessing_context=multiprocessing.get_context(context),
    )

    items = [item for batch in loader for item in batch]

    assert [item["words"] for item in items] == list(range(1, 10))
    assert len(builds) == 1


class Mapped:
    """Keep of an item what can travel."""

    def __call__(self, item):
        return dict(words=len(item["conversation"].turns[1].text.split()))
