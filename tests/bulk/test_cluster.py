"""The engine on its own Dask cluster, with stand-ins of the servers."""

import asyncio
import contextlib
import dataclasses
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import dask
import pytest
from conftest import CHECKOUT

from bulk import BulkError
from bulk.results.ledger import Ledger
from bulk.running.runner import Run
from bulk.servers import cluster
from bulk.simulation import INFO, StandIns, make_plan

WITHOUT_NODE = {name: facts for name, facts in INFO.items() if name != "KSampler"}


def run(plan, said=None, meanwhile=lambda run: None):
    """The standing after a run. meanwhile: called a few times a second."""
    async def inside():
        async with cluster.connect(plan.settings, processes=False) as client:
            run = Run(plan, client, ledger, stream=said or sys.stderr)
            running = asyncio.ensure_future(run())
            while not (await asyncio.wait([running], timeout=0.1))[0]:
                meanwhile(run)
            await running
    with Ledger(plan.settings.output, plan.jobs()) as ledger:
        asyncio.run(inside())
        return ledger.standing


def test_every_job_is_computed_once_and_dask_keeps_nothing_of_it(tmp_path):
    kept = []

    def look(run):
        if len(run.standing.done) > 20:
            scheduler = run.client.cluster.scheduler
            kept.append((len(scheduler.tasks), len(scheduler.task_groups), len(run.client.futures),
                         len(scheduler.extensions["spans"].spans)))
    with StandIns(2, 0.02) as servers:
        standing = run(make_plan(tmp_path, 6, 120, servers.addresses), io.StringIO(), look)
        assert len(standing.done) == servers.computed.value == 120
    assert kept and max(map(max, kept)) < 12


def test_a_server_that_is_gone_is_set_aside_and_said_so(tmp_path):
    said = io.StringIO()
    with StandIns(1, 0.05) as good, StandIns(1, 0.05) as bad:
        def kill_one(run):
            if len(run.ledger.standing.done) > 10:
                bad.kill()
        plan = make_plan(tmp_path, 4, 100, good.addresses + bad.addresses)
        standing = run(plan, said, kill_one)
    assert len(standing.done) == 100 and not standing.ended_badly and not standing.open
    assert standing.servers[bad.addresses[0]][2] >= 3 and standing.servers[good.addresses[0]][2] == 0
    assert f"{bad.addresses[0]} has failed 3 times in a row and is set aside" in said.getvalue()
    assert f"failures: {bad.addresses[0]} {standing.servers[bad.addresses[0]][2]}" in said.getvalue()


def test_workers_that_the_user_has_started(tmp_path):
    """The commands of DEPLOYMENT.md with its configuration of TLS, on this machine."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("needs openssl")
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
                    "-days", "2", "-subj", "/CN=bulk"], cwd=tmp_path, capture_output=True, check=True)
    both = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    tls = {"distributed": {"comm": {"require-encryption": True, "tls": {
        "ca-file": both["cert"], "client": both, "scheduler": both, "worker": both}}}}
    (tmp_path / "bulk.yaml").write_text(json.dumps(tls))
    file = tmp_path / "scheduler.json"
    quiet = ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(StandIns(1, 0.0))
        variables = {**os.environ, "PYTHONPATH": str(CHECKOUT), "DASK_BULK__SERVER": server.addresses[0],
                     "DASK_CONFIG": str(tmp_path / "bulk.yaml")}
        for command in (["scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0"],
                        ["worker", "--nthreads", "3", "--memory-limit", "0"]):
            process = subprocess.Popen([sys.executable, "-m", "dask", *command, *quiet], env=variables, cwd=tmp_path,
                                       stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            while not (file.exists() and file.read_text().endswith("}")):
                assert process.poll() is None
                time.sleep(0.05)
        plan = make_plan(tmp_path, 2, 20, [])
        address = json.loads(file.read_text())["address"]
        plan.settings = dataclasses.replace(plan.settings, scheduler=address)
        with dask.config.set(dask.config.merge(dask.config.config, tls)):
            standing = run(plan)
    assert address.startswith("tls://127.0.0.1:")
    assert len(standing.done) == 20 and list(standing.servers) == [f"{server.addresses[0]} on {socket.gethostname()}"]


def test_a_run_without_servers_ends_when_its_patience_does(tmp_path):
    with StandIns(1, 0.0) as gone, StandIns(1, 0.0, WITHOUT_NODE) as unfit:
        gone.kill()
        plan = make_plan(tmp_path, 1, 2, gone.addresses + unfit.addresses)
        plan.settings = dataclasses.replace(plan.settings, patience_seconds=2)
        with pytest.raises(BulkError, match=r"No server can take jobs:(.|\n)*It has no node KSampler"):
            run(plan)
