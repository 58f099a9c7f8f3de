#!/usr/bin/env python3
"""Checks what is in this folder, for real where one machine can.

    check.py manifests                     every field of the Kubernetes manifests, against the official client's models
    check.py jobs TRILOBITE EVALDATA       the commands of the Kubernetes jobs, run here one after another
    check.py slurm TRILOBITE EVALDATA      a Slurm cluster of one node here runs submit.sh; the scores must be those of one run
    check.py balancer                      HAProxy before servers that count: what begins alike goes to the same
    check.py container TRILOBITE ROOTFS    the image around a given program, on a Debian in a folder, and what runs in it

manifests and jobs need the PyPI packages kubernetes (37 or later) and pyyaml; slurm, root and Debian's slurmctld, slurmd, slurm-client and munge;
balancer, Debian's haproxy and openssl; container, root and Debian's buildah, and a ROOTFS, which
`debootstrap --variant=minbase bookworm ROOTFS http://deb.debian.org/debian` makes.
"""

import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS, LIMIT, PARTS = "arc_easy,piqa", 8, 3


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE, **options).stdout


# ---- Kubernetes ------------------------------------------------------------------------------------------------
def faults(kind, document):
    """Unknown, missing and wrongly typed fields, by the official client's model of this kind."""
    import pydantic
    from kubernetes.client import models

    try:
        getattr(models, kind).model_validate(document)
        return []
    except pydantic.ValidationError as error:
        return [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]


def manifests():
    import yaml

    documents = [(path, document) for path in sorted((HERE / "kubernetes").glob("*.yaml"))
                 for document in yaml.safe_load_all(path.read_text())]
    found = []
    for path, document in documents:
        version = document["apiVersion"].split("/")[-1]
        found += [f"{path.name}: {document['kind']}.{fault}" for fault in faults(version.capitalize() + document["kind"], document)]
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
    assert len(faults("V1Service", wrong)) == 3, faults("V1Service", wrong)
    if found:
        sys.exit("\n".join(found))
    print(f"{len(documents)} manifests are right")


def items(folder):
    return {path.name: path.read_text() for path in folder.glob("*.jsonl")}


def jobs(program, data):
    import yaml

    folder = Path(tempfile.mkdtemp(prefix="jobs-check-"))
    (folder / "trilobite").symlink_to(program)
    places = {"/models/model.gguf ": "", "/evaldata": data, "/results": str(folder), "--threads 4": f"--limit {LIMIT}"}
    try:
        for name in ("eval", "merge"):
            job = yaml.safe_load((HERE / "kubernetes" / f"{name}.yaml").read_text())["spec"]
            (container,) = job["template"]["spec"]["containers"]
            (script,) = container["args"]
            for there, here in places.items():
                script = script.replace(there, here)
            environment = {**os.environ, **{entry["name"]: entry["value"] for entry in container["env"]}, "TASKS": TASKS,
                           "PATH": f"{folder}:{os.environ['PATH']}"}
            for index in range(job.get("completions", 1)):
                run(*container["command"], script, env={**environment, "JOB_COMPLETION_INDEX": str(index)})
        run(program, "eval", "--tasks", TASKS, "--data", data, "--limit", LIMIT, "--output", folder / "once")
        assert items(folder / "whole") == items(folder / "once"), "the parts are not the whole"
        print("the parts of the jobs are one run's results")
    finally:
        shutil.rmtree(folder)


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

    def until(self, condition, what, timeout=600):
        end = time.monotonic() + timeout
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


# ---- Load balancer ---------------------------------------------------------------------------------------------
class Counting(http.server.BaseHTTPRequestHandler):
    """Says which server it is, and streams."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        well = self.path == "/health" and self.server.well
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"data: %d\n\n" % self.server.server_port, b"data: [DONE]\n\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            self.server.go.wait(20)  # The second piece comes only after the client has seen the first.
        self.wfile.write(b"0\r\n\r\n")


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # The balancer's checks close their connections early.


def balancer():
    folder = Path(tempfile.mkdtemp(prefix="balancer-check-"))
    servers = [Quiet(("127.0.0.1", 0), Counting) for _ in range(2)]
    for server in servers:
        server.well, server.go = True, threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 1, "-subj", "/CN=localhost", "-keyout", folder / "key",
        "-out", folder / "cert", stderr=subprocess.DEVNULL)
    (folder / "pem").write_text((folder / "cert").read_text() + (folder / "key").read_text())
    (port,) = free_ports(1)
    settings = (HERE / "haproxy.cfg").read_text()
    for real, here in {":443": f"127.0.0.1:{port}", "/etc/haproxy/trilobite.pem": str(folder / "pem"),
                       "10.0.0.11:8080": f"127.0.0.1:{servers[0].server_port}", "10.0.0.12:8080": f"127.0.0.1:{servers[1].server_port}"}.items():
        assert real in settings, real
        settings = settings.replace(real, here)
    (folder / "haproxy.cfg").write_text(settings)
    run("haproxy", "-c", "-f", folder / "haproxy.cfg")
    proxy = subprocess.Popen(["haproxy", "-f", folder / "haproxy.cfg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trust = ssl.create_default_context(cafile=folder / "cert")

    def ask(body, path="/v1/chat/completions"):
        request = urllib.request.Request(f"https://localhost:{port}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=trust, timeout=30) as response:
            first = response.readline()
            for server in servers:
                server.go.set()
            response.read()
        return int(first.split()[1])

    def turn(user, turns):
        messages = [{"role": "system", "content": f"You help user {user}. " * 30}] + [{"role": "user", "content": "and then?"}] * turns
        return json.dumps({"model": "m", "messages": messages, "stream": True}).encode()

    def patiently(what, end=time.monotonic() + 30):
        while True:
            try:
                return what()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    try:
        patiently(lambda: ask(turn(0, 1)))
        for server in servers:
            server.go.clear()
        ask(turn(0, 1))
        print("streams go through piece by piece")
        places = {user: {ask(turn(user, turns)) for turns in (1, 2, 3)} for user in range(20)}
        assert all(len(place) == 1 for place in places.values()), places
        assert len(set.union(*places.values())) == 2, places
        print("conversations stay with a server, and both have some")
        try:
            ask(None, "/metrics")
            raise AssertionError("metrics are public")
        except urllib.error.HTTPError as error:
            assert error.code == 403, error
        servers[0].well = False
        until = time.monotonic() + 30
        while {ask(turn(user, 1)) for user in range(20)} != {servers[1].server_port}:
            assert time.monotonic() < until, "an unwell server is asked"
        print("a server that is not well is left out")
    finally:
        proxy.terminate()
        proxy.wait()
        shutil.rmtree(folder)


# ---- Container -------------------------------------------------------------------------------------------------
def container(program, rootfs):
    folder = Path(tempfile.mkdtemp(prefix="container-check-"))
    tool = ["buildah", "--storage-driver", "vfs", "--root", folder / "storage", "--runroot", folder / "run"]
    try:
        # No registry is asked: the program stands in for the build stage, ROOTFS for Debian's slim image.
        built = folder / "build" / "source" / "target" / "dist"
        built.mkdir(parents=True)
        shutil.copy(program, built / "trilobite")
        base = run(*tool, "from", "scratch").strip()
        run(*tool, "add", "--quiet", base, rootfs, "/")
        run(*tool, "commit", "--quiet", "--rm", base, "localhost/base")
        run(*tool, "build", "--quiet", "--format", "docker", "--isolation", "chroot", "--pull-never", "--build-arg", "BASE=localhost/base",
            "--build-arg", "BUILDER=localhost/base", "--build-context", f"build={folder}/build", "--tag", "localhost/trilobite",
            "--file", HERE / "Containerfile", HERE.parent)
        settings = json.loads(run(*tool, "inspect", "--type", "image", "localhost/trilobite"))["Docker"]["config"]
        assert settings["User"] == "65532:65532" and settings["Entrypoint"] == ["trilobite"], settings
        image = run(*tool, "from", "--pull-never", "localhost/trilobite").strip()
        inside = lambda *command: run(*tool, "run", "--isolation", "chroot", image, "--", *command)
        assert inside("id", "-u").strip() == "65532"
        assert inside("sh", "-c", "touch /data/x && echo yes").strip() == "yes"
        assert inside("sh", "-c", "touch /usr/x 2>/dev/null || echo no").strip() == "no"
        text = inside("trilobite", "run", "--quiet", "--prompt", "Once upon a time", "--temp", "0", "-n", "8")
        assert text == run(program, "run", "--quiet", "--prompt", "Once upon a time", "--temp", "0", "-n", "8"), text
        print(f"the image runs as user 65532, writes /data only and generates text: {text.strip()!r}")

        check = settings["Healthcheck"]["Test"]
        assert check[0] == "CMD", check
        healthy = lambda: subprocess.run([str(part) for part in (*tool, "run", "--isolation", "chroot", image, "--", *check[1:])], capture_output=True).returncode == 0
        assert not healthy(), "health without a server"
        unwell = Quiet(("127.0.0.1", 8080), Counting)
        unwell.well = False
        threading.Thread(target=unwell.serve_forever, daemon=True).start()
        assert not healthy(), "health of a server that is not well"
        unwell.shutdown()
        unwell.server_close()
        # The image's own command, which SIGTERM ends after a minute.
        command = ["timeout", "--preserve-status", "60", "trilobite", *settings["Cmd"]]
        server = subprocess.Popen([str(part) for part in (*tool, "run", "--isolation", "chroot", image, "--", *command)], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 50
        while not healthy():
            assert time.monotonic() < end and server.poll() is None, "the server is not healthy"
        assert server.wait(120) == 0, "SIGTERM does not end the server well"
        print("its server becomes healthy, and SIGTERM ends it")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    checks = {"manifests": manifests, "jobs": jobs, "slurm": slurm, "balancer": balancer, "container": container}
    if len(sys.argv) < 2 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    checks[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
