"""Times the student and the peers of benches/peers_export.py through one ONNX Runtime with our engine's settings.

In go the student, the folder of the peers and our program; out come a table and, if asked for, the same as JSON.

The one surprising thing: the models take turns in blocks of a few frames, ours before each peer's. Another process that
takes a core for a second then slows a few blocks of everybody, and not all frames of one; within a block a model finds
its weights in the caches, as in a stream.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from math import prod

import cv2
import numpy
import onnx
import onnxruntime
import PIL
from PIL import Image

FRAME_WIDTH, FRAME_HEIGHT = 1280, 720
# Frames in a block, after one that is not timed.
BLOCK = 5
WARM_UP = 3
FEWEST_FRAMES = 30
OURS = "Wordsight"
PLAINLY = (
    "Speed of architecture, not accuracy: the peers' weights are random, and nothing here says what any of them would "
    "detect."
)


def say(what):
    print("peers:", what, file=sys.stderr, flush=True)


def die(what):
    sys.exit(f"peers: {what}")


class Contestant:
    """One model with its way from a frame to its raw output; holds the times of the frames it was given."""

    def __init__(self, name, path, threads):
        self.name, self.path = name, path
        options = onnxruntime.SessionOptions()
        # As engines/src/cpu/session.rs has it.
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        [image] = self.session.get_inputs()
        self.input = image.name
        self.side = image.shape[-1]
        if image.shape != [1, 3, self.side, self.side]:
            die(f"{path}: its input is {image.shape}, and a square picture [1, 3, N, N] was expected")
        scale = self.side / max(FRAME_WIDTH, FRAME_HEIGHT)
        self.resized = round(FRAME_WIDTH * scale), round(FRAME_HEIGHT * scale)
        self.prepare_ms, self.model_ms, self.total_ms = [], [], []
        # Of each block the medians of whole frames, and of the model alone.
        self.blocks, self.model_blocks = [], []

    def letterbox(self):
        """A view of the frame's place in the input; around it the input keeps its grey."""
        width, height = self.resized
        left, top = (self.side - width) // 2, (self.side - height) // 2
        return self.images[0, :, top : top + height, left : left + width]

    def step(self, frame):
        """One frame, from its pixels to the model's scores: seconds for the input, and for all of it."""
        start = time.perf_counter()
        images = self.prepare(frame)
        prepared = time.perf_counter()
        outputs = self.score(self.session.run(None, {self.input: images}))
        return prepared - start, time.perf_counter() - start, outputs

    def block(self, frames, count):
        self.step(frames[0])
        times = [self.step(frames[number % len(frames)])[:2] for number in range(count)]
        self.prepare_ms += [1e3 * prepare for prepare, _ in times]
        self.model_ms += [1e3 * (total - prepare) for prepare, total in times]
        self.total_ms += [1e3 * total for _, total in times]
        self.blocks.append(statistics.median(self.total_ms[-count:]))
        self.model_blocks.append(statistics.median(self.model_ms[-count:]))


class Peer(Contestant):
    """A peer takes floats, and the scores of its words are in its graph. `facts`: its line in the list of peers."""

    def __init__(self, facts, folder, threads):
        super().__init__(facts["name"], os.path.join(folder, facts["file"]), threads)
        mean, deviation = (numpy.array(facts[of], numpy.float32).reshape(3, 1, 1) for of in ("mean", "deviation"))
        self.factor, self.shift = 1 / (255 * deviation), -mean / deviation
        self.images = numpy.empty((1, 3, self.side, self.side), numpy.float32)
        self.images[0] = facts["padding"] * self.factor + self.shift
        self.inside = self.letterbox()

    def prepare(self, frame):
        """As ultralytics does it: OpenCV's bilinear, which doesn't widen its kernel when it shrinks."""
        resized = cv2.resize(frame, self.resized, interpolation=cv2.INTER_LINEAR)
        numpy.multiply(resized.transpose(2, 0, 1), self.factor, out=self.inside, dtype=numpy.float32)
        if self.shift.any():
            self.inside += self.shift
        return self.images

    def score(self, outputs):
        return outputs


class Ours(Contestant):
    """The student takes bytes, and knows no words: its two embeddings of each box times the words' come after it."""

    def __init__(self, path, words, threads):
        super().__init__(OURS, path, threads)
        self.images = numpy.full((1, 3, self.side, self.side), 127, numpy.uint8)
        self.inside = self.letterbox()
        self.embeddings = [
            place for place, out in enumerate(self.session.get_outputs()) if out.name.endswith("_embeddings")
        ]
        if not self.embeddings:
            die(f"{path}: no output is called *_embeddings: is this a student?")
        width = self.session.get_outputs()[self.embeddings[0]].shape[-1]
        vocabulary = numpy.random.default_rng(0).standard_normal((width, words)).astype(numpy.float32)
        self.words = vocabulary / numpy.linalg.norm(vocabulary, axis=0)

    def prepare(self, frame):
        """Pillow's bilinear widens its kernel as the program's own letterbox does, and is slower than that."""
        picture = Image.fromarray(frame).resize(self.resized, Image.Resampling.BILINEAR)
        numpy.copyto(self.inside, numpy.asarray(picture).transpose(2, 0, 1))
        return self.images

    def score(self, outputs):
        return outputs + [outputs[place] @ self.words for place in self.embeddings]


def main():
    arguments = parse()
    threads = len(os.sched_getaffinity(0))
    # The resize of one frame is one thread's work in the program as well.
    cv2.setNumThreads(1)
    with open(os.path.join(arguments.models, "peers.json")) as file:
        made = json.load(file)
    ours = Ours(arguments.student, made["words"], threads)
    peers = [Peer(facts, arguments.models, threads) for facts in made["peers"]]
    # Any picture will do: no model here takes longer for one than for another.
    frames = numpy.random.default_rng(0).integers(0, 256, (4, FRAME_HEIGHT, FRAME_WIDTH, 3), numpy.uint8)
    load_before = os.getloadavg()[0]
    if arguments.frames < FEWEST_FRAMES:
        say(f"{arguments.frames} frames are for trying this out: a figure wants {FEWEST_FRAMES} at least")
    if load_before > 0.25 * threads:
        say(f"this machine is busy (load {load_before:.1f} on {threads} cores): ratios hold better than milliseconds")
    for contestant in [ours, *peers]:
        warm_up(contestant, frames, made["words"])
    take_turns(ours, peers, frames, arguments.frames)
    busy = {"load_before": round(load_before, 2), "load_after": round(os.getloadavg()[0], 2)}
    report = {
        "what": PLAINLY,
        "frame": [FRAME_WIDTH, FRAME_HEIGHT],
        "words": made["words"],
        "frames": arguments.frames,
        "machine": {"processor": processor(), "cores": threads, **busy},
        "versions": {**versions(), **made["versions"]},
        # Round after round, ours ran before the first peer, then before the second, and so on.
        "models": [row_of(ours, ours, slice(None))]
        + [row_of(peer, ours, slice(place, None, len(peers))) for place, peer in enumerate(peers)],
        "program": ask_program(arguments.program, arguments.root),
    }
    show(report)
    if arguments.json:
        write_json(report, arguments.json)


def parse():
    parser = argparse.ArgumentParser(description="Called by benches/peers, which has the usage.")
    parser.add_argument("--models", required=True, help="the folder that peers_export.py filled")
    parser.add_argument("--student", required=True)
    parser.add_argument("--program", required=True, help="our program, which may be missing")
    parser.add_argument("--root", required=True, help="where the program is run")
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--json")
    return parser.parse_args()


def warm_up(contestant, frames, words):
    """First frames, and a look at what comes out: a model of broken numbers or of other words is no measure."""
    for frame in frames[:WARM_UP]:
        outputs = contestant.step(frame)[2]
    if not all(numpy.isfinite(output).all() for output in outputs):
        die(f"{contestant.path}: its outputs are not all finite")
    # Scores alone, or with a box's four sides before them.
    if not any({words, words + 4} & set(output.shape) for output in outputs):
        die(f"{contestant.path} scores no {words} words: its outputs are {[output.shape for output in outputs]}")


def take_turns(ours, peers, frames, count):
    left = count
    while left:
        now = min(BLOCK, left)
        for peer in peers:
            ours.block(frames, now)
            peer.block(frames, now)
        left -= now
        say(f"{count - left} of {count} frames")


def row_of(contestant, ours, before):
    """A model's line. Its ratio to ours is the median over blocks, each beside the block of ours just before it, picked
    by `before`: medians of all frames would compare whatever else the machine did meanwhile as well."""
    graph = facts_of_graph(contestant.path)
    median = statistics.median(contestant.total_ms)
    ratios = ratios_of(contestant.blocks, ours.blocks[before])
    model_ratios = ratios_of(contestant.model_blocks, ours.model_blocks[before])
    return {
        "name": contestant.name,
        "input": [contestant.side, contestant.side],
        "parameters": graph["parameters"],
        "gflop": graph["gflop"],
        "onnx_bytes": os.path.getsize(contestant.path),
        "frames": len(contestant.total_ms),
        "prepare_median_ms": round(statistics.median(contestant.prepare_ms), 3),
        "model_median_ms": round(statistics.median(contestant.model_ms), 3),
        "median_ms": round(median, 3),
        "p90_ms": round(percentile(contestant.total_ms, 0.9), 3),
        "fps": round(1e3 / median, 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_p10": round(percentile(ratios, 0.1), 3),
        "ratio_p90": round(percentile(ratios, 0.9), 3),
        "model_ratio": round(statistics.median(model_ratios), 3),
    }


def ratios_of(theirs, ours):
    return [one / other for one, other in zip(theirs, ours, strict=True)]


def percentile(values, share):
    """The nearest one that was measured."""
    return sorted(values)[round(share * (len(values) - 1))]


def facts_of_graph(path):
    """Parameters and floating-point operations, counted in the same way for everybody: the floats that are left when
    ONNX Runtime has computed what is constant, and two operations for each multiplication of convolutions and matrix
    products. No operations where a shape is open."""
    model = onnx.load_from_string(without_constants(path))
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = [dimension.dim_value for dimension in dimensions]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    facts = {
        "parameters": sum(prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in floats),
        "gflop": None,
    }
    try:
        facts["gflop"] = round(sum(operations_of(node, shapes) for node in graph.node) / 1e9, 2)
    except KeyError as missing:
        say(f"{os.path.basename(path)}: no operations counted, because the shape of {missing} is open")
    return facts


def without_constants(path):
    """The file's bytes after ONNX Runtime's basic optimisations, which leave ONNX's own operators."""

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 3
        options.optimized_model_filepath = os.path.join(folder, "basic.onnx")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        with open(options.optimized_model_filepath, "rb") as file:
            return file.read()


def operations_of(node, shapes):
    if node.op_type == "Conv":
        return 2 * prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return 2 * prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if transposed else -1]
    if node.op_type == "Einsum":
        equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
        terms, result = equation.replace(" ", "").split("->")
        summed = {}
        for name, term in zip(node.input, terms.split(","), strict=True):
            # Summed letters stand behind the dots, if there are any.
            letters = term.split("...")[-1]
            for letter, size in zip(reversed(letters), reversed(shapes[name]), strict=False):
                if letter not in result:
                    summed[letter] = size
        return 2 * prod(shapes[node.output[0]]) * prod(summed.values())
    return 0


def ask_program(program, root):
    """What the program says of itself, whole frames of its own stream in its own letterbox; None where it can't."""
    if not os.path.isfile(program):
        say(f"the program's own figure is skipped: there is no {program} (cargo build --release makes it)")
        return None
    # Without what this script needs itself.
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OPENBLAS_NUM_THREADS")}

    def run(*more):
        return subprocess.run(
            [program, "bench", *more], cwd=root, env=clean, capture_output=True, text=True, timeout=600
        )

    try:
        usage = run("--help")
        if usage.returncode != 0:
            say("the program's own figure is skipped: this wordsight has no `bench`")
            return None
        if "--json" not in usage.stdout:
            say("the program's own figure is skipped: this wordsight's `bench` has no --json")
            return None
        say("asking the program: wordsight bench --json")
        if re.search(r"--json[ =]?<", usage.stdout):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "bench.json")
                answer = run("--json", path)
                said = open(path).read() if os.path.isfile(path) else ""
        else:
            answer = run("--json")
            said = answer.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"the program's own figure is skipped: {error}")
        return None
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or [f"it ended with code {answer.returncode}"]
        say(f"the program's own figure is skipped: {lines[-1]}")
        return None
    figures = figures_in(said)
    if figures is None:
        say("the program's own figure is skipped: there is no `fps` in what `wordsight bench --json` says")
    return figures


def figures_in(said):
    """`fps` and `pipeline_efficiency`, of the whole text or of its last line that has them."""
    for text in [said, *reversed(said.splitlines())]:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("fps"), (int, float)):
            return {"fps": value["fps"], "pipeline_efficiency": value.get("pipeline_efficiency")}
    return None


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def versions():
    return {
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def show(report):
    heads = ["model", "input", "Mparam", "GFLOP", "ONNX MB", "prepare ms", "model ms", "frame ms", "p90 ms", "frames/s"]
    heads += ["x ours", "(p10-p90)", "model x ours"]
    lines = [heads]
    for row in report["models"]:
        lines.append(
            [
                row["name"],
                "x".join(map(str, row["input"])),
                f"{row['parameters'] / 1e6:.1f}",
                "-" if row["gflop"] is None else f"{row['gflop']:.1f}",
                f"{row['onnx_bytes'] / 1e6:.1f}",
                f"{row['prepare_median_ms']:.1f}",
                f"{row['model_median_ms']:.1f}",
                f"{row['median_ms']:.1f}",
                f"{row['p90_ms']:.1f}",
                f"{row['fps']:.1f}",
                f"{row['ratio']:.2f}",
                "" if row["name"] == OURS else f"({row['ratio_p10']:.2f}-{row['ratio_p90']:.2f})",
                f"{row['model_ratio']:.2f}",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    print(f"{PLAINLY}\n")
    for name, *cells in lines:
        cells = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    print(
        f"\nA frame is one {FRAME_WIDTH}x{FRAME_HEIGHT} RGB picture; batch 1, FP32; medians of {report['frames']} "
        f"frames ({report['models'][0]['frames']} of ours).\n"
        "Timed: letterbox and conversion (prepare); the model to its boxes and its scores of "
        f"{report['words']} words.\n"
        "Not timed, for any: decoding, non-maximum suppression, drawing, embedding the words.\n"
        "Ours is the student in the same Python, its product with the words included. Pillow shrinks its frame with\n"
        "the widened kernel that it was trained with; the peers' OpenCV reads four pixels for one and is done sooner.\n"
        "x ours: the median of blocks of frames, each beside the block of ours just before it."
    )
    program = report["program"]
    if program:
        efficiency = program["pipeline_efficiency"]
        more = "" if efficiency is None else f", pipeline efficiency {efficiency}"
        print(f"\nThe program itself, by wordsight bench: {program['fps']} frames/s{more}.")
    machine = report["machine"]
    print(
        f"\n{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before and "
        f"{machine['load_after']} after."
    )
    print(", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".", flush=True)


def write_json(report, path):
    try:
        with open(path, "w") as out:
            json.dump(report, out, indent=2)
            out.write("\n")
    except OSError as error:
        die(f"{path} can't be written: {error.strerror}")
    say(f"wrote {path}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
