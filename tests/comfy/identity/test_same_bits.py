"""Full Apply equals the contract written out, to the last bit: IdentityNet's hint, masks, several persons, three precisions."""

import pytest
import torch
from oracle import cases
from oracle import fixtures as fx
from reference import reference_apply

SAMPLING = {"steps": 1, "size": (8, 8)}
EVERY = torch.float32, torch.float16, torch.bfloat16
SOFT = torch.linspace(0, 1, 40)[None, None].expand(1, 24, 40) ** 2
NOBODY = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(3))


def both(nodes, world, model, net, *persons, **sampling):
    """Latents of ours and of the reference. persons: inputs of Apply InstantID Advanced, chained one after the other."""
    def chain(apply_one):
        last, positives, negative = model, [], world.negative
        for person in persons:
            last, positive, negative_of_this = apply_one(last, dict(person))
            positives, negative = positives + positive, negative if positives else negative_of_this
        return fx.sample(last, positives, negative, **{**SAMPLING, **sampling})

    ours = chain(lambda model, person: cases.advanced(nodes, world, model=model, control_net=net, **person))
    reference = chain(lambda model, person: reference_apply(
        world, person.pop("image", fx.portrait("a")), model=model, net=net, **person))
    return ours, reference


WIRINGS = {  # with their precisions
    "soft mask": ([{"mask": lambda: SOFT, "ip_weight": 0.37}], {"size": (8, 12)}, EVERY),
    "three persons": ([{"mask": lambda: SOFT}, {"image": lambda: fx.portrait("b"), "mask": lambda: 1 - SOFT},
                       {"image": lambda: fx.portrait("c"), "ip_weight": 0.6}], {}, EVERY),
    "pose of another": ([{"image": fx.photo, "image_kps": lambda: fx.portrait("b")}], {}, EVERY[:1]),
    "kps without a face": ([{"image_kps": lambda: NOBODY}], {}, EVERY[:1]),
    "norm average": ([{"image": lambda: cases.faces("a", "b", "e"), "combine_embeds": "norm average"}], {}, EVERY[:1]),
    "concat": ([{"image": lambda: cases.faces("a", "b"), "combine_embeds": "concat"}], {"batch": 2}, EVERY[:1]),
}


def precision(dtype, *values):
    return pytest.param(*values, dtype, marks=[] if dtype == torch.float32 else pytest.mark.newest)


@pytest.mark.parametrize("dtype", [precision(dtype) for dtype in EVERY])
def test_at_all_blocks(nodes, full_world, full_loaded, dtype):
    person = {"ip_weight": 1.1, "cn_strength": 0.3, "noise": 0.35}
    ours, reference = both(nodes, full_world, *full_loaded(dtype), person, steps=2)
    assert torch.equal(ours, reference) and ours.isfinite().all()


@pytest.mark.parametrize("name, dtype", [
    precision(dtype, name) for name, (*_, dtypes) in WIRINGS.items() for dtype in dtypes])
def test_wirings(nodes, world, loaded, name, dtype):
    persons, sampling, _ = WIRINGS[name]
    persons = [{name: value() if callable(value) else value for name, value in person.items()} for person in persons]
    ours, reference = both(nodes, world, *loaded(dtype), *persons, **sampling)
    assert torch.equal(ours, reference) and ours.isfinite().all()
