"""What saved workflows depend on, as the real server announces it: ids, names, order, defaults, outputs."""

import pytest

WEIGHT = {"default": 0.8, "min": 0.0, "max": 5.0, "step": 0.01}
IP_WEIGHT = {"default": 0.8, "min": 0.0, "max": 3.0, "step": 0.01}
CN_STRENGTH = {"default": 0.8, "min": 0.0, "max": 10.0, "step": 0.01}
PATCH_WEIGHT = {"default": 1.0, "min": -1.0, "max": 3.0, "step": 0.01}
STRENGTH = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01}
START = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.001}
END = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.001}
NOISE = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.1}

APPLY = [("instantid", "INSTANTID"), ("insightface", "FACEANALYSIS"), ("control_net", "CONTROL_NET"), ("image", "IMAGE"),
         ("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING")]
WINDOW = [("start_at", START), ("end_at", END)]

OPTIONS = ("options", "INSTANTID_OPTIONS")
# id: (display name, required inputs, optional inputs, output types, output names); of the optional ones OPTIONS is ours
NODES = {
    "InstantIDModelLoader": ("Load InstantID Model", [("instantid_file", list)], [], ["INSTANTID"], ["INSTANTID"]),
    "InstantIDFaceAnalysis": ("InstantID Face Analysis", [("provider", list)], [], ["FACEANALYSIS"], ["FACEANALYSIS"]),
    "FaceKeypointsPreprocessor": ("Face Keypoints Preprocessor", [("faceanalysis", "FACEANALYSIS"), ("image", "IMAGE")],
                                  [OPTIONS], ["IMAGE"], ["IMAGE"]),
    "ApplyInstantID": ("Apply InstantID", [*APPLY, ("weight", WEIGHT), *WINDOW],
                       [("image_kps", "IMAGE"), ("mask", "MASK"), OPTIONS],
                       ["MODEL", "CONDITIONING", "CONDITIONING"], ["MODEL", "positive", "negative"]),
    "ApplyInstantIDAdvanced": (
        "Apply InstantID Advanced",
        [*APPLY, ("ip_weight", IP_WEIGHT), ("cn_strength", CN_STRENGTH), *WINDOW, ("noise", NOISE), ("combine_embeds", list)],
        [("image_kps", "IMAGE"), ("mask", "MASK"), OPTIONS],
        ["MODEL", "CONDITIONING", "CONDITIONING"], ["MODEL", "positive", "negative"]),
    "InstantIDAttentionPatch": (
        "InstantID Patch Attention",
        [("instantid", "INSTANTID"), ("insightface", "FACEANALYSIS"), ("image", "IMAGE"), ("model", "MODEL"),
         ("weight", PATCH_WEIGHT), *WINDOW, ("noise", NOISE)], [("mask", "MASK"), OPTIONS],
        ["MODEL", "FACE_EMBEDS"], ["MODEL", "FACE_EMBEDS"]),
    "ApplyInstantIDControlNet": (
        "InstantID Apply ControlNet",
        [("face_embeds", "FACE_EMBEDS"), ("control_net", "CONTROL_NET"), ("image_kps", "IMAGE"), ("positive", "CONDITIONING"),
         ("negative", "CONDITIONING"), ("strength", STRENGTH), *WINDOW], [("mask", "MASK")],
        ["CONDITIONING", "CONDITIONING"], ["positive", "negative"]),
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
