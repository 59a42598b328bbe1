"""The download tool against a server of its own: good, bad, flaky, killed."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from densefusion_download import Journal, download
from fetch import Fetcher, Refused, Unreachable

from mmvlm.datasets.readers.densefusion import DenseFusionDataset

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "dataset_converters" / "download_densefusion.py"


def make_image(number, kind="JPEG"):
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers by the first word of the path; counts the requests of each path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = Counter()
        self.pause = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.path.strip("/")
        server.requests[path] += 1
        time.sleep(server.pause)
        kind, _, number = path.partition("/")
        body = make_image(int(number or 0), "PNG" if number == "1" else "JPEG")
        status, length = 200, None
        if kind == "missing" or (kind == "flaky" and server.requests[path] < 3):
            status, body = (404 if kind == "missing" else 503), b"sorry"
        elif kind == "page":
            body = b"<html>nothing here</html>"
        elif kind == "cut":  # fewer bytes than promised
            body, length = body[:200], len(body)
        elif kind == "half":  # a whole answer with half an image
            body = body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetcher():
    return Fetcher(tries=3, timeout=5, backoff=0.001)


def rows_of(server, kinds):
    return [
        dict(
            image_id=f"id{number}",
            image_path=f"a/{number}.jpg",
            caption=f"caption {number}",
            url=server.url(f"{kind}/{number}"),
        )
        for number, kind in enumerate(kinds)
    ]


def places(folder, rows):
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    names = ("rows.jsonl", "images", "out.jsonl")
    return [str(folder / name) for name in names]


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_good_rows_come_in_order_and_the_others_with_reasons(tmp_path, server, fetcher):
    kinds = ["good", "good", "missing", "flaky", "page", "cut", "half", "good"]
    rows = rows_of(server, kinds)
    rows += [dict(rows[0], image_id="../up"), dict(rows[0], url="file:///etc/hosts")]
    rows[-1]["image_id"] = "local"
    args = places(tmp_path, [*rows, rows[0]])

    summary = download(*args, num_workers=3, fetcher=fetcher)

    kept = read(args[2])
    assert [r["image_id"] for r in kept] == ["id0", "id1", "id3", "id7"]
    assert [r["image"] for r in kept] == [f"{r['image_id']}.png" for r in kept]
    assert all(r["caption"] == rows[int(r["image_id"][2:])]["caption"] for r in kept)
    for r in kept:
        number = int(r["image_id"][2:])
        body = (tmp_path / "images" / r["image"]).read_bytes()
        assert body == make_image(number, "PNG" if number == 1 else "JPEG")
    bad = {
        r["line"]: (r["status"], r["reason"])
        for r in read(args[2] + ".quarantine.jsonl")
    }
    assert sorted(bad) == [3, 5, 6, 7, 9, 10, 11]
    assert bad[3] == ("refused", "answer 404 Not Found")
    assert bad[5][0] == "refused" and "no image: it starts with b'<html>" in bad[5][1]
    assert bad[6][0] == "failed" and bad[6][1].startswith("cut: 200 of")
    assert bad[7][0] == "failed" and "cannot be decoded" in bad[7][1]
    assert "image_id='../up' is no name of a file" in bad[9][1]
    assert "no http or https address" in bad[10][1]
    assert "image_id of line 1 again" in bad[11][1]
    assert (summary.ok, summary.refused, summary.failed) == (4, 5, 2)
    counts = server.requests
    assert counts["flaky/3"] == counts["cut/5"] == counts["half/6"] == 3
    assert counts["missing/2"] == counts["page/4"] == counts["good/0"] == 1
    assert sorted(os.listdir(tmp_path / "images")) == [r["image"] for r in kept]


def test_a_second_run_asks_only_for_what_may_have_changed(tmp_path, server, fetcher):
    args = places(tmp_path, rows_of(server, ["good", "missing", "cut", "good"]))
    download(*args, fetcher=fetcher)
    first = Path(args[2]).read_bytes()
    os.unlink(tmp_path / "images" / "id3.png")
    server.requests.clear()

    summary = download(*args, fetcher=Fetcher(2, backoff=0.001))

    assert server.requests == {"cut/2": 2, "good/3": 1}
    assert summary.fetched == 1
    assert Path(args[2]).read_bytes() == first
    server.requests.clear()
    download(*args, fetcher=Fetcher(1), retry_refused=True)
    assert server.requests == {"missing/1": 1, "cut/2": 1}


def test_good_files_are_kept_and_bad_ones_replaced(tmp_path, server, fetcher):
    args = places(tmp_path, rows_of(server, ["good", "good"]))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "id0.png").write_bytes(make_image(77))
    (folder / "id1.png").write_bytes(make_image(1)[:300])

    download(*args, fetcher=fetcher, image_prefix="some/where")

    assert (folder / "id0.png").read_bytes() == make_image(77)
    assert (folder / "id1.png").read_bytes() == make_image(1, "PNG")
    assert server.requests == {"good/1": 1}
    assert read(args[2])[0]["image"] == "some/where/id0.png"


def test_the_reader_takes_what_was_fetched(tmp_path, server, fetcher):
    args = places(tmp_path, rows_of(server, ["good", "missing", "good"]))
    download(*args, fetcher=fetcher)

    data = DenseFusionDataset(
        "out.jsonl",
        data_root=str(tmp_path),
        image_prefix="images",
        pipeline=[dict(type="mmvlm.LoadImages")],
    )

    assert [data[i]["images"][0].shape for i in range(2)] == [(40, 30, 3)] * 2


def test_a_row_that_changed_is_fetched_again(tmp_path, server, fetcher):
    rows = rows_of(server, ["missing", "good"])
    download(*places(tmp_path, rows), fetcher=fetcher)
    rows[0]["url"] = server.url("good/0")

    summary = download(*places(tmp_path, rows), fetcher=fetcher)

    assert (summary.ok, summary.fetched) == (2, 1)


def test_an_unfinished_line_of_the_results_is_passed_over(tmp_path, server, fetcher):
    args = places(tmp_path, rows_of(server, ["good", "good"]))
    download(*args, fetcher=fetcher)
    path = Path(args[2] + ".results.jsonl")
    path.write_bytes(path.read_bytes()[:-10])
    server.requests.clear()

    download(*args, fetcher=fetcher)

    assert server.requests == {}  # the file is there and good
    journal = Journal(str(path))
    journal.close()
    assert {r.status for r in journal.results.values()} == {"ok"}
    assert len(journal.results) == 2


def _tool():
    spec = importlib.util.spec_from_file_location("download_densefusion", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_the_tool_is_killed_and_goes_on(tmp_path, server, capsys):
    args = places(tmp_path, rows_of(server, ["good"] * 14))
    options = ["--json-file", args[0], "--output-path", args[1]]
    options += ["--json-out-file", args[2], "--num-processes", "2"]
    results = Path(args[2] + ".results.jsonl")
    server.pause = 0.3
    running = subprocess.Popen(
        [sys.executable, str(TOOL), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not results.exists() or len(results.read_bytes().splitlines()) < 3:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    time.sleep(0.5)
    known = {r["url"].rpartition("/")[2] for r in read(results)}
    assert not Path(args[2]).exists()
    for path in Path(args[1]).glob("*.png"):
        assert path.read_bytes() == make_image(
            int(path.stem[2:]), "PNG" if path.stem == "id1" else "JPEG"
        )
    server.pause = 0.0
    before = Counter(server.requests)

    assert _tool()(options) == 0

    assert 3 <= len(known) < 14
    again = {k.rpartition("/")[2] for k, n in server.requests.items() if n > before[k]}
    assert again.isdisjoint(known)
    assert [r["image_id"] for r in read(args[2])] == [f"id{i}" for i in range(14)]
    shown = capsys.readouterr()
    assert "14 rows with an image" in shown.out
    assert "14 of 14 rows: 14 ok" in shown.err


def test_the_tool_tells_what_is_wrong(tmp_path, capsys):
    options = ["--output_path", str(tmp_path / "p"), "--json_out_file"]
    options += [str(tmp_path / "o"), "--json_file"]

    assert "No such file" in _tool()([*options, str(tmp_path / "none.jsonl")])
    (tmp_path / "list.json").write_text("[]")
    assert "expected one JSON object per line" in _tool()(
        [*options, str(tmp_path / "list.json")]
    )


def test_pauses_grow_and_obey_the_server(server):
    class Patient(Fetcher):
        def pause(self, seconds):
            pauses.append(seconds)

    pauses = []
    with pytest.raises(Unreachable, match=r"cut: 200 of \d+ bytes \(5 tries\)"):
        Patient(5, backoff=1.0, max_pause=6.0).fetch(server.url("cut/0"), len)

    assert len(pauses) == 4
    for number, seconds in enumerate(pauses):
        low = min(2**number, 6.0)
        assert low <= seconds <= min(1.5 * 2**number, 6.0)


def test_a_server_that_is_gone_is_no_refusal():
    server = Server()
    url = server.url("good/0")
    server.shutdown()
    server.server_close()

    with pytest.raises(Unreachable, match=r"URLError: .*refused.*\(2 tries\)"):
        Fetcher(2, backoff=0.001).fetch(url, len)


def test_limits_of_the_fetcher(server):
    with pytest.raises(Refused, match="more than 100 bytes"):
        Fetcher(max_bytes=100).fetch(server.url("good/0"), len)
    with pytest.raises(ValueError, match="tries=0"):
        Fetcher(0)
    stopped = Fetcher(9, backoff=60)
    stopped.stop()
    with pytest.raises(Unreachable, match="503"):
        stopped.fetch(server.url("flaky/9"), len)
    assert server.requests["flaky/9"] == 1
