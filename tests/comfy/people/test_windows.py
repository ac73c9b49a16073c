"""Several people under context windows: a call has some of the frames, and each frame has its own masks."""

import comfy.context_windows as windows
import comfy.patcher_extension
import pytest
import torch
from instantid_swift.people.person import person_of_photos
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_people, people_of

pytestmark = pytest.mark.newest
LEFT, RIGHT = cases.left_half(), 1 - cases.left_half()


def in_windows(model, as_animatediff):
    """The model sampled in overlapping windows of two frames, by ComfyUI alone or with what AnimateDiff tells a model."""
    handler = windows.IndexListContextHandler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.FLAT), context_length=2, context_overlap=1,
        causal_window_fix=not as_animatediff)  # ComfyUI puts the frame before a window in front of it

    def tell(handler, model, x, conds, timestep, model_options, number, window, *rest):
        model_options["transformer_options"]["ad_params"] = {"sub_idxs": window.index_list}
    if as_animatediff:
        comfy.patcher_extension.add_callback(windows.IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS, tell, handler.callbacks)
    model = model.clone()
    model.model_options["context_handler"] = handler
    return model


@pytest.mark.parametrize("as_animatediff", [True, False], ids=["AnimateDiff", "ComfyUI"])
@pytest.mark.parametrize("count", [3, 5], ids=["fewer masks than frames", "more masks than frames"])
def test_windows_have_their_frames_masks(nodes, world, as_animatediff, count):
    """SDXL's frames do not see each other, so that windows change nothing."""
    person = {name: person_of_photos(world.analysis, fx.portrait(name)) for name in "ab"}
    people = people_of(nodes, {"person": person["a"], "mask": torch.cat([LEFT, RIGHT, LEFT, LEFT, RIGHT][:count])},
                       {"person": person["b"], "mask": torch.cat([RIGHT, LEFT, RIGHT, RIGHT, LEFT][:count])})
    model, *conditionings = apply_people(nodes, world, people)
    settings = {"steps": 1, "size": (8, 8), "batch": 4}
    whole = fx.sample(model, *conditionings, **settings)
    frames = fx.sample(in_windows(model, as_animatediff), *conditionings, **settings)
    torch.testing.assert_close(frames, whole, rtol=0, atol=1e-4 * whole.std().item())
