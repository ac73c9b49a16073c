"""What a node says of itself in the graph editor: shown whole, and gone when there is no more reason for it."""

import pytest
from PIL import Image
from serving import demo_workflow, miniature

pytestmark = pytest.mark.newest

LOAD = """async ([workflow, inside]) => {
    await app.loadApiJson(workflow, "test")
    let apply = app.graph.nodes.find((node) => node.type === "ApplyInstantID")
    if (inside) {
        const { subgraph, node } = app.graph.convertToSubgraph(new Set([apply]))
        // the editor may go back to the root graph when it has ended to load the workflow
        for (let frames = 0; frames < 10; frames = app.canvas.graph === subgraph ? frames + 1 : 0) {
            if (app.canvas.graph !== subgraph) app.canvas.openSubgraph(subgraph, node)
            await new Promise(requestAnimationFrame)
        }
        apply = subgraph.nodes.find((node) => node.type === "ApplyInstantID")
    }
    globalThis.apply = apply
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [300 - apply.pos[0], 200 - apply.pos[1]]
    app.canvas.setDirty(true, true)
}"""
RUN = """async (photo) => {
    const load = (app.rootGraph ?? app.graph).nodes.find((node) => node.type === "LoadImage")
    load.widgets.find(({ name }) => name === "image").value = photo
    const ended = new Promise((resolve) => app.api.addEventListener("execution_success", resolve, { once: true }))
    await app.queuePrompt(0)
    await ended
}"""
# The node's sizes once its text has been drawn and all of it is to be seen.
SHOWN = """(words) => {
    const widget = apply.widgets.find(({ name }) => name === "instantid_text")
    const box = widget?.element
    if (!box?.textContent.startsWith(words) || !box.clientHeight || box.scrollHeight > box.clientHeight) return null
    const node = document.querySelector(`[data-node-id="${apply.id}"]`)?.getBoundingClientRect().bottom
        ?? app.canvas.canvas.getBoundingClientRect().top
            + (apply.pos[1] + apply.size[1] + app.canvas.ds.offset[1]) * app.canvas.ds.scale
    return box.getBoundingClientRect().bottom <= node
        && { saved: [...apply.serialize().size], size: [...apply.size], values: apply.serialize().widgets_values }
}"""
REPORT = """(stage) => {
    const report = (app.rootGraph ?? app.graph).nodes.find((node) => node.type === "InstantIDPerformanceReport")
    const box = report.widgets?.find(({ name }) => name === "report_text")?.element
    const whole = box?.clientHeight >= box?.scrollHeight && box?.clientWidth >= box?.scrollWidth
    return whole && box.textContent.includes(stage) && !document.body.innerText.includes("report_text") && box.textContent
}"""
FITS = """() => {
    const report = (app.rootGraph ?? app.graph).nodes.find((node) => node.type === "InstantIDPerformanceReport")
    return report.size[1] < report.computeSize()[1] + 2
}"""
GONE = """() => !apply.widgets.some(({ name }) => ["instantid_text", "$$node-text-preview"].includes(name))
    && [...apply.size]"""


@pytest.fixture
def blank(canvas, tmp_path):
    """Name of a picture without a face in the server's input folder."""
    Image.new("RGB", (64, 64)).save(tmp_path / "blank.png")
    return canvas.client.upload_image(tmp_path / "blank.png")


def workflow(photo):
    """Apply InstantID, which says so where the photo shows no face, and a report. The ids are names."""
    nodes = demo_workflow.build(photo, miniature.ADAPTER, None, None, size=64, steps=1)
    kept = {name: nodes[name] for name in ("checkpoint", "controlnet", "adapter", "analysis", "photo", "positive", "negative")}
    return {
        **kept, "options": demo_workflow.node("InstantIDOptions", face_order="largest", face_index=0, no_face="bypass",
                                              small_faces=False, blocks="as original", block_weights=""),
        "apply": demo_workflow.changed(nodes, "apply", options=["options", 0], end_at=0.5)["apply"],
        "report": demo_workflow.node("InstantIDPerformanceReport", anything=["apply", 0]),
    }


@pytest.mark.parametrize("inside", [False, True], ids=["ids that are names", "open subgraph"])
def test_a_text_is_shown_whole_and_goes_with_its_reason(canvas, photo, blank, inside):
    """A bypass stands on the node until it runs without one; the report shows its table."""
    canvas.evaluate(LOAD, [workflow(blank), inside])
    sizes = []
    for _ in range(2):                  # Nodes 2.0 itself makes room for a badge when a node changes its size first
        canvas.evaluate(RUN, blank)
        shown = canvas.wait_for(SHOWN, "InstantID: Bypassed: this node changes nothing. Reference Image: No face detected.")
        assert canvas.wait_for(REPORT, "Apply InstantID").split()[:2] == ["step", "times"]
        if not sizes:
            canvas.wait_for(FITS)       # no room for lines that were broken in a narrower node
        canvas.evaluate(RUN, photo)
        sizes.append(canvas.wait_for(GONE))
        assert canvas.wait_for(REPORT, "recognise faces")
    assert sizes[0] == sizes[1] == shown["saved"] != shown["size"]
    assert shown["values"] == [0.8, 0.0, 0.5]
    assert canvas.vue or sizes[0][1] == canvas.evaluate("() => apply.computeSize()[1]")
    canvas.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
