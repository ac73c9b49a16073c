"""Embeddings to what an attention block adds. In: ArcFace embeddings [N, 1, 512] and the adapter's checkpoint. Out: an
`Identity` (tokens, K and V of SDXL's 70 cross-attention blocks) and the terms that blocks add of it. Imports without ComfyUI.
"""

from .adapter import load_adapter, usable_adapter
from .attention import attention_dtype
from .bank import EachLatent, Identity, merge_embeddings, unconditional_embedding
from .blocks import SELECTIONS, factors_of_blocks
from .masks import LatentMask, usable_mask

__all__ = ["SELECTIONS", "EachLatent", "Identity", "LatentMask", "attention_dtype", "factors_of_blocks", "load_adapter",
           "merge_embeddings", "unconditional_embedding", "usable_adapter", "usable_mask"]
