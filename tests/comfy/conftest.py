"""A loaded workflow: a miniature SDXL, its IdentityNet, an adapter file, the face networks."""

import functools
import hashlib

import instantid_swift
import pytest
import safetensors.torch
import torch
from control_nets import prompt
from instantid_swift import caches
from instantid_swift.identity.adapter import load_adapter
from oracle import fixtures as fx
from oracle.cases import World


@pytest.fixture(scope="module", autouse=True)
def empty_caches():
    """No file of tests gets what another one has computed. Tests that count begin with caches.clear()."""
    caches.clear()


@pytest.fixture(scope="session")
def nodes():
    return instantid_swift.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="session")
def adapter_path(tmp_path_factory):
    """The miniature's adapter in the form of the real file: a torch pickle of two dictionaries."""
    path = tmp_path_factory.mktemp("instantid") / "ip-adapter.bin"
    torch.save(fx.instantid_checkpoint(), path)
    return path


class Remembering:
    """A network that runs once for each input, as the same few photos are looked at in hundreds of tests."""

    def __init__(self, session):
        self.session, self.results = session, {}

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, names, feed, *options):
        key = tuple(names or ()), *((value.shape, hashlib.sha1(value.tobytes()).digest()) for value in feed.values())
        if key not in self.results:
            self.results[key] = self.session.run(names, feed, *options)
        return [result.copy() for result in self.results[key]]


def loader(shape):
    """load(dtype): a miniature model and its IdentityNet, once for each precision."""
    @functools.cache
    def load(dtype):
        return fx.mini_sdxl(dtype=dtype, shape=shape), fx.mini_identity_net(dtype=dtype, shape=shape)
    return load


@pytest.fixture(scope="session")
def loaded():
    return loader(fx.SHALLOW)


@pytest.fixture(scope="session")
def full_loaded():
    """With all 70 blocks."""
    return loader(fx.SDXL_MINI)


@pytest.fixture(scope="session")
def world_with(adapter_path, face_root):
    """world_with((model, net)): a World."""
    analysis = fx.face_analysis(face_root)
    for network in (analysis.det_model, analysis.models["recognition"]):
        network.session = Remembering(network.session)
    instantid = load_adapter(str(adapter_path))

    def make(loaded):
        model, net = loaded
        return World(model=model, net=net, instantid=instantid, analysis=analysis, positive=prompt(11), negative=prompt(12))
    return make


@pytest.fixture(scope="session")
def world(world_with, loaded):
    return world_with(loaded(torch.float32))


@pytest.fixture(scope="session")
def full_world(world_with, full_loaded):
    """With all 70 blocks."""
    return world_with(full_loaded(torch.float32))


@pytest.fixture(scope="session")
def expected():
    return safetensors.torch.load_file(fx.__file__.replace("fixtures.py", "expected.safetensors"))
