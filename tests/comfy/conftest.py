"""A loaded workflow: the oracle's miniature SDXL, its IdentityNet, an adapter file, the face networks."""

import functools

import instantid_swift
import pytest
import safetensors.torch
import torch
from control_nets import prompt
from oracle import fixtures as fx
from oracle.cases import World


@pytest.fixture(scope="session")
def nodes():
    return instantid_swift.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="session")
def adapter_path(tmp_path_factory):
    """The miniature's adapter in the form of the real file: a torch pickle of two dictionaries."""
    path = tmp_path_factory.mktemp("instantid") / "ip-adapter.bin"
    torch.save(fx.instantid_checkpoint(), path)
    return path


@pytest.fixture
def checkpoint(adapter_path):
    """What is in the adapter's file: two dictionaries of tensors."""
    return torch.load(adapter_path, mmap=True)


@pytest.fixture(scope="session")
def loaded(world):
    """loaded(dtype): the miniature model and IdentityNet in a precision."""
    @functools.cache
    def of(dtype):
        if dtype == torch.float32:
            return world.model, world.net
        return fx.mini_sdxl(dtype=dtype), fx.mini_identity_net(dtype=dtype)
    return of


@pytest.fixture(scope="session")
def world(adapter_path, face_root):
    from instantid_swift.identity.adapter import load_adapter
    return World(model=fx.mini_sdxl(), net=fx.mini_identity_net(), instantid=load_adapter(str(adapter_path)),
                 analysis=fx.face_analysis(face_root), positive=prompt(11), negative=prompt(12))


@pytest.fixture(scope="session")
def expected():
    return safetensors.torch.load_file(fx.__file__.replace("fixtures.py", "expected.safetensors"))
