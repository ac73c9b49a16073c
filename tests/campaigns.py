"""Runs of `python -m bulk` against real ComfyUI servers with the miniature models."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import environment
from conftest import CHECKOUT, DEV
from serving import demo_workflow, miniature
from serving.server import Server

VERSION = os.environ.get("BULK_COMFYUI", "0.30.0")
ENOUGH = 600        # seconds for anything


def start_server(log):
    miniature.write_adapter(DEV / "models" / "instantid")
    return Server(environment.comfyui(VERSION), models=DEV / "models", cpu=True, log=log)


def workflow(steps=2):
    """The demo's workflow with one output, short, and with titles as the editor exports them."""
    nodes = demo_workflow.build("none.png", miniature.ADAPTER, None, None, size=128, steps=steps)
    for name in ("numbered", "save_faces", "keypoints", "save_keypoints"):
        del nodes[name]
    for name, title in (("photo", "Photo"), ("positive", "Prompt"), ("sample", "Sampler"), ("save_picture", "Picture")):
        nodes[name]["_meta"] = {"title": title}
    return nodes


@dataclass
class Campaign:
    """A folder with JOBS.toml, and what its runs have left there."""

    folder: Path

    def command(self, *arguments):
        return [sys.executable, "-m", "bulk", str(self.folder / "JOBS.toml"), *arguments]

    def start(self, *arguments):
        """The command in a process (group) of its own; its output goes to the file `said`."""
        with open(self.folder / "said", "ab") as said:
            return subprocess.Popen(self.command(*arguments), cwd=CHECKOUT, stdout=said, stderr=subprocess.STDOUT,
                                    start_new_session=True)

    def run(self, *arguments):
        """Runs the command to its end; returns (exit code, what it said in this run)."""
        done = subprocess.run(self.command(*arguments), cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=ENOUGH)
        return done.returncode, done.stdout

    @property
    def ledger(self):
        path = self.folder / "output" / "ledger.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, event):
        return [line for line in self.ledger if line["event"] == event]

    @property
    def pictures(self):
        return sorted((self.folder / "output" / "results").glob("*.png"))

    def wait_for(self, condition, process):
        """Waits until a condition holds while the run goes on."""
        end = time.monotonic() + ENOUGH
        while not condition():
            assert process.poll() is None, (self.folder / "said").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)


def write_campaign(folder, servers, people, prompts=2, seeds=2, nodes=None, pattern="*.png", text=""):
    """The files of a run over photos of a folder, so many prompts and seeds. servers: addresses, or None.

    The prompts differ from those of campaigns in folders of other names.
    """
    (folder / "workflow.json").write_text(json.dumps(nodes or workflow()))
    (folder / "JOBS.toml").write_text(f"""
workflow = "workflow.json"
output = "output"
{f"servers = {json.dumps(servers)}" if servers else ""}
dashboard = "127.0.0.1:0"
{text}
[files]
photo = "Photo.image"
[inputs]
prompt = "Prompt.text"
seed = "Sampler.seed"
[product]
photo = {{folder = "{people}", pattern = "{pattern}"}}
prompt = {json.dumps([f"prompt number {number}, {folder.name}" for number in range(prompts)])}
seed = {{from = 1, to = {seeds}}}
""")
    return Campaign(folder)


def url_of(server):
    return f"http://{server.client.address}"


def computed(server):
    """How many prompts a server has computed since it was started, whether in whole or from its caches."""
    return len(re.findall(r"Prompt executed in", server.log.read_text(errors="replace")))
