"""Writes the peers of benches/peers as ONNX files with random weights, and a list of them, into a folder.

80 words' embeddings are fixed in each file, as its own tools fix them when a vocabulary is given beforehand: no text
tower runs per frame. Needs PyTorch, ultralytics and transformers, and no network: connections are refused.

The one surprising thing: nothing is written where the list says that this very file and these very wheels wrote it.
"""

import argparse
import hashlib
import json
import os
import socket
import sys

WORDS = 80
OPSET = 17
# What each peer is fed: its input's side, the grey around the letterboxed frame, and how bytes become floats.
UNIT = {"mean": [0.0, 0.0, 0.0], "deviation": [1.0, 1.0, 1.0]}
CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "deviation": [0.26862954, 0.26130258, 0.27577711]}
YOLO = {"padding": 114, **UNIT}
# Two YOLOs are here at the student's own size as well: it shows how much of a ratio is only the smaller picture.
PEERS = [
    {"name": "YOLO-World-S", "file": "yolo-world-s.onnx", "side": 640, **YOLO},
    {"name": "YOLOE-v8-S", "file": "yoloe-v8-s.onnx", "side": 640, **YOLO},
    {"name": "YOLOE-11-S", "file": "yoloe-11-s.onnx", "side": 640, **YOLO},
    {"name": "OWL-ViT-B/32", "file": "owl-vit-b32.onnx", "side": 768, "padding": 0, **CLIP},
    {"name": "YOLO-World-S", "file": "yolo-world-s-384.onnx", "side": 384, **YOLO},
    {"name": "YOLOE-11-S", "file": "yoloe-11-s-384.onnx", "side": 384, **YOLO},
]


def say(what):
    print("peers:", what, file=sys.stderr, flush=True)


def die(what):
    sys.exit(f"peers: {what}")


def main():
    parser = argparse.ArgumentParser(description="Called by benches/peers, which has the usage.")
    parser.add_argument("models", help="the folder")
    parser.add_argument("torch", help="PyTorch's version as Debian has it, which PyTorch itself doesn't know")
    arguments = parser.parse_args()
    folder = arguments.models
    made_by = os.path.join(folder, "peers.json")
    recipe = recipe_of_this(arguments.torch)
    if recipe == recipe_in(made_by) and all(os.path.isfile(os.path.join(folder, peer["file"])) for peer in PEERS):
        return
    refuse_connections()
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(made_by):
        os.remove(made_by)
    import torch
    import transformers
    import ultralytics

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    makers = {
        "YOLO-World-S": yolo_world,
        "YOLOE-v8-S": lambda side: yoloe("yoloe-v8s.yaml", side),
        "YOLOE-11-S": lambda side: yoloe("yoloe-11s.yaml", side),
        "OWL-ViT-B/32": owl_vit,
    }
    for peer in PEERS:
        say(f"exporting {peer['name']} for {peer['side']}x{peer['side']}, with random weights")
        torch.manual_seed(0)
        model, outputs = makers[peer["name"]](peer["side"])
        write_onnx(model, outputs, peer["side"], os.path.join(folder, peer["file"]))
    versions = {
        "torch": arguments.torch,
        "ultralytics": ultralytics.__version__,
        "transformers": transformers.__version__,
    }
    # Last, so that an interrupted run is done again.
    with open(made_by, "w") as out:
        json.dump({"recipe": recipe, "versions": versions, "words": WORDS, "peers": PEERS}, out)


def recipe_of_this(torch):
    """This file, the pinned wheels and PyTorch's version: whoever changes one gets other models."""
    digest = hashlib.sha256(torch.encode())
    for path in (__file__, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.txt")):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def recipe_in(made_by):
    try:
        with open(made_by) as file:
            return json.load(file)["recipe"]
    except (OSError, ValueError, KeyError):
        return None


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


def yolo_world(side):
    """YOLO-World v2 S as `set_classes` leaves it, without CLIP, whose weights it would ask for."""
    from ultralytics.nn.tasks import WorldModel

    model = WorldModel("yolov8s-worldv2.yaml", nc=WORDS, verbose=False)
    model.txt_feats = words(512)
    settle(model, side)
    return as_ultralytics_exports(model), ["output0"]


def yoloe(config, side):
    """YOLOE S with its words fused into the head's convolutions, as its export does."""
    from ultralytics.nn.tasks import YOLOEModel

    model = YOLOEModel(config, nc=WORDS, verbose=False)
    settle(model, side)
    model.set_classes([f"word {number}" for number in range(WORDS)], model.model[-1].get_tpe(words(512)).detach())
    return as_ultralytics_exports(model), ["output0"]


def settle(model, side):
    """Gives the normalisations the statistics of one batch: with those that they start with, random weights let the
    signal fade layer by layer towards denormal numbers, which processors compute slowly."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.rand(2, 3, side, side))
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


def owl_vit(side):
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
    if model.model.sqrt_num_patches * 32 != side:
        die(f"transformers' default for OWL-ViT is no longer B/32 at {side}x{side}")
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


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
