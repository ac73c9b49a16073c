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

import pytest
from conftest import CHECKOUT

from bulk import BulkError
from bulk.results.ledger import Ledger
from bulk.running.runner import Run
from bulk.servers import cluster
from bulk.simulation.__main__ import INFO, make_plan, measure
from bulk.simulation.stand_in import StandIns

WITHOUT_NODE = {name: facts for name, facts in INFO.items() if name != "KSampler"}


def test_every_job_is_computed_once():
    assert measure(servers=3, jobs=60, people=6, samples=[0.0, 0.02])["jobs"] == 60


def run(plan, said=None, meanwhile=lambda run: None):
    """(Dask's address, standing) after a run. meanwhile: called a few times a second."""
    async def inside():
        async with cluster.connect(plan.settings, processes=False) as client:
            run = Run(plan, client, ledger, stream=said or sys.stderr)
            running = asyncio.ensure_future(run())
            while not (await asyncio.wait([running], timeout=0.1))[0]:
                meanwhile(run)
            await running
            return client.scheduler.address
    with Ledger(plan.settings.output, plan.index()) as ledger:
        return asyncio.run(inside()), ledger.standing


def test_dask_keeps_nothing_of_jobs_that_have_ended(tmp_path):
    kept = []

    def look(run):
        if len(run.ledger.standing.done) > 20:
            scheduler = run.client.cluster.scheduler
            kept.append((len(scheduler.tasks), len(scheduler.task_groups), len(run.client.futures),
                         len(scheduler.extensions["spans"].spans)))
    with StandIns(1, [0.02], INFO) as server:
        run(make_plan(tmp_path, 1, 60, server.addresses), io.StringIO(), look)
    assert kept and max(map(max, kept)) < 10


def test_a_server_that_is_gone_is_set_aside_and_said_so(tmp_path):
    said = io.StringIO()
    with StandIns(1, [0.05], INFO) as good, StandIns(1, [0.05], INFO) as bad:
        def kill_one(run):
            if len(run.ledger.standing.done) > 10:
                bad.kill()
        plan = make_plan(tmp_path, 4, 100, good.addresses + bad.addresses)
        _, standing = run(plan, said, kill_one)
    assert len(standing.done) == 100 and not standing.ended_badly and not standing.open
    assert standing.servers[bad.addresses[0]][2] >= 3 and standing.servers[good.addresses[0]][2] == 0
    assert f"{bad.addresses[0]} has failed 3 times in a row and is set aside" in said.getvalue()


def test_tls(tmp_path):
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("needs openssl")
    made = subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
                           "-days", "2", "-subj", "/CN=bulk"], cwd=tmp_path, capture_output=True)
    assert made.returncode == 0, made.stderr
    files = {f"tls_{role}_{kind}": str(tmp_path / f"{kind}.pem") for role in ("client", "scheduler", "worker")
             for kind in ("cert", "key")}
    with StandIns(1, [0.0], INFO) as servers:
        plan = make_plan(tmp_path, 1, 2, servers.addresses)
        plan.settings = dataclasses.replace(plan.settings, tls={"tls_ca_file": str(tmp_path / "cert.pem"), **files})
        address, standing = run(plan)
    assert address.startswith("tls://127.0.0.1:")
    assert len(standing.done) == 2


def test_workers_that_the_user_has_started(tmp_path):
    """The commands of DEPLOYMENT.md, on this machine."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = ["--dashboard-address", "127.0.0.1:0"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(StandIns(1, [0.0], INFO))
        variables = {**os.environ, "PYTHONPATH": str(CHECKOUT), "DASK_BULK__SERVER": server.addresses[0]}
        for command in (["scheduler", "--host", "127.0.0.1", "--port", "0", *quiet],
                        ["worker", "--nthreads", "3", "--memory-limit", "0", *quiet]):
            process = subprocess.Popen([*dask, *command, "--scheduler-file", str(file)], env=variables, cwd=tmp_path,
                                       stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            while not (file.exists() and file.read_text().endswith("}")):
                assert process.poll() is None
                time.sleep(0.05)
        plan = make_plan(tmp_path, 2, 20, [])
        address = json.loads(file.read_text())["address"]
        plan.settings = dataclasses.replace(plan.settings, scheduler=address)
        _, standing = run(plan, io.StringIO())
    assert len(standing.done) == 20 and list(standing.servers) == [f"{server.addresses[0]} on {socket.gethostname()}"]


def test_a_run_without_servers_ends_when_its_patience_does(tmp_path):
    with StandIns(1, [0.0], INFO) as gone, StandIns(1, [0.0], WITHOUT_NODE) as unfit:
        gone.kill()
        plan = make_plan(tmp_path, 1, 2, gone.addresses + unfit.addresses)
        plan.settings = dataclasses.replace(plan.settings, patience_seconds=2)
        with pytest.raises(BulkError, match=r"No server can take jobs:(.|\n)*It has no node KSampler"):
            run(plan)
