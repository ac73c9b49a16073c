"""The engine's parts, without a server."""

import gc
import itertools
import json
import sys

import pytest

from bulk import BulkError
from bulk.jobs import settings, sources, workflow
from bulk.jobs.plan import Job, Plan
from bulk.results import pictures, sheet
from bulk.results.ledger import Ledger, lines, standing
from bulk.running.dispatch import Dispatch
from bulk.servers import prompts
from bulk.simulation.stand_in import grey_png

NODES = {"1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}, "_meta": {"title": "Photo"}},
         "2": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 4.5, "model": ["1", 0]}}}


def job(name, person=""):
    return Job(name, person, {}, ())


def plan(tmp_path, product=None, table=None, **changes):
    made = settings.Settings(tmp_path / "w.json", tmp_path / "out", {"photo": "Photo.image"},
                             {"seed": "2.seed", "cfg": "2.cfg"}, product=product or {}, table=table, person=("photo",),
                             folder=tmp_path, **changes)
    return Plan(made, workflow.Workflow(dict(NODES)))


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in "abc":
        (tmp_path / "photos" / f"{name}.png").write_bytes(name.encode())
    return tmp_path


# ---- jobs ----

def test_a_product_has_the_jobs_of_a_person_together(photos):
    made = plan(photos, {"seed": {"from": 1, "to": 4}, "photo": {"folder": "photos"}})
    people = [found.person for found in made.jobs()]
    assert made.rows.count == len(people) == 12
    assert [people[place] for place in (0, 4, 8)] == sorted(set(people), key=people.index)


def test_an_id_is_made_from_content(photos):
    product = {"photo": {"folder": "photos"}, "seed": [1]}
    ids = [found.id for found in plan(photos, product).jobs()]
    (photos / "photos" / "a.png").rename(photos / "photos" / "d.png")
    assert {found.id for found in plan(photos, product).jobs()} == set(ids)
    (photos / "photos" / "b.png").write_bytes(b"another photo")
    assert len({found.id for found in plan(photos, product).jobs()} & set(ids)) == 2
    assert not {found.id for found in plan(photos, {**product, "seed": [2]}).jobs()} & set(ids)


@pytest.mark.parametrize("given", [
    '[product]\nperson = {folder = "people"}',
    '[product]\nperson = ["a.safetensors", "b.safetensors"]\n[folders]\nperson = "people"',
    '[folders]\nperson = "people"'])
def test_a_saved_person_is_known_by_content(tmp_path, given):
    """The servers have the file under its name; another content of that name is another job."""
    (tmp_path / "people").mkdir()
    for name in "ab":
        (tmp_path / "people" / f"{name}.safetensors").write_bytes(name.encode())
    (tmp_path / "jobs.csv").write_text("person\na.safetensors\nb.safetensors\n")
    table = "" if "[product]" in given else 'table = "jobs.csv"\n'
    (tmp_path / "JOBS.toml").write_text(
        f'workflow = "w"\noutput = "o"\n{table}[inputs]\nperson = "Saved.person"\n{given}')

    def jobs():
        nodes = {"1": {"class_type": "InstantIDLoadPerson", "inputs": {"person": ""}, "_meta": {"title": "Saved"}}}
        made = Plan(settings.read(tmp_path / "JOBS.toml", {}), workflow.Workflow(nodes))
        found = list(made.jobs())
        assert [made.prompt(job)["1"]["inputs"]["person"] for job in found] == ["a.safetensors", "b.safetensors"]
        assert len({job.person for job in found}) == 2 and not any(job.files for job in found)
        return [job.id for job in found]

    before = jobs()
    (tmp_path / "people" / "b.safetensors").write_bytes(b"another person")
    after = jobs()
    assert after[0] == before[0] and after[1] != before[1]


def test_a_table_gives_the_kind_of_value_that_the_workflow_has(photos):
    for name, text in (("jobs.csv", "photo,seed,cfg\nphotos/a.png,7,3.5\nphotos/b.png,,\n"),
                       ("jobs.jsonl", '{"photo": "photos/a.png", "seed": 7, "cfg": 3.5}\n\n{"photo": "photos/b.png"}\n'),
                       ("jobs.toml", '[[job]]\nphoto="photos/a.png"\nseed = 7\ncfg = 3.5\n[[job]]\nphoto="photos/b.png"\n')):
        (photos / name).write_text(text)
        first, second = plan(photos, table=photos / name).jobs()
        assert first.values == {"photo": "photos/a.png", "seed": 7, "cfg": 3.5}
        assert second.values == {"photo": "photos/b.png"}


def test_a_million_jobs_are_streamed(photos):
    made = plan(photos, {"photo": {"folder": "photos"}, "seed": {"from": 1, "to": 400_000}})
    assert made.rows.count == 1_200_000
    each, blocks = made.jobs(), []
    for _ in range(2):
        for found in itertools.islice(each, 5000):
            last = found
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    assert last.values["seed"] == 10_000
    assert blocks[1] - blocks[0] < 1000     # pieces of memory: none of 5000 jobs is kept


@pytest.mark.parametrize("content, sentence", [
    ("workflow = 'w'", "output is missing"),
    ("workflow = 'w'\noutput = 'o'\ntabel = 't'", "settings that do not exist: tabel"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\n[product]\nseed = [1]", "exactly one of the two"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\nservers = ['ftp://x']\n[inputs]\na = 'b.c'", "is not the address of a server"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\nat_once = 0\n[inputs]\na = 'b.c'", "must be at least 1"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\n[inputs]\na = 'b.c'\n[folders]\nd = '.'", "which is not in .inputs."),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\n[inputs]\na = 'b.c'\n[folders]\na = 'x'", "there is no such folder"),
    ("workflow = ", "is not a TOML file"),
])
def test_settings_that_cannot_be_meant(tmp_path, content, sentence):
    path = tmp_path / "JOBS.toml"
    path.write_text(content)
    with pytest.raises(BulkError, match=sentence):
        settings.read(path, {})


@pytest.mark.parametrize("given", [[], {"from": 2, "to": 1}, {"folder": "nowhere"}, {"lines": "nothing.txt"}, 3, {"form": 1}])
def test_values_of_a_product_that_cannot_be_meant(tmp_path, given):
    with pytest.raises(BulkError, match="photo"):
        sources.axis("photo", given, tmp_path, True)


def test_a_folder_gives_paths_to_upload_and_names_to_choose(photos):
    paths = [str(photos / "photos" / f"{name}.png") for name in "abc"]
    assert sources.axis("photo", {"folder": "photos"}, photos, True) == paths
    assert sources.axis("person", {"folder": "photos", "pattern": "[bc].png"}, photos, False) == ["b.png", "c.png"]


def test_an_exported_template(tmp_path):
    from bulk.jobs import template
    info = {"LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
            "KSampler": {"input": {"required": {"model": ["MODEL"], "seed": ["INT", {"control_after_generate": True}],
                                                "cfg": ["FLOAT", {}], "newer": ["INT", {"default": 3}]},
                                   "optional": {"newest": ["COMBO", {"options": ["plain", "fancy"]}]}}}}
    content = {"nodes": [{"id": 1, "type": "LoadImage", "inputs": [], "widgets_values": ["a.png", "image"], "title": "Photo"},
                         {"id": 3, "type": "Reroute", "inputs": [{"name": "", "link": 5}]},
                         {"id": 4, "type": "MarkdownNote", "widgets_values": ["text"]},
                         {"id": 2, "type": "KSampler", "inputs": [{"name": "model", "link": 6}],
                          "widgets_values": [7, "randomize", 4.5]}],
               "links": [[5, 1, 0, 3, 0, "*"], [6, 3, 0, 2, 0, "MODEL"]]}
    assert template.to_api(content, info) == {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Photo"}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 7, "cfg": 4.5, "newer": 3, "newest": "plain", "model": ["1", 0]},
              "_meta": {"title": "KSampler"}}}
    content["nodes"][0]["mode"] = 4
    with pytest.raises(BulkError, match="muted or bypassed"):
        template.to_api(content, info)


# ---- dispatch ----

def drain(dispatch, server, count):
    return [found.id for found in (dispatch.next(server) for _ in range(count)) if found]


def test_a_person_stays_on_one_server_while_there_are_others():
    dispatch = Dispatch(100)
    dispatch.add(job(f"{person}{number}", person) for number in range(3) for person in "ABC")
    assert drain(dispatch, "one", 2) == ["A0", "A1"]
    assert drain(dispatch, "two", 3) == ["B0", "B1", "B2"]
    assert drain(dispatch, "two", 1) == ["C0"]
    assert drain(dispatch, "one", 1) == ["A2"]
    assert drain(dispatch, "one", 9) == ["C1", "C2"]     # rather than do nothing
    assert dispatch.empty


def test_a_job_that_may_run_somewhere_goes_back_there(monkeypatch):
    dispatch = Dispatch(10)
    now = [100.0]
    monkeypatch.setattr("bulk.running.dispatch.time.monotonic", lambda: now[0])
    dispatch.take_home(job("a"), "one")
    assert dispatch.next("two") is None
    now[0] += 31
    assert dispatch.next("two").id == "a"


def test_a_job_that_failed_goes_elsewhere(monkeypatch):
    dispatch = Dispatch(10)
    now = [100.0]
    monkeypatch.setattr("bulk.running.dispatch.time.monotonic", lambda: now[0])
    dispatch.take_elsewhere(job("a"), "one", wait=1)
    assert dispatch.next("two") is None
    now[0] += 1
    assert dispatch.next("one") is None
    assert dispatch.next("two").id == "a"
    dispatch.take_elsewhere(job("b"), "one", wait=1)
    now[0] += 12
    assert dispatch.next("one").id == "b"       # nobody else has taken it


# ---- ledger and pictures ----

def test_half_a_line_is_no_line(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.add("a", "submitted", server="one", attempt=1)
        ledger.add("a", "done", server="one", seconds=2.0)
        ledger.add("b", "submitted", server="one", attempt=1)
    for cut in range(1, 40):
        content = path.read_bytes()
        path.write_bytes(content[:-cut])
        assert [line["id"] for line in lines(path)] == ["a", "a"]
        with Ledger(path) as ledger:
            assert ledger.standing.done == 1 and not ledger.standing.open
            ledger.add("c", "submitted", server="one", attempt=1)
        assert [line["id"] for line in lines(path)] == ["a", "a", "c"]
        path.write_bytes(content)


def test_a_second_run_does_not_write_into_the_same_folder(tmp_path):
    with Ledger(tmp_path / "ledger.jsonl"):
        with pytest.raises(BulkError, match="Another run"):
            Ledger(tmp_path / "ledger.jsonl")
    with Ledger(tmp_path / "ledger.jsonl"):
        pass


def test_a_damaged_line_is_told(tmp_path):
    (tmp_path / "ledger.jsonl").write_text('{"id": "a", "event": "done"}\n{"id": "b", "ev\n{"id": "c", "event": "done"}\n')
    with pytest.raises(BulkError, match="Line 2"):
        standing(tmp_path / "ledger.jsonl")


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
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        for number in range(3):
            ledger.add(f"j{number}", "done", server="one", seconds=1.0, likeness=0.625, files=[f"j{number}.png"],
                       values={"prompt": "<script>alert(1)</script>"})
        ledger.add("bad", "refused", message="<b>no face</b>")
        first = sheet.write(tmp_path, "results", ledger.standing)
    pages = first.read_text() + (tmp_path / "contact_sheet_2.html").read_text()
    assert all(f'src="results/j{number}.png"' in pages for number in range(3))
    assert "likeness 0.625" in pages and "&lt;b&gt;no face" in pages and "<script" not in pages


# ---- outcomes ----

def entry(kind, **data):
    return {"status": {"status_str": "error", "messages": [[kind, data]]}, "outputs": {}}


@pytest.mark.parametrize("kind, data, outcome, reason", [
    ("execution_error", {"exception_type": "torch.OutOfMemoryError", "exception_message": "Allocation on device"},
     "failed", "out of memory"),
    ("execution_error", {"exception_type": "torch.AcceleratorError", "exception_message": "CUDA error: launch failure"},
     "failed", "device error"),
    ("execution_interrupted", {}, "failed", "interrupted"),
    ("execution_error", {"exception_type": "Exception", "exception_message": "Reference Image: No face detected.",
                         "node_id": "5", "node_type": "ApplyInstantID"}, "refused", ""),
])
def test_whose_fault_a_failure_is(kind, data, outcome, reason):
    class Server:
        url = "http://127.0.0.1:1"
    found = prompts.result(Server(), prompts.Request("id", {}, {}), entry(kind, **data))
    assert (found.kind, found.reason) == (outcome, reason)
    if outcome == "refused":
        assert found.message == "ApplyInstantID (node 5): Reference Image: No face detected."


def test_likeness_is_read_from_its_node():
    prompt = {"1": {"class_type": "SaveImage"}, "2": {"class_type": "InstantIDLikeness"}}
    assert prompts.likeness(prompt, {"1": {"text": ["0.9"]}}) is None
    assert prompts.likeness(prompt, {"2": {"likeness": [0.25, 0.5]}}) == 0.5
    assert prompts.likeness(prompt, {"2": {"text": ("likeness 0.4375, second -0.1",)}}) == 0.4375


def test_what_a_server_refuses_is_one_sentence():
    answer = {"error": {"message": "Prompt outputs failed validation", "details": ""}, "node_errors": {
        "3": {"class_type": "KSampler", "errors": [{"message": "Value not in list", "details": "sampler: 'x' not in []"}]}}}
    assert prompts.refusal(json.dumps(answer)) == "KSampler (node 3): Value not in list sampler: 'x' not in []"


# ---- a server's answers ----

def test_servers_that_share_a_folder_write_files_of_different_names(photos):
    made = plan(photos, {"seed": {"from": 1, "to": 2}})
    made.workflow.nodes["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "me", "images": ["2", 0]}}
    names = [made.prompt(found)["9"]["inputs"]["filename_prefix"] for found in made.jobs()]
    assert names == [f"me_{found.id}" for found in made.jobs()] and len(set(names)) == 2
    assert made.workflow.nodes["9"]["inputs"]["filename_prefix"] == "me"


@pytest.fixture
def rogue():
    """rogue(answer) -> Server that answers that many requests of a connection; # is replaced by its number."""
    import socketserver
    import threading

    from bulk.servers.http import Server
    running = []

    def start(answer, requests=1):
        numbers = itertools.count(1)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                number = b"%d" % next(numbers)
                for _ in range(requests):
                    while self.rfile.readline().strip():
                        pass
                    self.wfile.write(answer.replace(b"#", number))
        listening = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        running.append(listening)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        return Server(f"http://127.0.0.1:{listening.server_address[1]}", timeout=5)
    yield start
    for listening in running:
        listening.shutdown()
        listening.server_close()


@pytest.mark.parametrize("answer, sentence", [
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "broke off"),
    (b"HTTP/1.1 200 OK\r\n\r\n<html>", "with JSON"),
    (b"HTTP/1.1 200 OK\r\n\r\n[1]", "as ComfyUI does"),
    (b"SSH-2.0-OpenSSH\r\n", "broke off|did not answer"),
    (b"", "broke off|did not answer"),
])
def test_answers_of_something_else_than_comfyui(rogue, monkeypatch, answer, sentence):
    from bulk.servers import http
    monkeypatch.setattr(http.Server.request, "__kwdefaults__", {"most": 1000, "method": None})
    with pytest.raises(http.Unreachable, match=sentence):
        rogue(answer).get("/queue")


def test_a_server_cannot_send_us_elsewhere(rogue):
    from bulk.servers import http
    with pytest.raises(http.Refused) as error:
        rogue(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n").get("/queue")
    assert error.value.status == 302


def test_a_connection_serves_many_requests_and_a_new_one_follows_a_broken_one(rogue):
    from bulk.servers import http
    with rogue(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"n": #}', requests=2) as server:
        assert server.get("/queue") == server.get("/queue") == {"n": 1}
        with pytest.raises(http.Unreachable, match="did not answer"):
            server.get("/queue")
        assert server.get("/queue") == {"n": 2}


def test_an_address_that_is_none():
    from bulk.servers import http
    with pytest.raises(http.Unreachable, match="is not the address of a server"):
        http.Server("http://127.0.0.1:none")
