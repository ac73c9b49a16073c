"""Requests to free memory, as the server hands them to the pack."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from instantid_swift.host import server


def freed(monkeypatch, body):
    """How often memory was given back for a request with this body."""
    given_back = []
    monkeypatch.setattr(server, "_releases", [lambda: given_back.append(True)])

    async def read():
        return json.loads(body)

    async def handler(request):
        return "response"
    request = SimpleNamespace(method="POST", path="/api/free", json=read)
    assert asyncio.run(server.release_memory_with_comfyui(request, handler)) == "response"
    return len(given_back)


def test_memory_is_given_back_when_it_is_asked_for(monkeypatch):
    assert freed(monkeypatch, '{"free_memory": true}') == 1
    assert freed(monkeypatch, '{"unload_models": true}') == 0


@pytest.mark.parametrize("body", ["[]", '["free_memory"]', "null", '"free_memory"', "", "{"])
def test_a_malformed_request_gets_comfyuis_answer(monkeypatch, body):
    """A list had no `get`, and the answer became an error of ours."""
    assert freed(monkeypatch, body) == 0
