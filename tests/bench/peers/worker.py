"""One peer with one model, in a process of its own: runs for a while when told.

usage: worker.py '{"runtime", "form", "path", "data", "threads", "batch", "cpus"}'

Requests and answers are JSON lines on stdin and stdout. The first answer comes unasked and says what loading cost.

    {"seconds": 0.3}                         {"median_ms", "best_ms", "runs"}
    {"outputs": "in.npz", "to": "out.npy"}   {}: the first result for every sample, one batch after the other
"""

import json
import os
import statistics
import sys
import time


def resident_mb():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class OnnxRuntime:
    def __init__(self, job):
        import onnxruntime

        self.library = onnxruntime
        self.version = onnxruntime.__version__
        self.job = job

    def load(self):
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.job["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if self.job["form"] == "exact":
            options.add_session_config_entry("session.x64quantprecision", "1")
        self.session = self.library.InferenceSession(self.job["path"], options, providers=["CPUExecutionProvider"])

    def bind(self, feeds):
        self.binding = self.session.io_binding()
        self.kept = [self.library.OrtValue.ortvalue_from_numpy(a) for a in feeds.values()]
        for name, value in zip(feeds, self.kept):
            self.binding.bind_ortvalue_input(name, value)
        for output in self.session.get_outputs():
            self.binding.bind_output(output.name)

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def result(self):
        return self.binding.copy_outputs_to_cpu()[0]

    def kernels(self):
        return {}


class OpenVino:
    def __init__(self, job):
        import openvino

        self.library = openvino
        self.version = openvino.__version__.split("-")[0]
        self.job = job

    def load(self):
        core = self.library.Core()
        model = core.read_model(self.job["path"])
        shapes = {i.any_name: [self.job["batch"]] + [d.get_length() for d in list(i.partial_shape)[1:]]
                  for i in model.inputs}
        model.reshape(shapes)
        self.compiled = core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": self.job["threads"], "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32"})  # else float models run in bf16 where the machine has it
        self.request = self.compiled.create_infer_request()

    def bind(self, feeds):
        for name, array in feeds.items():
            self.request.set_tensor(name, self.library.Tensor(array, shared_memory=False))

    def run(self):
        self.request.infer()

    def result(self):
        return self.request.get_output_tensor(0).data.copy()

    def kernels(self):
        """How many nodes run in each primitive."""
        found = {}
        for node in self.compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if "primitiveType" in info:
                name = str(info["primitiveType"].astype(str))
                if not name.startswith("unknown"):  # inputs, constants and what was folded
                    found[name] = found.get(name, 0) + 1
        return found


def measure(peer, seconds):
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        peer.run()
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": statistics.median(times), "best_ms": min(times), "runs": len(times)}


def outputs(peer, source, to, batch):
    import numpy

    with numpy.load(source) as arrays:
        data = {n: arrays[n] for n in arrays.files}
    found = []
    for i in range(0, len(next(iter(data.values()))), batch):
        peer.bind({n: numpy.ascontiguousarray(a[i:i + batch]) for n, a in data.items()})
        peer.run()
        found.append(peer.result())
    numpy.save(to, numpy.concatenate(found))
    return {}


def start(job):
    import numpy

    with numpy.load(job["data"]) as arrays:
        feeds = {n: numpy.ascontiguousarray(arrays[n][:job["batch"]]) for n in arrays.files}
    peer = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}[job["runtime"]](job)
    before, begin = resident_mb(), time.perf_counter()
    peer.load()
    loaded = time.perf_counter()
    peer.bind(feeds)
    peer.run()
    done = time.perf_counter()
    return peer, {"load_ms": (loaded - begin) * 1e3, "first_ms": (done - loaded) * 1e3,
                  "rss_mb": resident_mb() - before, "version": peer.version, "kernels": peer.kernels()}


def main():
    job = json.loads(sys.argv[1])
    os.sched_setaffinity(0, job["cpus"])
    # Libraries write where they like: answers go to the pipe by a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    peer, answer = start(job)
    print(json.dumps(answer), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "seconds" in request:
            answer = measure(peer, request["seconds"])
        else:
            answer = outputs(peer, request["outputs"], request["to"], job["batch"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
