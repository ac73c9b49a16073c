"""The hardware under the face networks: what is asked for, what onnxruntime does, what the user is told."""

import os

import onnxruntime
import pytest
import torch
from instantid_swift.faces import providers
from instantid_swift.faces.analysis import open_face_analysis
from instantid_swift.faces.providers import describe_fallback, fallback_reason, open_session

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def network(face_files):
    return str(face_files / "w600k_mbf.onnx")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes Python packages count as installed beside the real onnxruntime."""
    def install(*names):
        for name in names:
            folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_the_cpu_runs_without_a_word(network):
    session = open_session(network, "CPU")
    assert session.get_providers() == CPU and describe_fallback("CPU", session) == ""


@pytest.mark.parametrize("provider, package", [("CUDA", "onnxruntime-gpu"), ("ROCM", "onnxruntime-migraphx")])
def test_a_package_is_missing(face_root, provider, package):
    """The warning has the line that mends it."""
    analysis = open_face_analysis([str(face_root)], provider)
    assert analysis.det_model.session.get_providers() == CPU
    warning = analysis.fallback
    assert f"The provider {provider} is not available, faces are analysed on the CPU" in warning
    assert f"the Python package {package} is missing; onnxruntime cannot do it" in warning
    assert f"Run `python -m pip uninstall -y onnxruntime`, then `python -m pip install {package}`" in warning


def test_a_provider_of_another_system():
    reason, remedy = fallback_reason("CoreML")
    assert "macOS" in reason and remedy == "Choose CPU."


@pytest.mark.parametrize("provider, why, package", [
    ("CUDA", "onnxruntime and onnxruntime-gpu are both installed", "onnxruntime-gpu"),
    ("ROCM", "the Python package onnxruntime-migraphx is missing; onnxruntime and onnxruntime-gpu cannot do it",
     "onnxruntime-migraphx")])
def test_two_packages_are_installed(installed, provider, why, package):
    """They share a folder, and pip installs one over the other: the usual reason why CUDA is gone."""
    installed("onnxruntime-gpu")
    reason, remedy = fallback_reason(provider)
    assert reason.startswith(why)
    assert f"pip uninstall -y onnxruntime onnxruntime-gpu`, then `python -m pip install {package}`" in remedy


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("offered, used", [(["MIGraphX"], "MIGraphX"), (["MIGraphX", "ROCM"], "ROCM")])
def test_rocm_is_migraphx_where_that_is_what_onnxruntime_offers(network, monkeypatch, offered, used):
    asked = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, network, options, providers):
            asked.extend(name for name, _ in providers)
            super().__init__(network, options, providers=CPU)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [f"{name}ExecutionProvider" for name in offered])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    open_session(network, "ROCM")
    assert asked == [f"{used}ExecutionProvider", *CPU]


@pytest.fixture
def promising(monkeypatch):
    """onnxruntime promises CUDA, as onnxruntime-gpu does on every machine, and then has to do without."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    offered = ["CUDAExecutionProvider", *onnxruntime.get_available_providers()]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)


@pytest.mark.filterwarnings("ignore:Specified provider")  # onnxruntime's, by the same reason
def test_the_session_is_asked_what_it_runs_on(network, promising):
    session = open_session(network, "CUDA")
    warning = describe_fallback("CUDA", session)
    assert session.get_providers() == CPU
    assert "The provider CUDA is not available, faces are analysed on the CPU" in warning
    assert "there is no CUDA device that torch could use" in warning


def test_libraries_that_cannot_be_loaded_are_named(promising, tmp_path, monkeypatch):
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    reason, remedy = fallback_reason("CUDA")
    assert "cannot load its libraries (" in reason and "libonnxruntime_providers_cuda.so" in reason
    assert 'Run `python -m pip install "onnxruntime-gpu[cuda,cudnn]"`' in remedy


def test_on_cuda_convolutions_are_the_originals_and_memory_is_given_back(network, promising, monkeypatch):
    """No search of our own, an arena that grows by what is asked for and shrinks after each run; torch's libraries are found.

    ComfyUI neither sees this memory nor can it free it."""
    asked, preloaded, runs = [], [], []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, network, options, providers):
            asked.append((providers, options))
            super().__init__(network, options, providers=CPU)

        def get_providers(self):
            return [asked[-1][0][0][0], *CPU]

        def run(self, output_names, inputs, run_options=None):
            runs.append(run_options.get_run_config_entry("memory.enable_memory_arena_shrinkage"))
    providers._preload_cuda.cache_clear()
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: preloaded.append(True))
    for _ in range(2):
        session = open_session(network, "CUDA")
    (cuda, *_), options = asked[0]
    assert cuda == ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"}) and preloaded == [True]
    assert options.get_session_config_entry("session.use_device_allocator_for_initializers") == "1"
    session.run(["output"], {"input": None})  # as insightface calls it
    assert runs == ["gpu:0"]
    providers._preload_cuda.cache_clear()


def test_threads_are_those_that_the_process_may_use(network):
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options = open_session(network, "CPU").get_session_options()
    assert options.intra_op_num_threads == cpus
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
