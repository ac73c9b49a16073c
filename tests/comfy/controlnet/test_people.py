"""Several people in one IdentityNet: who is read where, to the bit; and how little that costs."""

import copy

import comfy.controlnet
import pytest
import torch
from control_nets import Calls, apply, drawing, prompt, randn, remembered, sampled, texts, tokens
from instantid_swift.controlnet import apply_identity_net, check_reads_people
from instantid_swift.controlnet.people import PeopleAttention, PeopleContext, RegionalPeople, SharesOnGrids, shares_of
from instantid_swift.controlnet.step_reuse import with_step_reuse
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from stand_ins.traffic import TO_DEVICE, simulated_device

LEFT, RIGHT = cases.left_half(), 1 - cases.left_half()


# ---- a block


@pytest.fixture(scope="module")
def block(world):
    """A cross-attention block of IdentityNet, for cells of 128 numbers."""
    return world.net.control_model.middle_block[1].transformer_blocks[0].attn2


def read(block, masks, people, cells=8):
    """What a block makes of latents [2, 8 * 8, 128] with people (tokens [2, 16, 2048] each) under masks."""
    context = torch.cat(people, dim=1)
    x = randn(3, 2, cells * cells, 128).to(context)
    pictured = RegionalPeople(masks, context.split(1))
    shares = SharesOnGrids(pictured, 1)(context, cells, cells)
    with torch.inference_mode():
        return PeopleAttention(block, pictured)(x, PeopleContext(context, shares)).unflatten(1, (cells, cells))


def alone(block, person, cells=8):
    with torch.inference_mode():
        return block(randn(3, 2, cells * cells, 128).to(person), context=person).unflatten(1, (cells, cells))


A, B, C = (randn(seed, 2, 16, fx.CONTEXT) for seed in (61, 62, 63))


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.newest)])
def test_under_masks_apart_each_place_has_what_the_person_there_gives_alone(block, dtype):
    block, (a, b) = copy.deepcopy(block).to(dtype), (A.to(dtype), B.to(dtype))
    out = read(block, (LEFT, RIGHT), (a, b))
    assert out.dtype == dtype
    assert torch.equal(out[:, :, :4], alone(block, a)[:, :, :4])
    assert torch.equal(out[:, :, 4:], alone(block, b)[:, :, 4:])


@pytest.mark.newest
def test_where_masks_overlap_people_share_and_outside_of_all_it_is_the_mean(block):
    middle = torch.zeros(1, 64, 64)
    middle[:, :, 16:48] = 1
    out = read(block, (LEFT * middle, middle), (A, B))
    mean = (alone(block, A) + alone(block, B)) / 2
    torch.testing.assert_close(out[:, :, :4], mean[:, :, :4])                      # nobody, then both
    assert torch.equal(out[:, :, 4:6], alone(block, B)[:, :, 4:6])
    torch.testing.assert_close(out[:, :, 6:], mean[:, :, 6:])


@pytest.mark.newest
@pytest.mark.parametrize("masks, shares", [
    ([1.0, 0.0], [1, 0]), ([0.5, 0.5], [0.5, 0.5]), ([1.0, 1.0], [0.5, 0.5]), ([0.0, 0.0], [0.5, 0.5]),
    ([0.25, 0.0], [0.625, 0.375]), ([0.75, 0.5], [0.6, 0.4]), ([1.0, 1.0, 0.5, 0.0], [0.4, 0.4, 0.2, 0]),
])
def test_shares_add_up_to_one(masks, shares):
    torch.testing.assert_close(shares_of(torch.tensor(masks)), torch.tensor(shares).float())


@pytest.mark.newest
def test_odd_sizes_have_the_grids_of_the_network(world):
    shares = SharesOnGrids(RegionalPeople((LEFT, None), ()), 3)(torch.zeros(2, 32, fx.CONTEXT), 17, 23)
    assert list(shares) == [17 * 23, 9 * 12, 5 * 6]
    latents, calls = sampled(world, *several(world), size=(17, 23))
    assert latents.isfinite().all() and calls.evaluations == 2


# ---- the network


def several(world, count=2, masks=None, strengths=None, windows=None, strength=0.8, net=None, given=None):
    """Conditionings with IdentityNet reading so many people."""
    each = [tokens(seed=31 + 10 * number) for number in range(count)]
    masks = masks or [torch.roll(LEFT, 64 * number // count, dims=2) for number in range(count)]
    cond, uncond = (torch.cat(side, dim=1) for side in zip(*each, strict=True))
    return apply_identity_net(*(given or texts(world)), net or world.net, drawing(), cond, uncond, strength, 0.0, 1.0,
                              people=RegionalPeople(masks, (cond, uncond), strengths, windows))


@pytest.mark.newest
@pytest.mark.parametrize("count", [1, 2, 4])
def test_one_evaluation_a_step_and_projections_once_a_run(world, count):
    """Each person's tokens are projected on their own: so many calls in a run, however many steps. Nothing is kept then."""
    conditionings = several(world, count)
    latents, calls = sampled(world, *conditionings, steps=3)
    assert calls == Calls(1, count, 3) and latents.isfinite().all()
    assert remembered(conditionings[0][0][1]["control"]) == 0


@pytest.mark.newest
def test_the_same_person_everywhere_gives_the_latents_of_one(world):
    cond, uncond = (side.repeat(1, 2, 1) for side in tokens())
    people = RegionalPeople((LEFT, RIGHT), (cond, uncond))
    twice = apply_identity_net(*texts(world), world.net, drawing(), cond, uncond, 0.8, 0.0, 1.0, people=people)
    assert torch.equal(sampled(world, *twice)[0], sampled(world, *apply(world.net, *texts(world)))[0])


@pytest.mark.newest
def test_strengths_are_those_of_the_place(world):
    """Residuals of a net with (0.4, 1.2): the left half is 0.4 times, the right half 1.2 times those at strength 1."""
    def residuals(**over):
        net = several(world, **over)[0][0][1]["control"].control_model
        context = torch.cat([side for number in range(2) for side in tokens(seed=31 + 10 * number)[:1]], dim=1)
        with torch.inference_mode():
            return net(x=randn(51, 1, 4, 16, 16), hint=torch.zeros(1, 3, 128, 128), timesteps=torch.tensor([500.0]),
                       context=context, y=randn(52, 1, 2816))
    plain, scaled = residuals(), residuals(strengths=(0.4, 1.2))
    for side in ("middle", "output"):
        for before, after in zip(plain[side], scaled[side], strict=True):
            half = before.shape[3] // 2
            torch.testing.assert_close(after[..., :half], before[..., :half] * 0.4)
            torch.testing.assert_close(after[..., half:], before[..., half:] * 1.2)
    early, late = (residuals(windows=window) for window in (((float("inf"), 600.0), (float("inf"), 0.0)),
                                                            ((float("inf"), 500.0), (499.0, 0.0))))
    for before, first, second in zip(plain["output"], early["output"], late["output"], strict=True):
        half = before.shape[3] // 2
        assert not first[..., :half].any() and torch.equal(first[..., half:], before[..., half:])
        assert torch.equal(second[..., :half], before[..., :half]) and not second[..., half:].any()


@pytest.mark.newest
def test_masks_add_no_host_read_to_a_step():
    """Nor a copy to the device."""
    with simulated_device() as (device, watch):
        model, net = (make(device=device, shape=fx.SHALLOW) for make in (fx.mini_sdxl, fx.mini_identity_net))
        given = prompt(11), prompt(12)

        def traffic(conditionings, steps):
            with watch.count() as counts:
                fx.sample(model, *conditionings, steps=steps, size=(8, 8))
            return counts.counts
        alone, people = apply(net, *given), several(None, net=net, given=given, strengths=(0.5, 1.0),
                                                    windows=((float("inf"), 300.0), (900.0, 0.0)))
        fx.sample(model, *alone, steps=1, size=(8, 8))
        steps = []
        for conditionings in (alone, people):
            one, two = traffic(conditionings, 1), traffic(conditionings, 2)
            steps.append({key: two[key] - one[key] for key in ("host reads", ("copies", TO_DEVICE, "tensors"))})
        assert steps[0] == steps[1] and steps[0]["host reads"] > 0


@pytest.mark.newest
def test_step_reuse_leaves_out_steps(world):
    _, calls = sampled(world, *with_step_reuse(*several(world, strengths=(0.5, 1.0)), every=2), steps=4)
    assert calls == Calls(1, 2, 3)


@pytest.mark.newest
def test_tokens_of_a_later_apply_are_known_however_many_there_are(world):
    """As many as the people's: everybody reads all of them, so that their order does not matter."""
    cond, uncond = (torch.cat(side, dim=1) for side in zip(tokens(seed=71), tokens(seed=81), strict=True))
    there, back = (sampled(world, *apply(world.net, *several(world), identity=(side, uncond)))[0]
                   for side in (cond, torch.cat(cond.split(16, dim=1)[::-1], dim=1)))
    torch.testing.assert_close(there, back, rtol=0, atol=1e-4 * there.std().item())


@pytest.mark.newest
def test_the_given_control_net_stays_as_it_is(world):
    before = [type(module) for module in world.net.control_model.modules()]
    several(world)
    assert [type(module) for module in world.net.control_model.modules()] == before


@pytest.mark.newest
def test_another_kind_of_control_net_is_refused():
    with pytest.raises(InstantIDError, match="is a ControlLora, which cannot show several people at once"):
        check_reads_people(comfy.controlnet.ControlLora({}))
