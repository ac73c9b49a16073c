"""InstantID Refine Faces as tests call it, on the miniature."""

import pytest
import torch
from instantid_swift import faces
from instantid_swift.faces import FaceChoice
from instantid_swift.people.person import Person, person_of_photos
from oracle import cases
from oracle import fixtures as fx
from serving.miniature import Vae
from wiring.people import people_of
from wiring.refine import SIDE


class CountedVae(Vae):
    """Its calls are listed as (name, pictures)."""

    def __init__(self):
        self.calls = []

    def encode(self, picture):
        self.calls.append(("encode", len(picture)))
        return super().encode(picture)

    def decode(self, latent):
        self.calls.append(("decode", len(latent)))
        return super().decode(latent)


@pytest.fixture
def vae():
    return CountedVae()


@pytest.fixture(scope="module")
def person_of(world):
    """person_of(face): the Person of the group photo's n-th face from the left."""
    found = {}

    def make(number):
        if number not in found:
            photos = faces.Photos(world.analysis, fx.photo(), FaceChoice("left to right", number))
            found[number] = person_of_photos(photos)
        return found[number]
    return make


@pytest.fixture
def refine(nodes, world, vae):
    """refine(image, person or people, ...): what the node shows and returns."""
    def call(image, given=None, **over):
        given = {} if given is None else {"person" if isinstance(given, Person) else "people": given}
        sampler = dict(seed=7, steps=1, cfg=4.5, sampler_name="euler", scheduler="normal", denoise=0.5)
        with torch.inference_mode():
            made = cases.call(nodes, "InstantIDRefineFaces", **{**dict(
                image=image, model=world.model, positive=world.positive, negative=world.negative, vae=vae,
                instantid=world.instantid, insightface=world.analysis, control_net=world.net, face_size=SIDE), **sampler,
                **given, **over})
        assert made["ui"]["text"] == [made["result"][3]]
        return made["result"]
    return call


@pytest.fixture
def people(nodes, person_of):
    """people(2, 5): the INSTANTID_PEOPLE of those faces."""
    return lambda *numbers: people_of(nodes, *({"person": person_of(number)} for number in numbers))
