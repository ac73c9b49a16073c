"""Blends: what each method is, what comes back to the bit, what is left out."""

import pytest
import torch
from instantid_swift.people.blend import AVERAGE, METHODS, ROBUST, SPHERICAL, blend
from instantid_swift.people.person import Person
from instantid_swift.utils import InstantIDError


def photos_of(seed, count, likeness=0.7):
    """A person whose photos have about this cosine with each other."""
    generator = torch.Generator().manual_seed(seed)
    face = torch.randn(1, 512, generator=generator)
    return 20 * (likeness ** 0.5 * face + (1 - likeness) ** 0.5 * torch.randn(count, 512, generator=generator))


def person(embeddings):
    count = len(embeddings)
    return Person(embeddings, torch.rand(count, 5, 2), torch.full((count, 2), 320), "antelopev2/glintr100.onnx",
                  torch.zeros(count, 112, 112, 3, dtype=torch.uint8))


A, B, C = (person(photos_of(seed, count)) for seed, count in ((1, 3), (2, 1), (3, 2)))


@pytest.mark.parametrize("method", METHODS)
def test_weights_1_and_0_give_the_first_person_to_the_bit(method):
    assert blend([A, B], [1, 0], method) == (A, ())
    assert blend([A, B, C], [0, 0.3, 0], method) == (B, ())
    assert blend([A], [0.2], method) == (A, ())


def test_average_is_the_weighted_mean_of_the_people():
    mixed = blend([A, B], [3, 1], AVERAGE).person
    assert torch.allclose(mixed.embeddings, 0.75 * A.embeddings.mean(0, keepdim=True) + 0.25 * B.embeddings, atol=1e-4)
    assert mixed.embeddings.dtype == torch.float32 and mixed.crops is None
    assert torch.equal(mixed.points, A.points[:1]) and torch.equal(mixed.sizes, A.sizes[:1])


@pytest.mark.parametrize("part", [0.1, 0.5, 0.8])
def test_spherical_goes_the_same_part_of_the_angle(part):
    def angle(a, b):
        return torch.acos(torch.cosine_similarity(a.double(), b.double(), dim=0))
    between = blend([B, C], [1 - part, part], SPHERICAL).person.embeddings[0]
    ends = B.embeddings[0], C.embeddings.mean(0)
    assert torch.isclose(angle(ends[0], between), part * angle(*ends), atol=1e-5)
    assert torch.isclose(between.norm(), (1 - part) * ends[0].norm() + part * ends[1].norm())
    assert torch.allclose(blend([B, B], [1, 1], SPHERICAL).person.embeddings, B.embeddings, atol=1e-4)


def test_robust_average_leaves_out_the_photo_of_somebody_else_and_says_which():
    wrong = person(torch.cat([photos_of(1, 6)[:4], photos_of(9, 1), photos_of(1, 6)[4:]]))
    found = blend([wrong], [1], ROBUST)
    assert found.left_out == ((0, 4),)
    assert torch.equal(found.person.embeddings, wrong.embeddings[[0, 1, 2, 3, 5, 6]]) and found.person.photos == 6
    two = blend([person(photos_of(1, 6)[:2]), wrong], [1, 2], ROBUST)
    assert two.left_out == ((1, 4),) and two.person.photos == 1


@pytest.mark.parametrize("seed", range(3))
def test_robust_average_of_photos_alike_leaves_out_none(seed):
    for count in (1, 2, 3, 5, 12):
        one = person(photos_of(seed, count))
        assert blend([one], [1], ROBUST) == (one, ())


@pytest.mark.parametrize("people, weights, method, words", [
    ([A, B], [0, 0], AVERAGE, "All weights are 0"),
    ([A, B, C], [1, 1, 1], SPHERICAL, "blends two people, and 3 have a weight"),
    ([A, B._replace(embedder="models/w600k_r50.onnx")], [1, 1], AVERAGE, "different networks"),
])
def test_what_cannot_be_blended_is_refused_in_a_sentence(people, weights, method, words):
    with pytest.raises(InstantIDError, match=words):
        blend(people, weights, method)
