"""Several people under context windows: a call has some of the frames."""

import comfy.context_windows as windows
import comfy.patcher_extension
import pytest
import torch
from control_nets import Calls, counted
from instantid_swift import faces
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
def test_masks_that_differ_among_the_latents_are_refused_under_context_windows(nodes, world, as_animatediff):
    """One mask for each person works: SDXL's frames do not see each other, so that windows change nothing."""
    person = {name: person_of_photos(faces.Photos(world.analysis, fx.portrait(name))) for name in "ab"}
    settings = {"steps": 1, "size": (8, 8), "batch": 4}

    def applied(left, right):
        people = people_of(nodes, {"person": person["a"], "mask": left}, {"person": person["b"], "mask": right})
        model, *conditionings = apply_people(nodes, world, people)
        return model, in_windows(model, as_animatediff), conditionings
    model, windowed, conditionings = applied(torch.cat([LEFT, RIGHT]), torch.cat([RIGHT, LEFT]))
    with counted(world.net) as calls, pytest.raises(ValueError, match="which does not work with context windows"):
        fx.sample(windowed, *conditionings, **settings)
    assert calls() == Calls(0, 0, 0), "before anything is computed"
    assert fx.sample(model, *conditionings, **settings).isfinite().all()
    model, windowed, conditionings = applied(LEFT, RIGHT)
    whole, frames = (fx.sample(one, *conditionings, **settings) for one in (model, windowed))
    torch.testing.assert_close(frames, whole, rtol=0, atol=1e-4 * whole.std().item())
