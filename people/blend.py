"""Blends of people: one embedding from those of several people or photos."""

from typing import NamedTuple

import torch

from ..utils import InstantIDError
from .person import check_same_embedder

AVERAGE, SPHERICAL, ROBUST = "average", "spherical", "robust average"
METHODS = (AVERAGE, SPHERICAL, ROBUST)
FEWEST = 3             # photos that are needed to find outliers
MOST_DEVIATIONS = 3.0  # standard deviations, estimated by the median, within which a photo belongs to the rest
LEAST_DROP = 0.15      # by which an outlier's similarity is below the median, at least
NORMAL = 1.4826        # the standard deviation of a normal distribution in median absolute deviations
PARALLEL = 1e-4        # sine of the angle below which two directions count as parallel


class Blend(NamedTuple):
    """A blended person, and the photos that were left out."""
    person: object     # Person
    left_out: tuple    # (number of the person, number of its photo) each, both from 0


def blend(people, weights, method):
    """Returns the `Blend` of people.

    people: Persons. weights: as many numbers, 0 or more, of which only the ratios count. A person of weight 0 takes no part,
    and where several people are given and one alone has a weight, the result is that person itself, whatever the method.
    InstantIDError if the people cannot be blended.

    average: the weighted mean of the people's embeddings; a person's embedding is the mean of its photos.
    spherical: two people; the point between them on the arc from one direction to the other, at the weighted mean of the norms.
    robust average: the weighted mean of all photos but those far from the rest (`outliers`).
    The keypoints and the picture's size are those of the first person's first photo.
    """
    taking_part = [number for number, weight in enumerate(weights) if weight]
    if not taking_part:
        raise InstantIDError("All weights are 0, so that nobody would be left. Set one of them above 0.")
    if len(taking_part) == 1 and (len(people) > 1 or method != ROBUST):
        return Blend(people[taking_part[0]], ())
    chosen = [people[number] for number in taking_part]
    check_same_embedder(*(person.embedder for person in chosen))
    weights = torch.tensor([weights[number] for number in taking_part], dtype=torch.float64)
    weights = weights / weights.sum()
    if method == ROBUST:
        return _without_outliers(chosen, weights, taking_part)
    means = torch.stack([person.embeddings.double().mean(dim=0) for person in chosen])
    return Blend(_as_person(weights @ means if method == AVERAGE else _on_the_arc(means, weights), chosen[0]), ())


def _as_person(embedding, first):
    return first.only([0])._replace(embeddings=embedding.float()[None], crops=None)


def _on_the_arc(vectors, weights):
    """Interpolates two vectors spherically (slerp: K. Shoemake, Animating rotation with quaternion curves, 1985)."""
    if len(vectors) != 2:
        raise InstantIDError(f"The method spherical blends two people, and {len(vectors)} have a weight above 0. Choose "
                             "average for more.")
    norms = vectors.norm(dim=1)
    a, b = vectors / norms[:, None]
    angle = torch.atan2((b - a * (a @ b)).norm(), a @ b)
    if angle.sin() < PARALLEL:
        return a * (weights @ norms)
    return ((weights[0] * angle).sin() * a + (weights[1] * angle).sin() * b) / angle.sin() * (weights @ norms)


def _without_outliers(people, weights, numbers):
    """Returns the `Blend` without outliers. numbers: those of the people among all that were given."""
    photos = torch.cat([person.embeddings.double() for person in people])
    each = [(number, photo) for number, person in zip(numbers, people, strict=True) for photo in range(person.photos)]
    far = outliers(photos)
    left_out = tuple(each[index] for index in far)
    if len(people) == 1:
        person, = people
        return Blend(person.only([photo for photo in range(person.photos) if photo not in far]) if far else person, left_out)
    shares = torch.cat([(weight / person.photos).repeat(person.photos) for person, weight in zip(people, weights, strict=True)])
    shares[list(far)] = 0
    first = next(person.only([photo]) for person, number in zip(people, numbers, strict=True)
                 for photo in range(person.photos) if (number, photo) not in left_out)
    return Blend(_as_person(shares / shares.sum() @ photos, first), left_out)


def outliers(embeddings):
    """Returns the photos whose face is far from the rest, as a tuple of indices.

    embeddings: [N, 512]. A photo's similarity is the median of its cosines with the others. A photo is far if that is below
    the median of all similarities by three standard deviations, as estimated by the median absolute deviation, and by 0.15.
    """
    if len(embeddings) < FEWEST:
        return ()
    directions = embeddings / embeddings.norm(dim=1, keepdim=True)
    cosines = directions @ directions.T
    others = ~torch.eye(len(cosines), dtype=torch.bool)
    similarities = cosines[others].view(len(cosines), -1).quantile(0.5, dim=1)
    middle = similarities.quantile(0.5)
    deviation = NORMAL * (similarities - middle).abs().quantile(0.5)
    limit = middle - torch.clamp(MOST_DEVIATIONS * deviation, min=LEAST_DROP)
    return tuple((similarities < limit).nonzero()[:, 0].tolist())
