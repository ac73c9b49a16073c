"""The UNet's call replayed as a CUDA graph: when that is possible, and the wrappers that do it.

Whatever a graph would freeze although it may differ from call to call (another pack's patches, hooks, weights that come and
go) has the ordinary call run, and a line in the log say why.
"""

import weakref
from typing import NamedTuple

from . import graph_replay
from .CrossAttentionPatch import KEY, REPLAY_KEY, AttentionPatch, install_wrappers
from .identity_terms import ForeignTerm

# what ComfyUI itself puts into transformer_options, and we
KNOWN_OPTIONS = {"cond_or_uncond", "uuids", "sigmas", "sample_sigmas", "wrappers", "callbacks", "patches", "patches_replace",
                 "prefetch_dynamic_vbars", "total_sigmas", "original_shape", "transformer_index", KEY}

_of_model = weakref.WeakKeyDictionary()  # ComfyUI's BaseModel, which clones share: Replays


class Settings(NamedTuple):
    """In transformer_options under REPLAY_KEY: that calls are to be replayed."""
    trust_others: bool = False  # other packs' patches are captured, too: right only where they do the same at each step

    def for_call(self, options, call, model):
        """transformer_options for a UNet call (`UNetCall`) of a BaseModel: with what the wrapper needs, or without it."""
        if call.replayed:
            return {**options, REPLAY_KEY: Call(self, call.kept, model)}
        graph_replay.say_why_not("torch.compile wraps the model")
        return {**options, "wrappers": {kind: {key: of for key, of in wrappers.items() if key != REPLAY_KEY}
                                        for kind, wrappers in options["wrappers"].items()}}


class Call(NamedTuple):
    """The same, handed on to the wrapper."""
    settings: Settings
    kept: object   # RecentCache of the sampling
    model: object  # ComfyUI's BaseModel


def with_replay(model, trust_others=False):
    """A clone of a model (ComfyUI's ModelPatcher) whose UNet calls are replayed where that is possible."""
    from comfy.patcher_extension import CallbacksMP, WrappersMP
    model = model.clone()
    install_wrappers(model)
    model.model_options["transformer_options"][REPLAY_KEY] = Settings(trust_others)
    for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, drop_on_exception), (WrappersMP.DIFFUSION_MODEL, replay_call)):
        model.remove_wrappers_with_key(kind, REPLAY_KEY)
        model.add_wrapper_with_key(kind, REPLAY_KEY, wrapper)
    model.remove_callbacks_with_key(CallbacksMP.ON_DETACH, REPLAY_KEY)
    model.add_callback_with_key(CallbacksMP.ON_DETACH, REPLAY_KEY, drop_with_weights)
    return model


def drop_on_exception(executor, *args, **kwargs):
    """ComfyUI wrapper around a sampling: after an error or an interruption nothing half-made stays."""
    try:
        return executor(*args, **kwargs)
    except BaseException:
        graph_replay.drop_all()
        raise


def drop_with_weights(patcher, unpatch_all):
    """ComfyUI callback: the model leaves the GPU, and its captures with it."""
    if unpatch_all and patcher.model in _of_model:
        _of_model.pop(patcher.model).drop()


def replay_call(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """ComfyUI wrapper around the UNet."""
    options = dict(transformer_options or {})
    call = options.pop(REPLAY_KEY, None)
    replays, reason = None, "the UNet was not called through ComfyUI's sampling"
    if isinstance(call, Call):
        replays, reason = call.kept.get_or_make((REPLAY_KEY, id(call.model)), lambda: replays_of(call.model))
        reason = reason or why_not_options(options, call.settings.trust_others)
    if reason is not None:
        graph_replay.say_why_not(reason)
        return executor(x, timesteps, context, y, control, options, **kwargs)

    def run(changing, steps):
        *given, others = changing
        return executor(*given, {**options, KEY: steps}, **others)

    return replays.run(run, (x, timesteps, context, y, control, kwargs), options.get(KEY), tuple(options["cond_or_uncond"]),
                       lambda: graph_replay.why_no_room(x.device, call.model.memory_required(list(x.shape))))


def replays_of(model):
    """(the Replays of a BaseModel, None), or (None, why it has none): decided once in a sampling."""
    unet, patcher = model.diffusion_model, getattr(model, "current_patcher", None)
    reason = graph_replay.why_not_module(unet, graph_replay.graphs.device_type, patcher)
    if reason is None and patcher is not None and (patcher.hook_patches or patcher.forced_hooks):
        reason = "hooks may change the model's weights while it runs"
    if reason is not None:
        return None, reason
    if model not in _of_model:
        _of_model[model] = graph_replay.Replays(graph_replay.graphs())
    _of_model[model].weights_lie_at(graph_replay.places_of(unet))
    return _of_model[model], None


def why_not_options(options, trust_others):
    """Why a call with these transformer_options cannot be captured, in words, or None."""
    if trust_others:
        return None
    wrappers = options.get("wrappers", {}).get("diffusion_model", {})
    others = sorted(str(key) for key, found in wrappers.items() if found and key not in (KEY, REPLAY_KEY))
    others += sorted(str(key) for key in set(options) - KNOWN_OPTIONS)
    others += sorted(key for key, patches in options.get("patches", {}).items() if patches)
    others += sorted({f"{kind} at {key}" for kind, patches in options.get("patches_replace", {}).items()
                      for key, patch in patches.items() if not _is_only_ours(patch)})
    if others:
        return f"another pack's part in the model ({others[0]}) may do something else at each step"
    return None


def _is_only_ours(patch):
    return isinstance(patch, AttentionPatch) and patch.base is None and not any(
        isinstance(term, ForeignTerm) for term in patch.terms)
