"""Whether a call may be replayed, in words: each reason by itself, and the room that a capture needs."""

from types import SimpleNamespace

import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from instantid_swift.replay import graphs, memory, policy

CPU = torch.device("cpu")


class Quantised(torch.Tensor):
    """As the quantised formats have them: a class of its own."""


def module(change=lambda part: None, device=None):
    """Two layers, of which the inner one is changed."""
    inner = torch.nn.Linear(2, 2, device=device)
    changed = change(inner)
    return torch.nn.Sequential(torch.nn.Sequential(inner if changed is None else changed))


def patcher_of(module, **more):
    patcher = comfy.model_patcher.ModelPatcher(module, CPU, CPU)
    vars(patcher).update(more)
    return patcher


def why_not(module, **more):
    return policy.why_not_module("the model", module, patcher_of(module, **more))


def quantise(part):
    part.weight = torch.nn.Parameter(part.weight.detach().as_subclass(Quantised))


def setting(name, value):
    return lambda part: setattr(part, name, value)


CASTS = "ComfyUI casts or patches the weights of the model while it runs (low VRAM)"
COMPILED = "torch.compile wraps the model, or a part of it"
CHANGED = "another pack has changed how the model is computed"


@pytest.mark.parametrize("change, reason", [
    (lambda part: None, None),
    (quantise, "the model has weights of a kind of their own (quantised)"),
    (torch.compile, COMPILED),
    (lambda part: part.compile(), COMPILED),
    (setting("forward", abs), CHANGED),
    (lambda part: part.register_forward_hook(print) and None, CHANGED),
    (lambda part: part.register_forward_pre_hook(print) and None, CHANGED),
    (setting("prev_comfy_cast_weights", False), CASTS),
    (setting("weight_function", [id]), CASTS),
    (setting("bias_function", [id]), CASTS),
])
def test_parts_of_a_module(change, reason):
    """Other packs compile single blocks, hook or replace them."""
    assert why_not(module(change)) == reason


def test_weights_elsewhere():
    assert why_not(module(device="meta")) == "the weights of the model are not all on the GPU"


def test_hooks_of_comfyui():
    reason = "hooks may change the weights of the model while it runs"
    assert why_not(module(), hook_patches={"a hook": {}}) == why_not(module(), forced_hooks=object()) == reason


def test_machines(cuda, monkeypatch):
    assert policy.why_not_machine({}) is None
    assert policy.why_not_machine({"multigpu_clones": {}}) == "ComfyUI samples on several GPUs at once"
    cuda.allocator = "cudaMallocAsync"
    assert "--disable-cuda-malloc" in policy.why_not_machine({})
    monkeypatch.setattr(policy, "CUDA_MALLOC_ASYNC_IS_PROVED", True)
    assert policy.why_not_machine({}) is None
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert policy.why_not_machine({}) == "the GPU is one of AMD's, on which replay has not been tried"


def test_what_is_not_proved_is_closed():
    assert not policy.CUDA_MALLOC_ASYNC_IS_PROVED and not policy.DYNAMIC_VRAM_IS_PROVED


# ---- room


@pytest.mark.parametrize("free, fits", [(2.5e9 + 7 + 600, True), (2.5e9 + 7 + 599, False)])
def test_room_for_a_capture_and_for_both_passes_at_once(monkeypatch, free, fits):
    """ComfyUI runs the two passes of a step one after the other where 1.5 times what they take is not free. Memory that only
    captures can use is none."""
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: free)
    monkeypatch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 7)
    monkeypatch.setattr(graphs, "idle_bytes", lambda: 600)
    assert (memory.why_no_room(SimpleNamespace(), CPU, 1e9) is None) == fits


# ---- dynamic VRAM, by a stand-in for comfy-aimdo's ModelVBAR


class Range:
    """A model's range of virtual memory: serial numbers of its pages, which change when they have been away."""
    base_addr, offset = 1 << 40, 100 << 20

    def __init__(self):
        self.serials, self.pinned, self.fits = [1, 1, 1, 1], 0, True

    def fault(self, address, size):
        assert (address, size) == (self.base_addr, self.offset)
        if not self.fits:
            return None
        self.pinned += 1
        return memoryview(bytes(self.serials))

    def unpin(self, address, size):
        self.pinned -= 1


class Dynamic(comfy.model_patcher.ModelPatcher):
    def is_dynamic(self):
        return True


@pytest.fixture
def dynamic():
    """(module, its patcher, its range), whose weight is on another device than the GPU, as dynamic VRAM leaves it."""
    part = torch.nn.Linear(2, 2, device="meta")
    part._v = object()
    whole = torch.nn.Sequential(part, torch.nn.LayerNorm(2))
    whole.dynamic_vbars = {CPU: Range()}
    return whole, Dynamic(whole, CPU, CPU), whole.dynamic_vbars[CPU]


def test_dynamic_vram_is_refused_until_it_is_proved(dynamic, monkeypatch):
    whole, patcher, _ = dynamic
    assert "--disable-dynamic-vram" in policy.why_not_module("the model", whole, patcher)
    monkeypatch.setattr(policy, "DYNAMIC_VRAM_IS_PROVED", True)
    assert policy.why_not_module("the model", whole, patcher) is None
    whole[0].__dict__.pop("_v")
    assert policy.why_not_module("the model", whole, patcher) == "the weights of the model are not all on the GPU"


def test_under_dynamic_vram_weights_are_held_for_each_call_and_captures_go_with_their_pages(dynamic, monkeypatch):
    whole, patcher, pages = dynamic
    monkeypatch.setattr(policy, "DYNAMIC_VRAM_IS_PROVED", True)
    monkeypatch.setattr(memory, "why_no_room", lambda *args: None)
    sampling, said = policy.Sampling({}), []
    monkeypatch.setattr(sampling, "tell", said.append)
    assert sampling.why_not("the model", whole, patcher) is None

    def function(changing, fixed):
        assert pages.pinned == 1
        return changing[0] + 1

    def captured_after_a_call(number):
        x = torch.full((2,), float(number))
        assert torch.equal(memory.run_accounted(sampling, whole, patcher, function, (x,), (), (), CPU), x + 1)
        assert pages.pinned == 0
        return graphs.replays_of(whole).captured
    assert [captured_after_a_call(number) for number in range(3)] == [0, 1, 1]
    pages.serials[2] += 1
    assert [captured_after_a_call(number) for number in range(3)] == [1, 2, 2]
    pages.fits = False
    monkeypatch.setattr(pages, "pinned", 0)
    x = torch.ones(2)
    assert memory.run_accounted(sampling, whole, patcher, lambda changing, fixed: changing[0], (x,), (), (), CPU) is x
    assert said == ["the weights do not fit into the GPU's memory all at once"]
    graphs.drop_now()


def test_a_call_that_fails_leaves_no_page_pinned(dynamic):
    _, patcher, pages = dynamic
    with pytest.raises(KeyError), memory.weights_held(patcher):
        raise KeyError
    assert pages.pinned == 0
