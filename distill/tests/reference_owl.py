"""Six tiny OWL-ViT and OWLv2 models with random weights, and what transformers detects with them.

Writes distill/tests/fixtures/owl/:

    owlvit-a/ owlvit-b/ owlvit-c/ owlv2-a/ owlv2-b/ owlv2-c/
                as Hugging Face Optimum exports these models: one graph, `model.onnx`, with inputs input_ids,
                pixel_values and attention_mask and outputs logits, pred_boxes, text_embeds and image_embeds, all axes
                dynamic that its OwlViTOnnxConfig has as dynamic, beside the configurations and the tokenizer
    owlvit-b-two/
                the model owlvit-b in two graphs: `image_encoder.onnx` as NanoOWL exports it, whose pred_boxes are
                corners, and `text_encoder.onnx`, which NanoOWL itself leaves in PyTorch; the embeddings of captions are
                not normalised
    images/     ten photographs, wide, tall and square, some smaller and some larger than what the models take
    expected/   NAME.safetensors, all float32: for every image I the best 64 regions by score (all where there are
                fewer), `boxes_I` [n, 4] in pixels of the photograph (left, top, right, bottom, not cut at its edges),
                `scores_I` [n] and `labels_I` [n] (index of the word); `text_embeddings` [6, D], normalised; for the two
                smallest models `pixel_values` [3, S, S] of the first image. words.json: words, captions, images
    eval/       NAME/annotations.json, made from a part of the model's own detections, and NAME/expected.json, what
                pycocotools measures of its detections (best 100 of an image, cut at the photograph's edges, none left
                out) with COCO's 80 words

What is expected comes from transformers' own processors, models and post-processing in PyTorch, never from the exported
graphs. A student's input is of bytes, so the pixels that OWLv2's processor makes in floats are rounded to levels before
the model gets them; how much that changes scores is printed. OWL-ViT's processor makes bytes itself. OWLv2 pads photographs to a square at the bottom and the right; its post-processing gets (side, side) with
side = max(height, width) as their sizes, which gives boxes in pixels of the photograph.

The class head compares its embeddings with the captions' as they are, so projection_dim is the text's hidden size (its
`dense0` has that many outputs); it differs from the image's. All six graphs take any number of captions, any length of
them up to 16 and any number of images that divides that of the captions. Height and width are named as dynamic, as
Optimum does, but only the model's own image size fits its position embeddings. OWLv2's objectness isn't among the
outputs. So that the files stay small the encoders' many values have numbers for names and their equal constants are
one; nodes, and names from the heads on, are as exported.

The photographs are cut and scaled from demo/photographs' cows, hens, horses, mariachi and palace, all public domain
(demo/photographs/SOURCES.md says where each is from).

Written with torch 1.13.1 (Debian's python3-torch), transformers 4.41.2, tokenizers 0.19.1, numpy 1.26.4, Pillow 10.4.0,
onnx 1.16.2, scipy 1.13.1, safetensors 0.8.0, pycocotools 2.0.8. From the repository's root:

    apt-get install --no-install-recommends python3-torch python3-pip
    /usr/bin/python3 -m pip install --target /tmp/reference-owl 'transformers==4.41.2' 'tokenizers==0.19.1' \\
        'numpy==1.26.4' 'pillow==10.4.0' 'onnx==1.16.2' 'protobuf<5' 'scipy==1.13.1' 'safetensors==0.8.0' \\
        'pycocotools==2.0.8'
    PYTHONPATH=/tmp/reference-owl /usr/bin/python3 distill/tests/reference_owl.py

With `onnxruntime==1.19.2` there too it also runs the graphs and says how far they are from PyTorch.
"""

import contextlib
import io
import json
import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.numpy import save_file
from tokenizers import Regex, normalizers, pre_tokenizers
from torch.onnx import symbolic_opset9 as opset9
from transformers import (
    CLIPTokenizerFast,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
)

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

OUT = Path("distill/tests/fixtures/owl")
PHOTOGRAPHS = Path("demo/photographs")
COCO_NAMES = Path("distill/src/label/coco_names.txt")
OPSET = 14
LENGTH = 16
KEPT = 64
# COCO's numbers of its 80 categories have gaps.
UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
# How CLIP cuts a caption before the byte pairs.
PARTS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

WORDS = ["cow", "chicken", "horse", "person", "guitar", "palace"]

# name: (photograph, part of it as left, top, right, bottom, size it is scaled to). No two have the same shape.
IMAGES = {
    "cows-97x61": ("cows", (60, 90, 545, 395), (97, 61)),
    "hens-61x97": ("hens", (100, 20, 344, 408), (61, 97)),
    "horses-301x127": ("horses", (200, 130, 420, 223), (301, 127)),
    "mariachi-256x256": ("mariachi", (460, 120, 620, 280), (256, 256)),
    "palace-53x211": ("palace", (270, 0, 360, 358), (53, 211)),
    "cows-40x40": ("cows", (200, 120, 520, 440), (40, 40)),
    "horses-163x149": ("horses", (300, 90, 583, 349), (163, 149)),
    "hens-118x203": ("hens", (420, 140, 510, 295), (118, 203)),
    "palace-320x83": ("palace", (200, 210, 440, 272), (320, 83)),
    "mariachi-96x96": ("mariachi", (0, 60, 300, 360), (96, 96)),
}

# side, patch, the image's hidden size and the text's, and the seed of the weights.
MODELS = {
    "owlvit-a": dict(side=72, patch=6, image=24, text=16, seed=51),
    "owlvit-b": dict(side=98, patch=14, image=20, text=16, seed=52),
    "owlvit-c": dict(side=384, patch=16, image=24, text=16, seed=43),
    "owlv2-a": dict(side=78, patch=6, image=32, text=20, seed=234),
    "owlv2-b": dict(side=160, patch=16, image=24, text=20, seed=65),
    "owlv2-c": dict(side=960, patch=16, image=16, text=20, seed=76),
}
PIXELS_OF = ["owlvit-a", "owlv2-a"]
# And the seed of the objects. All seeds are chosen so that neither words nor figures hang on the last digits.
EVALUATED = {"owlvit-a": 5, "owlv2-a": 1}


def caption(word):
    return f"a photo of a {word}"


def coco_words():
    return COCO_NAMES.read_text().splitlines()


# ---- Photographs ----------------------------------------------------------------------------------------------------


def make_photographs():
    (OUT / "images").mkdir(parents=True)
    photographs = {}
    for name, (source, part, size) in IMAGES.items():
        whole = Image.open(PHOTOGRAPHS / f"{source}.jpg").convert("RGB")
        photograph = whole.crop(part).resize(size, Image.LANCZOS)
        photograph.save(OUT / "images" / f"{name}.png", optimize=True)
        photographs[name] = Image.open(OUT / "images" / f"{name}.png").convert("RGB")
    return photographs


# ---- Tokenizer ------------------------------------------------------------------------------------------------------


def learnt_merges(count):
    """Byte-pair merges of the captions as CLIP's words are cut. Written out, because tokenizers' own trainer breaks
    ties another way every time."""
    cut = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PARTS), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    lower = normalizers.Lowercase()
    words = Counter(word for name in WORDS + coco_words()
                    for word, _ in cut.pre_tokenize_str(lower.normalize_str(caption(name))))
    words = {(*word[:-1], word[-1] + "</w>"): times for word, times in words.items()}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {merged(word, best): times for word, times in words.items()}
    return merges


def merged(word, pair):
    result = []
    for part in word:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return tuple(result)


def save_tokenizer(folder):
    """CLIP's byte-level BPE and its order of the vocabulary: bytes, bytes at a word's end, merges, two specials."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learnt_merges(60)
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "vocab.json").write_text(json.dumps(vocabulary))
        (Path(scratch) / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        fast = CLIPTokenizerFast(f"{scratch}/vocab.json", f"{scratch}/merges.txt", pad_token="!",
                                 model_max_length=LENGTH)
    fast.save_pretrained(folder)
    tokenizer = CLIPTokenizerFast.from_pretrained(folder)
    assert tokenizer.pad_token_id == 0 and tokenizer.eos_token_id == len(tokenizer) - 1
    lengths = [len(tokenizer(caption(word)).input_ids) for word in WORDS + coco_words()]
    assert max(lengths) <= LENGTH, f"a caption has {max(lengths)} tokens"
    return tokenizer


def tokens(tokenizer, words):
    return tokenizer([caption(word) for word in words], padding="max_length", return_tensors="pt")


# ---- Models ---------------------------------------------------------------------------------------------------------


def randomise(model, seed):
    """Weights large enough that regions, photographs and words get clearly different boxes and scores; the usual start
    is too timid."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            # The image's side is tamer: as in trained models, a level of a byte mustn't turn what is found.
            of_text = "text" in name
            if weight.dim() <= 1:
                base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                weight.copy_(base + (0.3 if of_text else 0.1) * noise)
            elif "embedding" in name and weight.dim() == 2:
                weight.copy_(noise)
            else:
                fan_in = weight[0].numel()
                weight.copy_((1.2 if of_text else 0.6) * noise / fan_in**0.5)
        # Captions differ in one word of five: let what they attend to weigh more than the end that all have.
        model.get_submodule(model.base_model_prefix).text_model.embeddings.token_embedding.weight.mul_(0.5)
        model.get_submodule(model.base_model_prefix).text_model.embeddings.position_embedding.weight.mul_(0.5)
    return model.eval()


def centred(layer, inputs, mean, deviation):
    """Makes the mean and the deviation of each of a linear layer's outputs for `inputs` what is given. Rounded, so that
    the weights don't hang on the last digits of a sum."""
    outputs = torch.nn.functional.linear(inputs.flatten(0, -2), layer.weight)
    layer.weight.mul_((torch.tensor(deviation) / outputs.std(dim=0)).mul(100).round().div(100)[:, None])
    outputs = torch.nn.functional.linear(inputs.flatten(0, -2), layer.weight)
    layer.bias.copy_((torch.tensor(mean) - outputs.mean(dim=0)).mul(100).round().div(100))


@torch.no_grad()
def spread(model, processor, tokenizer, photographs):
    """Words, regions and boxes apart, as training has them: without, all that the random weights have in common is most
    of every embedding."""
    base = model.get_submodule(model.base_model_prefix)
    text = tokens(tokenizer, WORDS + coco_words())
    pooled = base.text_model(input_ids=text.input_ids, attention_mask=text.attention_mask).pooler_output
    base.text_model.final_layer_norm.bias.sub_(pooled.mean(dim=0).mul(100).round().div(100))
    features = torch.cat([
        model.image_embedder(pixel_values=processor(photograph, return_tensors="pt").pixel_values)[0].flatten(1, 2)
        for photograph in photographs.values()])
    centred(model.class_head.dense0, features, 0.0, 1.0)
    # What isn't the word scores low, and steepness is mostly well above 1. Some regions' is below, where ELU isn't a
    # straight line.
    centred(model.class_head.logit_shift, features, -0.3, 0.15)
    centred(model.class_head.logit_scale, features, 4.0, 2.0)
    box = model.box_head
    features = box.gelu(box.dense1(box.gelu(box.dense0(features))))
    # Boxes from a patch's size up to most of the photograph.
    centred(box.dense2, features, [0.0, 0.0, 1.4, 1.4], [0.5, 0.5, 1.2, 1.2])


def make_model(name, vocabulary):
    sizes = MODELS[name]
    config_class, model_class, processor_class = (
        (Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor) if name.startswith("owlv2") else
        (OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor))
    layers = dict(num_hidden_layers=2, num_attention_heads=2)
    config = config_class(
        text_config=dict(layers, hidden_size=sizes["text"], intermediate_size=sizes["text"] + 8,
                         vocab_size=vocabulary, max_position_embeddings=LENGTH, bos_token_id=vocabulary - 2,
                         eos_token_id=vocabulary - 1, pad_token_id=0),
        vision_config=dict(layers, hidden_size=sizes["image"], intermediate_size=sizes["image"] + 8,
                           image_size=sizes["side"], patch_size=sizes["patch"]),
        projection_dim=sizes["text"], architectures=[model_class.__name__])
    model = randomise(model_class(config), sizes["seed"])
    processor = processor_class(size={"height": sizes["side"], "width": sizes["side"]})
    return model, processor


# ---- Graphs ---------------------------------------------------------------------------------------------------------


class Wrapped(torch.nn.Module):
    """A model with the inputs and outputs, by name and order, that an export of it has."""

    def __init__(self, run, model):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, *inputs):
        return self.run(self.model, *inputs)


def whole(model, input_ids, pixel_values, attention_mask):
    out = model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
    return out.logits, out.pred_boxes, out.text_embeds, out.image_embeds


def image_encoder(model, image):
    grid, _ = model.image_embedder(pixel_values=image)
    features = grid.flatten(1, 2)
    boxes = model.box_predictor(features, grid)
    boxes = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)
    head = model.class_head
    return (features, head.dense0(features), head.logit_shift(features), head.elu(head.logit_scale(features)) + 1,
            boxes)


def text_encoder(model, input_ids, attention_mask):
    return model.get_submodule("owlvit").get_text_features(input_ids=input_ids, attention_mask=attention_mask)


TEXT = {0: "text_batch_size", 1: "sequence_length"}
WHOLE_AXES = {
    "input_ids": TEXT,
    "pixel_values": {0: "image_batch_size", 1: "num_channels", 2: "height", 3: "width"},
    "attention_mask": TEXT,
    "logits": {0: "image_batch_size", 2: "num_queries"},
    "pred_boxes": {0: "image_batch_size", 1: "num_boxes"},
    "text_embeds": {0: "text_batch_size", 1: "max_text_queries"},
    "image_embeds": {0: "image_batch_size"},
}
IMAGE_OUTPUTS = ["image_embeds", "image_class_embeds", "logit_shift", "logit_scale", "pred_boxes"]
IMAGE_AXES = {name: {0: "batch"} for name in ["image", *IMAGE_OUTPUTS]}
TEXT_AXES = {"input_ids": TEXT, "attention_mask": TEXT, "text_embeds": {0: "text_batch_size"}}


def shorten(path):
    """Without the wrapper's name in front of names, and with numbers for the encoders' many values, whose names take
    more room than the weights. Of the encoders' equal constants one is left."""
    of_encoder = lambda name: "text_model" in name or "vision_model" in name
    model = onnx.load(path)
    fixed = {value.name for value in [*model.graph.input, *model.graph.output]}
    short, constants, nodes = {}, {}, []

    def name(old):
        if old in fixed or not old:
            return old
        if old not in short:
            short[old] = str(len(short)) if of_encoder(old) else old.removeprefix("/model").removeprefix("model.")
        return short[old]

    for weight in model.graph.initializer:
        weight.name = name(weight.name)
    for node in model.graph.node:
        if node.op_type == "Constant" and of_encoder(node.output[0]):
            value = node.attribute[0].SerializeToString()
            if value in constants:
                short[node.output[0]] = constants[value]
                continue
            constants[value] = name(node.output[0])
        nodes.append(node)
        node.input[:] = map(name, node.input)
        node.output[:] = map(name, node.output)
        node.name = node.output[0] if node.op_type != "Constant" and "/" in node.output[0] else ""
    kept = [output for node in nodes for output in node.output]
    assert len(set(kept)) == len(kept)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


# This PyTorch can't export it; later ones do it so.
torch.onnx.register_custom_op_symbolic(
    "aten::broadcast_to", lambda graph, value, size: opset9.expand(graph, value, size, None), OPSET)


def export(model, run, inputs, names, outputs, axes, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Wrapped(run, model), tuple(inputs), str(path), input_names=names, output_names=outputs,
                          dynamic_axes=axes, opset_version=OPSET, do_constant_folding=True)
    shorten(path)
    if onnxruntime is None:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    # Other numbers of captions and images and another length than the export saw.
    others = [value[:, :12] if name in ("input_ids", "attention_mask") else value[:1]
              for name, value in zip(names, inputs)]
    for trial in (inputs, others):
        with torch.no_grad():
            expected = Wrapped(run, model)(*trial)
        expected = expected if isinstance(expected, tuple) else (expected,)
        got = session.run(None, {name: value.numpy() for name, value in zip(names, trial)})
        for output, a, b in zip(outputs, got, expected):
            apart = np.abs(a - b.numpy()).max()
            assert a.shape == tuple(b.shape), f"{path}: {output} {a.shape} {b.shape}"
            assert apart <= 1e-5 * max(1, b.abs().max()), f"{path}: {output} is {apart} apart"
            print(f"  {path.name} {output} {list(a.shape)}: {apart:.1e} from PyTorch, at most {b.abs().max():.1f}")


def write_folder(name, model, processor, tokenizer, folder):
    model.config._name_or_path = f"wordsight/tiny-random-{name}"
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_tokenizer(folder)
    keep = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink()
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")) + "\n")


def write_models(name, model, processor, tokenizer, photographs):
    folder = OUT / name
    write_folder(name, model, processor, tokenizer, folder)
    text = tokens(tokenizer, WORDS)
    # Two images with three captions each.
    pixels = processor([photographs[key] for key in list(photographs)[:2]], return_tensors="pt").pixel_values
    export(model, whole, [text.input_ids, pixels, text.attention_mask], ["input_ids", "pixel_values", "attention_mask"],
           ["logits", "pred_boxes", "text_embeds", "image_embeds"], WHOLE_AXES, folder / "model.onnx")
    if name == "owlvit-b":
        folder = OUT / "owlvit-b-two"
        write_folder(name, model, processor, tokenizer, folder)
        export(model, image_encoder, [pixels], ["image"], IMAGE_OUTPUTS, IMAGE_AXES, folder / "image_encoder.onnx")
        export(model, text_encoder, [text.input_ids, text.attention_mask], ["input_ids", "attention_mask"],
               ["text_embeds"], TEXT_AXES, folder / "text_encoder.onnx")


# ---- What is expected -----------------------------------------------------------------------------------------------


def in_bytes(processor, photograph):
    """Pixels as an input of bytes holds them: OWLv2's processor resizes in floats, and pads with half a level."""
    levels = processor(photograph, do_normalize=False, return_tensors="pt").pixel_values.double()
    # Half a level goes up, although it has lost its last digits.
    levels = (levels * 255 + 0.5 + 2**-10).floor().clamp(0, 255)
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (processor.image_mean, processor.image_std))
    return ((levels / 255 - mean) / deviation).float()


def run(model, processor, text, photograph, exact=False):
    with torch.no_grad():
        pixels = processor(photograph, return_tensors="pt").pixel_values
        if isinstance(processor, Owlv2ImageProcessor) and not exact:
            pixels = in_bytes(processor, photograph)
        return pixels, model(input_ids=text.input_ids, pixel_values=pixels, attention_mask=text.attention_mask)


def detections(name, processor, out, photograph, kept):
    """The `kept` best regions: boxes in pixels of the photograph, scores, labels."""
    height, width = photograph.height, photograph.width
    if name.startswith("owlv2"):
        height = width = max(height, width)
    [found] = processor.post_process_object_detection(out, threshold=0.0, target_sizes=[(height, width)])
    order = torch.sort(found["scores"], descending=True, stable=True).indices[:kept]
    assert len(found["scores"]) == out.logits.shape[1], "a score of 0 was dropped"
    return [found[key][order].numpy() for key in ("boxes", "scores", "labels")]


def expect(name, model, processor, tokenizer, photographs):
    text = tokens(tokenizer, WORDS)
    result = {}
    scores, labels, boxes = [], [], []
    between_words = between_scores = np.inf
    of_bytes = 0.0
    for key, photograph in photographs.items():
        pixels, out = run(model, processor, text, photograph)
        found = detections(name, processor, out, photograph, KEPT)
        for kind, value in zip(("boxes", "scores", "labels"), found):
            result[f"{kind}_{key}"] = np.ascontiguousarray(value.astype(np.float32))
        if name.startswith("owlv2"):
            _, floats = run(model, processor, text, photograph, exact=True)
            difference = (torch.sigmoid(floats.logits) - torch.sigmoid(out.logits)).abs().max()
            of_bytes = max(of_bytes, difference.item())
        if name in PIXELS_OF and "pixel_values" not in result:
            result["pixel_values"] = pixels[0].numpy()
        best = out.logits[0].topk(2).values
        order = best[:, 0].sort(descending=True, stable=True).indices[: KEPT + 1]
        between_words = min(between_words, (best[order, 0] - best[order, 1]).min().item())
        between_scores = min(between_scores, -torch.sigmoid(best[order, 0]).diff().max().item())
        scores.append(torch.sigmoid(best[:, 0]).numpy())
        labels.append(out.logits[0].argmax(dim=-1).numpy())
        boxes.append(out.pred_boxes[0].numpy())
    result["text_embeddings"] = out.text_embeds[0].numpy()
    path = OUT / "expected" / f"{name}.safetensors"
    save_file(result, path)
    path.chmod(0o644)

    every, kept = np.concatenate(scores), np.concatenate([result[f"scores_{key}"] for key in photographs])
    boxes = np.array(boxes)
    print(f"{name}: {boxes.shape[1]} regions; scores {every.min():.3f} to {every.max():.3f}, standard deviation "
          f"{every.std():.3f}; of the best {kept.min():.3f} to {kept.max():.3f}")
    print(f"  best word {np.bincount(np.concatenate(labels), minlength=len(WORDS)).tolist()} times; standard deviation "
          f"of boxes in an image {boxes.std(axis=1).mean(axis=0).astype(float).round(3).tolist()}, between images "
          f"{boxes.std(axis=0).mean(axis=0).astype(float).round(3).tolist()}; widths {boxes[..., 2].min():.3f} to "
          f"{boxes[..., 2].max():.3f}")
    cosines = result["text_embeddings"] @ result["text_embeddings"].T - 9 * np.eye(len(WORDS))
    print(f"  nearest captions {cosines.max():.3f}; nearest best words {between_words:.1e}; nearest scores in a row "
          f"{between_scores:.1e}; bytes in place of floats change scores by {of_bytes:.1e}")
    assert np.ptp(every) > 0.2 and boxes.std(axis=1).mean() > 0.05 and len(np.unique(np.concatenate(labels))) > 2


# ---- Evaluation -----------------------------------------------------------------------------------------------------


def overlap(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(width, 0) * max(height, 0)
    return both / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both, 1e-9)


def cut_at_edges(boxes, photograph):
    return np.clip(boxes, 0, np.array([photograph.width, photograph.height] * 2))


def chosen_objects(boxes, scores, labels, photograph, random):
    """Some of the detections as objects: sides moved a little, now and then another category."""
    objects = []
    for box, score, label in zip(boxes, scores, labels):
        width, height = box[2:] - box[:2]
        if min(width, height) < 5 or len(objects) == 12:
            continue
        if random.random() > (0.7 if width * height > 96**2 else 0.1 + 0.3 * score):
            continue
        if any(overlap(box, other) > 0.6 for other, _ in objects):
            continue
        shift = random.normal(0, 1, 4) * np.minimum(3, 0.07 * np.array([width, height] * 2))
        moved = cut_at_edges(box + shift, photograph).round(2)
        if random.random() < 0.1:
            label = random.integers(0, 80)
        if min(moved[2:] - moved[:2]) > 3:
            objects.append((moved, int(label)))
    return objects


def figures(annotations, found):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes([dict(entry) for entry in found]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    keys = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"]
    return evaluation, {key: round(float(value), 9) for key, value in zip(keys, evaluation.stats)}


def evaluate(name, model, processor, tokenizer, photographs):
    random = np.random.default_rng(EVALUATED[name])
    names = coco_words()
    numbers = [number for number in range(1, 91) if number not in UNUSED]
    assert len(names) == len(numbers) == 80
    text = tokens(tokenizer, names)
    images, annotations, found = [], [], []
    between_words = np.inf
    for image_id, (key, photograph) in enumerate(photographs.items(), start=101):
        _, out = run(model, processor, text, photograph)
        boxes, scores, labels = detections(name, processor, out, photograph, 100)
        boxes = cut_at_edges(boxes.astype(np.float64), photograph)
        best = out.logits[0].topk(2).values
        order = best[:, 0].sort(descending=True, stable=True).indices[:101]
        between_words = min(between_words, (best[order, 0] - best[order, 1]).min().item())
        images.append({"id": image_id, "file_name": f"{key}.png", "width": photograph.width,
                       "height": photograph.height})
        for box, label in chosen_objects(boxes, scores, labels, photograph, random):
            width, height = (box[2:] - box[:2]).round(2)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[label],
                "bbox": [float(box[0]), float(box[1]), float(width), float(height)],
                "area": round(float(width * height), 4), "iscrowd": 0})
        for box, score, label in zip(boxes, scores, labels):
            found.append({"image_id": image_id, "category_id": numbers[label], "score": float(score),
                          "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]})
    folder = OUT / "eval" / name
    folder.mkdir(parents=True)
    categories = [{"id": number, "name": word} for number, word in zip(numbers, names)]
    parts = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text("{\n" + ",\n".join(
        f'"{part}": [\n' + ",\n".join(map(json.dumps, entries)) + "\n]" for part, entries in parts.items()) + "\n}\n")

    evaluation, expected = figures(folder / "annotations.json", found)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")

    areas = np.array([entry["area"] for entry in annotations])
    print(f"{name}: {len(annotations)} objects of {len({a['category_id'] for a in annotations})} categories, "
          f"{(areas < 32**2).sum()} small, {((areas >= 32**2) & (areas < 96**2)).sum()} medium, "
          f"{(areas >= 96**2).sum()} large; {len(found)} detections; {expected}")
    overlaps = np.concatenate([np.ravel(values) for values in evaluation.ious.values() if len(values)])
    to_threshold = np.abs(overlaps[:, None] - np.linspace(0.5, 0.95, 10)).min()
    empty = sum(min(entry["bbox"][2:]) <= 0 for entry in found)
    # What another implementation rounds otherwise mustn't turn the figures.
    turned = 0
    for _ in range(20):
        other = [dict(entry, score=entry["score"] + random.uniform(-1e-5, 1e-5),
                      bbox=[max(0, value + random.uniform(-3e-4, 3e-4)) for value in entry["bbox"]]) for entry in found]
        _, again = figures(folder / "annotations.json", other)
        turned = max(turned, max(abs(again[key] - expected[key]) for key in expected))
    print(f"  nearest to a threshold of IoU {to_threshold:.1e}, nearest best words {between_words:.1e}; {empty} "
          f"detections without area; noise of 1e-5 in scores and 3e-4 pixels turns figures by {turned:.1e}")
    assert 0.1 < expected["AP"] < 0.9 and 0.1 < expected["AP50"] < 0.9 and min(expected.values()) >= 0
    assert between_words > 3e-5 and turned < 1e-6


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    photographs = make_photographs()
    (OUT / "expected").mkdir()
    (OUT / "expected/words.json").write_text(json.dumps({
        "words": WORDS, "captions": [caption(word) for word in WORDS], "images": list(photographs)}, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = save_tokenizer(scratch)
    for name in MODELS:
        model, processor = make_model(name, len(tokenizer))
        spread(model, processor, tokenizer, photographs)
        write_models(name, model, processor, tokenizer, photographs)
        expect(name, model, processor, tokenizer, photographs)
        if name in EVALUATED:
            evaluate(name, model, processor, tokenizer, photographs)
    sizes = {path: path.stat().st_size for path in sorted(OUT.rglob("*")) if path.is_file()}
    print(sum(sizes.values()) // 1000, "kB in all,", sum(
        size for path, size in sizes.items() if path.suffix == ".png") // 1000, "kB of photographs")
    assert sum(sizes.values()) < 2.5e6 and sizes[OUT / "owlv2-c/model.onnx"] < 700e3


main()
