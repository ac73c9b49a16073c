"""The engine's parts, without a server."""

import asyncio
import contextlib
import json
import resource
import socketserver
import threading
from types import SimpleNamespace

import pytest

from bulk import BulkError
from bulk.jobs.plan import Job
from bulk.results import pictures, sheet
from bulk.results.ledger import Ledger, lines, standing
from bulk.running.dispatch import Dispatch
from bulk.servers import http, prompts
from bulk.simulation import grey_png


def job(name, person=""):
    return Job(name, 4, person, {}, {})


def drain(dispatch, server, count):
    return [found.id for found in (dispatch.next(server) for _ in range(count)) if found]


def test_a_person_stays_on_one_server_while_there_are_others():
    dispatch = Dispatch()
    for number in range(3):
        for person in "ABC":
            dispatch.add(job(f"{person}{number}", person))
    assert drain(dispatch, "one", 2) == ["A0", "A1"]
    assert drain(dispatch, "two", 3) == ["B0", "B1", "B2"]
    assert drain(dispatch, "two", 1) == ["C0"]
    assert drain(dispatch, "one", 1) == ["A2"]
    assert drain(dispatch, "one", 9) == ["C1", "C2"]     # rather than do nothing


def test_a_job_that_was_handed_out_before_has_its_times(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("bulk.running.dispatch.time.monotonic", lambda: now[0])
    dispatch = Dispatch()
    dispatch.add_again(job("found at home"), "one", here=0, elsewhere=130)
    dispatch.add_again(job("failed here"), "one", here=111, elsewhere=101)
    assert dispatch.next("two") is None
    assert dispatch.next("one").id == "found at home"
    now[0] = 101.0
    assert dispatch.next("one") is None
    assert dispatch.next("two").id == "failed here"


def test_half_a_line_is_no_line(tmp_path):
    path, rows = tmp_path / "ledger.jsonl", {name: job(name) for name in "abc"}
    with Ledger(tmp_path, rows) as ledger:
        ledger.add("a", "submitted", server="one", attempt=1)
        ledger.add("a", "done", server="one", seconds=2.0)
        ledger.add("b", "submitted", server="one", attempt=1)
    for cut in range(1, 40):
        content = path.read_bytes()
        path.write_bytes(content[:-cut])
        assert [line["id"] for line in lines(path)] == ["a", "a"]
        with Ledger(tmp_path, rows) as ledger:
            assert ledger.standing.seconds.pop() == 2.0 and not ledger.standing.open
            ledger.add("c", "submitted", server="one", attempt=1)
        assert [line["id"] for line in lines(path)] == ["a", "a", "c"]
        path.write_bytes(content)


@contextlib.contextmanager
def room(size):
    """No file may grow beyond this size, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_whole_lines_and_no_part_of_a_picture(tmp_path):
    with Ledger(tmp_path, {"a": job("a")}) as ledger:
        ledger.add("a", "submitted", server="one", attempt=1)
        before = ledger.path.read_bytes()
        with room(len(before) + 20):
            with pytest.raises(BulkError, match="cannot be written: No space left on device"):
                ledger.add("a", "done", server="one")
            with pytest.raises(BulkError, match="cannot be written"):
                pictures.save(tmp_path / "results", "a", [grey_png() + bytes(1000)], {})
        assert ledger.path.read_bytes() == before and not list((tmp_path / "results").iterdir())
        assert not ledger.standing.done
        ledger.add("a", "done", server="one")
        assert [line["event"] for line in lines(ledger.path)] == ["submitted", "done"]


def test_a_second_run_does_not_write_into_the_same_folder(tmp_path):
    with Ledger(tmp_path, {}), pytest.raises(BulkError, match="Another run"):
        Ledger(tmp_path, {})
    with Ledger(tmp_path, {}):
        pass


def test_a_damaged_line_is_told(tmp_path):
    (tmp_path / "ledger.jsonl").write_text('{"id": "a", "event": "done"}\n{"id": "b", "ev\n{"id": "c", "event": "done"}\n')
    with pytest.raises(BulkError, match="Line 2"):
        standing(tmp_path, {})


def test_a_picture_carries_its_line(tmp_path):
    content = {"values": {"prompt": "naïve \u2603"}, "server": "one"}
    names = pictures.save(tmp_path, "x", [grey_png(), grey_png()], content)
    assert names == ["x.png", "x_2.png"]
    assert pictures.text_of(tmp_path / "x.png") == {**content, "files": names}
    assert pictures.text_of(tmp_path / "x_2.png") == {}
    assert pictures.is_png((tmp_path / "x.png").read_bytes())
    assert not pictures.is_png((tmp_path / "x.png").read_bytes()[:-1])


def test_the_contact_sheet_shows_all_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "PICTURES_A_PAGE", 2)
    with Ledger(tmp_path, {name: job(name) for name in ("j0", "j1", "j2", "bad")}) as ledger:
        for number in range(3):
            ledger.add(f"j{number}", "done", server="one", seconds=1.0, likeness=0.625, files=[f"j{number}.png"],
                       values={"prompt": "<script>alert(1)</script>"})
        ledger.add("bad", "refused", message="<b>no face</b>", values={})
        first = sheet.write(tmp_path, ledger.standing, SimpleNamespace(describe=lambda job: f"row {job.row}"))
    pages = first.read_text() + (tmp_path / "contact_sheet_2.html").read_text()
    assert all(f'src="results/j{number}.png"' in pages for number in range(3))
    assert "likeness 0.625" in pages and "row 4: &lt;b&gt;no face" in pages and "<script" not in pages


@pytest.mark.parametrize("kind, data, outcome, reason", [
    ("execution_error", {"exception_type": "torch.OutOfMemoryError", "exception_message": "Allocation on device"},
     "failed", "out of memory"),
    ("execution_error", {"exception_type": "torch.AcceleratorError", "exception_message": "CUDA error: launch failure"},
     "failed", "device error"),
    ("execution_interrupted", {}, "failed", "interrupted"),
])
def test_a_servers_own_failures_are_told_apart_from_the_jobs(kind, data, outcome, reason):
    entry = {"status": {"status_str": "error", "messages": [[kind, data]]}, "outputs": {}}
    found = asyncio.run(prompts.result(http.Server("http://127.0.0.1:1"), prompts.Request("id", {}, {}), entry))
    assert (found.kind, found.reason) == (outcome, reason)


def test_likeness_is_read_from_its_node():
    prompt = {"1": {"class_type": "SaveImage"}, "2": {"class_type": "InstantIDLikeness"}}
    assert prompts.likeness(prompt, {"1": {"text": ["0.9"]}}) is None
    assert prompts.likeness(prompt, {"2": {"text": ("likeness 0.4375, second -0.1",)}}) == 0.4375


def test_what_a_server_refuses_is_one_sentence():
    answer = {"error": {"message": "Prompt outputs failed validation", "details": ""}, "node_errors": {
        "3": {"class_type": "KSampler", "errors": [{"message": "Value not in list", "details": "sampler: 'x' not in []"}]}}}
    assert prompts.refusal(json.dumps(answer)) == "KSampler (node 3): Value not in list sampler: 'x' not in []"


@pytest.fixture
def ask():
    """ask(answer): asks a server that gives this answer to whatever it is asked."""
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(self.server.answer)

    async def get(url):
        async with http.Server(url, seconds=5) as server:
            return await server.json("GET", "/queue")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()

        def start(answer):
            listening.answer = answer
            return asyncio.run(get(f"http://127.0.0.1:{listening.server_address[1]}"))
        yield start
        listening.shutdown()


@pytest.mark.parametrize("answer, sentence", [
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "did not answer"),
    (b"HTTP/1.1 200 OK\r\n\r\n<html>", "with JSON"),
    (b"HTTP/1.1 200 OK\r\n\r\n[1]", "as ComfyUI does"),
    (b"SSH-2.0-OpenSSH\r\n", "did not answer"),
    (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
])
def test_answers_of_something_else_than_comfyui(ask, monkeypatch, answer, sentence):
    monkeypatch.setattr(http.Server.request, "__defaults__", (1000,))
    with pytest.raises(http.ServerError, match=sentence):
        ask(answer)
