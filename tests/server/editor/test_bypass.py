"""Nodes bypassed with Ctrl+B in the graph editor: what of the workflow is sent to the server."""

import pytest
from serving import miniature
from serving.demo_workflow import node

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


def workflows():
    """Of each kind of node that passes conditioning on: a workflow with one before the sampler."""
    links = {"control_net": ["2", 0], "positive": ["5", 0], "negative": ["6", 0]}
    photos = {"instantid": ["3", 0], "insightface": ["4", 0], "image": ["7", 0], "model": ["1", 0]}
    people = {"instantid": ["3", 0], "person": ["8", 0], "people": ["9", 0], "model": ["1", 0]}
    part = {"start_at": 0.0, "end_at": 1.0}
    strengths = {"ip_weight": 0.8, "cn_strength": 0.8, **part, "noise": 0.0, "combine_embeds": "average"}

    def with_node(kind, first=1, **inputs):
        """first: the place of `positive` among the outputs."""
        return {
            "1": node("InstantIDDemoCheckpoint"), "2": node("InstantIDDemoControlNet"),
            "3": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER),
            "4": node("InstantIDFaceAnalysis", provider="CPU"),
            "5": node("CLIPTextEncode", clip=["1", 1], text="a portrait"),
            "6": node("CLIPTextEncode", clip=["1", 1], text="blurry"),
            "7": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
            "8": node("InstantIDPerson", insightface=["4", 0], image=["7", 0]),
            "9": node("InstantIDPeople", person=["8", 0], ip_weight=0.8, cn_strength=0.8, **part),
            "10": node(kind, **links, **inputs),
            "11": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "12": node("KSampler", model=["10", 0] if first else ["1", 0], positive=["10", first], negative=["10", first + 1],
                       latent_image=["11", 0], seed=1, steps=1, cfg=4.5, sampler_name="euler", scheduler="normal", denoise=1.0),
            "13": node("VAEDecode", samples=["12", 0], vae=["1", 2]),
            "14": node("PreviewImage", images=["13", 0]),
        }
    return {
        "ApplyInstantID": with_node("ApplyInstantID", **photos, weight=0.8, **part),
        "ApplyInstantIDAdvanced": with_node("ApplyInstantIDAdvanced", **photos, **strengths),
        "ApplyInstantIDControlNet": with_node("ApplyInstantIDControlNet", first=0, **part, image_kps=["7", 0], strength=1.0),
        "ApplyInstantIDPerson": with_node("ApplyInstantIDPerson", **people, **strengths),
        "ApplyInstantIDPeople": with_node("ApplyInstantIDPeople", **people, noise=0.0, width=64, height=64),
    }


def test_a_bypassed_node_hands_on_each_prompt_to_its_own_side(canvas):
    for kind, nodes in workflows().items():
        prompt, saved, shown = canvas.evaluate(BYPASS, [nodes, kind])
        sampler = prompt["12"]["inputs"]
        assert [sampler[name] for name in ("model", "positive", "negative")] == [["1", 0], ["5", 0], ["6", 0]], kind
        assert "10" not in prompt, kind
        assert saved == shown == BYPASSED, kind
