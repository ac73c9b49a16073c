"""Embeddings to what an attention block adds. In: ArcFace embeddings [N, 1, 512] and the adapter's checkpoint. Out: an
`Identity` (tokens, K and V of SDXL's 70 cross-attention blocks) and the terms that blocks add of it. Imports without ComfyUI.
"""

from .adapter import load_adapter, usable_adapter
from .bank import EachLatent, Identity
from .blocks import SELECTIONS, factors_of_blocks
from .masks import LatentMask, usable_mask
from .terms import attention_dtype

__all__ = ["SELECTIONS", "EachLatent", "Identity", "LatentMask", "attention_dtype", "factors_of_blocks", "load_adapter",
           "usable_adapter", "usable_mask"]
