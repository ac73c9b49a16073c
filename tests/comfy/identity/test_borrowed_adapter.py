"""INSTANTID from another pack, whose loader has the id of ours: its weights are used, or the pack is named."""

import dataclasses
import gc
import importlib.util
import sys
import weakref

import pytest
import torch
from instantid_swift.identity.adapter import AdapterFileError, usable_adapter
from instantid_swift.resampler import Resampler
from oracle import cases
from oracle import fixtures as fx

TINY = {"steps": 1, "size": (8, 8)}


@pytest.fixture
def pack(tmp_path):
    """Another pack's module, as ComfyUI imports it: by its path, under a name made of it."""
    folder = tmp_path / "custom_nodes" / "ComfyUI_Other"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import torch\nclass Theirs(torch.nn.Module):\n    pass\n")
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture
def theirs(pack, checkpoint):
    """The miniature's adapter as another pack's object: weights under names without dots."""
    loaded = pack.Theirs()
    loaded.image_proj_model = Resampler()
    loaded.image_proj_model.load_state_dict(checkpoint["image_proj"])
    loaded.ip_layers = torch.nn.Module()
    loaded.ip_layers.to_kvs = torch.nn.ModuleDict()
    for name, weight in checkpoint["ip_adapter"].items():
        layer = loaded.ip_layers.to_kvs[name.removesuffix(".weight").replace(".", "_")] = torch.nn.Linear(
            *weight.shape[::-1], bias=False)
        layer.weight = torch.nn.Parameter(weight)
    return loaded


@pytest.mark.newest
def test_an_adapter_of_another_pack_works_as_ours(nodes, world, theirs):
    before = {name: (weight, weight._version) for name, weight in theirs.named_parameters()}
    ours, borrowed = (fx.sample(*cases.advanced(nodes, world, instantid=adapter, noise=0.3), **TINY)
                      for adapter in (world.instantid, theirs))
    assert torch.equal(ours, borrowed)
    assert torch.equal(*(cases.patch(nodes, world, instantid=adapter)[1]["cond"] for adapter in (world.instantid, theirs)))
    assert before.keys() == dict(theirs.named_parameters()).keys()
    assert all(weight is before[name][0] and weight._version == before[name][1] for name, weight in theirs.named_parameters())


@pytest.mark.newest
def test_an_object_that_no_dictionary_takes_as_a_key(theirs):
    """As a dataclass is one, which compares its fields."""
    @dataclasses.dataclass
    class Loaded:
        image_proj_model: torch.nn.Module
        ip_layers: torch.nn.Module
    loaded = Loaded(theirs.image_proj_model, theirs.ip_layers)
    adapter = usable_adapter(loaded)
    assert usable_adapter(loaded) is adapter
    assert usable_adapter(dataclasses.replace(loaded)).key != adapter.key, "it is equal, but another object"


@pytest.mark.newest
def test_it_is_taken_once_and_copies_no_weight(theirs):
    adapter = usable_adapter(theirs)
    assert usable_adapter(theirs) is adapter and usable_adapter(adapter) is adapter
    storages = {weight.data_ptr() for weight in theirs.parameters()}
    assert {weight.data_ptr() for weight in adapter.module.parameters()} == storages


@pytest.mark.newest
def test_its_weights_go_with_the_other_packs_object(pack, theirs):
    """They stayed in a cache, where nothing could ask for them any more."""
    owner = pack.Theirs()
    owner.image_proj_model, owner.ip_layers = theirs.image_proj_model, theirs.ip_layers
    adapter = weakref.ref(usable_adapter(owner))
    assert adapter() is usable_adapter(owner)
    del owner
    gc.collect()
    assert adapter() is None


def broken(pack, theirs, kind):
    if kind == "another object":
        return pack.Theirs()
    if kind == "too few layers":
        del theirs.ip_layers.to_kvs["139_to_v_ip"]
    else:
        theirs.image_proj_model.proj_in = torch.nn.Linear(1024, 1280)
    return theirs


@pytest.mark.newest
@pytest.mark.parametrize("kind, words", [
    ("another object", "It has no image_proj_model and ip_layers"), ("too few layers", "It lacks 1 of the 140 projections"),
    ("another resampler", "do not fit InstantID's"),
])
def test_what_cannot_be_used_is_refused_with_the_packs_name(nodes, world, pack, theirs, kind, words):
    message = f"a Theirs of ComfyUI_Other, which InstantID Swift cannot use.*{words}.*Connect"
    with pytest.raises(AdapterFileError, match=message):
        cases.apply(nodes, world, instantid=broken(pack, theirs, kind))
