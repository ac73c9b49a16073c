"""What is kept between runs: never a stale result, never more than the budgets, nothing that a user can change."""

import gc
import shutil
import tracemalloc

import pytest
import torch
from instantid_swift import caches, faces
from instantid_swift.identity.bank import Identity
from oracle import cases
from oracle import fixtures as fx
from photos import six_portraits

# ---- a moved slider


@pytest.mark.newest
def test_a_new_weight_costs_no_network_and_no_projection(nodes, world, counted):
    analysis, detector, embedder = counted
    module, projected = world.instantid.module, []
    hooks = [layer.register_forward_hook(lambda *args: projected.append(1))
             for layer in (module.image_proj.proj_in, *module.to_k, *module.to_v)]
    runs = []
    for weight in (0.8, 0.5, 1.1):
        cases.apply(nodes, world, insightface=analysis, weight=weight)
        runs.append((detector.runs, embedder.runs, len(projected)))
    for hook in hooks:
        hook.remove()
    assert runs == [(1, 1, 2 * 141)] * 3, "the resampler and 140 projections, for cond and uncond"


# ---- never stale


@pytest.mark.newest
def test_a_picture_edited_in_place(world, counted):
    """The same tensor at the same address, another person in it; then a single pixel changed."""
    analysis, detector, _ = counted
    image = fx.portrait("a").clone()
    first = faces.Photos(analysis, image).references()
    image.copy_(fx.portrait("b"))
    second = faces.Photos(analysis, image).references()
    assert torch.equal(second, faces.Photos(analysis, fx.portrait("b")).references()) and not torch.allclose(first, second)
    image[0, 0, 0, 0] = 1 - image[0, 0, 0, 0]
    before = detector.runs
    faces.Photos(analysis, image).references()
    assert detector.runs == before + 1


@pytest.fixture(scope="module")
def other_adapter(adapter_path, tmp_path_factory):
    """Another adapter's file, with the keys negated."""
    path, tensors = tmp_path_factory.mktemp("other") / "other.bin", torch.load(adapter_path)
    tensors["ip_adapter"] = {name: -tensor if "to_k" in name else tensor for name, tensor in tensors["ip_adapter"].items()}
    torch.save(tensors, path)
    return path


def keys_of(nodes, world, adapter):
    model, _ = cases.patch(nodes, world, instantid=adapter)
    patches = model.model_options["transformer_options"]["patches_replace"]["attn2"]
    return patches["input", 4, 0].terms[0].identity.keys[0]


@pytest.mark.newest
def test_another_adapter_under_the_same_name(nodes, world, adapter_path, other_adapter, tmp_path, monkeypatch):
    """The loader notices the new file, ComfyUI runs it again, and nothing of the old one is used."""
    import folder_paths
    file = tmp_path / "adapters" / "ip-adapter.bin"
    file.parent.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "instantid", ([str(file.parent)], {".bin"}))
    loader, found, states = nodes["InstantIDModelLoader"], [], []
    for source in (adapter_path, other_adapter, adapter_path):
        shutil.copyfile(source, file)
        states.append(loader.IS_CHANGED(instantid_file=file.name))
        found.append(keys_of(nodes, world, loader().load_model(instantid_file=file.name)[0]))
    assert len(set(states)) == 3 and loader.IS_CHANGED(instantid_file=file.name) == states[-1]
    assert torch.equal(found[1], -found[0]) and torch.equal(found[2], found[0])


def test_what_is_handed_out_may_be_changed(nodes, world):
    """Tokens, hint and drawing belong to whoever gets them."""
    def run():
        model, positive, negative = cases.apply(nodes, world)
        _, embeds = cases.patch(nodes, world)
        drawn, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("a"))
        options = [entry[0][1] for entry in (positive, negative)]
        return [*(of["cross_attn_controlnet"] for of in options), options[0]["control"].cond_hint_original,
                embeds["cond"], embeds["uncond"], drawn]
    first = run()
    expected = [tensor.clone() for tensor in first]
    for tensor in first:
        tensor.zero_()
    assert all(map(torch.equal, run(), expected))


# ---- never more than the budgets


@pytest.mark.newest
def test_no_more_identities_than_the_budget_holds(world, monkeypatch):
    def identity(number):
        return world.instantid.identity(torch.full((1, 1, 512), float(number)), torch.zeros(1, 1, 512), torch.float32)

    small = caches.Cache("identities", lambda identity: identity.bytes, 3 * identity(0).bytes)
    monkeypatch.setattr(caches, "identities", small)
    before = sum(isinstance(thing, Identity) for thing in gc.get_objects())
    for number in range(10):
        identity(number // 2)
    gc.collect()
    assert sum(isinstance(thing, Identity) for thing in gc.get_objects()) - before == small.statistics()["entries"] == 3
    assert small.statistics()["hits"] == small.statistics()["misses"] == 5


@pytest.mark.newest
def test_a_sixth_photo_is_the_only_one_that_is_looked_at(counted):
    analysis, detector, embedder = counted
    first = faces.Photos(analysis, six_portraits()[:5]).references()
    runs = detector.runs, embedder.runs
    together = faces.Photos(analysis, six_portraits()).references()
    assert (detector.runs - runs[0], embedder.runs - runs[1]) == (1, 1)
    assert torch.equal(together[:5], first)
    caches.clear()
    assert torch.equal(faces.Photos(analysis, six_portraits()).references(), together), "the same as all at once"


@pytest.mark.newest
@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.long)])
def test_repetitions_take_no_more_memory(nodes, world, ours, times):
    """A workflow several times, sampled at every other one: what is allocated stays the same."""
    def run(number):
        wired = cases.apply(nodes, world, insightface=ours, weight=0.5 + number % 2)
        if number % 2 == 0:
            fx.sample(*wired, steps=1, size=(8, 8))
        del wired
        gc.collect()
    tracemalloc.start()
    try:
        for number in range(3):
            run(number)
        before = tracemalloc.get_traced_memory()[0]
        tensors = sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
        for number in range(times):
            run(number)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000 + 1_500 * times  # of which nothing is a tensor
        assert sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()) == tensors
    finally:
        tracemalloc.stop()


def test_nothing_of_a_sampling_outlives_it(nodes, world):
    """Layouts for the batch and masks at each resolution."""
    kept = []
    model = cases.apply(nodes, world, mask=cases.left_half())[0]

    def look(executor, *args, **kwargs):
        kept.append(executor.class_obj.model_options["transformer_options"]["instantid_swift_sampling_cache"])
        return executor(*args, **kwargs)
    from comfy.patcher_extension import WrappersMP
    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "test", look)
    fx.sample(model, world.positive, world.negative, steps=2, batch=2, size=(16, 16))
    (of_run,) = kept
    assert len(of_run) == 5, "a layout, the mask, two grids, and whether another pack has compiled the model"
    import weakref
    gone = weakref.ref(of_run)
    kept.clear()
    del of_run
    gc.collect()
    assert gone() is None
