"""A stand-in for comfy_aimdo's library, so that ComfyUI's dynamic VRAM runs on the simulated device of traffic.py.

Pages are a dictionary. At random a page that nobody uses loses its content, or a weight gets no pages at all: whoever uses a
weight that ComfyUI has not just fetched computes with NaN.
"""

import ctypes
import random
from collections import Counter
from types import SimpleNamespace

import torch

from .traffic import SimulatedTensor

PAGE = 1 << 16  # bytes; the library's are 32 MiB, more than the miniature has
EVICTED, REFUSED = 0.05, 0.05  # how often, of the weights that are fetched
SUCCESS, OUT_OF_MEMORY = 0, 1  # of vbar_fault
LOST = 0xFF  # each byte of a lost page: NaN in every floating-point format


class Range:
    """A model's weights: a range of addresses, and which of its pages have content."""

    def __init__(self, size):
        self.memory = torch.empty(size, dtype=torch.uint8)  # the system gives memory to what is written to only
        self.versions = {}  # page: the number of its content
        self.users = Counter()


class Library:
    """The library's functions that ComfyUI calls, by their names. counts: "fetched", "evicted", "refused" weights."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.ranges, self.counts, self.contents = {}, Counter(), 0

    def __getattr__(self, name):
        """All other functions do nothing and return 1, for success."""
        function = self.__dict__[name] = lambda *arguments: 1
        return function

    def allocate(self, context, size, device):
        made = Range(size)
        self.ranges[made.memory.data_ptr()] = made
        return made.memory.data_ptr()

    def fault(self, context, address, offset, size, signature):
        found = self.ranges[address]
        if found.versions and self.random.random() < EVICTED:
            self.evict(found, self.random.choice(list(found.versions)))
        if self.random.random() < REFUSED:
            self.counts["refused"] += 1
            return OUT_OF_MEMORY
        self.counts["fetched"] += 1
        for page in pages(offset, size):
            if page not in found.versions:
                self.contents += 1
                found.versions[page] = self.contents
            found.users[page] += 1
        signature[0] = hash(tuple(found.versions[page] for page in pages(offset, size))) % (1 << 32)
        return SUCCESS

    def evict(self, found, page):
        if not found.users[page]:
            del found.versions[page]
            found.memory[page * PAGE:(page + 1) * PAGE] = LOST
            self.counts["evicted"] += 1

    def unpin(self, context, address, offset, size):
        self.ranges[address].users.subtract(pages(offset, size))

    def install(self):
        """From now on comfy_aimdo loads this library. Comes before ComfyUI: its modules keep what they find loaded."""
        import comfy_aimdo.control as control
        import comfy_aimdo.torch
        functions = {"vbar_allocate": self.allocate, "vbar_fault": self.fault, "vbar_unpin": self.unpin,
                     "vbar_get": lambda context, address: address,
                     "vbar_free": lambda context, address: self.ranges.pop(address),
                     "vbar_loaded_size": lambda context, address: PAGE * len(self.ranges[address].versions),
                     "vbar_free_memory": lambda context, address, size: 0, "vbars_analyze": lambda context, log: 0,
                     "get_total_vram_usage": lambda context: sum(PAGE * len(each.versions) for each in self.ranges.values())}
        # the library's functions have attributes (argtypes), which methods cannot have
        self.__dict__.update({name: lambda *arguments, function=function: function(*arguments)
                              for name, function in functions.items()})
        control.ctypes = SimpleNamespace(**{**vars(ctypes), "CDLL": lambda path, mode: self})
        init_devices = control.init_devices
        control.init_devices = lambda devices: init_devices([0])  # while ComfyUI starts, its device is the CPU
        comfy_aimdo.torch.aimdo_to_tensor = self.tensor

    def tensor(self, allocation, device):
        """uint8 [size] of an allocation's addresses, on the simulated device."""
        vbar, address, size = allocation
        start = address - vbar.base_addr
        return SimulatedTensor(self.ranges[vbar.base_addr].memory[start:start + size])


def pages(offset, size):
    return range(offset // PAGE, (offset + size - 1) // PAGE + 1)
