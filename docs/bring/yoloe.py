"""Exports a YOLOE of ultralytics (Wang et al., arXiv 2503.07465) as a student: docs/bring.md says what a student is.

    python3 yoloe.py yoloe-11s-seg.pt -o yoloe.onnx --text-encoder mobileclip_blt.ts --tokenizer tokenizer.json \\
        --teacher-out yoloe-words
    python3 yoloe.py yoloe-11s-seg.pt -o yoloe.onnx --teacher ID

The first also writes the teacher's text half, which embeds words; the second names one that is there. The text half is
made of the text encoder that ultralytics downloads for this model and of the checkpoint's own layer over it (`reprta`),
so each checkpoint has its own; `tokenizer.json` is CLIP's, as of openai/clip-vit-base-patch32.

Masks are left out. Of a model with two heads (YOLOE-26) the one that takes suppression is exported.

ultralytics is AGPL-3.0, and so are its weights: what you make with this script is under their terms.
Needs torch, onnx and ultralytics. Tested with PyTorch 1.13.1, onnx 1.23.2 and ultralytics 8.4.190, with random weights.
"""

import argparse
import hashlib
import json
import pathlib
import shutil

import onnx
import torch
from torch.nn.functional import normalize
from ultralytics import YOLOE
from ultralytics.utils.tal import dist2bbox, make_anchors

SIDE = 640
OPSET = 17


class Student(torch.nn.Module):
    """Every anchor is a region: 8,400 of them at 640x640."""

    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, model.model[-1]
        # The model then returns the maps that its head takes, and no scores.
        self.head.forward = lambda inputs: inputs[:3]
        anchors, strides = make_anchors(self.model(torch.zeros(1, 3, SIDE, SIDE)), self.head.stride, 0.5)
        self.register_buffer("anchors", anchors.T[None])
        self.register_buffer("strides", strides.T[None])

    def forward(self, image):
        heads = self.head.one2many
        distances, embeddings, shifts, scales = [], [], [], []
        for level, map_ in enumerate(self.model(image.float() / 255)):
            contrast = heads["contrastive_head"][level]
            distances.append(heads["box_head"][level](map_).flatten(2))
            embedding = contrast.norm(heads["cls_head"][level](map_)).flatten(2)[0].T
            # The head multiplies by embeddings as long as they come, so that the length is a part of the scale.
            length = embedding.norm(dim=1, keepdim=True).clamp(min=1e-6)
            scale = contrast.logit_scale.exp() * length[:, 0]
            embeddings.append(embedding / length)
            shifts.append(contrast.bias / scale)
            scales.append(scale)
        distances = self.head.dfl(torch.cat(distances, 2))
        boxes = dist2bbox(distances, self.anchors, xywh=False, dim=1) * self.strides
        return boxes[0].T, torch.cat(embeddings), torch.cat(shifts), torch.cat(scales)


class Text(torch.nn.Module):
    """Tokens to embeddings, as `YOLOEModel.get_text_pe` makes them."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.reprta = encoder, head.reprta

    def forward(self, input_ids):
        return normalize(self.reprta(self.encoder(input_ids).float()[None]), dim=-1)[0]


def write_text_half(text, tokenizer, folder):
    """A teacher that only embeds words (docs/teacher.md). Returns its id."""
    (folder / "onnx").mkdir(parents=True)
    # Captions are padded with zeros, of which CLIP's tokenizer calls the token "!".
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "!", "model_max_length": 77}))
    shutil.copy(tokenizer, folder / "tokenizer.json")
    captions = torch.zeros(2, 77, dtype=torch.int64)
    captions[:, 1] = 1
    # Traced beforehand: the exporter alone can't look into TorchScript.
    text = torch.jit.trace(text, captions)
    torch.onnx.export(text, captions, folder / "onnx/text_model.onnx", opset_version=OPSET, input_names=["input_ids"],
                      output_names=["text_embeds"], dynamic_axes={"input_ids": {0: "n"}, "text_embeds": {0: "n"}})
    sha256 = hashlib.sha256()
    for name in ["onnx/text_model.onnx", "tokenizer.json", "tokenizer_config.json"]:
        sha256.update((folder / name).read_bytes())
    teacher = f"yoloe-{sha256.hexdigest()[:12]}"
    config = {"model_type": "yoloe", "text_config": {"max_position_embeddings": 77},
              "text_only": {"id": teacher, "sha256": sha256.hexdigest()}}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return teacher


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="a checkpoint (.pt)")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--teacher", help="the id of a text half that is there")
    parser.add_argument("--text-encoder", help="TorchScript, as ultralytics downloads it")
    parser.add_argument("--tokenizer", help="CLIP's tokenizer.json")
    parser.add_argument("--teacher-out", type=pathlib.Path, help="a folder for the text half")
    arguments = parser.parse_args()
    made = [arguments.text_encoder, arguments.tokenizer, arguments.teacher_out]
    if (None in made) != bool(arguments.teacher):
        parser.error("either --teacher, or --text-encoder, --tokenizer and --teacher-out")

    model = YOLOE(arguments.model).model.float().eval().requires_grad_(False)
    teacher = arguments.teacher
    if not teacher:
        text = Text(torch.jit.load(arguments.text_encoder, map_location="cpu"), model.model[-1]).eval()
        teacher = write_text_half(text, arguments.tokenizer, arguments.teacher_out)
    torch.onnx.export(Student(model).eval(), torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), arguments.output,
                      opset_version=OPSET, input_names=["image"],
                      output_names=["boxes", "text_embeddings", "logit_shift", "logit_scale"])
    file = onnx.load(arguments.output)
    onnx.helper.set_model_props(file, {
        "wordsight.format": "2", "wordsight.teacher": teacher, "wordsight.scores": "sigmoid",
        "wordsight.resize": "letterbox", "wordsight.padding": "[114, 114, 114]"})
    onnx.save(file, arguments.output)


if __name__ == "__main__":
    main()
