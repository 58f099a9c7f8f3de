#!/usr/bin/env python3
"""Checks what is in this folder, for real where one machine can.

    check.py manifests                     every field of the Kubernetes manifests, against the official client's models
    check.py slurm TRILOBITE EVALDATA      a Slurm cluster of one node here runs submit.sh; the scores must be those of one run
    check.py container TRILOBITE ROOTFS    the image around a given program, on a Debian in a folder, and what runs in it

manifests needs the PyPI packages kubernetes and pyyaml; slurm, root and Debian's slurmctld, slurmd, slurm-client and munge;
container, root and Debian's buildah, and a ROOTFS by `debootstrap --variant=minbase bookworm ROOTFS`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS, LIMIT, PARTS = "arc_easy,piqa", 8, 3


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE, **options).stdout


# ---- Kubernetes ------------------------------------------------------------------------------------------------
def faults(models, kind, value, where):
    """What in a manifest is not as the client's model of its kind says: unknown, missing and wrongly typed fields."""
    if match := re.fullmatch(r"List\[(.*)\]", kind):
        if not isinstance(value, list):
            return [f"{where}: no list"]
        return [fault for at, item in enumerate(value) for fault in faults(models, match[1], item, f"{where}[{at}]")]
    if match := re.fullmatch(r"Dict\[str, (.*)\]", kind):
        if not isinstance(value, dict):
            return [f"{where}: no mapping"]
        return [fault for key, item in value.items() for fault in faults(models, match[1], item, f"{where}.{key}")]
    plain = {"str": str, "int": int, "bool": bool, "object": (int, str, dict), "float": (int, float)}
    if kind in plain:
        right = isinstance(value, plain[kind]) and (kind == "bool" or not isinstance(value, bool))
        return [] if right else [f"{where}: {value!r} is no {kind}"]
    model = getattr(models, kind)
    if not isinstance(value, dict):
        return [f"{where}: no mapping"]
    names = {name: attribute for attribute, name in model.attribute_map.items()}
    found = [f"{where}.{key}: no field of {kind}" for key in value if key not in names]
    inner = {names[key]: item for key, item in value.items() if key in names}
    for attribute, item in inner.items():
        found += faults(models, model.openapi_types[attribute], item, f"{where}.{model.attribute_map[attribute]}")
    try:
        model(**inner)  # Refuses what lacks a required field or breaks an enumeration.
    except ValueError as error:
        found.append(f"{where}: {error}")
    return found


def manifests():
    import yaml
    from kubernetes import client

    documents = [(path, document) for path in sorted((HERE / "kubernetes").glob("*.yaml"))
                 for document in yaml.safe_load_all(path.read_text())]
    found = []
    for path, document in documents:
        group, _, version = document["apiVersion"].rpartition("/")
        kind = version.capitalize() + document["kind"]
        found += faults(client.models, kind, document, f"{path.name}: {document['kind']}")
        template = document["spec"].get("template")
        selector = document["spec"].get("selector", {})
        if document["kind"] == "Deployment":
            labels = template["metadata"]["labels"]
            if not selector["matchLabels"].items() <= labels.items():
                found.append(f"{path.name}: the selector does not find the pods")
        for container in (template or {}).get("spec", {}).get("containers", []):
            volumes = {volume["name"] for volume in template["spec"]["volumes"]}
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes:
                    found.append(f"{path.name}: no volume {mount['name']}")
            variables = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
            if "completions" in document["spec"] and variables["SHARDS"] != str(document["spec"]["completions"]):
                found.append(f"{path.name}: SHARDS is not the number of completions")
    # The check itself must find faults.
    wrong = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": "80", "targetport": 1}], "sessionAffinity": True}}
    assert len(faults(client.models, "V1Service", wrong, "wrong")) == 3, faults(client.models, "V1Service", wrong, "wrong")
    if found:
        sys.exit("\n".join(found))
    print(f"{len(documents)} manifests are right")


# ---- Slurm -----------------------------------------------------------------------------------------------------
def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for probe in sockets:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in sockets]
    for probe in sockets:
        probe.close()
    return ports


class Cluster:
    """munged, slurmctld and slurmd on this machine, with all of their files in a folder."""

    def __init__(self, folder):
        self.folder, self.daemons = folder, []
        controller, node = free_ports(2)
        host = socket.gethostname().split(".")[0]
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 - 512
        # slurmd refuses more processors than it finds. Parts of one processor each then run beside each other.
        settings = {
            "ClusterName": "check", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmUser": "root", "SlurmctldPort": controller,
            "SlurmdPort": node, "AuthType": "auth/munge", "AuthInfo": f"socket={folder}/munge", "CredType": "cred/munge",
            "StateSaveLocation": folder / "state", "SlurmdSpoolDir": folder / "spool", "SlurmctldPidFile": folder / "ctl.pid",
            "SlurmdPidFile": folder / "node.pid", "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core_Memory", "SchedulerParameters": "sched_interval=2",
            "ReturnToService": 2, "MailProg": "/bin/true", "SwitchType": "switch/none",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines += [f"NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} State=UNKNOWN",
                  f"PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP"]
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "MUNGE_SOCKET": str(folder / "munge")}
        self.start("munged", "--foreground", "--force", f"--socket={folder}/munge", f"--key-file={folder}/key", f"--pid-file={folder}/munge.pid",
                   f"--log-file={folder}/munge.log", f"--seed-file={folder}/seed")
        self.until(lambda: (folder / "munge").exists(), "munged")
        self.start("slurmctld", "-D")
        self.start("slurmd", "-D", "-N", host)
        self.until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "the node")

    def start(self, *command):
        log = open(self.folder / f"{command[0]}.out", "w")
        self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def ask(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def until(self, condition, what, patience=600):
        end = time.monotonic() + patience
        while not condition():
            if time.monotonic() > end or any(daemon.poll() is not None for daemon in self.daemons):
                logs = "\n".join(f"{path}:\n{path.read_text()[-2000:]}" for path in self.folder.glob("*.out"))
                raise SystemExit(f"{logs}\nerror: waited for {what}")
            time.sleep(0.5)

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def items(folder):
    return {path.name: path.read_text() for path in folder.glob("*.jsonl")}


def slurm(program, data):
    folder = Path(tempfile.mkdtemp(prefix="slurm-check-"))
    cluster = None
    try:
        cluster = Cluster(folder)
        results = folder / "results"
        environment = {**cluster.environment, "PARTS": str(PARTS), "TASKS": TASKS, "DATA": data, "RESULTS": str(results),
                       "TRILOBITE": program, "EVAL_OPTIONS": f"--limit {LIMIT}"}
        small = ("--cpus-per-task=1", "--mem=1G")
        submit = lambda: run(HERE / "slurm" / "submit.sh", *small, env=environment, cwd=folder)
        print(submit(), end="")
        cluster.until(lambda: cluster.ask("squeue", "-h") == "", "the jobs")
        log = lambda: "\n".join(path.read_text() for path in results.glob("*.log"))
        assert (results / "whole" / "scores.json").exists(), log()
        run(program, "eval", "--tasks", TASKS, "--data", data, "--limit", LIMIT, "--output", folder / "once", "--threads", 1)
        assert items(results / "whole") == items(folder / "once"), "the parts are not the whole"
        parts = [len((results / f"part-{part}" / "piqa.jsonl").read_text().splitlines()) for part in range(1, PARTS + 1)]
        scores = json.loads((results / "whole" / "scores.json").read_text())["tasks"]
        assert sum(parts) == LIMIT and scores["piqa"]["n"] == LIMIT, (parts, scores)
        print(f"{PARTS} parts of {parts} items are the {LIMIT} of one run, in {TASKS}")

        # A part that fails: the merge must not come, and the same command must finish the rest.
        shutil.rmtree(results / "part-2")
        shutil.rmtree(results / "whole")
        (results / "part-2").write_text("not a folder")
        print(submit(), end="")
        cluster.until(lambda: cluster.ask("squeue", "-h") == "", "the jobs")
        assert not (results / "whole").exists(), "a merge without part 2"
        (results / "part-2").unlink()
        submit()
        cluster.until(lambda: cluster.ask("squeue", "-h") == "", "the jobs")
        assert items(results / "whole") == items(folder / "once"), "the parts are not the whole"
        print("a failed part keeps the merge back, and the same command finishes it")
    finally:
        if cluster:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    checks = {"manifests": manifests, "slurm": slurm, "container": container}
    if len(sys.argv) < 2 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    checks[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
