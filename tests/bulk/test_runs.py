"""Whole runs over two real servers."""

import asyncio
import io
import json
import uuid

import aiohttp
import numpy as np
import psutil
import pytest
from campaigns import computed, url_of, workflow
from PIL import Image

from bulk.__main__ import main


@pytest.fixture
def fresh(servers):
    """The two servers, with nothing kept in the pack's caches. No two tests have a prompt in common that ComfyUI could keep."""
    for server in servers:
        server.client.post("/free", {"free_memory": True})
    return servers


def misses(server, cache):
    return server.client.get("/instantid_swift/caches")[cache]["misses"]


@pytest.mark.parametrize("prompts, seeds, compared", [(1, 2, 2), pytest.param(5, 4, 60, marks=pytest.mark.long)])
def test_a_run_over_two_servers(fresh, campaign, prompts, seeds, compared):
    jobs = 3 * prompts * seeds
    before = [(computed(server), misses(server, "pictures"), misses(server, "identities")) for server in fresh]
    found = campaign([url_of(server) for server in fresh], prompts=prompts, seeds=seeds)
    code, said = found.run()
    assert code == 0, said
    assert f"{jobs} jobs: {jobs} done, 0 refused, 0 given up, 0 left" in said

    # every result once, in the ledger, on disk and on the servers
    done = found.events("done")
    assert len({line["id"] for line in done}) == len(done) == jobs
    assert {path.stem for path in found.pictures} == {line["id"] for line in done}
    after = [(computed(server), misses(server, "pictures"), misses(server, "identities")) for server in fresh]
    assert sum(a[0] - b[0] for a, b in zip(after, before, strict=True)) == jobs
    assert all(line["id"] == str(uuid.UUID(line["id"])) and uuid.UUID(line["id"]).version == 5 for line in done)

    # one analysis and one projection for each person on each server
    for server, old, new in zip(fresh, before, after, strict=True):
        people = {line["person"] for line in done if line["server"] == url_of(server)}
        assert new[1] - old[1] == len(people)
        assert new[2] - old[2] == len(people)
    # two people need no other server; the third may be shared at the end
    assert sum(new[1] - old[1] for old, new in zip(before, after, strict=True)) <= 4

    assert {"prompt", "bulk"} <= set(Image.open(found.pictures[0]).text)    # what it was made from

    # the same prompt, queued by hand
    client = fresh[0].client
    for line in done[::jobs // compared]:
        values = line["values"]
        nodes = workflow()
        nodes["photo"]["inputs"]["image"] = client.upload_image(values["photo"])
        nodes["positive"]["inputs"]["text"] = values["prompt"]
        nodes["sample"]["inputs"]["seed"] = values["seed"]
        by_hand = client.file(client.queue(nodes).outputs["save_picture"]["images"][0])
        picture = Image.open(found.folder / "output" / "results" / line["files"][0])
        assert np.array_equal(Image.open(io.BytesIO(by_hand)), picture)

    sheet = (found.folder / "output" / "contact_sheet.html").read_text()
    assert all(f"results/{path.name}" in sheet for path in found.pictures)

    # the same command again does nothing
    now = [computed(server) for server in fresh]
    code, said = found.run()
    assert code == 0 and "0 left" in said
    assert [computed(server) for server in fresh] == now
    assert len(found.events("done")) == jobs


def test_what_a_runner_left_is_found_and_not_computed_again(fresh, campaign):
    found = campaign([url_of(server) for server in fresh], prompts=1, seeds=2)
    before = sum(map(computed, fresh))
    process = found.start()
    found.wait_for(lambda: found.events("done"), process)
    tree = psutil.Process(process.pid)
    assert {connection.laddr.ip for one in [tree, *tree.children(recursive=True)]
            for connection in one.net_connections("inet") if connection.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    process.kill()
    process.wait()
    left = {line["id"] for line in found.events("submitted")} - {line["id"] for line in found.events("done")}
    assert left
    code, said = found.run()
    assert code == 0, said
    assert len(found.pictures) == 6 == len({line["id"] for line in found.events("done")})
    assert len(found.events("done")) == 6
    assert sum(map(computed, fresh)) - before == 6
    # the servers went on with what they had
    assert {line["id"] for line in found.events("done") if line.get("found")} <= left


def test_a_photo_without_a_face_is_refused_in_our_words(servers, campaign, tmp_path):
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    Image.new("RGB", (320, 320), (90, 120, 90)).save(nobody / "meadow.png")
    found = campaign([url_of(servers[0])], people=nobody, prompts=1, seeds=2)
    code, said = found.run()
    assert code == 2
    refused = found.events("refused")
    assert len(refused) == 2 and not found.events("done")
    assert all("Reference Image: No face detected" in line["message"] for line in refused)
    assert "No face detected" in said
    # it is not tried again, unless this is asked for
    now = computed(servers[0])
    assert found.run()[0] == 2 and computed(servers[0]) == now
    assert found.run("--retry-failed")[0] == 2 and computed(servers[0]) == now + 2


async def interrupt_one(servers, start):
    """(process, id of the prompt): starts a run, and interrupts the first prompt that a server says it is sampling.

    ComfyUI forgets an interrupt that comes before the prompt's first node.
    """
    async def sampling(client, session):
        async with session.ws_connect(f"ws://{client.address}/ws?clientId=bulk") as socket:     # bulk's own name there
            connected.release()
            async for message in socket:
                event = json.loads(message.data) if isinstance(message.data, str) else {}
                if event.get("type") == "progress":
                    return client, event["data"]["prompt_id"]

    connected = asyncio.Semaphore(0)
    async with aiohttp.ClientSession() as session:
        waiting = [asyncio.ensure_future(sampling(server.client, session)) for server in servers]
        for _ in servers:
            await connected.acquire()
        process = start()
        done, others = await asyncio.wait(waiting, timeout=300, return_when=asyncio.FIRST_COMPLETED)
        client, prompt = done.pop().result()
        client.post("/interrupt", {"prompt_id": prompt})
        for task in others:
            task.cancel()
    return process, prompt


def test_a_job_that_somebody_interrupts_is_done_elsewhere(fresh, campaign):
    nodes = workflow(steps=6)
    found = campaign([url_of(server) for server in fresh], nodes=nodes, prompts=1, seeds=1, pattern="[ab].png")
    process, prompt = asyncio.run(interrupt_one(fresh, found.start))
    assert process.wait(300) == 0, (found.folder / "said").read_text()
    assert len(found.events("done")) == 2
    interrupted, = found.events("failed")
    assert (interrupted["id"], interrupted["reason"]) == (prompt, "interrupted")
    again, = (line for line in found.events("done") if line["id"] == prompt)
    assert again["server"] != interrupted["server"]


@pytest.mark.parametrize("change, sentence", [
    ({"Prompt.text": "Prompt.texts"}, "has no input texts"),
    ({"Sampler.seed": "Sampler.model"}, "is connected to node apply"),
    ({"Photo.image": "Foto.image"}, "The workflow has no node 'Foto'"),
    ({"from = 1": "from = -1"}, "seed is -1; the node takes 0 to"),
])
def test_a_plan_is_checked_against_the_server(servers, campaign, capsys, change, sentence):
    found = campaign([url_of(servers[0])])
    path = found.folder / "JOBS.toml"
    for old, new in change.items():
        path.write_text(path.read_text().replace(old, new))
    assert main([str(path), "--plan"]) == 1
    assert sentence in capsys.readouterr().err and not (found.folder / "output").exists()
