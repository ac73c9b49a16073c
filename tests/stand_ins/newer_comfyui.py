"""What ComfyUI beyond 0.30.0 does in a sampling: hints in a dictionary, and a compiler that records allocations."""

import contextlib
import sys
import types

import comfy.controlnet
import comfy.model_base
import comfy.model_management
import comfy.utils


def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
    """ControlNet.get_control with a hint for each size of the latents in cond_hints; cond_hint stays None.

    With several hints the hint of a batch is another tensor at each call. Without what IdentityNet does not have: a VAE, a
    latent format, further channels.
    """
    previous = self.previous_controlnet
    control = previous and previous.get_control(x_noisy, t, cond, batched_number, transformer_options)
    if self.timestep_range is not None and not self.timestep_range[1] <= t[0] <= self.timestep_range[0]:
        return control
    dtype = self.manual_cast_dtype or self.control_model.dtype
    hints, size = self.__dict__.setdefault("cond_hints", {}), tuple(x_noisy.shape[2:])
    if size not in hints:
        height, width = (side * self.compression_ratio for side in size)
        hint = comfy.utils.common_upscale(self.cond_hint_original, width, height, self.upscale_algorithm, "center")
        hints[size] = self.preprocess_image(hint).to(device=x_noisy.device, dtype=dtype)
    hint = hints[size]
    if len(x_noisy) != len(hint):
        hint = comfy.controlnet.broadcast_image_to(hint, len(x_noisy), batched_number)
    extra = {**self.extra_args, **{name: comfy.model_base.convert_tensor(cond[name], dtype, x_noisy.device)
                                   for name in self.extra_conds if cond.get(name) is not None}}
    timesteps = self.model_sampling_current.timestep(t).to(dtype)
    x_noisy = self.model_sampling_current.calculate_input(t, x_noisy).to(dtype)
    context = cond.get("crossattn_controlnet", cond["c_crossattn"])
    residuals = self.control_model(x=x_noisy, hint=hint, timesteps=timesteps, **extra, context=(
        comfy.model_management.cast_to_device(context, x_noisy.device, dtype)))
    return self.control_merge(residuals, control, output_dtype=None)


def with_hints_in_a_dictionary(monkeypatch):
    """Makes ComfyUI's ControlNets keep their hints in a dictionary."""
    cleanup = comfy.controlnet.ControlNet.cleanup

    def with_hints(self):
        cleanup(self)
        self.__dict__.get("cond_hints", {}).clear()
    monkeypatch.setattr(comfy.controlnet.ControlNet, "get_control", get_control)
    monkeypatch.setattr(comfy.controlnet.ControlNet, "cleanup", with_hints)


def with_compiler(monkeypatch):
    """A list that tells whether the compiler's recording is paused, and how often it was: [paused, times]."""
    state = [False, 0]

    @contextlib.contextmanager
    def pause_malloc_graph():
        assert not state[0], "a pause inside of a pause would end both"
        state[:] = True, state[1] + 1
        try:
            yield
        finally:
            state[0] = False
    monkeypatch.setitem(sys.modules, "comfy.model_prefetch",
                        types.SimpleNamespace(pause_malloc_graph=pause_malloc_graph))
    return state
