"""An identity made by an adapter whose weights lie on the host: what it takes on the device, and that its bits are the same."""

import comfy.model_management
import pytest
import torch
from instantid_swift.identity.adapter import AdapterNetwork
from oracle import fixtures as fx
from stand_ins.traffic import simulated_device

pytestmark = pytest.mark.newest
MOST_BYTES = 100_000_000


def embeddings(count=1):
    generator = torch.Generator().manual_seed(5)
    return 20 * torch.randn(count, 1, 512, generator=generator), torch.rand(count, 1, 512, generator=generator)


@pytest.mark.parametrize("dtype, count", [(torch.float32, 2), (torch.float16, 1), (torch.bfloat16, 1)])
def test_an_identity_has_the_bits_of_the_module_on_the_device(world, dtype, count):
    """Each embedding by itself, all weights cast beforehand."""
    weights = world.instantid.module.state_dict()
    module = AdapterNetwork.from_state_dict({name: weight.to(dtype) for name, weight in weights.items()})
    passes = [embedding.to(dtype) for embedding in embeddings(count)]
    with torch.no_grad():
        cond, uncond = (module.image_proj(embedding) for embedding in passes)
        keys, values = ([torch.stack([layer(tokens).flatten(0, 1) for tokens in (uncond, cond)]) for layer in layers]
                        for layers in (module.to_k, module.to_v))
    identity = world.instantid.identity(*embeddings(count), dtype)
    assert torch.equal(identity.cond, cond) and torch.equal(identity.uncond, uncond) and identity.cond.dtype == dtype
    assert all(map(torch.equal, identity.keys, keys)) and all(map(torch.equal, identity.values, values))


@pytest.fixture(scope="module")
def full_size():
    """An adapter of the real file's shapes, 1.69 GB in float32. Its weights are zeros, which take no memory before they are
    written."""
    with torch.device("meta"):
        state_dict = AdapterNetwork([width * 320 for width in fx.BLOCK_WIDTHS]).state_dict()
    return AdapterNetwork.from_state_dict({name: torch.zeros(weight.shape) for name, weight in state_dict.items()})


def test_a_real_adapter_takes_less_than_100_mb_of_the_device_and_loads_nothing(full_size):
    dtype = torch.bfloat16  # as wide as float16, and CPUs compute in it
    with simulated_device() as (device, watch):
        loaded = list(comfy.model_management.current_loaded_models)
        inputs = [embedding.to(device, dtype) for embedding in embeddings()]
        with watch.count(lambda tensor: "weights") as traffic:
            identity = full_size(*inputs)
        assert comfy.model_management.current_loaded_models == loaded
    assert 20_000_000 < traffic.most_bytes < MOST_BYTES
    # each weight crosses once, in the dtype it is used in
    weights = sum(weight.numel() for name, weight in full_size.named_parameters() if not name.endswith("latents"))
    assert traffic.counts["bytes", "to the device", "weights"] == dtype.itemsize * (weights + 16 * 1280 * 2)
    assert identity.keys[0].device.type == "cpu"
