"""Exports a PyTorch detector that fuses late as a student: docs/bring.md says what a student is.

`python3 export_student.py student.onnx` exports the network of this file, `Patches`. For yours, import `export` and give
it a module that takes normalised images [1, 3, H, W] and returns four tensors:

    boxes       [1, K, 4]  centre x, centre y, width, height, as shares (0 to 1) of the input's sides
    embeddings  [1, K, D]  of any length
    shift       [1, K]     added to the cosine with a word
    scale       [1, K]     that the sum is multiplied by, above 0

Needs `torch` and `onnx`. Tested with PyTorch 1.13.1 and onnx 1.16.2.
"""

import json
import sys

import onnx
import torch


class Student(torch.nn.Module):
    """Bytes in; corners in pixels of the input and embeddings of length 1 out."""

    def __init__(self, model, width, height, mean, deviation):
        super().__init__()
        self.model = model
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(deviation).view(1, 3, 1, 1))
        self.register_buffer("sides", torch.tensor([width, height, width, height], dtype=torch.float32))

    def forward(self, image):
        boxes, embeddings, shift, scale = self.model((image.float() - self.mean) / self.deviation)
        centre, size = boxes[0].split(2, dim=1)
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=1) * self.sides
        return corners, torch.nn.functional.normalize(embeddings[0], dim=1), shift[0], scale[0]


def export(model, path, teacher, width, height, mean, deviation, **metadata):
    """`teacher` is the id of the text half that embeds words for it; `metadata` goes into the file as wordsight.KEY."""
    image = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    outputs = ["boxes", "text_embeddings", "logit_shift", "logit_scale"]
    student = Student(model, width, height, mean, deviation).eval()
    torch.onnx.export(student, image, path, opset_version=17, input_names=["image"], output_names=outputs)
    file = onnx.load(path)
    facts = {"format": "2", "teacher": teacher, "scores": "sigmoid", **metadata}
    onnx.helper.set_model_props(file, {f"wordsight.{key}": value for key, value in facts.items()})
    onnx.save(file, path)


class Patches(torch.nn.Module):
    """A detector as small as one can be, with random weights: each patch of 16 pixels has a box and an embedding."""

    def __init__(self, size=32):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 6 + size, kernel_size=16, stride=16)

    def forward(self, pixels):
        of_patches = self.patches(pixels).flatten(2).transpose(1, 2)
        boxes, embeddings = of_patches[..., :4].sigmoid(), of_patches[..., 6:]
        return boxes, embeddings, of_patches[..., 4], of_patches[..., 5].exp()


if __name__ == "__main__":
    export(Patches(), sys.argv[1], "some-teacher", 320, 192, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225],
           resize="letterbox", padding=json.dumps([114, 114, 114]))
