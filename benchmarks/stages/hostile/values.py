"""Values that nobody should send: pictures, masks, texts, and whole nodes called with them."""

import asyncio
import functools
import tempfile
from pathlib import Path

import environment
import execution
import instantid_swift
import nodes
import torch
from instantid_swift import faces, utils
from instantid_swift.identity import blocks, load_adapter, masks
from instantid_swift.identity.terms import SamplingCache, UNetCall
from oracle import fixtures as fx

NUMBERS = (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 0.5, 1.0, 2.0, 1e30)
CONSTANTS = (None, 0, 5, -1, 1e400, float("nan"), True, "", "text", "x" * 100_000, "0.5", [], {}, [["1", 0]], ["1", 0, 3],
             [[1, 2]], {"a": 1}, [[]], "\u0000", "🙂" * 100)
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")
ALPHABET = "input output middle 0123456789 .,:=-\n\t²٣é🙂 e+"


def tensor(random, *shape):
    """Numbers in a form that torch allows, if not always ComfyUI."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(random.randrange(1 << 30)))
    for change in random.sample(range(12), random.choice((0, 1, 1, 2))):
        if change == 0 and values.numel() and values.is_floating_point() and values.is_contiguous() and not (
                values.requires_grad):
            values.view(-1)[random.randrange(values.numel())] = random.choice(NUMBERS)
        elif change == 1:
            values = values.double()
        elif change == 2:
            values = (values * 255).to(random.choice((torch.uint8, torch.int64, torch.int8)))
        elif change == 3:
            values = values > 0.5
        elif change == 4:
            values = values.half() if random.random() < 0.5 else values.bfloat16()
        elif change == 5 and values.is_floating_point():
            return torch._neg_view(-values)
        elif change == 6 and values.ndim and len(values):
            values = values[:1].expand(random.choice((1, 2, 5)), *values.shape[1:])
        elif change == 7 and values.ndim > 1:
            values = values.mT.contiguous().mT
        elif change == 8:
            return values.to(torch.complex64)
        elif change == 9:
            return values.to_sparse()
        elif change == 10 and values.is_floating_point():
            values = values.requires_grad_()
        elif change == 11:
            return values.to("meta")
    return values


def size(random):
    return random.choice((0, 1, 2, 3, 7, 8, 64, 65, 100, 320, 5000) if random.random() < 0.5 else (64, 320))


@functools.cache
def analysis():
    return faces.open_face_analysis([str(environment.MODELS / "insightface")], "CPU")


def image(random):
    """A batch of pictures: its faces, their embeddings and keypoints, and the batch as IdentityNet's hint."""
    rank = random.choice((4, 4, 4, 4, 4, 4, 3, 2, 5, 0))
    height, width = size(random), size(random)
    if height * width > 1_000_000:
        height = 8
    pictures = tensor(random, *(random.choice((0, 1, 1, 2, 3)), height, width, random.choice((3, 3, 3, 1, 4, 2, 0)), 2)[:rank])
    if rank == 4 and pictures.shape[3] == 3 and random.random() < 0.3:
        pictures = fx.portrait(random.choice("abcde"))
        if random.random() < 0.5:
            pictures = torch._neg_view(-pictures)
    hint = utils.usable_hint(pictures)
    if hint.shape[3] != 3 or not hint.isfinite().all():
        raise AssertionError("a hint that is none")
    faces.keypoint_images(analysis(), pictures)
    faces.reference_embeddings(analysis(), pictures)


def mask(random):
    """A mask on the grids of the blocks, and completed for a batch."""
    rank = random.choice((3, 3, 3, 3, 2, 4, 1, 0, 5))
    shape = (random.choice((0, 1, 1, 2, 3)), *((random.choice((1, 1, 3)),) if rank == 4 else ()), size(random), size(random), 2)
    if shape[-3] * shape[-2] > 1_000_000:
        shape = (1, 64, 1, 2)
    made = tensor(random, *(shape[1:3] if rank == 2 else shape[:rank]))
    usable = masks.usable_mask(made)
    latents = random.choice((1, 2, 3, 4))
    completed = masks.with_a_mask_for_each_latent({"p": [{"mask": usable, "cross_attn_controlnet": usable}]}, latents)["p"][0]
    if len(completed["mask"]) < latents and latents % len(completed["mask"]):
        raise AssertionError("a mask that ComfyUI cannot repeat")
    call = UNetCall.of(torch.zeros(latents), {"cond_or_uncond": [0]}, sampling_cache=SamplingCache())
    weights = masks.LatentMask(made).for_call(call)
    rows, columns = random.choice((1, 4, 15, 16)), random.choice((1, 3, 16, 20))
    if weights(rows * columns, 2 * rows, 2 * columns).shape != (latents, rows * columns, 1):
        raise AssertionError("weights of another number than tokens")


def text(random):
    """Block weights."""
    kind = random.randrange(4)
    if kind == 0:
        written = "".join(random.choices(ALPHABET, k=random.choice((1, 10, 100, 9_000, 50_000))))
    elif kind == 1:
        written = random.choice(("9", "input 4: 9", "input ", " ", ",", ".", "-", "=:", "\n", "0."))
        written *= random.choice((1, 30, 20_000))
    else:
        part = [random.choice(("input", "output", "middle", "up", "")), " ", str(random.choice((0, 1, 4, 7, 99, 10 ** 30))),
                random.choice(("", ".0", ".9", ".x")), random.choice((":", "=", " : ", "")),
                str(random.choice((0.5, *NUMBERS)))]
        written = ", ".join("".join(part) for _ in range(random.choice((1, 3, 500))))
    factors = blocks.factors_of_blocks(random.choice(list(blocks.SELECTIONS)), written)
    if not all(abs(factor) <= blocks.LARGEST_FACTOR for factor in factors.values()):
        raise AssertionError("a factor that is not finite")


# ---- prompts


@functools.cache
def loaded():
    """{ComfyUI's type: an object of it}; and sources, nodes that give them, in ComfyUI's registry."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(fx.instantid_checkpoint(), Path(folder) / "ip-adapter.bin")
        adapter = load_adapter(str(Path(folder) / "ip-adapter.bin"))
    model, net = fx.mini_sdxl(), fx.mini_identity_net()
    objects = {"MODEL": model, "CONTROL_NET": net, "INSTANTID": adapter, "FACEANALYSIS": analysis(),
               "IMAGE": fx.portrait("a"), "CONDITIONING": fx.conditioning(11), "MASK": torch.ones(1, 64, 64),
               "FACE_EMBEDS": dict.fromkeys(("cond", "uncond"), torch.zeros(1, 16, 2048)),
               "LATENT": {"samples": torch.zeros(1, 4, 24, 24)}}
    for kind in objects:
        source = type(f"Hostile{kind}", (), {"RETURN_TYPES": (kind,), "FUNCTION": "give", "CATEGORY": "hostile",
                                             "INPUT_TYPES": classmethod(lambda cls: {"required": {}})})
        nodes.NODE_CLASS_MAPPINGS[source.__name__] = source
    nodes.NODE_CLASS_MAPPINGS.update(instantid_swift.NODE_CLASS_MAPPINGS)
    return objects


def prompt(random):
    """A node of the pack, called as ComfyUI would with an API workflow's inputs, some of them strange; sometimes sampled."""
    objects = loaded()
    name = random.choice([name for name in instantid_swift.NODE_CLASS_MAPPINGS if "Loader" not in name])
    node = instantid_swift.NODE_CLASS_MAPPINGS[name]
    inputs, prompt = {}, {}
    for group, declared in node.INPUT_TYPES().items():
        for key, (kind, *options) in declared.items() if group in ("required", "optional") else ():
            if isinstance(kind, list) or kind in WIDGETS:
                # a list of files may be empty
                inputs[key] = {"default": next(iter(kind), ""), **(options[0] if options else {})}["default"]
            elif kind in objects and (group == "required" or random.random() < 0.3):
                prompt[key] = {"class_type": f"Hostile{kind}", "inputs": {}}
                inputs[key] = [key, 0]
    given = dict(objects)
    for _ in range(random.choice((1, 1, 2))):
        key = random.choice(list(inputs) or ["none"])
        if random.random() < 0.5:
            inputs[key] = random.choice(CONSTANTS if random.random() < 0.7 else NUMBERS)
        else:  # a link that brings something strange
            given["IMAGE"] = tensor(random, random.choice((1, 2)), size(random) % 500, size(random) % 500,
                                    random.choice((1, 3, 3, 4)))
            given["MASK"] = tensor(random, random.choice((1, 2, 3)), size(random) % 500, size(random) % 500)
    prompt["node"] = {"class_type": name, "inputs": inputs}
    valid = asyncio.run(execution.validate_inputs("prompt", prompt, "node", {}))
    if not valid[0]:
        return "refused by ComfyUI"
    values = {}
    for key, value in prompt["node"]["inputs"].items():
        linked = isinstance(value, list) and len(value) == 2 and value[0] in prompt
        values[key] = given[prompt[value[0]]["class_type"].removeprefix("Hostile")] if linked else value
    with torch.inference_mode():
        result = getattr(node(), node.FUNCTION)(**values)
        if random.random() < 0.1 and isinstance(result, tuple) and len(result) == 3 and hasattr(result[0], "clone"):
            fx.sample(*result, size=(8, 8), batch=random.choice((1, 3)), steps=1)
    return "ran"
