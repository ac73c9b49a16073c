"""The contract's formula at each attention block, with nothing kept: what exact mode must equal bit for bit.

It is the patch of the benchmarks' stand-in for the original, with the tokens and projections of ours.
"""

from instantid_swift.identity.blocks import SDXL_BLOCKS

from benchmarks.original_way.patch import patch_model


def reference_model(model, adapter, identity, weight, start_at=0.0, end_at=1.0, blocks=SDXL_BLOCKS):
    """A clone of a model with the formula at some of the 70 blocks. identity: gives the tokens."""
    module, (cond, uncond) = adapter.module, identity.tokens(adapter.device)
    projections = {tuple(block): [layer.weight.to(cond) for layer in (to_k, to_v)]
                   for block, to_k, to_v in zip(SDXL_BLOCKS, module.to_k, module.to_v, strict=True)
                   if block in blocks}
    return patch_model(model, projections, cond, uncond, weight, start_at, end_at)
