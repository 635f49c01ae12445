"""Measures a node while its control plane tells of 100,000 workloads; see scripts/xds-scale.

Two pods of one host talk through the node's own tunnels, at a fixed rate and over connections that stay: how late an
answer comes is how long the data path stood still. A second node does the same with a control plane that says nothing
meanwhile: what this machine does to any program is told by it. Order of a repetition: quiet, told (100,000 new), changed
(all of them anew), away (the control plane is gone for 20 s, and comes back with all of them changed), gone (none).
"""

import argparse
import csv
import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

MESH = """
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-a}
spec:
  workloads:
  - {name: client, networkNamespace: client}
  - {name: server, networkNamespace: server}
---
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {serviceAccountName: client}, status: {podIP: 10.7.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: server}, spec: {serviceAccountName: server}, status: {podIP: 10.7.0.3}}
"""
# The limits that are held: milliseconds, times, seconds.
STALL_MS, PEAK, RETURN_S = 12.0, 1.5, 5.0
AWAY_S, RATE, CONNECTIONS, SETTLE_S = 20.0, 1000, 8, 3.0


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def wait(what, seconds, ready):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.01)
    raise SystemExit(f"after {seconds} s still not: {what}")


class Lab:
    """Two pods behind a bridge, and the programs in and beside them."""

    def __init__(self, programs, directory):
        self.programs, self.directory, self.children = programs, directory, []
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "addr", "add", "10.7.0.1/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        for name, ip in (("client", "10.7.0.2"), ("server", "10.7.0.3")):
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"v-{name}", "master", "br0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", "10.7.0.1")

    def start(self, log, *words, namespace=None, nice=0, environment=None):
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        prefix += ["nice", "-n", str(nice)] if nice else []
        output = open(self.directory / f"{log}.log", "ab")
        child = subprocess.Popen([*prefix, *map(str, words)], stdout=subprocess.PIPE if log == "load" else output,
                                 stderr=output, env={**os.environ, **(environment or {})})
        self.children.append(child)
        return child

    def end(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()


class Plane:
    def __init__(self, lab, directory):
        self.lab, self.directory = lab, directory
        self.start()

    def start(self):
        # As on another machine: it must not take the node's processor.
        self.process = self.lab.start(
            "plane", self.lab.programs / "ringway-test-plane", "serve", "--file", self.lab.directory / "mesh.yaml", "--directory",
            self.directory, "--listen", "127.0.0.1:15012", "--agent", f"host-a={self.directory}/host-a.sock", nice=19)
        wait("the control plane serves", 30, lambda: (self.directory / "orders.sock").exists())

    def tell(self, **order):
        subprocess.run([self.lab.programs / "ringway-test-plane", "tell", self.directory / "orders.sock", json.dumps(order)],
                       check=True, stdout=subprocess.DEVNULL)

    def taken(self, resources):
        """How many responses of so many resources were acknowledged without a complaint."""
        large, good = set(), set()
        for line in (self.directory / "journal.jsonl").read_text().splitlines():
            if '"xds-response"' in line:
                told = json.loads(line)
                if told.get("resources", 0) >= resources or told.get("removed", 0) >= resources:
                    large.add(told["nonce"])
            elif '"xds-request"' in line and '"nonce"' in line:
                told = json.loads(line)
                if not told.get("error"):
                    good.add(told.get("nonce"))
        return len(large & good)


class Memory(threading.Thread):
    """The memory of a process, every 5 ms."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.path, self.samples, self.stopped = f"/proc/{process}/statm", [], False
        self.page = os.sysconf("SC_PAGESIZE")

    def run(self):
        while not self.stopped:
            try:
                with open(self.path) as file:
                    self.samples.append((time.monotonic(), int(file.read().split()[1]) * self.page))
            except (OSError, IndexError):
                return
            time.sleep(0.005)

    def between(self, begin, end):
        return [bytes_ for at, bytes_ in self.samples if begin <= at <= end]


def node(lab, plane):
    secrets = plane.directory
    environment = {
        "XDS_ADDRESS": "https://127.0.0.1:15012", "CA_ADDRESS": "https://127.0.0.1:15012",
        "XDS_ROOT_CA": f"{secrets}/root-cert.pem", "CA_ROOT_CA": f"{secrets}/root-cert.pem",
        "AUTH_TOKEN": f"{secrets}/tokens/host-a", "INPOD_UDS": f"{secrets}/host-a.sock", "NODE_NAME": "host-a",
        "POD_NAME": "ztunnel-a", "POD_NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel",
        "RINGWAY_STATE_DIRECTORY": f"{lab.directory}/state", "ZTUNNEL_WORKER_THREADS": "1",
    }
    process = lab.start("node", lab.programs / "ringway", "proxy", "ztunnel", environment=environment)
    def ready():
        if process.poll() is not None:
            raise SystemExit((lab.directory / "node.log").read_text())
        asked = subprocess.run(["curl", "-s", "http://127.0.0.1:15021/healthz/ready"], capture_output=True, text=True)
        return asked.stdout.startswith("ready")
    wait("the node is ready", 30, ready)
    return process


def load(lab, seconds):
    return lab.start(
        "load", lab.programs / "ringway-bench", "load", "requests", "10.7.0.3:8080", "--connections", CONNECTIONS, "--rate", RATE,
        "--size", "1024", "--protocol", "http1", "--warm-up", "0.2", "--spin", "0", "--duration", f"{seconds:.1f}", namespace="client")


def told_by(child):
    output = child.stdout.read()
    child.wait()
    return json.loads(output.decode().strip().splitlines()[-1])


def phase(lab, memory, seconds, act):
    """Load for at least so long and until `act` is done; what the load and the memory say."""
    generator = load(lab, seconds)
    time.sleep(0.7)
    begin = time.monotonic()
    result = act()
    acted = time.monotonic() - begin
    told = told_by(generator)
    end = time.monotonic()
    if acted > seconds - 0.5:
        print(f"  the load was over before the end: {acted:.1f} s of {seconds}", file=sys.stderr)
    return told, acted, memory.between(begin, end), result


def repetition(lab, plane, count, rows, number, raw):
    def write(name, metric, unit, value):
        rows.append(("xds-scale", "ringway", number, f"workloads={count} phase={name}", metric, unit, round(value, 3)))

    process = node(lab, plane)
    memory = Memory(process.pid)
    memory.start()
    server = lab.start("server", lab.programs / "ringway-bench", "serve", "null", "--listen", "10.7.0.3:8080", namespace="server")
    wait("the application listens", 30, lambda: (lab.directory / "server.log").read_text().count("listening") >= number)
    generation = number * 10
    def told(order_generation):
        def act():
            before = plane.taken(count)
            plane.tell(order="synthetic", count=count, generation=order_generation)
            wait("all is taken", 60, lambda: plane.taken(count) > before)
        return act
    def away():
        before = plane.taken(count)
        plane.tell(order="stop", service="port")
        plane.tell(order="synthetic", count=count, generation=generation + 3)
        time.sleep(AWAY_S)
        plane.tell(order="start", service="port")
        begin = time.monotonic()
        wait("all is taken", 60, lambda: plane.taken(count) > before)
        return time.monotonic() - begin
    def gone():
        before = plane.taken(count)
        plane.tell(order="synthetic", count=0)
        wait("all is taken", 60, lambda: plane.taken(count) > before)
    phases = [("quiet", 6, lambda: None), ("told", 10, told(generation + 1)), ("changed", 10, told(generation + 2)),
              ("away", AWAY_S + 10, away), ("gone", 8, gone)]
    for name, seconds, act in phases:
        outcome, acted, held, result = phase(lab, memory, seconds, act)
        for metric in ("p50", "p99", "p999", "max"):
            write(name, metric, "us", outcome[f"{metric}_us"])
        write(name, "failed", "requests", outcome["failures"] + outcome["unanswered"])
        write(name, "requests", "requests", outcome["requests"])
        write(name, "taken-after", "s", acted)
        write(name, "peak", "bytes", max(held))
        if result is not None:
            write(name, "returned-after", "s", result)
        raw["latencies"].append((number, name, outcome.get("histogram", "")))
        time.sleep(SETTLE_S)
        write(name, "steady", "bytes", memory.samples[-1][1])
    memory.stopped = True
    origin = memory.samples[0][0]
    raw["memory"] += [(number, f"{at - origin:.3f}", held) for at, held in memory.samples]
    for child in (server, process):
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def surroundings(programs):
    def output(*words):
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()
    def line(path, key):
        found = re.search(rf"^{key}\s*:?\s*(.*)$", pathlib.Path(path).read_text(), re.MULTILINE)
        return found.group(1) if found else ""
    def program(name):
        path = programs / name
        return {"version": output(str(path), "--version").splitlines()[:1], "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {
        "commit": output("git", "rev-parse", "HEAD"),
        "changed_files": output("git", "status", "--porcelain").splitlines(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {"processor": line("/proc/cpuinfo", "model name"), "cores": os.cpu_count(), "memory": line("/proc/meminfo", "MemTotal"),
                    "kernel": output("uname", "-srvm")},
        "programs": {name: program(name) for name in ("ringway", "ringway-bench", "ringway-test-plane")},
        "conditions": {
            "topology": "two pods of one host behind a bridge, one node proxy with one shard; traffic goes through its own tunnels",
            "load": f"HTTP/1.1, {RATE} requests of 1 KiB a second over {CONNECTIONS} connections that stay, open loop",
            "control plane": "ringway-test-plane on the same machine, nice 19",
            "steady": f"{SETTLE_S} s after the load of a phase has ended",
        },
        "arguments": [told(argument) for argument in sys.argv], "load_average": {"start": output("cat", "/proc/loadavg")}, "complete": False,
    }


def told(argument):
    """A path as results tell it: inside the project relative to it, of one elsewhere its last name."""
    path, here = pathlib.Path(argument), pathlib.Path.cwd()
    if not path.is_absolute():
        return argument
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name


def folder():
    machine = f"{os.uname().nodename}-{os.cpu_count()}cpu"
    first = f"results/{datetime.datetime.now(datetime.timezone.utc).date()}-xds-scale-{machine}"
    names = [first] + [f"{first}-{number}" for number in range(2, 1000)]
    return pathlib.Path(next(name for name in names if not pathlib.Path(name).exists()))


def judge(rows):
    def largest(metric, phases):
        return max(row[6] for row in rows if row[4] == metric and row[3].rsplit("=", 1)[1] in phases)
    busy = ("told", "changed", "away", "gone")
    stall = largest("max", busy) / 1000
    quiet = largest("max", ("quiet",)) / 1000
    peaks = [(row[6], row[2], row[3]) for row in rows if row[4] == "peak" and row[3].rsplit("=", 1)[1] in ("told", "changed", "away")]
    steady = {(row[2], row[3]): row[6] for row in rows if row[4] == "steady"}
    peak = max(held / steady[number, point] for held, number, point in peaks)
    back = largest("returned-after", ("away",))
    failed = sum(row[6] for row in rows if row[4] == "failed")
    lines = [
        (stall <= STALL_MS, f"longest wait for an answer: {stall:.1f} ms (limit {STALL_MS:.0f}); with a silent control plane {quiet:.1f} ms"),
        (peak <= PEAK, f"peak of memory / steady: {peak:.2f} (limit {PEAK})"),
        (back <= RETURN_S, f"all known after the control plane's return: {back:.1f} s (limit {RETURN_S:.0f})"),
        (failed == 0, f"requests that failed: {failed:.0f} (limit 0)"),
    ]
    for good, line in lines:
        print(("holds  " if good else "MISSES ") + line)
    return all(good for good, _ in lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.logs, ignore_errors=True)
    arguments.logs.mkdir(parents=True)
    directory = pathlib.Path("/tmp/ringway-lab/xds-scale")
    (directory / "plane").mkdir(parents=True)
    (directory / "mesh.yaml").write_text(MESH)
    manifest = surroundings(arguments.programs)
    lab = Lab(arguments.programs, directory)
    rows, raw = [], {"memory": [], "latencies": []}
    try:
        plane = Plane(lab, directory / "plane")
        for number in range(1, arguments.repetitions + 1):
            print(f"repetition {number} ...", flush=True)
            repetition(lab, plane, arguments.workloads, rows, number, raw)
    finally:
        lab.end()
        for log in directory.glob("*.log"):
            shutil.copy(log, arguments.logs)
    results = folder()
    results.mkdir(parents=True)
    manifest |= {"complete": True, "repetitions": arguments.repetitions, "workloads": arguments.workloads}
    manifest["load_average"]["end"] = pathlib.Path("/proc/loadavg").read_text().strip()
    (results / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    tables = [("samples.csv", ("experiment", "subject", "repetition", "point", "metric", "unit", "value"), rows),
              ("memory.csv", ("repetition", "seconds", "bytes"), raw["memory"]),
              ("latencies.csv", ("repetition", "phase", "histogram"), raw["latencies"])]
    for name, head, lines in tables:
        with open(results / name, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(head)
            writer.writerows(lines)
    print(results)
    sys.exit(0 if judge(rows) else 1)


if __name__ == "__main__":
    main()
