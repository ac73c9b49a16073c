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


def soft(seed=5):
    return randn(seed, 1, 64, 64).sigmoid()


# ---- a block


@pytest.fixture(scope="module")
def block(world):
    """A cross-attention block of IdentityNet, for cells of 128 numbers."""
    return world.net.control_model.middle_block[1].transformer_blocks[0].attn2


def read(block, masks, people, cells=8):
    """What a block makes of latents [2, 8 * 8, 128] with people (tokens [2, 16, 2048] each) under masks."""
    x = randn(3, 2, cells * cells, 128)
    context = torch.cat(people, dim=1)
    pictured = RegionalPeople(masks, context.split(1))
    shares = SharesOnGrids(pictured, 1)(context, cells, cells)
    with torch.inference_mode():
        return PeopleAttention(block, pictured)(x, PeopleContext(context, shares)).unflatten(1, (cells, cells))


def alone(block, person, cells=8):
    with torch.inference_mode():
        return block(randn(3, 2, cells * cells, 128), context=person).unflatten(1, (cells, cells))


A, B, C = (randn(seed, 2, 16, fx.CONTEXT) for seed in (61, 62, 63))


def test_under_masks_apart_each_place_has_what_the_person_there_gives_alone(block):
    out = read(block, (LEFT, RIGHT), (A, B))
    assert torch.equal(out[:, :, :4], alone(block, A)[:, :, :4])
    assert torch.equal(out[:, :, 4:], alone(block, B)[:, :, 4:])


@pytest.mark.newest
def test_without_masks_everybody_has_an_equal_share(block):
    for masks in ((None, None), (torch.zeros(1, 64, 64),) * 2, (torch.ones(1, 64, 64),) * 2):
        mean = torch.lerp(alone(block, A), alone(block, B), 0.5)
        torch.testing.assert_close(read(block, masks, (A, B)), mean)


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
def test_the_order_of_the_people_does_not_matter(block):
    assert torch.equal(read(block, (soft(), LEFT), (A, B)), read(block, (LEFT, soft()), (B, A)))
    thirds = [torch.zeros(1, 64, 64) for _ in range(3)]
    for number, borders in enumerate(((0, 24), (24, 40), (40, 64))):
        thirds[number][:, :, slice(*borders)] = 1
    one = read(block, thirds, (A, B, C))
    assert torch.equal(one, read(block, thirds[::-1], (C, B, A)))
    assert torch.equal(one[:, :, 6:], alone(block, C)[:, :, 6:])
    torch.testing.assert_close(read(block, (soft(1), soft(2), soft(3)), (A, B, C)),
                               read(block, (soft(3), soft(1), soft(2)), (C, A, B)))


@pytest.mark.newest
def test_equal_people_equal_one_person(block):
    assert torch.equal(read(block, (LEFT, RIGHT), (A, A)), alone(block, A))
    torch.testing.assert_close(read(block, (soft(1), soft(2), soft(3)), (A, A, A)), alone(block, A))


@pytest.mark.newest
def test_in_half_precision_a_person_apart_keeps_its_bits(block):
    half = copy.deepcopy(block).to(torch.bfloat16)
    x, context = randn(3, 2, 64, 128).bfloat16(), torch.cat((A, B), dim=1).bfloat16()
    pictured = RegionalPeople((LEFT, RIGHT), context.split(1))
    shares = SharesOnGrids(pictured, 1)(context, 8, 8)
    with torch.inference_mode():
        out = PeopleAttention(half, pictured)(x, PeopleContext(context, shares))
        expected = half(x, context=A.bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out.unflatten(1, (8, 8))[:, :, :4], expected.unflatten(1, (8, 8))[:, :, :4])


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
    """Each person's tokens are projected on their own: so many calls in a run, however many steps."""
    for steps in (2, 4):
        latents, calls = sampled(world, *several(world, count), steps=steps)
        assert calls == Calls(1, count, steps) and latents.isfinite().all()


@pytest.mark.newest
def test_nothing_is_kept_after_the_run(world):
    conditionings = several(world)
    sampled(world, *conditionings)
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
        model, net = fx.mini_sdxl(device=device), fx.mini_identity_net(device=device)
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
def test_a_later_apply_whose_tokens_replace_those_of_the_people(world):
    """As with any ControlNet, the last one's tokens reach all: then everybody is that person."""
    chained = apply(world.net, *several(world))
    latents, calls = sampled(world, *chained)
    assert latents.isfinite().all() and calls.evaluations == 4


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
