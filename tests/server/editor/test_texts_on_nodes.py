"""What a node says of itself in the graph editor: shown whole, and gone when there is no more reason for it."""

import pytest
from chromium import ON_EVERY_EDITOR
from PIL import Image
from serving import miniature
from serving.demo_workflow import node

pytestmark = ON_EVERY_EDITOR

LOAD = """async ([workflow, inside]) => {
    await app.loadApiJson(workflow, "test")
    let apply = app.graph.nodes.find((node) => node.type === "ApplyInstantID")
    if (inside) {
        const { subgraph, node } = app.graph.convertToSubgraph(new Set([apply]))
        app.canvas.openSubgraph(subgraph, node)
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
GONE = """() => !apply.widgets.some(({ name }) => ["instantid_text", "$$node-text-preview"].includes(name))
    && [...apply.size]"""


@pytest.fixture(scope="module")
def blank(client, tmp_path_factory):
    """Name of a picture without a face in the server's input folder."""
    path = tmp_path_factory.mktemp("blank") / "blank.png"
    Image.new("RGB", (64, 64)).save(path)
    return client.upload_image(path)


@pytest.fixture(scope="module")
def workflow(blank):
    """Apply InstantID, which says so where the photo shows no face. The ids are names."""
    return {
        "checkpoint": node("InstantIDDemoCheckpoint"), "net": node("InstantIDDemoControlNet"),
        "adapter": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER),
        "analysis": node("InstantIDFaceAnalysis", provider="CPU"),
        "photo": node("LoadImage", image=blank),
        "prompt": node("CLIPTextEncode", clip=["checkpoint", 1], text="a portrait"),
        "options": node("InstantIDOptions", face_order="largest", face_index=0, no_face="bypass", small_faces=False,
                        blocks="as original", block_weights=""),
        "apply": node("ApplyInstantID", instantid=["adapter", 0], insightface=["analysis", 0], control_net=["net", 0],
                      image=["photo", 0], model=["checkpoint", 0], positive=["prompt", 0], negative=["prompt", 0], weight=0.8,
                      start_at=0.0, end_at=0.5, options=["options", 0]),
        "report": node("InstantIDPerformanceReport", anything=["apply", 0]),
    }


@pytest.mark.parametrize("vue", [False, True], ids=["classic canvas", "Nodes 2.0"])
@pytest.mark.parametrize("inside", [False, True], ids=["ids that are names", "open subgraph"])
def test_a_text_is_shown_whole_and_goes_with_its_reason(client, editor, workflow, photo, blank, vue, inside):
    editor.open(client, **{"Comfy.VueNodes.Enabled": vue})
    try:
        editor.evaluate(LOAD, [workflow, inside])
        sizes = []
        for _ in range(2):                  # Nodes 2.0 itself makes room for a badge when a node changes its size first
            editor.evaluate(RUN, blank)
            shown = editor.wait_for(SHOWN, "InstantID: Bypassed: this node changes nothing.")
            editor.evaluate(RUN, photo)
            sizes.append(editor.wait_for(GONE))
        assert sizes[0] == sizes[1] == shown["saved"] != shown["size"]
        assert shown["values"] == [0.8, 0.0, 0.5]
        assert vue or sizes[0][1] == editor.evaluate("() => apply.computeSize()[1]")
    finally:
        client.post("/settings/Comfy.VueNodes.Enabled", False)
