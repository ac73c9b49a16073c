"""The contract's formula at each attention block, with nothing kept: what exact mode must equal bit for bit.

It is the patch of the benchmarks' stand-in for the original, with the tokens and projections of ours.
"""

from instantid_swift.CrossAttentionPatch import SDXL_BLOCKS

from benchmarks.original_way.patch import patch_model


def reference_model(model, adapter, identity, weight, start_at=0.0, end_at=1.0):
    """A clone of a model with the formula at all 70 blocks. identity: gives the tokens."""
    module = adapter.patcher.model
    projections = {tuple(block): [layer.weight.to(identity.cond) for layer in (to_k, to_v)]
                   for block, to_k, to_v in zip(SDXL_BLOCKS, module.to_k, module.to_v, strict=True)}
    return patch_model(model, projections, identity.cond, identity.uncond, weight, start_at, end_at)
