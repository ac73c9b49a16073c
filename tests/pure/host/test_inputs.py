"""Constants, NaN and unknown choices that reach a node: a sentence that names the input."""

from types import SimpleNamespace

import pytest
import torch
from instantid_swift.host.inputs import InputError, checked


class Node:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "image": ("IMAGE",), "weight": ("FLOAT", {}), "count": ("INT", {}),
                             "positive": ("CONDITIONING",), "face_embeds": ("FACE_EMBEDS",)},
                "optional": {"mask": ("MASK",), "blocks": (["some", "all"], {}), "block_weights": ("STRING", {}),
                             "control_net": ("CONTROL_NET",), "options": ("INSTANTID_OPTIONS",)}}

    @checked
    def run(self, model=None, image=None, weight=1.0, count=1, positive=None, face_embeds=None, mask=None, blocks="all",
            block_weights="", control_net=None, noise=0.35, options=()):
        return "ran"


GOOD = {"model": SimpleNamespace(model_options={}),
        "image": torch.zeros(1), "weight": 0.5, "count": 2, "positive": [[torch.zeros(1), {}]], "mask": None,
        "face_embeds": dict.fromkeys(("cond", "uncond"), torch.zeros(1, 16, 4)), "blocks": "all", "block_weights": "",
        "control_net": None}


def test_what_a_node_declares_goes_through():
    assert Node().run(**GOOD) == "ran" and Node().run(*list(GOOD.values())[:3]) == "ran"
    assert Node().run(**{**GOOD, "weight": 1, "count": 2.0, "positive": []}) == "ran"


@pytest.mark.parametrize("name, value, found", [
    *[(name, value, "Connect the output of") for name in ("model", "image", "mask", "control_net", "face_embeds", "positive")
      for value in (5, "text", 0.5, True, [1, 2]) if (name, value) != ("image", [1, 2])],
    ("image", [1, 2], "a Python list of 2, .* Batch Images"),
    *[(name, None, "Connect the output of") for name in ("model", "image", "positive")],
    *[(name, value, "Connect the output of") for name in ("model", "control_net", "options") for value in (object(), {})],
    *[("options", value, "Connect the output of InstantID Options") for value in ("text", None)],
    ("face_embeds", {}, "Connect the output of InstantID Patch Attention"),
    ("positive", [[1]], "Connect the output of CLIP Text Encode"),
    *[("weight", value, "The input weight is (nan|inf|-inf). Write a finite number") for value in (
        float("nan"), float("inf"), float("-inf"))],
    ("noise", float("nan"), "The input noise is nan"), ("weight", "0.5", "must be a number, it is '0.5'"),
    ("count", 1.5, "must be a number"), ("blocks", "none", "must be one of 'some', 'all', it is 'none'"),
    ("block_weights", 3, "must be a text, it is 3"), ("blocks", [], "must be one of"),
], ids=str)
def test_what_cannot_be_an_input_is_refused(name, value, found):
    with pytest.raises(InputError, match=f"The input {name} .*" if found is None else found) as error:
        Node().run(**{**GOOD, name: value})
    assert f"The input {name} " in str(error.value)


def test_a_message_quotes_eighty_characters():
    for name in ("image", "block_weights", "blocks"):
        value = 10 ** 1000 if name == "block_weights" else "x" * 1000
        with pytest.raises(InputError) as error:
            Node().run(**{**GOOD, name: value})
        assert len(str(error.value)) < 250
