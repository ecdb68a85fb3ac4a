"""Contestants take turns: in every round each runs for a moment, and ratios are taken within a round."""

import json
import os
import subprocess
import sys
import time

import forms
import models

HERE = os.path.dirname(os.path.abspath(__file__))


class PeerError(RuntimeError):
    pass


class Peer:
    """A worker process that waits for its turn."""

    def __init__(self, runtime, form, path, data, setting, log, environment):
        job = {"runtime": runtime, "form": form, "path": path, "data": data, **setting}
        self.log = log
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "worker.py"), json.dumps(job)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True,
                                        env={**os.environ, **environment})
        self.loaded = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                raise PeerError(file.read()[-600:].strip() or "the worker ended without an answer")
        return json.loads(line)

    def ask(self, request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def turn(self, seconds):
        return self.ask({"seconds": seconds})

    def outputs(self, source, to):
        self.ask({"outputs": source, "to": to})

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Aoq:
    """`aoq bench`, a process for every turn."""

    def __init__(self, aoq, path, data, setting):
        self.aoq, self.path, self.data, self.setting = aoq, path, data, setting
        self.loaded = {"kernels": self.kernels()}

    def call(self, *arguments):
        done = subprocess.run([self.aoq, *arguments, "--json"], capture_output=True, text=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, self.setting["cpus"]))
        if done.returncode != 0:
            raise PeerError(done.stderr.strip())
        return json.loads(done.stdout)

    def kernels(self):
        found = {}
        for op in self.call("inspect", self.path)["ops"]:
            if op.get("kernel"):
                found[op["kernel"]] = found.get(op["kernel"], 0) + 1
        return found

    def run_arguments(self):
        return ["--threads", str(self.setting["threads"]), "--batch", str(self.setting["batch"])]

    def turn(self, seconds):
        said = self.call("bench", self.path, "--input", self.data, "--seconds", str(seconds), *self.run_arguments())
        self.loaded.update({"isa": said["isa"]})
        # The best of the turns: a load is short and easily disturbed.
        self.loaded["load_ms"] = min(said["load_ms"], self.loaded.get("load_ms", said["load_ms"]))
        self.loaded["rss_mb"] = said["rss_mb"]
        return {"median_ms": said["median_ms"], "best_ms": said["min_ms"], "runs": said["runs"]}

    def close(self):
        pass


def open_contestant(options, model, runtime, form, setting, data):
    path = forms.path_of(model, runtime, form, options.work)
    if runtime == "aoq":
        return Aoq(options.aoq, path, data, setting)
    log = os.path.join(options.work, "%s-%s-%s.log" % (model.name, runtime, form))
    return Peer(runtime, form, path, data, setting, log, options.peer_environment)


def hold(options, model, threads, batch, say):
    """The records of one model with this many threads and samples."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    setting = {"threads": threads, "batch": batch, "cpus": cpus}
    data = models.data_path(model, options.work, "timed", batch, 3)
    records, running = [], []
    try:
        for runtime, form in forms.contestants(model):
            record = {"model": model.name, "threads": threads, "batch": batch, "contestant": runtime + "/" + form,
                      "rounds": [], "best_ms": float("inf")}
            try:
                running.append((open_contestant(options, model, runtime, form, setting, data), record))
                records.append(record)
            except PeerError as problem:
                say("%s %s/%s does not run: %s" % (model.name, runtime, form, problem))
        for turn in range(options.rounds):
            say("%s, %d threads, batch %d: round %d of %d" % (model.name, threads, batch, turn + 1, options.rounds))
            play_round(running, turn, options.seconds)
        for contestant, record in running:
            record.update(contestant.loaded)
    finally:
        for contestant, _ in running:
            contestant.close()
    return records


def play_round(running, turn, seconds):
    """Another contestant begins in every round."""
    first = turn % len(running)
    for contestant, record in running[first:] + running[:first]:
        said = contestant.turn(seconds)
        record["rounds"].append(said["median_ms"])
        record["best_ms"] = min(record["best_ms"], said["best_ms"])
        time.sleep(0.02)  # threads of the last one come to rest
