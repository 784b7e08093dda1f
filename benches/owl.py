"""Exports an OWL-ViT-B/32 with random weights as Hugging Face Optimum does, and times three ways to run it.

`export` writes model.onnx, the configurations and a tokenizer into a folder. `measure` takes what benches/owl made of
it, a student and a vocabulary of 80 words, and prints milliseconds an image of a bare ONNX Runtime session, of
`wordsight bench`, and of transformers. Nothing here says what the model would detect.

The one surprising thing: all take turns, round after round, and every ratio is of one round. Another process that takes
a core for a while then slows a round of everybody, and not all images of one. The bare session runs before and after
the program in each round, because these two differ least.
"""

import argparse
import hashlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPSET = 17
# The tokenizer's length, and how many tokens CLIP's has: a text tower takes its time by these alone.
LENGTH, TOKENS = 16, 49408
# Of transformers' documentation of OWL-ViT.
THRESHOLD = 0.1
# About so many of 576 regions score above it: a plain number, near what an everyday photograph has things.
FOUND = 12
KEEP = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
# What is timed: its name in the JSON and in the table.
WAYS = {
    "bare": "bare ONNX Runtime session",
    "wordsight": "wordsight, the whole stream",
    "transformers_cached": "transformers, words embedded once",
    "transformers_whole": "transformers, words embedded each time",
}
# What ours is divided by, and the most that is wanted of the ratio.
BARS = {"bare": 1.02, "transformers_cached": 0.8, "transformers_whole": None}
PLAINLY = "Speed, not accuracy: the weights are random, and nothing here says what the model would detect."


def say(what):
    print("owl:", what, file=sys.stderr, flush=True)


def die(what):
    sys.exit(f"owl: {what}")


def main():
    parser = argparse.ArgumentParser(description="Called by benches/owl, which has the usage.")
    parser.add_argument("what", choices=["export", "measure"])
    parser.add_argument("folder", type=Path, help="the folder of the export, or the one that it lies in")
    parser.add_argument("root", type=Path, help="the repository")
    parser.add_argument("torch", nargs="?", help="PyTorch's version as Debian has it")
    parser.add_argument("--program", type=Path)
    for number in ("--rounds", "--images", "--seconds"):
        parser.add_argument(number, type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    refuse_connections()
    if arguments.what == "export":
        export_once(arguments.folder, arguments.root, arguments.torch)
    else:
        measure(arguments)


def refuse_connections():
    """Weights are random by intent: a library that would fetch some is an error, and not a slow success."""

    def refuse(*_):
        raise OSError("benches/owl downloads no weights")

    socket.socket.connect = refuse
    socket.socket.connect_ex = refuse


# ---- The export -----------------------------------------------------------------------------------------------------


def export_once(folder, root, torch):
    made_by = folder / "made.json"
    recipe = recipe_of_this(torch)
    if recipe == recipe_in(made_by) and all((folder / name).is_file() for name in KEEP | {"model.onnx", "model.pt"}):
        return
    folder.mkdir(parents=True, exist_ok=True)
    made_by.unlink(missing_ok=True)
    say("exporting OWL-ViT-B/32 whole, with random weights")
    export(folder, root)
    import transformers

    # Last, so that an interrupted run is done again.
    versions = {"torch": torch, "transformers": transformers.__version__}
    made_by.write_text(json.dumps({"recipe": recipe, "versions": versions}))


def recipe_of_this(torch):
    """What is above the measurement here, the pinned wheels and PyTorch's version: a change makes another model."""
    digest = hashlib.sha256(torch.encode())
    here = Path(__file__)
    digest.update(here.read_text().split("\n# ---- The measurement")[0].encode())
    digest.update((here.parent / "peers.txt").read_bytes())
    return digest.hexdigest()


def recipe_in(made_by):
    try:
        return json.loads(made_by.read_text())["recipe"]
    except (OSError, ValueError, KeyError):
        return None


def export(folder, root):
    import torch
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, OwlViTProcessor

    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder, coco_words(root))
    # The configuration's defaults are google/owlvit-base-patch32, and the weights have transformers' own start.
    model = OwlViTForObjectDetection(OwlViTConfig(architectures=["OwlViTForObjectDetection"])).eval()
    model.requires_grad_(False)
    if model.sqrt_num_patches != 24 or model.config.text_config.vocab_size != TOKENS:
        die("transformers' default for OWL-ViT is no longer B/32 at 768x768")
    model.config._name_or_path = "wordsight/random-owlvit-base-patch32"
    processor = OwlViTProcessor(OwlViTImageProcessor(), tokenizer)
    make_scores_rare(model, processor, root)
    model.config.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    write_onnx(model, processor, root, folder / "model.onnx")
    torch.save(model.state_dict(), folder / "model.pt")
    for path in folder.iterdir():
        if path.name not in KEEP | {"model.onnx", "model.pt"}:
            path.unlink()


def coco_words(root):
    return (root / "distill/src/label/coco_names.txt").read_text().splitlines()


def captions(root):
    return [f"a photo of a {word}" for word in coco_words(root)]


def frames_of(root):
    """The clip's frames, decoded: the program plays them from memory as well."""
    import io

    from PIL import Image

    end = b"\xff\xd9"
    parts = [part + end for part in (root / "demo/clip.mjpeg").read_bytes().split(end + b"\xff\xd8")]
    start = b"\xff\xd8"
    return [Image.open(io.BytesIO(part if part.startswith(start) else start + part)).convert("RGB") for part in parts]


def save_tokenizer(folder, words):
    """CLIP's byte-level BPE with its number of tokens. Merges build the captions' own words, letter by letter; in the
    place of the other merges are tokens that no text has."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = {}
    for word in dict.fromkeys(" ".join(["a photo of a", *words]).split()):
        letters = [*word[:-1], word[-1] + "</w>"]
        for count in range(1, len(letters)):
            merges["".join(letters[:count]), letters[count]] = None
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys(tokens))
    tokens += [f"unused {number}" for number in range(TOKENS - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
        (scratch / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        CLIPTokenizerFast(
            str(scratch / "vocab.json"), str(scratch / "merges.txt"), pad_token="!", model_max_length=LENGTH
        ).save_pretrained(folder)
    tokenizer = CLIPTokenizerFast.from_pretrained(folder)
    lengths = [len(tokenizer(f"a photo of a {word}").input_ids) for word in words]
    if max(lengths) > LENGTH or len(tokenizer) != TOKENS or tokenizer.eos_token_id != TOKENS - 1:
        die(f"the tokenizer has {len(tokenizer)} tokens and makes up to {max(lengths)} of a caption")
    return tokenizer


def make_scores_rare(model, processor, root):
    """Moves all logits so that a few regions of a frame score above the threshold. As they start, all do, and what
    comes after the network would be timed with hundreds of detections."""
    import torch

    inputs = processor(text=captions(root), images=frames_of(root)[::40], return_tensors="pt")
    head = model.class_head
    with torch.no_grad():
        # logits = (cosine + shift) * scale, and the scale differs from region to region: 1 here.
        head.logit_scale.weight.zero_()
        head.logit_scale.bias.zero_()
        words = model.owlvit.get_text_features(inputs.input_ids, inputs.attention_mask)
        count = inputs.pixel_values.shape[0]
        features = model.image_embedder(inputs.pixel_values)[0].flatten(1, 2)
        logits, _ = model.class_predictor(features, words.repeat(count, 1, 1))
        best = logits.max(dim=-1).values.flatten().sort(descending=True).values
        head.logit_shift.bias.add_(torch.logit(torch.tensor(THRESHOLD)) - best[FOUND * count])


def write_onnx(model, processor, root, path):
    """As Optimum's OwlViTOnnxConfig has it: names, order and dynamic axes."""
    import warnings

    import numpy
    import onnx
    import onnxruntime
    import torch
    from torch.onnx import register_custom_op_symbolic
    from torch.onnx.symbolic_opset9 import expand

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, pixel_values, attention_mask):
            out = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
            return out.logits, out.pred_boxes, out.text_embeds, out.image_embeds

    def where(graph, condition, x, y):
        if x.type().scalarType() == "Double":
            x = graph.op("Cast", x, to_i=onnx.TensorProto.FLOAT)
        return graph.op("Where", condition, x, y)

    # PyTorch 1.13 exports `expand` and not its other name, and of `where` with a number a double beside floats.
    register_custom_op_symbolic("aten::broadcast_to", lambda graph, x, size: expand(graph, x, size, None), OPSET)
    register_custom_op_symbolic("aten::where", where, OPSET)
    text = {0: "text_batch_size", 1: "sequence_length"}
    axes = {
        "input_ids": text,
        "pixel_values": {0: "image_batch_size", 1: "num_channels", 2: "height", 3: "width"},
        "attention_mask": text,
        "logits": {0: "image_batch_size", 2: "num_queries"},
        "pred_boxes": {0: "image_batch_size", 1: "num_boxes"},
        "text_embeds": {0: "text_batch_size", 1: "max_text_queries"},
        "image_embeds": {0: "image_batch_size"},
    }
    names = list(axes)
    # Two images with three captions each, so that no size is taken for a constant.
    inputs = processor(text=captions(root)[:6], images=frames_of(root)[:2], return_tensors="pt")
    inputs = [inputs[name] for name in names[:3]]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model(**dict(zip(names, inputs)))
        torch.onnx.export(
            Wrapped(), tuple(inputs), f"{path}.part", input_names=names[:3], output_names=names[3:], dynamic_axes=axes,
            opset_version=OPSET,
        )
    session = onnxruntime.InferenceSession(f"{path}.part", providers=["CPUExecutionProvider"])
    got = session.run(None, {name: value.numpy() for name, value in zip(names, inputs)})
    for name, one in zip(names[3:], got, strict=True):
        other = expected[name].numpy()
        if not numpy.isfinite(one).all() or not numpy.allclose(one, other, rtol=1e-3, atol=1e-3):
            die(f"{path}: ONNX Runtime and PyTorch disagree in {name} by up to {numpy.abs(one - other).max()}")
    os.replace(f"{path}.part", path)


# ---- The measurement ------------------------------------------------------------------------------------------------


def measure(arguments):
    threads = len(os.sched_getaffinity(0))
    folder, root = arguments.folder, arguments.root
    frames = frames_of(root)
    load_before = os.getloadavg()[0]
    if load_before > 0.25 * threads:
        say(f"this machine is busy (load {load_before:.1f} on {threads} cores): ratios hold better than milliseconds")
    bare = Bare(folder / "student.onnx", frames, threads)
    transformers = Transformers(folder / "export", root, threads)
    program = Program(arguments.program, folder, root, arguments.seconds, threads)
    rounds = []
    for number in range(arguments.rounds):
        before = block(bare.step, frames, arguments.images // 2 + 1)
        told = program.run()
        after = block(bare.step, frames, arguments.images // 2 + 1)
        rounds.append({
            "bare": statistics.median(before + after),
            "wordsight": 1e3 / told["fps"],
            "transformers_cached": statistics.median(block(transformers.cached, frames, arguments.images)),
            "transformers_whole": statistics.median(block(transformers.whole, frames, arguments.images)),
            "program": told,
        })
        say(f"round {number + 1} of {arguments.rounds}: "
            + ", ".join(f"{name} {rounds[-1][name]:.0f} ms" for name in WAYS))
    report = {
        "what": PLAINLY,
        "threads": threads,
        "words": len(coco_words(root)),
        "images": arguments.images,
        "seconds": arguments.seconds,
        "frame": list(frames[0].size),
        "score_threshold": THRESHOLD,
        "machine": {"processor": processor(), "load_before": load_before, "load_after": os.getloadavg()[0]},
        "versions": {**versions(), **json.loads((folder / "export/made.json").read_text())["versions"]},
        "ms": {name: summary([one[name] for one in rounds]) for name in WAYS},
        "ratios": {f"wordsight/{name}": {**summary([one["wordsight"] / one[name] for one in rounds]), "bar": bar}
                   for name, bar in BARS.items()},
        "pipeline_efficiency": summary([one["program"]["pipeline_efficiency"] for one in rounds]),
        "stages_ms": {stage: statistics.median(one["program"]["stages_ms"][stage] for one in rounds)
                      for stage in rounds[0]["program"]["stages_ms"]},
        "detections": {"transformers": transformers.found},
        "rounds": rounds,
    }
    show(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def block(step, frames, count):
    """Milliseconds of `count` frames, after one that isn't timed: the caches are another's."""
    step(frames[0])
    times = []
    for number in range(count):
        frame = frames[number * 7 % len(frames)]
        start = time.perf_counter()
        step(frame)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def summary(values):
    middle, least, most = (round(of(values), 4) for of in (statistics.median, min, max))
    return {"median": middle, "least": least, "most": most}


class Bare:
    """The student's network alone, on pictures that are ready beforehand."""

    def __init__(self, path, frames, threads):
        import numpy
        import onnxruntime
        from PIL import Image

        options = onnxruntime.SessionOptions()
        # As engines/src/cpu/session.rs has it.
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        [image] = self.session.get_inputs()
        if image.type != "tensor(uint8)" or len(image.shape) != 4:
            die(f"{path}: its input is {image.type} {image.shape}, and bytes were expected")
        height, width = image.shape[2:]
        self.input = image.name
        self.ready = {
            id(frame): numpy.ascontiguousarray(numpy.asarray(
                frame.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)[None])
            for frame in frames
        }

    def step(self, frame):
        return self.session.run(None, {self.input: self.ready[id(frame)]})


class Transformers:
    """The model in PyTorch, from a frame to what post-processing finds."""

    def __init__(self, folder, root, threads):
        import torch
        from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = OwlViTForObjectDetection(OwlViTConfig.from_pretrained(folder)).eval().requires_grad_(False)
        self.model.load_state_dict(torch.load(folder / "model.pt"))
        self.processor = OwlViTProcessor.from_pretrained(folder)
        self.captions = captions(root)
        inputs = self.processor(text=self.captions, images=frames_of(root)[0], return_tensors="pt")
        with torch.inference_mode():
            out = self.model(**inputs)
            self.words = out.text_embeds
            # The two ways must be the same, or one of them measures something else.
            boxes, logits = self.image_side(inputs.pixel_values)
        for one, other in ((out.logits, logits), (out.pred_boxes, boxes)):
            if not torch.allclose(one, other, rtol=1e-3, atol=1e-4):
                die("transformers' image side with words of before differs from its forward")
        self.found = len(self.post_process(out, frames_of(root)[0])["scores"])

    def image_side(self, pixels):
        """What OwlViTForObjectDetection.forward does, without the text tower."""
        grid, _ = self.model.image_embedder(pixels)
        features = grid.flatten(1, 2)
        logits, _ = self.model.class_predictor(features, self.words)
        return self.model.box_predictor(features, grid), logits

    def post_process(self, out, frame):
        sizes = self.torch.tensor([[frame.height, frame.width]])
        [found] = self.processor.post_process_object_detection(out, threshold=THRESHOLD, target_sizes=sizes)
        return found

    def cached(self, frame):
        from transformers.models.owlvit.modeling_owlvit import OwlViTObjectDetectionOutput

        with self.torch.inference_mode():
            pixels = self.processor(images=frame, return_tensors="pt").pixel_values
            boxes, logits = self.image_side(pixels)
            return self.post_process(OwlViTObjectDetectionOutput(logits=logits, pred_boxes=boxes), frame)

    def whole(self, frame):
        """As transformers' documentation has it."""
        with self.torch.inference_mode():
            inputs = self.processor(text=self.captions, images=frame, return_tensors="pt")
            return self.post_process(self.model(**inputs), frame)


class Program:
    def __init__(self, program, folder, root, seconds, threads):
        self.command = [
            program, "bench", "--source", root / "demo/clip.mjpeg", "--student", folder / "student.onnx",
            "--vocabulary", folder / "words.safetensors", "--engine", "onnxruntime", "--threads", str(threads),
            "--score-threshold", str(THRESHOLD), "--seconds", str(seconds),
        ]
        # Without what Python needs here.
        ours = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "OMP_NUM_THREADS")
        self.environment = {name: value for name, value in os.environ.items() if name not in ours}

    def run(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.json"
            done = subprocess.run([*self.command, "--json", path], env=self.environment, capture_output=True, text=True)
            if done.returncode != 0:
                die(f"wordsight bench ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
            told = json.loads(path.read_text())
        stages = {stage: values["median"] for stage, values in told["stages_ms"].items()}
        keys = ("fps", "bare_engine_fps", "pipeline_efficiency", "frames")
        return {**{key: told[key] for key in keys}, "stages_ms": stages}


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def versions():
    import numpy
    import onnxruntime
    import PIL

    return {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__, "pillow": PIL.__version__,
            "python": platform.python_version()}


def show(report):
    def span(values, digits):
        return f"{values['median']:9.{digits}f}  ({values['least']:.{digits}f}-{values['most']:.{digits}f})"

    width, height = report["frame"]
    print(f"{PLAINLY}\n")
    print(f"{'':42}ms/image  (least-most of a round)")
    for name, title in WAYS.items():
        print(f"{title:40}{span(report['ms'][name], 1)}")
    print(f"\n{'':43}ratio")
    for name, values in report["ratios"].items():
        bar = f"   wanted: {values['bar']} at most" if values["bar"] else ""
        print(f"{name:40}{span(values, 3)}{bar}")
    print(f"{'pipeline_efficiency of wordsight bench':40}{span(report['pipeline_efficiency'], 3)}")
    stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in report["stages_ms"].items())
    print(f"\nStages of wordsight, median ms: {stages}.")
    print(
        f"OWL-ViT-B/32 at 768x768, FP32, batch 1, {report['threads']} threads, {report['words']} words, frames of "
        f"{width}x{height}; {len(report['rounds'])} rounds.\n"
        "Timed of the bare session: the network, on pictures that are ready. Of wordsight: the stream's rate, from a\n"
        "decoded frame to what is published, stages beside one another. Of transformers: its processor on a decoded\n"
        "frame, the model, post_process_object_detection, which suppresses nothing. Decoding is timed nowhere."
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
