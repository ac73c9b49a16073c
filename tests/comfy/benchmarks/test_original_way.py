"""The benchmarks' stand-in for the original pack gives the pictures that ours gives, by the original's way."""

import folder_paths
import pytest
import torch
from oracle import cases
from oracle import fixtures as fx
from oracle.cases import World

from benchmarks import original_way

pytestmark = pytest.mark.newest


@pytest.fixture(scope="module")
def theirs(world, adapter_path):
    """The same workflow, its adapter loaded by the stand-in."""
    folder_paths.add_model_folder_path("instantid", str(adapter_path.parent))
    adapter, = cases.call(original_way.NODE_CLASS_MAPPINGS, "InstantIDModelLoader", instantid_file=adapter_path.name)
    return World(**{**vars(world), "instantid": adapter})


@pytest.mark.parametrize("node, over, sampling", [
    (cases.apply, {"start_at": 0.2, "end_at": 0.7}, {"steps": 4}),
    (cases.apply, {"image": fx.photo(), "image_kps": fx.portrait("b"), "mask": cases.left_half(40, 96)},
     {"size": (8, 20), "batch": 2}),
    (cases.advanced, {"noise": 0.2, "ip_weight": 1.1, "cn_strength": 0.3}, {"cfg": 1.0}),
])
def test_latents_are_equal_bit_for_bit(nodes, world, theirs, node, over, sampling):
    with torch.inference_mode():
        a, b = (fx.sample(*node(classes, w, **over), **{"steps": 1, "size": (8, 8), **sampling})
                for classes, w in ((nodes, world), (original_way.NODE_CLASS_MAPPINGS, theirs)))
    assert torch.equal(a, b)
