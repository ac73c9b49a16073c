"""ComfyUI's attention as it is configured; without ComfyUI, torch's, so that the arithmetic can be tested alone."""

import inspect

import torch

try:
    from comfy.ldm.modules import attention as comfy_attention
except ImportError:
    comfy_attention = None


def attention(q, k, v, heads, **options):
    """Attention of q [b, tokens, width] over k and v [b, keys, width]. Returns a new tensor of q's shape."""
    if comfy_attention is not None:
        return comfy_attention.optimized_attention(q, k, v, heads, **options)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


# older versions of ComfyUI cannot be told the options through which other packs choose another attention
_TAKES_OPTIONS = comfy_attention is not None and any(
    p.kind is p.VAR_KEYWORD for p in inspect.signature(comfy_attention.optimized_attention).parameters.values())


def own_attention(q, k, v, extra_options):
    """What a cross-attention block computes without any patch, another pack's choice of attention included."""
    options = {"transformer_options": extra_options} if _TAKES_OPTIONS else {}
    return attention(q, k, v, extra_options["n_heads"], **options)


def attention_dtype(model):
    """The dtype in which a model (ComfyUI's BaseModel) runs its attention."""
    dtype = model.manual_cast_dtype or model.get_dtype()
    if dtype in (torch.float32, torch.float16, torch.bfloat16):
        return dtype
    import comfy.model_management
    return torch.float16 if comfy.model_management.should_use_fp16() else torch.float32


def is_compiled(module):
    """Whether torch.compile has been put around a module or any part of it, by whatever node. Looks at all parts: about a
    millisecond for SDXL."""
    return any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in module.modules())
