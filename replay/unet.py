"""The UNet's call replayed as a CUDA graph: when that is possible, and the wrappers that do it.

Whatever a graph would freeze although it may differ from call to call (another pack's patches, hooks, weights that come and
go) has the ordinary call run, and a line in the log say why.
"""

from typing import NamedTuple

from ..CrossAttentionPatch import KEY, REPLAY_KEY, AttentionPatch, install_wrappers
from ..identity.terms import ForeignTerm
from . import graphs

# what ComfyUI itself puts into transformer_options, and we
KNOWN_OPTIONS = {"cond_or_uncond", "uuids", "sigmas", "sample_sigmas", "wrappers", "callbacks", "patches", "patches_replace",
                 "prefetch_dynamic_vbars", "original_shape", "transformer_index", KEY}


class Settings(NamedTuple):
    """In transformer_options under REPLAY_KEY: that calls are to be replayed."""
    replays: object     # of the UNet, which a model's clones share
    trust_others: bool  # other packs' patches are captured, too: right only where they do the same at each step

    def for_call(self, options, call, model):
        """transformer_options for a UNet call (`UNetCall`) of a BaseModel: with what the wrapper needs, or without it."""
        if call.replayed:
            return {**options, REPLAY_KEY: Call(self, call.sampling_cache, model)}
        graphs.log_fallback("torch.compile wraps the model")
        return {**options, "wrappers": {kind: {key: of for key, of in wrappers.items() if key != REPLAY_KEY}
                                        for kind, wrappers in options["wrappers"].items()}}


class Call(NamedTuple):
    """The same, handed on to the wrapper."""
    settings: Settings
    sampling_cache: object   # RecentCache of the sampling
    model: object  # ComfyUI's BaseModel


def with_replay(model, trust_others=False):
    """A clone of a model (ComfyUI's ModelPatcher) whose UNet calls are replayed where that is possible."""
    from comfy.patcher_extension import WrappersMP
    model = model.clone()
    install_wrappers(model)
    model.model_options["transformer_options"][REPLAY_KEY] = Settings(
        graphs.replays_of(model.model.diffusion_model), trust_others)
    for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, drop_on_exception), (WrappersMP.DIFFUSION_MODEL, replay_call)):
        model.remove_wrappers_with_key(kind, REPLAY_KEY)
        model.add_wrapper_with_key(kind, REPLAY_KEY, wrapper)
    return model


def drop_on_exception(executor, *args, **kwargs):
    """ComfyUI wrapper around a sampling: after an error or an interruption nothing half-made stays."""
    try:
        return executor(*args, **kwargs)
    except BaseException:
        graphs.drop_all()
        raise


def replay_call(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """ComfyUI wrapper around the UNet."""
    options = dict(transformer_options or {})
    call = options.pop(REPLAY_KEY, None)
    reason, parts = "the UNet was not called through ComfyUI's sampling", foreign_parts(options)
    if isinstance(call, Call):
        reason = call.sampling_cache.get_or_make(REPLAY_KEY, lambda: check_model(call.model, call.settings.replays))
        if reason is None and parts and not call.settings.trust_others:
            reason = f"another pack's part in the model ({parts[0].name}) may do something else at each step"
    if reason is not None:
        graphs.log_fallback(reason)
        return executor(x, timesteps, context, y, control, options, **kwargs)

    def run(changing, steps):
        *given, others = changing
        return executor(*given, {**options, KEY: steps}, **others)

    from .memory import run_accounted
    return run_accounted(call.settings.replays, run, (x, timesteps, context, y, control, kwargs), options.get(KEY),
                         (tuple(options["cond_or_uncond"]), parts), x.device, call.model.memory_required(list(x.shape)))


def check_model(model, replays):
    """Why a BaseModel cannot be replayed as it is loaded now, in words, or None. To be asked once in a sampling."""
    unet, patcher = model.diffusion_model, getattr(model, "current_patcher", None)
    reason = graphs.reason_not_capturable(unet, patcher)
    if reason is None and patcher is not None and (patcher.hook_patches or patcher.forced_hooks):
        reason = "hooks may change the model's weights while it runs"
    if reason is None:
        replays.drop_if_moved(graphs.weight_addresses(unet))
    return reason


class Part(NamedTuple):
    """Another pack's part in a call; as a key, it equals itself alone."""
    name: str
    thing: object

    def __hash__(self):
        return id(self.thing)

    def __eq__(self, other):
        return self.thing is other.thing


def foreign_parts(options):
    """What other packs have put into these transformer_options."""
    found = [(str(key), one) for key, wrappers in options.get("wrappers", {}).get("diffusion_model", {}).items()
             if key not in (KEY, REPLAY_KEY) for one in wrappers]
    found += [(key, value) for key, value in options.items() if key not in KNOWN_OPTIONS]
    found += [(kind, patch) for kind, patches in options.get("patches", {}).items() for patch in patches]
    for kind, patches in options.get("patches_replace", {}).items():
        found += [(f"{kind} at {key}", part) for key, patch in patches.items() for part in _others_of(patch)]
    return tuple(Part(*one) for one in found)


def _others_of(patch):
    if not isinstance(patch, AttentionPatch):
        return [patch]
    bases = [] if patch.base is None else [patch.base]
    return bases + [term.callback for term in patch.terms if isinstance(term, ForeignTerm)]
