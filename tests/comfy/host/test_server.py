"""Texts on the node that ComfyUI executes."""

import logging
from types import SimpleNamespace

import pytest
from comfy_execution.utils import CurrentNodeContext
from instantid_swift.host import server


@pytest.fixture
def sent(monkeypatch):
    """What ComfyUI's server was asked to show: (text, node id, client)."""
    messages = []
    comfyui = SimpleNamespace(client_id="client", send_progress_text=lambda *message: messages.append(message))
    monkeypatch.setattr(server, "instance", lambda: comfyui)
    return messages


def test_a_text_goes_to_the_executing_node(sent, caplog):
    with CurrentNodeContext("prompt 1", "12:3"):
        server.tell("The image shows no face: left out.")
    assert sent == [("InstantID: The image shows no face: left out.", "12:3", "client")]
    assert [record.getMessage() for record in caplog.records] == ["InstantID: The image shows no face: left out."]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.newest
def test_texts_of_one_run_stand_below_each_other_and_once(sent):
    with CurrentNodeContext("prompt 2", "7"):
        for text in ("One.", "Two.", "One."):
            server.say_on_node(text)
    assert [text for text, *_ in sent] == ["InstantID: One.", "InstantID: One.\nTwo."]
    with CurrentNodeContext("prompt 3", "7"):
        server.say_on_node("Two.")
    assert sent[-1][0] == "InstantID: Two."


@pytest.mark.newest
def test_nothing_is_said_outside_of_a_node_and_without_a_server(sent, monkeypatch):
    server.say_on_node("Nobody hears this.")
    for instance in (None, SimpleNamespace(client_id=None)):
        monkeypatch.setattr(server, "instance", lambda instance=instance: instance)
        with CurrentNodeContext("prompt 4", "7"):
            server.say_on_node("Nobody hears this.")
    assert sent == []


@pytest.mark.newest
def test_an_empty_part_of_the_sampling_is_said(nodes, world, sent):
    from oracle import cases
    with CurrentNodeContext("prompt 5", "7"):
        cases.apply(nodes, world, start_at=0.8, end_at=0.2)
    (text, *_), = sent
    assert "No effect: start_at 0.8 is after end_at 0.2. Set start_at below end_at." in text
