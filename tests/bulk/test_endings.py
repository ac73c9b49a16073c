"""How a campaign ends: what is counted, what is said, and with which exit code. Stand-ins answer for the servers."""

import hashlib
import json

import pytest
from campaigns import Campaign

from bulk.simulation import WORKFLOW, StandIns

PICTURES = {"outputs": {"9": {"images": [{"filename": "p.png", "subfolder": "", "type": "output"}]}}}
NO_FACE = {"status": {"status_str": "error", "messages": [["execution_error", {
    "exception_message": "No face detected.", "node_type": "Apply", "node_id": "5"}]]}}
TABLE = "table = 'jobs.csv'"
PRODUCT = "[product]\nphoto = {folder = 'photos'}\nseed = [1, 2]"


def write(folder, servers, jobs, settings=""):
    """A campaign over the photos a, b and c, each with two seeds."""
    (folder / "photos").mkdir(exist_ok=True)
    for name in "abc":
        (folder / "photos" / f"{name}.png").write_bytes(name.encode())
    rows = "".join(f"photos/{name}.png,{seed}\n" for name in "abc" for seed in (1, 2))
    (folder / "jobs.csv").write_text("photo,seed\n" + rows)
    (folder / "workflow.json").write_text(json.dumps(WORKFLOW))
    (folder / "JOBS.toml").write_text(f"""
workflow = "workflow.json"
output = "output"
servers = {json.dumps(servers)}
dashboard = "127.0.0.1:0"
{settings}
{jobs if jobs == TABLE else ""}
[files]
photo = "1.image"
[inputs]
seed = "3.seed"
{jobs if jobs != TABLE else ""}
""")
    return Campaign(folder)


@pytest.mark.parametrize("jobs, name", [(TABLE, "row 3 of jobs.csv (photo photos/b.png)"), (PRODUCT, "photos/b.png, seed 1")])
def test_a_replaced_photo_is_counted_as_the_present_plan_has_it(tmp_path, jobs, name):
    """The refusal names row and photo; when the photo was replaced, nothing of it is left in counts, exit code and sheet."""
    sheet = tmp_path / "output" / "contact_sheet.html"
    with StandIns(1, 0.0, entries={hashlib.sha256(b"b").hexdigest(): NO_FACE}) as server:
        found = write(tmp_path, server.addresses, jobs)
        code, said = found.run()
        assert code == 2 and "6 jobs: 4 done, 2 refused, 0 given up, 0 left" in said
        status = found.run("--status")[1]
        for text in (said, status, sheet.read_text()):
            assert name in text and "Apply (node 5): No face detected." in text
        (tmp_path / "photos" / "b.png").write_bytes(b"a better photo")
        planned = found.run("--plan")[1]
        assert "6 jobs: 4 done, 0 refused, 0 given up, 2 left" in planned and "for the 2 jobs left" in planned
        assert "4 done, 0 refused, 0 given up, 2 left" in found.run("--status")[1]
        code, said = found.run()
        assert code == 0 and "6 jobs: 6 done, 0 refused, 0 given up, 0 left" in said
        assert sheet.read_text().count("<figure>") == 6 and "without a picture" not in sheet.read_text()
        # a picture that is deleted is a job that is left, and one picture of the sheet when it is there again
        found.pictures[0].unlink()
        assert "6 jobs: 5 done, 0 refused, 0 given up, 1 left" in found.run("--plan")[1]
        assert found.run()[0] == 0 and sheet.read_text().count("<figure>") == 6


@pytest.mark.parametrize("entry", [
    ["odd"], {"status": {"messages": [["x"]]}, **PICTURES}, {"outputs": {"9": {"images": [None]}}}])
def test_an_answer_that_cannot_be_read_is_a_failed_attempt(tmp_path, entry):
    with StandIns(2, 0.0, entries={hashlib.sha256(b"b").hexdigest(): entry}) as servers:
        found = write(tmp_path, servers.addresses, PRODUCT, "attempts = 2")
        code, said = found.run()
    assert code == 2 and "6 jobs: 4 done, 0 refused, 2 given up, 0 left" in said
    assert len(found.events("failed")) == 4 and {line["reason"] for line in found.events("failed")} == {"unreadable answer"}
    assert {line["attempt"] for line in found.events("failed")} == {1, 2}
