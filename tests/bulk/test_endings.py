"""How a campaign ends: what is counted, what is said, and with which exit code. Stand-ins answer for the servers."""

import hashlib
import json

from campaigns import Campaign

from bulk.__main__ import main
from bulk.simulation import WORKFLOW, StandIns

NO_FACE = {"status": {"status_str": "error", "messages": [["execution_error", {
    "exception_message": "No face detected.", "node_type": "Apply", "node_id": "5"}]]}}


def write(folder, servers, settings=""):
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
table = "jobs.csv"
{settings}
[files]
photo = "1.image"
[inputs]
seed = "3.seed"
""")
    return Campaign(folder)


def test_a_replaced_photo_is_counted_as_the_present_plan_has_it(tmp_path, capsys):
    """The refusal names row and photo; when the photo was replaced, nothing of it is left in counts, exit code and sheet."""
    def said_by(option):
        assert main([str(tmp_path / "JOBS.toml"), option]) == 0
        return capsys.readouterr().out

    sheet = tmp_path / "output" / "contact_sheet.html"
    with StandIns(1, 0.0, entries={hashlib.sha256(b"b").hexdigest(): NO_FACE}) as server:
        found = write(tmp_path, server.addresses)
        code, said = found.run()
        assert code == 2 and "6 jobs: 4 done, 2 refused, 0 given up, 0 left" in said
        status = said_by("--status")
        for text in (said, status, sheet.read_text()):
            assert "row 3 of jobs.csv (photo photos/b.png)" in text and "Apply (node 5): No face detected." in text
        (tmp_path / "photos" / "b.png").write_bytes(b"a better photo")
        planned = said_by("--plan")
        assert "6 jobs: 4 done, 0 refused, 0 given up, 2 left" in planned and "for the 2 jobs left" in planned
        assert "4 done, 0 refused, 0 given up, 2 left" in said_by("--status")
        code, said = found.run()
        assert code == 0 and "6 jobs: 6 done, 0 refused, 0 given up, 0 left" in said
        assert sheet.read_text().count("<figure>") == 6 and "without a picture" not in sheet.read_text()
        # a picture that is deleted is a job that is left, and one picture of the sheet when it is there again
        found.pictures[0].unlink()
        assert "6 jobs: 5 done, 0 refused, 0 given up, 1 left" in said_by("--plan")
        assert found.run()[0] == 0 and sheet.read_text().count("<figure>") == 6


def test_an_answer_that_cannot_be_read_is_a_failed_attempt(tmp_path):
    entries = {hashlib.sha256(b"a").hexdigest(): ["odd"],
               hashlib.sha256(b"b").hexdigest(): {"outputs": {"9": {"images": [None]}}}}
    with StandIns(2, 0.0, entries=entries) as servers:
        found = write(tmp_path, servers.addresses, "attempts = 2")
        code, said = found.run()
    assert code == 2 and "6 jobs: 2 done, 0 refused, 4 given up, 0 left" in said
    assert len(found.events("failed")) == 8 and {line["reason"] for line in found.events("failed")} == {"unreadable answer"}
    assert {line["attempt"] for line in found.events("failed")} == {1, 2}
