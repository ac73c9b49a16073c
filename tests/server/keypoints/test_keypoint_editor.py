"""The keypoint editor in ComfyUI's graph editor: dragging, keys, undo, reload, queueing, hints, size; on both canvases."""

import json

import pytest
from chromium import CANVASES, CLASSIC, describe

pytestmark = pytest.mark.newest

ADD_NODE = """() => {
    app.graph.clear()
    const node = LiteGraph.createNode("InstantIDEditKeypoints")
    node.id = globalThis.lastId = (globalThis.lastId ?? 100) + 1    // ComfyUI knows values of removed nodes by their ids
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
UNDO_IN_COMFYUI = """async () => {
    const history = app.extensionManager.workflow.activeWorkflow.changeTracker
    const keep = () => history.captureCanvasState ? history.captureCanvasState() : history.checkState()
    keep()
    app.graph.nodes[0].title = "Another title"
    keep()
    await history.undo()
    return app.graph.nodes[0].title
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
HINT = "() => app.graph.nodes[0].instantidEditor.hint.innerText"
TITLES = "() => [...app.graph.nodes[0].instantidEditor.bar.children].map((button) => [button.innerText, button.title])"
# The ratio of the brightness of the buttons' letters and faces, as WCAG 2 has it.
CONTRAST = """() => {
    const style = getComputedStyle(app.graph.nodes[0].instantidEditor.bar.children[0])
    const brightness = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
        .map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, channel) => sum + value * [0.2126, 0.7152, 0.0722][channel], 0.05)
    const [dark, bright] = [style.color, style.backgroundColor].map(brightness).sort((one, two) => one - two)
    return bright / dark
}"""
SET_SIZE = """([width, height]) => {
    for (const [name, value] of Object.entries({ width, height })) {
        const widget = app.graph.nodes[0].widgets.find((widget) => widget.name === name)
        widget.value = value
        widget.callback(value)
    }
    return [...app.graph.nodes[0].size]
}"""
# Whether the picture fills the editor but for a margin.
FILLED = """() => {
    const editor = app.graph.nodes[0].instantidEditor
    const { width, height } = editor.size()
    const spare = editor.canvas.clientHeight - editor.canvas.clientWidth * height / width
    return editor.canvas.clientHeight && Math.abs(spare) < 30
}"""
SHOW_PANEL = """async (open) => {
    app.canvas.selectNode(app.graph.nodes[0])
    await app.extensionManager.setting.set("Comfy.RightSidePanel.IsOpen", open)
}"""
PANEL_SHOWN = """(open) => open === Boolean(
    document.querySelector("[data-testid=properties-panel]")?.innerText.includes("InstantID Edit Keypoints"))"""
LOOK = """() => {
    const { canvas, element } = app.graph.nodes[0].instantidEditor
    return [document.querySelector("[data-testid=properties-panel]")?.contains(element) ?? false,
        canvas.clientWidth, canvas.clientHeight, [...app.graph.nodes[0].size], canvas.toDataURL()]
}"""
# The frame and the points of each face, after a new one has come to faces from left to right as given.
ADD_FACE_TO = """async (spans) => {
    const editor = app.graph.nodes[0].instantidEditor
    editor.put(spans.map(([left, right]) => ({ opacities: [1, 1, 1, 1, 1],
        points: [[left, 10], [right, 10], [(left + right) / 2, 20], [left, 30], [right, 30]] })))
    await editor.addFace()
    return editor.faces().map((face) => [face.points, editor.handles(face).box])
}"""
PLACE_KEYPOINTS = """() => {
    const { inputs, widgets } = LiteGraph.createNode("InstantIDPlaceKeypoints")
    return [inputs, widgets].map((all) => all.some(({ name }) => name === "box"))
}"""


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


def test_the_editor_works_after_an_undo_in_comfyui(canvas):
    canvas.evaluate(ADD_NODE)
    settled(canvas)
    assert canvas.evaluate(UNDO_IN_COMFYUI) != "Another title"
    drag(canvas, settled(canvas)["points"][NOSE], (24, 12))
    assert canvas.evaluate(STATE) != ""


def test_a_hint_names_what_lies_under_the_pointer(canvas):
    canvas.evaluate(ADD_NODE)
    places = settled(canvas)
    nose_at, mouth = places["points"][NOSE], places["points"][3]

    def hints(page):
        for place in (places["turn"], places["roll"], places["scale"], nose_at, (nose_at[0], mouth[1]), (5, 5)):
            page.mouse.move(*place)
            yield page.evaluate(HINT)
    assert canvas.drive(lambda page: list(hints(page))) == [
        "Turn the head left, right, up or down (A D W S)", "Tilt the head (Q E)", "Scale the face (+ -)", "nose (3)",
        "Move the face (← ↑ → ↓)", "Drag points, a face, or its corners: turn, tilt, scale."]
    assert canvas.evaluate(TITLES) == [
        ["Add face", "Add face (F)"], ["Remove face", "Remove face (Delete)"], ["Undo", "Undo (Ctrl+Z)"],
        ["Redo", "Redo (Ctrl+Y)"], ["Reset", "Reset"]]
    assert canvas.evaluate(CONTRAST) > 7


def test_the_editor_is_chinese_in_a_chinese_comfyui(client, editor):
    with editor.second_page(client, locale="zh"):
        editor.evaluate(ADD_NODE)
        places = settled(editor)
        editor.drive(lambda page: page.mouse.move(*places["roll"]))
        assert editor.evaluate(HINT) == "倾斜头部 (Q E)"
        assert [text for text, _ in editor.evaluate(TITLES)] == ["添加脸", "删除脸", "撤销", "重做", "重置"]


def test_the_editor_is_as_high_as_its_picture(canvas):
    canvas.evaluate(ADD_NODE)
    canvas.wait_for(FILLED)
    for shape in ((1024, 1536), (1536, 768)):           # higher, and lower again
        size = canvas.evaluate(SET_SIZE, shape)
        canvas.wait_for(FILLED)
    canvas.evaluate(RELOAD)
    assert canvas.evaluate("() => [...app.graph.nodes[0].size]") == size
    canvas.evaluate(SET_SIZE, (1024, 1024))
    canvas.wait_for(FILLED)
    canvas.evaluate("() => app.graph.nodes[0].setSize([500, 700])")     # as by dragging
    assert canvas.evaluate(SET_SIZE, (1024, 512)) == [500, 700]


def test_the_right_panel_leaves_the_editor_alone(canvas):
    canvas.evaluate(ADD_NODE)
    settled(canvas)
    looks = [canvas.evaluate(LOOK)]
    for shown in (True, False):
        canvas.evaluate(SHOW_PANEL, shown)
        canvas.wait_for(PANEL_SHOWN, shown)
        settled(canvas)
        looks.append(canvas.evaluate(LOOK))
    assert not looks[0][0]
    assert looks[1:] == looks[:1] * 2


@pytest.mark.parametrize("canvas", CANVASES[:1], indirect=True, ids=describe)
@pytest.mark.parametrize("spans, least, most", [([(430, 594)], 594, 1024), ([(20, 120), (900, 1000)], 120, 900),
                                                ([(0, 1024)], 0, 1024), ([(-50, 1000), (990, 1200)], 0, 1024),
                                                ([(0, 200), (390, 600), (800, 1024)], 600, 800)])
def test_a_new_face_lies_in_the_widest_free_strip(canvas, spans, least, most):
    canvas.evaluate(ADD_NODE)
    settled(canvas)
    *others, (points, box) = canvas.evaluate(ADD_FACE_TO, spans)
    assert all(least - 0.01 <= x <= most + 0.01 and -0.01 <= y <= 1024.01 for x, y in points)
    if 400 < most - least < 1024:   # there is room for the frames
        assert all(box[2] < other[0] or other[2] < box[0] for _, other in others)


@pytest.mark.parametrize("canvas", CLASSIC, indirect=True, ids=describe)
def test_the_box_of_place_keypoints_is_no_widget(canvas):
    assert canvas.evaluate(PLACE_KEYPOINTS) == [True, False]
