"""Numbers typed into nodes of the graph editor."""

import pytest
from serving.demo_workflow import node

pytestmark = pytest.mark.newest

# Opens a node alone, and gives where the middle of a widget is on the page.
PLACE = """async ([nodes, name]) => {
    await app.loadApiJson(nodes, "test")
    const [node] = app.graph.nodes
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [400 - node.pos[0], 300 - node.pos[1]]
    app.canvas.draw(true, true)
    const widget = node.widgets.find((one) => one.name === name)
    const { left, top } = app.canvas.canvas.getBoundingClientRect()
    return { x: left + 400 + node.size[0] / 2, y: top + 300 + widget.last_y + 10 }
}"""
VALUE = "async () => (await app.graphToPrompt()).output.node.inputs.noise"


def test_a_noise_of_two_digits_is_sent_as_typed(canvas):
    place = canvas.evaluate(PLACE, [{"node": node("InstantIDAttentionPatch", noise=0.0)}, "noise"])

    def write(page):
        if not canvas.vue:
            page.mouse.dblclick(**place)
        field = page.locator("[data-node-id] [aria-label='noise'] input" if canvas.vue else ".graphdialog input")
        field.fill("0.35")
        field.press("Enter")
    canvas.drive(write)
    assert canvas.evaluate(VALUE) == 0.35
