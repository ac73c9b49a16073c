"""The faces of a saved person on InstantID Load Person, as soon as the drop-down changes; on both canvases."""

import os
import urllib.parse

import folder_paths
import pytest
import torch
from instantid_swift.people.files import save_person
from instantid_swift.people.person import CROP, Person
from serving.client import ClientError

pytestmark = pytest.mark.newest

FOLDER = "instantid_people"
ADD_NODE = """async () => {
    app.graph.clear()
    const node = globalThis.person = LiteGraph.createNode("InstantIDLoadPerson")
    app.graph.add(node)
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [60 - node.pos[0], 60 - node.pos[1]]
    app.canvas.setDirty(true, true)
}"""
CHOOSE = """(name) => {
    const widget = person.widgets.find(({ name }) => name === "person")
    widget.value = name
    widget.callback(name)
}"""
# Width and height of the picture on the node, once it lies there; of hidden ones 0.
SHOWN = """([width, height]) => {
    const image = person.widgets.find(({ name }) => name === "faces").element.querySelector("img")
    const there = image.complete && image.naturalWidth === width && image.naturalHeight === height
    return there && image.clientHeight > 100 && [image.clientWidth > 100, [...person.size][1]]
}"""
HIDDEN = """() => {
    const image = person.widgets.find(({ name }) => name === "faces").element.querySelector("img")
    return image.complete && !image.naturalWidth && !image.clientHeight && [[...person.size][1]]
}"""
OFFERED = "() => person.widgets.find(({ name }) => name === 'person').options.values"
RELOAD = """async () => {
    const saved = JSON.parse(JSON.stringify(app.graph.serialize()))
    app.graph.clear()
    await app.loadGraphData(saved)
    globalThis.person = app.graph.nodes[0]
    return saved.nodes[0].widgets_values
}"""


@pytest.fixture(scope="module")
def people():
    """File names of two people with one and with five faces, and of a damaged file, in the server's folder."""
    folder = folder_paths.get_folder_paths(FOLDER)[0]
    paths = [save_person(Person(torch.ones(photos, 512), torch.ones(photos, 5, 2), torch.full((photos, 2), 64), "unknown",
                                torch.full((photos, CROP, CROP, 3), 50 * photos, dtype=torch.uint8)), folder, "preview test")
             for photos in (1, 5, 1)]
    with open(paths[2], "r+b") as file:
        file.truncate(100)
    yield [os.path.basename(path) for path in paths]
    for path in paths:
        os.remove(path)


def test_the_faces_appear_when_the_drop_down_changes(canvas, people):
    one, five, damaged = people
    canvas.errors.clear()
    canvas.evaluate("() => app.refreshComboInNodes()")  # as the key R does: the server is older than the files
    canvas.evaluate(ADD_NODE)
    assert {one, five, damaged} <= set(canvas.evaluate(OFFERED))
    canvas.evaluate(CHOOSE, one)
    wide, tall = canvas.wait_for(SHOWN, [CROP, CROP])
    canvas.evaluate(CHOOSE, five)
    assert canvas.wait_for(SHOWN, [4 * CROP, 2 * CROP])[0] and wide
    canvas.evaluate(CHOOSE, damaged)
    height, = canvas.wait_for(HIDDEN)
    assert height < tall
    canvas.evaluate(CHOOSE, five)
    canvas.wait_for(SHOWN, [4 * CROP, 2 * CROP])
    assert canvas.evaluate(RELOAD) == [five]
    canvas.wait_for(SHOWN, [4 * CROP, 2 * CROP])
    assert canvas.errors == []


def test_no_name_leaves_the_folder(client, people):
    def ask(name):
        return client.request(f"/instantid_swift/person?name={urllib.parse.quote(name, safe='')}")
    assert ask(people[0]).startswith(b"\x89PNG")
    for name in (people[2], "nobody.safetensors", f"../{FOLDER}/{people[0]}", "../../main.py", "/etc/passwd", "", "\0"):
        with pytest.raises(ClientError):
            ask(name)
    assert client.object_info("InstantIDLoadPerson")
