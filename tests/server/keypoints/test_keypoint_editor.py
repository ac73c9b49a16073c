"""The keypoint editor in ComfyUI's graph editor: dragging, keys, undo, reload, queueing; on both canvases."""

import json

import pytest

pytestmark = pytest.mark.newest

ADD_NODE = """async () => {
    app.graph.clear()
    const node = LiteGraph.createNode("InstantIDEditKeypoints")
    node.pos = [60, 60]
    app.graph.add(node)
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [0, 0]
    app.canvas.setDirty(true, true)
}"""
# The screen places of the first face's points and of the handles, once the editor has a face and lies on the screen.
PLACES = """() => {
    const editor = app.graph.nodes[0]?.instantidEditor
    if (!editor?.faces().length || !editor.canvas.clientHeight) return null
    const { box, zoom, scale, left, top } = editor.layout()
    const place = ([x, y]) => [box.left + (x * scale + left) * zoom, box.top + (y * scale + top) * zoom]
    const face = editor.faces()[editor.face]
    const { scale: corner, roll, turn } = editor.handles(face)
    return { points: face.points.map(place), scale: place(corner), roll: place(roll), turn: place(turn),
        pixel: scale * zoom, top: box.top }
}"""
STATE = "() => app.graph.nodes[0].widgets.find((widget) => widget.name === 'state').value"
FACES = "() => app.graph.nodes[0].instantidEditor.faces()"
# Whether Nodes 2.0 has a field for the text.
STATE_SHOWN = "() => document.querySelector('[data-node-id]')?.innerText.split('\\n').includes('state')"
RELOAD = """async () => {
    const saved = JSON.parse(JSON.stringify(app.graph.serialize()))
    app.graph.clear()
    await app.loadGraphData(saved)
}"""
# Queues the workflow and returns the prompt that ComfyUI ran. (Playwright waits for no condition that is asynchronous.)
QUEUE = """async () => {
    const { prompt_id } = await app.api.queuePrompt(0, await app.graphToPrompt())
    for (;;) {
        const entry = (await (await fetch('/history/' + prompt_id)).json())[prompt_id]
        if (entry) return entry.status.completed ? entry.prompt[2] : {}
        await new Promise((resolve) => setTimeout(resolve, 50))
    }
}"""
# In one go: the server cannot answer the first press before the second one.
PRESS_D_TWICE = """() => [1, 2].forEach(() => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: "d", bubbles: true, cancelable: true })))"""
NOSE = 2


def settled(editor):
    """PLACES, when the node has stopped moving on the screen."""
    before, now = None, editor.wait_for(PLACES)
    while before != now:
        before, now = now, editor.wait_for(PLACES)
    return now


def drag(editor, start, by):
    def act(page):
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(start[0] + by[0] / 2, start[1] + by[1] / 2)
        page.mouse.move(start[0] + by[0], start[1] + by[1])
        page.mouse.up()
    editor.drive(act)


def nose(faces, face=0):
    return faces[face]["points"][NOSE]


def test_editing(canvas):
    canvas.evaluate(ADD_NODE)
    editor, places = canvas, settled(canvas)
    assert editor.evaluate(STATE) == ""
    assert not editor.evaluate(STATE_SHOWN)
    begun = editor.evaluate(FACES)

    drag(editor, places["points"][NOSE], (24, 12))
    moved = editor.evaluate(FACES)
    assert nose(moved)[0] - nose(begun)[0] == pytest.approx(24 / places["pixel"], rel=0.05)
    assert nose(moved)[1] - nose(begun)[1] == pytest.approx(12 / places["pixel"], rel=0.05)
    assert moved[0]["points"][0] == pytest.approx(begun[0]["points"][0], abs=1e-3)

    dragged = editor.evaluate(STATE)                    # what is seen is what the widget holds, and a reload keeps it
    assert json.loads(dragged)["array"][NOSE] == pytest.approx(nose(moved), abs=1e-3)
    editor.evaluate(RELOAD)
    settled(editor)
    assert editor.evaluate(STATE) == dragged and nose(editor.evaluate(FACES)) == pytest.approx(nose(moved), abs=1e-3)

    sent = editor.evaluate(QUEUE)
    assert [node["inputs"]["state"] for node in sent.values()] == [dragged]

    editor.drive(lambda page: (page.focus("canvas[aria-label^='Keypoint editor']"), page.keyboard.press("ArrowRight")))
    whole = editor.evaluate(FACES)                      # without a chosen point the whole face moves
    assert whole[0]["points"][0][0] - moved[0]["points"][0][0] == pytest.approx(2, abs=0.01)
    editor.drive(lambda page: page.keyboard.press("Control+z"))
    assert editor.evaluate(STATE) == dragged
    editor.drive(lambda page: page.keyboard.press("Control+y"))
    assert editor.evaluate(FACES) == whole

    asked = {"state": editor.evaluate(STATE), "face": 0, "yaw": 10, "pitch": 0, "roll": 0}
    editor.evaluate(PRESS_D_TWICE)                      # 5 degrees each, by the server
    editor.wait_for("(turned) => app.graph.nodes[0].widgets.find(({ name }) => name === 'state').value === turned",
                    editor.client.post("/instantid_swift/keypoints", asked)["state"])

    editor.drive(lambda page: page.keyboard.press("f"))
    editor.wait_for("() => app.graph.nodes[0].instantidEditor.faces().length === 2")
    old, new = [[x for x, _ in face["points"]] for face in editor.evaluate(FACES)]
    assert max(old) < min(new) or max(new) < min(old)   # beside the old face
    places = settled(editor)
    size = [places["points"][1][0] - places["points"][0][0]]
    drag(editor, places["scale"], (40, 40))
    places = settled(editor)
    assert places["points"][1][0] - places["points"][0][0] > size[0] + 5
    editor.drive(lambda page: page.keyboard.press("Delete"))
    assert len(editor.evaluate(FACES)) == 1

    editor.drive(lambda page: page.click("button[data-act='Reset']"))
    assert editor.evaluate(STATE) == ""
    editor.drive(lambda page: page.click("button[data-act='Undo']"))
    assert editor.evaluate(STATE) != ""


def test_the_handle_turns_the_head(canvas):
    canvas.evaluate(ADD_NODE)
    editor, places = canvas, settled(canvas)
    before = nose(editor.evaluate(FACES))
    drag(editor, places["turn"], (50, 0))
    editor.wait_for("(before) => app.graph.nodes[0].instantidEditor.faces()[0].points[2][0] > before + 10", before[0])
    drag(editor, settled(editor)["roll"], (0, 60))
    editor.wait_for("() => { const [one, two] = app.graph.nodes[0].instantidEditor.faces()[0].points;"
                    " return two[1] > one[1] + 10 }")
