"""What crosses between host and device, counted by torch's operators; and a device for machines that have none.

    with simulated_device() as (device, watch), watch.count() as traffic:
        torch.ones(3).to(device).sum().item()
    assert traffic.counts == {("copies", TO_DEVICE, "tensors"): 1, ("bytes", TO_DEVICE, "tensors"): 12, "host reads": 1}

Seen is what torch does in this thread; other libraries' copies (onnxruntime's) are their own. Of the simulated device's memory
the most is known that was in use at once.
"""

import contextlib
import weakref
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

aten = torch.ops.aten
# for the result of these the host waits; the bytes are few
READS = (aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2)
# these arrive whole in inference mode, and otherwise as what they consist of
WHOLE = (aten.to, aten.type_as, aten.item, aten.is_nonzero)
TO_DEVICE, FROM_DEVICE = "to the device", "from the device"


class Traffic:
    """Counts of a stretch of work: "host reads", the values that the host waits for; and ("copies" or "bytes", direction,
    kind) of copies, where kind is what a function says of the tensor copied. most_bytes: that were in use at once on the
    simulated device, beyond those in use at the beginning; an operator's own temporary memory is not seen."""

    def __init__(self, kind):
        self.kind = kind
        self.counts = Counter()
        self.most_bytes, self._bytes_before = 0, memory.bytes

    def see_memory(self):
        self.most_bytes = max(self.most_bytes, memory.bytes - self._bytes_before)

    def see(self, operator, args, result):
        by_mask = operator is aten.index and any(index is not None and index.dtype == torch.bool for index in args[1])
        if operator in READS or by_mask:
            self.counts["host reads"] += args[0].device.type != "cpu"
        elif operator is aten._to_copy:
            self.copied(args[0], result)
        elif operator is aten.copy_:
            self.copied(args[1], args[0])

    def copied(self, source, target):
        to_device = target.device.type != "cpu"
        if to_device == (source.device.type != "cpu"):
            return
        on_device = target if to_device else source  # dtypes are changed on the host: this one's crosses
        way, kind = TO_DEVICE if to_device else FROM_DEVICE, self.kind(source)
        self.counts["copies", way, kind] += 1
        self.counts["bytes", way, kind] += target.numel() * on_device.element_size()


class Watch(TorchDispatchMode):
    """Sees torch's operators of this thread while it counts."""

    lasting = False  # whether it is entered all the time

    def __init__(self):
        super().__init__()
        self.counting = []

    @contextlib.contextmanager
    def count(self, kind=lambda tensor: "tensors"):
        traffic = Traffic(kind)
        self.counting.append(traffic)
        try:
            with contextlib.nullcontext() if self.lasting else self:
                yield traffic
        finally:
            self.counting.remove(traffic)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.overloadpacket in WHOLE:
            with self:
                return operator.decompose(*args, **kwargs or {})
        result = self.perform(operator, args, kwargs or {})
        for traffic in self.counting:
            traffic.see(operator.overloadpacket, args, result)
        return result

    def perform(self, operator, args, kwargs):
        return operator(*args, **kwargs)


class Memory:
    """What the simulated device's tensors take: each storage once, for as long as one of them lives."""

    def __init__(self):
        self.bytes = 0
        self._users = Counter()  # address of a storage: tensors in it

    def add(self, tensor):
        storage = tensor.host.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        self.bytes += size * (not self._users[address])
        self._users[address] += 1
        weakref.finalize(tensor, self._remove, address, size)
        for traffic in _active[-1].counting if _active else ():
            traffic.see_memory()

    def _remove(self, address, size):
        self._users[address] -= 1
        if not self._users[address]:
            del self._users[address]
            self.bytes -= size


memory = Memory()


class SimulatedTensor(torch.Tensor):
    """A tensor that says it is on the simulated device; `host` has its numbers."""

    @staticmethod
    def __new__(cls, host):
        return torch.Tensor._make_wrapper_subclass(cls, host.shape, strides=host.stride(), dtype=host.dtype,
                                                   storage_offset=host.storage_offset(), device="simulated:0")

    def __init__(self, host):
        self.host = host
        memory.add(self)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise RuntimeError(f"{operator} on the simulated device after its end.")


class SimulatedDevice(Watch):
    """While entered, torch has a further device, which computes on the CPU; as a real one it mixes with no host tensors."""

    lasting = True

    def __init__(self, modules_move):
        super().__init__()
        self.modules_move = modules_move

    def perform(self, operator, args, kwargs):
        on_device = mixed = False

        def host(value):
            nonlocal on_device, mixed
            if isinstance(value, SimulatedTensor):
                on_device = True
                return value.host
            if isinstance(value, list | tuple):
                return [host(item) for item in value]
            mixed |= isinstance(value, torch.Tensor) and value.ndim > 0
            return value

        hosts, options = [host(value) for value in args], {name: host(value) for name, value in kwargs.items()}
        if operator.overloadpacket is aten.copy_:
            on_device = isinstance(args[0], SimulatedTensor)
        elif self.modules_move and operator is aten._has_compatible_shallow_copy_type.default:
            return not mixed  # Module.to asks before it replaces its parameters
        elif on_device and mixed:
            raise RuntimeError(f"{operator}: expected all tensors to be on the same device.")
        if kwargs.get("device") is not None:
            on_device = torch.device(kwargs["device"]).type == "simulated"
            options["device"] = "cpu"
        result = operator(*hosts, **options)
        if not on_device:
            return result
        with torch.inference_mode(False):  # a wrapper made in inference mode could not be detached
            result = _on_device(result)
            return return_and_correct_aliasing(operator, args, kwargs, result) if operator._schema.is_mutable else result


def _on_device(result):
    if isinstance(result, torch.Tensor):
        return SimulatedTensor(result)
    return type(result)(map(_on_device, result)) if isinstance(result, list | tuple) else result


_active = []   # the simulated device, while there is one
_kernels = []  # torch forgets a library's kernels with the library


def _register():
    """Makes the device known to torch, for the life of the process, with the operators that torch calls past all modes.

    They are how a list becomes a tensor on a device: torch.tensor(list, device=...), tensor[list].
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    def empty_strided(size, stride, dtype=None, **options):
        return SimulatedTensor(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source, target, non_blocking=False):
        for traffic in _active[-1].counting:
            traffic.copied(source, target)
        target.host.copy_(source)
        return target

    _setup_privateuseone_for_python_backend("simulated")
    _kernels.append(torch.library.Library("aten", "IMPL"))
    _kernels[-1].impl("empty_strided", empty_strided, "PrivateUse1")
    _kernels[-1].impl("_copy_from", copy_from, "PrivateUse1")


@contextlib.contextmanager
def simulated_device(modules_move=False):
    """(torch.device, Watch): ComfyUI takes the device for its own while the context lasts. modules_move: whether Module.to
    works between it and the host, so that ComfyUI can unload models."""
    import comfy.model_management as management
    if not _kernels:
        _register()
    device, plenty = torch.device("simulated:0"), 1 << 40
    over = {  # DirectML's is the way for a device whose memory torch cannot tell
        "directml_enabled": True, "directml_device": device,
        "get_free_memory": lambda device=None, torch_free_too=False: (plenty, plenty) if torch_free_too else plenty}
    before = {name: getattr(management, name, None) for name in over}
    try:
        for name, value in over.items():
            setattr(management, name, value)
        with SimulatedDevice(modules_move) as watch:
            _active.append(watch)
            yield device, watch
            management.unload_all_models()
    finally:
        _active.clear()
        for name, value in before.items():
            setattr(management, name, value)
