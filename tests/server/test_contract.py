"""What saved workflows depend on, as the real server announces it: ids, names, order, defaults, outputs."""

import pytest


def slider(default, most, step=0.01, least=0.0):
    return {"default": default, "min": least, "max": most, "step": step}


NOISE = ("noise", slider(0.0, 1.0, 0.05))     # the original's step is 0.1
WINDOW = [("start_at", slider(0.0, 1.0, 0.001)), ("end_at", slider(1.0, 1.0, 0.001))]
APPLY = [("instantid", "INSTANTID"), ("insightface", "FACEANALYSIS"), ("control_net", "CONTROL_NET"), ("image", "IMAGE"),
         ("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING")]
OPTIONS = ("options", "INSTANTID_OPTIONS")
# id: (display name, required inputs, optional inputs, output types, output names); of the optional ones OPTIONS is ours
NODES = {
    "InstantIDModelLoader": ("Load InstantID Model", [("instantid_file", list)], [], ["INSTANTID"], ["INSTANTID"]),
    "InstantIDFaceAnalysis": ("InstantID Face Analysis", [("provider", list)], [], ["FACEANALYSIS"], ["FACEANALYSIS"]),
    "FaceKeypointsPreprocessor": ("Face Keypoints Preprocessor", [("faceanalysis", "FACEANALYSIS"), ("image", "IMAGE")],
                                  [OPTIONS], ["IMAGE"], ["IMAGE"]),
    "ApplyInstantID": ("Apply InstantID", [*APPLY, ("weight", slider(0.8, 5.0)), *WINDOW],
                       [("image_kps", "IMAGE,KEYPOINTS"), ("mask", "MASK"), OPTIONS],
                       ["MODEL", "CONDITIONING", "CONDITIONING"], ["MODEL", "positive", "negative"]),
    "ApplyInstantIDAdvanced": (
        "Apply InstantID Advanced",
        [*APPLY, ("ip_weight", slider(0.8, 3.0)), ("cn_strength", slider(0.8, 10.0)), *WINDOW, NOISE, ("combine_embeds", list)],
        [("image_kps", "IMAGE,KEYPOINTS"), ("mask", "MASK"), OPTIONS],
        ["MODEL", "CONDITIONING", "CONDITIONING"], ["MODEL", "positive", "negative"]),
    "InstantIDAttentionPatch": (
        "InstantID Patch Attention",
        [("instantid", "INSTANTID"), ("insightface", "FACEANALYSIS"), ("image", "IMAGE"), ("model", "MODEL"),
         ("weight", slider(1.0, 3.0, least=-1.0)), *WINDOW, NOISE], [("mask", "MASK"), OPTIONS],
        ["MODEL", "FACE_EMBEDS"], ["MODEL", "FACE_EMBEDS"]),
    "ApplyInstantIDControlNet": (
        "InstantID Apply ControlNet",
        [("face_embeds", "FACE_EMBEDS"), ("control_net", "CONTROL_NET"), ("image_kps", "IMAGE,KEYPOINTS"),
         ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("strength", slider(1.0, 10.0)), *WINDOW],
        [("mask", "MASK")], ["CONDITIONING", "CONDITIONING"], ["positive", "negative"]),
}
# how drop-downs begin
CHOICES = {"InstantIDFaceAnalysis": {"provider": ["CPU", "CUDA", "ROCM", "CoreML"]},
           "ApplyInstantIDAdvanced": {"combine_embeds": ["average", "norm average", "concat"]}}


@pytest.fixture(scope="module")
def info(client):
    return client.object_info()


def same(announced, wanted):
    """Whether a described input is the wanted type, slider or drop-down."""
    kind, options = announced[0], announced[1] if len(announced) > 1 else {}
    if wanted is list:
        return isinstance(kind, list)
    if isinstance(wanted, str):
        return kind == wanted
    return kind == "FLOAT" and {key: options[key] for key in wanted} == wanted


@pytest.mark.parametrize("node", NODES)
def test_node(info, node):
    name, required, optional, types, names = NODES[node]
    found = info[node]
    assert found["display_name"] == name and found["category"] == "InstantID"
    assert found["output"] == types and found["output_name"] == names
    assert found["output_is_list"] == [False] * len(types)
    # workflows store values by position: the original's inputs come first, in its order, and no widget of ours follows
    assert found["input_order"]["required"] == [key for key, _ in required]
    assert found["input_order"].get("optional", []) == [key for key, _ in optional]
    inputs = {**found["input"]["required"], **found["input"].get("optional", {})}
    for key, wanted in [*required, *optional]:
        assert same(inputs[key], wanted), key
    for key, wanted in CHOICES.get(node, {}).items():
        choices, options = inputs[key][:2]
        assert choices[:len(wanted)] == wanted and options.get("default", choices[0]) == wanted[0]
