"""torch.compile: ComfyUI's TorchCompileModel node after Apply.

Attention is PyTorch's, as on a GPU: what ComfyUI chooses on a CPU asks for the free memory and breaks graphs by itself.
"""

import comfy.ldm.modules.attention as comfy_attention
import comfy_extras.nodes_torch_compile as compile_node
import pytest
import torch
import torch._dynamo
from oracle import cases
from oracle import fixtures as fx


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch):
    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(comfy_attention, name, comfy_attention.attention_pytorch)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Graphs:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs, **options):
        self.count += 1
        return graph.forward


@pytest.fixture
def run(monkeypatch, world):
    """run(model, **sampling) -> (latents through ComfyUI's compile node, graphs made for it)."""
    graphs = Graphs()
    original = compile_node.set_torch_compile_wrapper
    monkeypatch.setattr(compile_node, "set_torch_compile_wrapper",
                        lambda model, backend, **more: original(model=model, backend=graphs, **more))

    def run(model, **sampling):
        node = compile_node.TorchCompileModel
        compiled = (node.execute(model, "inductor")[0] if hasattr(node, "execute") else node().patch(model, "inductor")[0])
        before = graphs.count
        settings = {"steps": 1, "size": (8, 8), **sampling}
        out = fx.sample(compiled, world.positive, world.negative, **settings)
        expected = fx.sample(model, world.positive, world.negative, **settings)
        assert (out - expected).abs().max() <= 1e-4 * expected.std()
        return graphs.count - before
    return run


@pytest.fixture(scope="module")
def tiny():
    """A UNet with cross-attention at input blocks 4 and 5 alone: each block takes a second to compile."""
    return fx.mini_sdxl(shape={
        **fx.SDXL_MINI, "num_res_blocks": [2, 2], "channel_mult": [1, 2], "transformer_depth": [0, 0, 1, 1],
        "transformer_depth_output": [0] * 6, "transformer_depth_middle": -1})


def test_under_comfyuis_compile_node(nodes, world, tiny, run):
    """Each line also compares with the same model uncompiled.

    Since 2026 ComfyUI compiles without guards on patches: what one set of patches was compiled for is then used for others.
    """
    plain = run(tiny)
    patched = cases.patch(nodes, world, model=tiny)[0]
    assert run(patched) == plain == 1
    other = cases.patch(nodes, world, model=tiny, image=fx.portrait("b"), weight=0.3, noise=0.2)[0]
    assert run(other, seed=9) == 0, "another identity, weight and seed"
    window = cases.patch(nodes, world, model=tiny, weight=0.3, start_at=0.4)[0]
    assert run(window, steps=2) == 1, "closed, then open as before"
    assert run(cases.patch(nodes, world, model=other)[0]) == 1, "a second identity"
    assert run(tiny) == run(patched) == 0, "back to what is compiled already"


@pytest.mark.newest
def test_a_block_that_another_pack_has_compiled_is_not_compiled_again_for_another_weight(nodes, world):
    """Such packs compile blocks by themselves: ComfyUI's own wrapper is not there to be seen."""
    graphs, model = Graphs(), world.model.clone()
    block = model.model.diffusion_model.input_blocks[4][1].transformer_blocks[0]
    compiled = torch.compile(block, backend=graphs)
    model.add_object_patch("diffusion_model.input_blocks.4.1.transformer_blocks.0", compiled)
    counts = []
    for weight in (0.3, 0.4, 0.5):
        patched = cases.patch(nodes, world, model=model, weight=weight)[0]
        fx.sample(patched, world.positive, world.negative, steps=1, size=(8, 8))
        counts.append(graphs.count)
    assert counts[0] and set(counts) == {counts[0]}
