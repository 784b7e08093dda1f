"""Builds the peers of benches/peers as ONNX files with random weights, and times them beside our student.

`export` writes one file a peer into a folder, with 80 words' embeddings fixed in each as its own tools fix them when a
vocabulary is given beforehand: no text tower runs per frame. `measure` runs these files and the student through one
ONNX Runtime with our engine's settings. benches/peers calls both and says what they need.

The one surprising thing: the models take turns in blocks of a few frames, ours before each peer's. Another process that
takes a core for a second then slows a few blocks of everybody, and not all frames of one; within a block a model finds
its weights in the caches, as in a stream.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

WORDS = 80
FRAME_WIDTH, FRAME_HEIGHT = 1280, 720
OPSET = 17
# Frames in a block, after one that is not timed.
BLOCK = 5
WARM_UP = 3
FEWEST_FRAMES = 30
PLAINLY = (
    "Speed of architecture, not accuracy: the peers' weights are random, and nothing here says what any of them would "
    "detect."
)

# What each peer gets: its input's side, the grey around the letterboxed frame, and how bytes become floats.
UNIT = {"mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "deviation": (0.26862954, 0.26130258, 0.27577711)}
PEERS = {
    "YOLO-World-S": {"file": "yolo-world-s.onnx", "side": 640, "padding": 114, **UNIT},
    "YOLOE-v8-S": {"file": "yoloe-v8-s.onnx", "side": 640, "padding": 114, **UNIT},
    "YOLOE-11-S": {"file": "yoloe-11-s.onnx", "side": 640, "padding": 114, **UNIT},
    "OWL-ViT-B/32": {"file": "owl-vit-b32.onnx", "side": 768, "padding": 0, **CLIP},
}
OURS = "Wordsight"


def say(*what):
    print("peers:", *what, file=sys.stderr, flush=True)


def die(what):
    sys.exit(f"peers: {what}")


# ----------------------------------------------------------------------------------------------------------- export


def export(arguments):
    """Writes every peer's file, unless this very recipe wrote them."""
    stamp = os.path.join(arguments.models, "made-by.json")
    recipe = recipe_of_this()
    if made_by(stamp).get("recipe") == recipe and all(
        os.path.isfile(os.path.join(arguments.models, peer["file"])) for peer in PEERS.values()
    ):
        return
    refuse_connections()
    os.makedirs(arguments.models, exist_ok=True)
    if os.path.exists(stamp):
        os.remove(stamp)
    import torch
    import transformers
    import ultralytics

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    makers = {
        "YOLO-World-S": yolo_world,
        "YOLOE-v8-S": lambda: yoloe("yoloe-v8s.yaml"),
        "YOLOE-11-S": lambda: yoloe("yoloe-11s.yaml"),
        "OWL-ViT-B/32": owl_vit,
    }
    for name, make in makers.items():
        say(f"exporting {name}, with random weights")
        torch.manual_seed(0)
        model, outputs = make()
        write_onnx(model, outputs, PEERS[name]["side"], os.path.join(arguments.models, PEERS[name]["file"]))
    versions = {
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "transformers": transformers.__version__,
    }
    with open(stamp, "w") as out:
        json.dump({"recipe": recipe, "versions": versions}, out)


def recipe_of_this():
    """This file and the pinned wheels: whoever changes either gets other models."""
    digest = hashlib.sha256()
    for path in (__file__, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.txt")):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def made_by(stamp):
    try:
        with open(stamp) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def refuse_connections():
    """Weights are random by intent: a library that would fetch some is an error, and not a slow success."""

    def refuse(*_):
        raise OSError("benches/peers downloads no weights")

    socket.socket.connect = refuse
    socket.socket.connect_ex = refuse


def words(width):
    """Embeddings of the vocabulary: unit vectors, random as the weights are."""
    import torch

    return torch.nn.functional.normalize(torch.randn(1, WORDS, width), dim=-1)


def yolo_world():
    """YOLO-World v2 S as `set_classes` leaves it, without CLIP, whose weights it would ask for."""
    from ultralytics.nn.tasks import WorldModel

    model = WorldModel("yolov8s-worldv2.yaml", nc=WORDS, verbose=False)
    model.txt_feats = words(512)
    settle(model)
    return as_ultralytics_exports(model), ["output0"]


def yoloe(config):
    """YOLOE S with its words fused into the head's convolutions, as its export does."""
    from ultralytics.nn.tasks import YOLOEModel

    model = YOLOEModel(config, nc=WORDS, verbose=False)
    settle(model)
    model.set_classes([f"word {number}" for number in range(WORDS)], model.model[-1].get_tpe(words(512)).detach())
    return as_ultralytics_exports(model), ["output0"]


def settle(model):
    """Gives the normalisations the statistics of one batch: with those that they start with, random weights let the
    signal fade layer by layer towards denormal numbers, which processors compute slowly."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.rand(2, 3, 640, 640))
    model.eval()


def as_ultralytics_exports(model):
    """What ultralytics' exporter does to a model before it is traced: convolutions with their normalisations folded in,
    boxes decoded, no suppression. Its last step, onnxslim, made no file faster in ONNX Runtime and is left out."""
    from ultralytics.nn.modules import C2f, Detect

    model.requires_grad_(False)
    model = model.fuse(verbose=False)
    for module in model.modules():
        if isinstance(module, Detect):
            module.dynamic, module.export, module.format, module.shape = False, True, "onnx", None
            if hasattr(model, "pe"):
                module.fuse(model.pe)
        elif isinstance(module, C2f):
            module.forward = module.forward_split
    return model


def owl_vit():
    """OWL-ViT B/32 without its text tower, as NanoOWL runs it per frame: image tower, class head and box head."""
    import torch
    from torch.onnx import register_custom_op_symbolic
    from torch.onnx.symbolic_opset9 import expand
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    class PerFrame(torch.nn.Module):
        def __init__(self):
            super().__init__()
            # The configuration's defaults are google/owlvit-base-patch32.
            self.model = OwlViTForObjectDetection(OwlViTConfig())
            self.register_buffer("words", words(self.model.config.text_config.hidden_size))

        def forward(self, images):
            features, _ = self.model.image_embedder(images)
            tokens = features.flatten(1, 2)
            scores, _ = self.model.class_predictor(tokens, self.words)
            return scores, self.model.box_predictor(tokens, features)

    # PyTorch 1.13 exports `expand` and not its other name.
    register_custom_op_symbolic("aten::broadcast_to", lambda graph, x, size: expand(graph, x, size, None), OPSET)
    model = PerFrame().eval().requires_grad_(False)
    if model.model.sqrt_num_patches * 32 != PEERS["OWL-ViT-B/32"]["side"]:
        die("transformers' default for OWL-ViT is no longer B/32 at 768x768")
    return model, ["scores", "boxes"]


def write_onnx(model, outputs, side, path):
    """One file, read back by ONNX Runtime and held against PyTorch."""
    import warnings

    import numpy
    import onnxruntime
    import torch

    images = torch.rand(1, 3, side, side)
    with torch.no_grad(), warnings.catch_warnings():
        # A tracer warns of every shape that becomes a constant; here all are meant to.
        warnings.simplefilter("ignore")
        # Called once before it is traced: anchors are made then, and stay constants.
        expected = model(images)
        torch.onnx.export(
            model, images, path + ".part", opset_version=OPSET, input_names=["images"], output_names=outputs
        )
    session = onnxruntime.InferenceSession(path + ".part", providers=["CPUExecutionProvider"])
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    for one, other in zip(expected, session.run(None, {"images": images.numpy()}), strict=True):
        one = one.numpy()
        if not numpy.isfinite(other).all() or not numpy.allclose(one, other, rtol=1e-2, atol=1e-2 * one.std()):
            die(f"{path}: ONNX Runtime and PyTorch disagree by up to {numpy.abs(one - other).max()}")
    os.replace(path + ".part", path)


# ---------------------------------------------------------------------------------------------------------- measure


class Contestant:
    """One model with its way from a frame to its raw output; holds the times of the frames it was given."""

    def __init__(self, name, path, threads):
        import onnxruntime

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
        self.prepare_ms, self.total_ms, self.blocks = [], [], []

    def place_of_frame(self):
        """Letterbox: size and corner of the frame inside the input."""
        scale = self.side / max(FRAME_WIDTH, FRAME_HEIGHT)
        width, height = round(FRAME_WIDTH * scale), round(FRAME_HEIGHT * scale)
        return width, height, (self.side - width) // 2, (self.side - height) // 2

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
        self.total_ms += [1e3 * total for _, total in times]
        self.blocks.append(1e3 * statistics.median(total for _, total in times))


class Peer(Contestant):
    """A peer takes floats, and its scores of the 80 words are in its graph."""

    def __init__(self, name, path, threads):
        import numpy

        super().__init__(name, path, threads)
        recipe = PEERS[name]
        if self.side != recipe["side"]:
            die(f"{path}: its input is {self.side} wide, and {recipe['side']} was expected: delete it")
        mean, deviation = (numpy.array(recipe[of], numpy.float32).reshape(3, 1, 1) for of in ("mean", "deviation"))
        self.factor, self.shift = 1 / (255 * deviation), -mean / deviation
        self.images = numpy.empty((1, 3, self.side, self.side), numpy.float32)
        self.images[0] = recipe["padding"] * self.factor + self.shift
        self.width, self.height, left, top = self.place_of_frame()
        self.inside = self.images[0, :, top : top + self.height, left : left + self.width]

    def prepare(self, frame):
        """As ultralytics does it: OpenCV's bilinear, which doesn't widen its kernel when it shrinks."""
        import cv2
        import numpy

        resized = cv2.resize(frame, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        numpy.multiply(resized.transpose(2, 0, 1), self.factor, out=self.inside, dtype=numpy.float32)
        if self.shift.any():
            self.inside += self.shift
        return self.images

    def score(self, outputs):
        return outputs


class Ours(Contestant):
    """The student takes bytes, and knows no words: its two embeddings of each box times the words' come after it."""

    def __init__(self, name, path, threads):
        import numpy

        super().__init__(name, path, threads)
        self.images = numpy.full((1, 3, self.side, self.side), 127, numpy.uint8)
        self.width, self.height, left, top = self.place_of_frame()
        self.inside = self.images[0, :, top : top + self.height, left : left + self.width]
        self.embeddings = [
            place for place, out in enumerate(self.session.get_outputs()) if out.name.endswith("_embeddings")
        ]
        if not self.embeddings:
            die(f"{path}: no output is called *_embeddings: is this a student?")
        width = self.session.get_outputs()[self.embeddings[0]].shape[-1]
        vocabulary = numpy.random.default_rng(0).standard_normal((width, WORDS)).astype(numpy.float32)
        self.words = vocabulary / numpy.linalg.norm(vocabulary, axis=0)

    def prepare(self, frame):
        """Pillow's bilinear widens its kernel as the program's own letterbox does, and is slower than that."""
        import numpy
        from PIL import Image

        picture = Image.fromarray(frame).resize((self.width, self.height), Image.Resampling.BILINEAR)
        numpy.copyto(self.inside, numpy.asarray(picture).transpose(2, 0, 1))
        return self.images

    def score(self, outputs):
        return outputs + [outputs[place] @ self.words for place in self.embeddings]


def measure(arguments):
    import cv2
    import numpy

    threads = len(os.sched_getaffinity(0))
    # The resize of one frame is one thread's work in the program as well.
    cv2.setNumThreads(1)
    for path in [arguments.student] + [os.path.join(arguments.models, peer["file"]) for peer in PEERS.values()]:
        if not os.path.isfile(path):
            die(f"there is no {path}")
    ours = Ours(OURS, arguments.student, threads)
    peers = [Peer(name, os.path.join(arguments.models, peer["file"]), threads) for name, peer in PEERS.items()]
    # Anything but one flat colour will do: no model here takes longer for one picture than for another.
    noise = numpy.random.default_rng(0).integers(0, 256, (4, FRAME_HEIGHT, FRAME_WIDTH, 3), numpy.uint8)
    frames = [numpy.ascontiguousarray(frame) for frame in noise]
    load_before = os.getloadavg()[0]
    if arguments.frames < FEWEST_FRAMES:
        say(f"{arguments.frames} frames are for trying this out: a figure wants {FEWEST_FRAMES} at least")
    if load_before > 0.25 * threads:
        say(f"this machine is busy (load {load_before:.1f} on {threads} cores): ratios hold better than milliseconds")
    warm_up([ours, *peers], frames)
    take_turns(ours, peers, frames, arguments.frames)
    busy = {"load_before": round(load_before, 2), "load_after": round(os.getloadavg()[0], 2)}
    report = {
        "what": PLAINLY,
        "frame": [FRAME_WIDTH, FRAME_HEIGHT],
        "words": WORDS,
        "frames": arguments.frames,
        "machine": {"processor": processor(), "cores": threads, **busy},
        "versions": versions(arguments.models),
        "models": [row_of(ours, ours), *(row_of(peer, ours) for peer in peers)],
        "program": ask_program(arguments.program, arguments.root),
    }
    show(report)
    if arguments.json:
        write_json(report, arguments.json)


def warm_up(contestants, frames):
    import numpy

    for contestant in contestants:
        for frame in frames[:WARM_UP]:
            outputs = contestant.step(frame)[2]
        if not all(numpy.isfinite(output).all() for output in outputs):
            die(f"{contestant.path} gives numbers that are none: what it takes then is no measure")
        if not any(WORDS in output.shape or WORDS + 4 in output.shape for output in outputs):
            die(f"{contestant.path} scores no {WORDS} words: its outputs are {[output.shape for output in outputs]}")


def take_turns(ours, peers, frames, count):
    left = count
    while left:
        now = min(BLOCK, left)
        for peer in peers:
            ours.block(frames, now)
            peer.block(frames, now)
        left -= now
        say(f"{count - left} of {count} frames")


def row_of(contestant, ours):
    graph = facts_of_graph(contestant.path)
    median = statistics.median(contestant.total_ms)
    row = {
        "name": contestant.name,
        "input": [contestant.side, contestant.side],
        "parameters": graph["parameters"],
        "gflops": graph["gflops"],
        "onnx_bytes": os.path.getsize(contestant.path),
        "frames": len(contestant.total_ms),
        "prepare_median_ms": round(statistics.median(contestant.prepare_ms), 3),
        "median_ms": round(median, 3),
        "p90_ms": round(percentile(contestant.total_ms, 0.9), 3),
        "fps": round(1e3 / median, 2),
        "ratio": round(median / statistics.median(ours.total_ms), 3),
    }
    if contestant is not ours:
        # Each block beside the one of ours that ran just before it.
        place = list(PEERS).index(contestant.name)
        before = ours.blocks[place :: len(PEERS)]
        pairs = [theirs / own for theirs, own in zip(contestant.blocks, before, strict=True)]
        row["ratio_of_neighbours"] = {
            "p10": round(percentile(pairs, 0.1), 3),
            "median": round(statistics.median(pairs), 3),
            "p90": round(percentile(pairs, 0.9), 3),
        }
    return row


def percentile(values, share):
    """The nearest one that was measured."""
    return sorted(values)[round(share * (len(values) - 1))]


def facts_of_graph(path):
    """Parameters and floating-point operations of a file, counted in the same way for everybody: floats that the file
    holds, and two operations for each multiplication of its convolutions and matrix products."""
    import numpy
    import onnx

    model = onnx.load(path)
    graph = model.graph
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    tensors = list(graph.initializer)
    tensors += [
        attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute if attribute.HasField("t")
    ]
    parameters = sum(int(numpy.prod(tensor.dims, dtype=numpy.int64)) for tensor in tensors if tensor.data_type in floats)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*inferred.input, *inferred.output, *inferred.value_info]:
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = [dimension.dim_value for dimension in dimensions]
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            shapes[node.output[0]] = list(node.attribute[0].t.dims)
    try:
        operations = sum(operations_of(node, shapes) for node in graph.node)
    except KeyError as missing:
        say(f"{os.path.basename(path)}: no operations counted, because the shape of {missing} is open")
        return {"parameters": parameters, "gflops": None}
    return {"parameters": parameters, "gflops": round(operations / 1e9, 2)}


def operations_of(node, shapes):
    from math import prod

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


def versions(models):
    import cv2
    import numpy
    import onnxruntime
    import PIL

    return {
        "onnxruntime": onnxruntime.__version__,
        **made_by(os.path.join(models, "made-by.json")).get("versions", {}),
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def show(report):
    heads = ["model", "input", "Mparam", "GFLOP", "ONNX MB", "prepare ms", "median ms", "p90 ms", "frames/s", "x ours", "(p10-p90)"]
    lines = [heads]
    for row in report["models"]:
        spread = row.get("ratio_of_neighbours")
        lines.append(
            [
                row["name"],
                "x".join(map(str, row["input"])),
                f"{row['parameters'] / 1e6:.1f}",
                "-" if row["gflops"] is None else f"{row['gflops']:.1f}",
                f"{row['onnx_bytes'] / 1e6:.1f}",
                f"{row['prepare_median_ms']:.1f}",
                f"{row['median_ms']:.1f}",
                f"{row['p90_ms']:.1f}",
                f"{row['fps']:.1f}",
                f"{row['ratio']:.2f}",
                f"({spread['p10']:.2f}-{spread['p90']:.2f})" if spread else "",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    print()
    for name, *cells in lines:
        print(name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)), sep="  ")
    program = report["program"]
    if program:
        efficiency = program["pipeline_efficiency"]
        shared = "" if efficiency is None else f", pipeline efficiency {efficiency}"
        print(f"\nThe program itself (wordsight bench): {program['fps']} frames/s{shared}.")
    machine = report["machine"]
    print(
        f"\n{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before and "
        f"{machine['load_after']} after."
    )
    print(", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".")
    print(
        f"\nA frame is one {FRAME_WIDTH}x{FRAME_HEIGHT} RGB picture, batch 1, FP32. Timed: letterbox and conversion (prepare) "
        f"and the model to\nits raw scores of {WORDS} words and boxes. Not timed for any: decoding, non-maximum suppression, "
        "drawing, words' embeddings."
    )
    print(
        "Ours is the student through the same Python and ONNX Runtime, its product with the words included. "
        "x ours: medians;\nin brackets, blocks of frames beside the block of ours just before."
    )
    print(f"\n{PLAINLY}", flush=True)


def write_json(report, path):
    try:
        with open(path, "w") as out:
            json.dump(report, out, indent=2)
            out.write("\n")
    except OSError as error:
        die(f"{path} can't be written: {error.strerror}")
    say(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description="Called by benches/peers, which has the usage.")
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export")
    exporting.add_argument("--models", required=True)
    measuring = commands.add_parser("measure")
    for name in ("--models", "--student", "--program", "--root"):
        measuring.add_argument(name, required=True)
    measuring.add_argument("--frames", type=int, required=True)
    measuring.add_argument("--json")
    arguments = parser.parse_args()
    {"export": export, "measure": measure}[arguments.command](arguments)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
