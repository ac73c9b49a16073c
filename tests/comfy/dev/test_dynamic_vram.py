"""`python dev/gpu.py` where there is no dynamic VRAM: an older ComfyUI, or no GPU. It is not tried, and nothing fails."""

from gpu_stages.worlds import start_dynamic_vram


def test_without_it_nothing_is_started():
    import comfy.model_patcher
    before = getattr(comfy.model_patcher, "CoreModelPatcher", None)
    assert not start_dynamic_vram()
    assert getattr(comfy.model_patcher, "CoreModelPatcher", None) is before
