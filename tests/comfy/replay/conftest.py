"""A stand-in for CUDA graphs in each test of this folder."""

import gc

import pytest
from instantid_swift.replay import graphs
from stand_ins.recorded import RecordedCuda, Recordings


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """The stand-in for torch.cuda; in no test may what it stands for have ended the process. Nothing is captured before."""
    cuda = RecordedCuda()
    monkeypatch.setattr(graphs, "backend", Recordings)
    monkeypatch.setattr(Recordings, "cuda", cuda)
    graphs.drop_now()
    graphs._of_modules.clear()
    yield cuda
    graphs.drop_now()
    gc.collect()
    assert cuda.faults == [] and cuda.current_stream().cuda_stream == 0 and cuda.get_sync_debug_mode() == 0
