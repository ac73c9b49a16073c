"""kill -9 of anything, at any time, and servers that fail."""

import time

import psutil
import pytest
from campaigns import computed, start_server, url_of

WINDOW = 2          # jobs that a server has at once


def workers_of(process):
    """Dask's worker processes of a run, by process id."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def consistent(found, jobs):
    """Every job has one picture, one line in the ledger that says so, and was submitted before."""
    done = [line["id"] for line in found.events("done")]
    assert len(done) == len(set(done)) == jobs
    assert {path.stem for path in found.pictures} == set(done)
    assert not list((found.folder / "output" / "results").glob("*.part"))
    submitted = set()
    for line in found.ledger:
        if line["event"] == "submitted":
            submitted.add(line["id"])
        assert line["id"] in submitted
    return True


def test_a_killed_worker_is_replaced_and_its_jobs_are_found(servers, campaign):
    found = campaign([url_of(server) for server in servers], prompts=1, seeds=2, pattern="[ab].png", text="at_once = 1")
    before = sum(map(computed, servers))
    process = found.start()
    found.wait_for(lambda: found.events("submitted"), process)
    workers_of(process)[0].kill()
    assert process.wait(300) == 0, (found.folder / "said").read_text()
    assert consistent(found, 4)
    assert sum(map(computed, servers)) - before == 4


@pytest.mark.long
def test_kill_a_server_a_worker_and_the_runner(campaign, tmp_path, monkeypatch):
    with start_server(tmp_path / "first.log") as first:
        with start_server(tmp_path / "second.log") as second:
            found = campaign([url_of(first), url_of(second)], prompts=5, seeds=4)
            process = found.start()
            found.wait_for(lambda: len(found.events("done")) >= 10, process)
            second.process.kill()
            found.wait_for(lambda: len(found.events("done")) >= 20, process)
            for worker in workers_of(process):
                worker.kill()
            found.wait_for(lambda: len(found.events("done")) >= 30, process)
            process.kill()
            process.wait()
            computed_by_second = computed(second)
            fetched = {line["id"] for line in found.events("done")}
        # the killed server comes back at the same address, and the same command is run
        monkeypatch.setattr("serving.server.free_port", lambda: int(second.client.address.rpartition(":")[2]))
        with start_server(tmp_path / "second-again.log") as again:
            code, said = found.run()
            assert code == 0, said
            assert consistent(found, 60)
            assert not set(again.client.get("/history")) & fetched, "a finished job was computed again"
            total = computed(first) + computed_by_second + computed(again)
            # what the killed server had finished or begun and nobody had fetched is lost with it
            assert 60 <= total <= 60 + WINDOW


@pytest.mark.long
def test_kill_the_runner_again_and_again(servers, campaign):
    """SIGKILL at ten arbitrary moments: 60 of 60, each computed once."""
    found = campaign([url_of(server) for server in servers], prompts=5, seeds=4)
    before = sum(map(computed, servers))
    for kill in range(10):
        process = found.start()
        end = time.monotonic() + 2 + kill * 0.25
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        process.kill()      # nothing where the run has ended before
        process.wait()
    code, said = found.run()
    assert code == 0, said
    assert consistent(found, 60)
    assert sum(map(computed, servers)) - before == 60
