"""The hardware that runs the face networks: the node's choices, sessions on them, and the reason where one is not available.

onnxruntime falls back to the CPU by itself, often without a message that a user sees. So a new session is asked where it runs.
"""

import ctypes
import functools
import importlib
import os
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from ..utils import InstantIDError


class Provider(NamedTuple):
    """A choice of the node."""
    names: tuple  # onnxruntime's for it, without "ExecutionProvider"; the first that is offered is used
    package: str  # the Python package that brings it
    options: dict


_BY_NAME = {
    "CPU": Provider(("CPU",), "onnxruntime", {}),
    # Convolutions are searched as onnxruntime does by default, and so the original: another way to search may choose others,
    # and change the last bits of embeddings. ComfyUI does not see onnxruntime's memory: it takes no more than it needs.
    # No gpu_mem_limit: it would make runs fail for which there is memory.
    "CUDA": Provider(("CUDA",), "onnxruntime-gpu", {"arena_extend_strategy": "kSameAsRequested"}),
    "ROCM": Provider(("ROCM", "MIGraphX"), "onnxruntime-migraphx", {}),  # the second is AMD's since ROCm 7.1
    # with inputs of varying size, using all of CoreML's units can end the process: insightface uses these, too
    "CoreML": Provider(("CoreML",), "onnxruntime", {"MLComputeUnits": "CPUAndGPU"}),
}
PROVIDERS = list(_BY_NAME)  # the node's choices, which stand in saved workflows
RUNTIMES = {"onnxruntime", *(f"onnxruntime-{kind}" for kind in ("gpu", "rocm", "migraphx", "directml", "openvino"))}


def import_packages():
    """Raises InstantIDError if a Python package that the networks need cannot be imported."""
    for package in ("onnxruntime", "insightface"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InstantIDError(f"The Python package {package} cannot be imported ({error}). Run `python -m pip install "
                                 f"{package}` with the Python that runs ComfyUI, then restart it.") from error


def open_session(network, provider):
    """Returns an onnxruntime InferenceSession on the given hardware, or on the CPU where that is not available.

    network: path of an ONNX file. provider: one of PROVIDERS.
    """
    import onnxruntime
    name = _offered_name(provider)
    if name == "CUDAExecutionProvider":
        _preload_cuda()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    # with spinning, the threads of the network that ran last keep the cores busy that the next one needs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # no warnings at each run whose batch or size is not the one in the file
    if name == "CUDAExecutionProvider":  # weights outside of the arena, which can then be given back whole
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    wanted = {"CPUExecutionProvider": {}} if name is None else {name: _BY_NAME[provider].options, "CPUExecutionProvider": {}}
    session = onnxruntime.InferenceSession(network, options, providers=list(wanted.items()))
    if "CUDAExecutionProvider" in session.get_providers():
        _give_memory_back_after_each_run(session)
    return session


def _offered_name(provider):
    """Returns onnxruntime's name for a choice of the node, None where the installed onnxruntime does not offer it."""
    import onnxruntime
    offered = onnxruntime.get_available_providers()
    return next((name for short in _BY_NAME[provider].names if (name := f"{short}ExecutionProvider") in offered), None)


def _give_memory_back_after_each_run(session):
    """Makes each run end with the arena's memory given back to the GPU, where ComfyUI samples next."""
    import onnxruntime
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")
    session.run = functools.partial(session.run, run_options=options)


def usable_cpus():
    """Returns the number of processor cores that this process may use; onnxruntime would use threads for all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _preload_cuda():
    """Lets onnxruntime find the CUDA libraries that came with torch or as Python packages; older versions cannot."""
    import onnxruntime
    getattr(onnxruntime, "preload_dlls", lambda: None)()


def describe_fallback(provider, session):
    """Returns why a session runs on the CPU in place of a provider, and what to do; an empty string where it does not."""
    if _offered_name(provider) in session.get_providers():
        return ""
    reason, remedy = fallback_reason(provider)
    return f"The provider {provider} is not available, faces are analysed on the CPU: {reason} {remedy}"


def fallback_reason(provider):
    """Returns (why a session does not run on a provider, what to do about it), as far as can be told from here."""
    import onnxruntime
    package = _BY_NAME[provider].package
    installed = _installed_onnxruntimes()
    restart = "with the Python that runs ComfyUI, then restart it."
    if name := _offered_name(provider):
        missing = _library_error(name.removesuffix("ExecutionProvider").lower())
        if missing and provider == "CUDA":
            return (f"{package} {onnxruntime.__version__} cannot load its libraries ({missing}).",
                    f'Run `python -m pip install "onnxruntime-gpu[cuda,cudnn]"` {restart}')
        if provider == "CUDA" and not torch.cuda.is_available():
            return "there is no CUDA device that torch could use.", "Install NVIDIA's driver, or choose CPU."
        return (f"onnxruntime {onnxruntime.__version__} could not start it ({missing or 'its own message is above'}).",
                f"Run `python -m pip install --upgrade {package}` {restart}")
    if provider == "CoreML":
        return "the installed onnxruntime has no CoreML, which exists on macOS only.", "Choose CPU."
    reinstall = (f"Run `python -m pip uninstall -y {' '.join(installed) or package}`, then `python -m pip install {package}`, "
                 f"{restart}")
    if package in installed and len(installed) > 1:
        return (f"{' and '.join(installed)} are both installed, but share one folder, in which only the last one works.",
                reinstall)
    if package in installed:
        return f"the installed {package} {onnxruntime.__version__} does not offer it.", reinstall
    return f"the Python package {package} is missing; {' and '.join(installed) or 'onnxruntime'} cannot do it.", reinstall


def _installed_onnxruntimes():
    names = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in metadata.distributions()}
    return sorted(names & RUNTIMES)


def _library_error(library):
    """Returns the error with which a provider's shared library fails to load; None if it loads, or there is none."""
    import onnxruntime
    for path in Path(onnxruntime.__file__).parent.glob(f"capi/*onnxruntime_providers_{library}.*"):
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            return str(error)
    return None
