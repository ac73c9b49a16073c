"""Nodes bypassed with Ctrl+B in the graph editor: what of the workflow is sent to the server."""

import pytest
from serving import miniature
from serving.demo_workflow import build, changed, node

pytestmark = pytest.mark.newest

# Bypasses the nodes of a type as Ctrl+B does, and gives the prompt, the mode in the saved workflow and that in the editor.
BYPASS = """async ([workflow, type]) => {
    await app.loadApiJson(workflow, "test")
    const chosen = app.graph.nodes.find((node) => node.type === type)
    app.canvas.selectNode(chosen)
    await app.extensionManager.command.execute("Comfy.Canvas.ToggleSelectedNodes.Bypass")
    const { output, workflow: saved } = await app.graphToPrompt()
    return [output, saved.nodes.find((node) => node.type === type).mode, chosen.mode]
}"""
BYPASSED = 4


def workflows(photo):
    """Of each kind of node that passes conditioning on: a workflow with one before the sampler."""
    nodes = build(photo, miniature.ADAPTER, None, None, size=64, steps=1)
    for name in ("numbered", "save_faces", "keypoints", "save_keypoints"):
        del nodes[name]
    of_apply = nodes["apply"]["inputs"]
    links = {name: of_apply[name] for name in ("control_net", "positive", "negative")}
    photos = {name: of_apply[name] for name in ("instantid", "insightface", "image", "model")}
    people = {"instantid": ["adapter", 0], "person": ["person", 0], "people": ["people", 0], "model": ["checkpoint", 0]}
    part = {"start_at": 0.0, "end_at": 1.0}
    strengths = {"ip_weight": 0.8, "cn_strength": 0.8, **part, "noise": 0.0, "combine_embeds": "average"}
    nodes |= {"person": node("InstantIDPerson", insightface=["analysis", 0], image=["photo", 0]),
              "people": node("InstantIDPeople", person=["person", 0], ip_weight=0.8, cn_strength=0.8, **part)}
    without_model = changed(nodes, "sample", model=["checkpoint", 0], positive=["apply", 0], negative=["apply", 1])
    return {kind: {**others, "apply": node(kind, **links, **inputs)} for kind, others, inputs in (
        ("ApplyInstantID", nodes, {**photos, "weight": 0.8, **part}),
        ("ApplyInstantIDAdvanced", nodes, {**photos, **strengths}),
        ("ApplyInstantIDControlNet", without_model, {"image_kps": ["photo", 0], "strength": 1.0, **part}),
        ("ApplyInstantIDPerson", nodes, {**people, **strengths}),
        ("ApplyInstantIDPeople", nodes, {**people, "noise": 0.0, "width": 64, "height": 64}))}


def test_a_bypassed_node_hands_on_each_prompt_to_its_own_side(canvas, photo):
    for kind, nodes in workflows(photo).items():
        prompt, saved, shown = canvas.evaluate(BYPASS, [nodes, kind])
        links = {name: prompt["sample"]["inputs"][name] for name in ("model", "positive", "negative")}
        assert links == {"model": ["checkpoint", 0], "positive": ["positive", 0], "negative": ["negative", 0]}, kind
        assert "apply" not in prompt and saved == shown == BYPASSED, kind


def test_a_bypassed_refine_faces_hands_on_the_picture(canvas, photo):
    nodes = build(photo, miniature.ADAPTER, None, None, size=64, steps=1)
    names = "instantid", "insightface", "control_net", "positive", "negative"
    links = {name: nodes["apply"]["inputs"][name] for name in names}
    workflow = {
        **{name: nodes[name] for name in ("checkpoint", "controlnet", "adapter", "analysis", "photo", "positive", "negative")},
        "person": node("InstantIDPerson", insightface=["analysis", 0], image=["photo", 0]),
        "refine": node("InstantIDRefineFaces", image=["photo", 0], model=["checkpoint", 0], vae=["checkpoint", 2],
                       person=["person", 0], **links),
        "preview": node("PreviewImage", images=["refine", 0])}
    prompt, saved, shown = canvas.evaluate(BYPASS, [workflow, "InstantIDRefineFaces"])
    assert prompt["preview"]["inputs"]["images"] == ["photo", 0] and "refine" not in prompt
    assert saved == shown == BYPASSED
