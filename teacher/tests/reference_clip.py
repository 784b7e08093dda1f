"""Three tiny teachers with random weights, and what transformers makes of captions and pictures with them.

Writes teacher/tests/fixtures/, which teacher/tests/transformers.rs compares against:

    clip/      as exports of OpenAI's CLIP are: no attention mask, the end of a caption found as its largest id
    openclip/  as exports of OpenCLIP's models may be: attention mask, the end found by its id, padding with another
               token, GELU, an unprojected output beside the projected one, weights in a file beside the graph that
               doesn't tell the embeddings' size, sizes in the preprocessor's configuration as plain numbers
    siglip/    as exports of SigLIP are: `pooler_output`, every caption padded to 64 and pooled at its last token
    images/    pictures made here; resized/SIDE/ the same through transformers' own resizing

Embeddings come from PyTorch and never from the exported graphs. Written with torch 1.13.0 (Debian's python3-torch),
transformers 4.41.2, tokenizers 0.19.1, Pillow 10.4.0, onnx 1.16.2, sentencepiece 0.2.3. From the repository's root:

    apt-get install --no-install-recommends python3-torch python3-pip
    /usr/bin/python3 -m pip install --target /tmp/reference-clip 'transformers==4.41.2' 'tokenizers==0.19.1' \\
        'numpy==1.26.4' 'pillow==10.4.0' 'onnx==1.16.2' 'sentencepiece==0.2.3' 'protobuf<5'
    PYTHONPATH=/tmp/reference-clip /usr/bin/python3 teacher/tests/reference_clip.py
"""

import json
import re
import shutil
import string
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import sentencepiece
import torch
from PIL import Image, ImageDraw
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizerFast,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
)
from transformers.convert_slow_tokenizer import SpmConverter

OUT = Path("teacher/tests/fixtures")
OPSET = 14
# How CLIP cuts a caption before the byte pairs.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
TINY = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)

LONG = " ".join(f"{i} zebras, crossing a long road" for i in range(40))
TEXTS = [
    "a photo of a cat.",
    "An ESPRESSO machine, Steaming!",
    "crème brûlée à la façade",
    "re\u0301sume\u0301 in two code points",
    "3 dogs & 12,5 cats at 7:45",
    "it's the dog's ball, isn't it? #best_of (really)",
    "🐈 on a 🛋️",
    "日本語 и кошка",
    "  spaces\tand\n\nlines  ",
    "ﬁne ½ Ａ",
    "",
    LONG,
]
# Only CLIP's: a special token in the middle of a caption. What follows it is read, what is pooled is the first.
CLIP_TEXTS = TEXTS + ["a cat <|endoftext|> and a dog"]

# name: (width, height). The sides of the models are 32 and 40.
IMAGES = {"square20": (20, 20), "square32": (32, 32), "square40": (40, 40), "square77": (77, 77),
          "square120": (120, 120), "wide": (90, 60)}
# Boxes [x1, y1, x2, y2] in pixels of `wide`: inside; at a corner, where the larger crop is cut; between pixels; long.
BOXES = [[30, 20, 54, 40], [0, 0, 33, 21], [40.25, 10.5, 57.75, 50.125], [5, 27, 85, 37]]


def corpus():
    names = Path("standin/imagenet_classes.txt").read_text().splitlines()
    return [f"a photo of a {name}." for name in names] + TEXTS[:-1]


# ---- Pictures -------------------------------------------------------------------------------------------------------


def picture(width, height, seed):
    """Coloured shapes over a gradient, with grain: edges and detail for the resampling."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.BILINEAR)
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = random.integers(0, width), random.integers(0, height)
        w, h = random.integers(2, width // 2), random.integers(2, height // 2)
        shape = [draw.rectangle, draw.ellipse][random.integers(0, 2)]
        shape([int(x), int(y), int(x + w), int(y + h)], fill=tuple(int(c) for c in random.integers(0, 256, 3)))
    grainy = np.asarray(image) + random.integers(-12, 13, (height, width, 3))
    return Image.fromarray(grainy.clip(0, 255).astype(np.uint8))


def make_pictures():
    pictures = {name: picture(*size, seed) for seed, (name, size) in enumerate(IMAGES.items())}
    (OUT / "images").mkdir(parents=True)
    for name, image in pictures.items():
        image.save(OUT / "images" / f"{name}.png", optimize=True)
    return pictures


# ---- Models ---------------------------------------------------------------------------------------------------------


def randomise(model, seed):
    """Weights large enough that different inputs get clearly different embeddings; the usual start is too timid."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() <= 1:
                base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                weight.copy_(base + 0.3 * noise)
            elif "embedding" in name and weight.dim() == 2:
                weight.copy_(noise)
            else:
                fan_in = weight[0].numel()
                weight.copy_(1.5 * noise / fan_in**0.5)
    return model.eval()


class Tower(torch.nn.Module):
    """One tower with the outputs, by name and order, that an export of it has."""

    def __init__(self, run, model):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, *inputs):
        return self.run(self.model, *inputs)


def clip_text(model, input_ids):
    out = model.text_model(input_ids=input_ids)
    return model.text_projection(out.pooler_output), out.last_hidden_state


def clip_vision(model, pixel_values):
    out = model.vision_model(pixel_values=pixel_values)
    return model.visual_projection(out.pooler_output), out.last_hidden_state


def of_unsaid_size(rows):
    """The same rows with a length that the graph doesn't tell, as in Optimum's exports of CLIP's text model."""
    return rows[:, : (rows.abs() < 1e9).sum(dim=-1).max()]


def openclip_text(model, input_ids, attention_mask):
    out = model.text_model(input_ids=input_ids, attention_mask=attention_mask)
    return out.pooler_output, of_unsaid_size(model.text_projection(out.pooler_output))


def openclip_vision(model, pixel_values):
    out = model.vision_model(pixel_values=pixel_values)
    return out.pooler_output, of_unsaid_size(model.visual_projection(out.pooler_output))


def siglip_text(model, input_ids):
    out = model.text_model(input_ids=input_ids)
    return out.last_hidden_state, out.pooler_output


def siglip_vision(model, pixel_values):
    out = model.vision_model(pixel_values=pixel_values)
    return out.last_hidden_state, out.pooler_output


def export(model, run, inputs, names, outputs, path):
    text = {0: "batch_size", 1: "sequence_length"}
    vision = {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}
    axes = {name: vision if name == "pixel_values" else text for name in names}
    axes |= {name: {0: "batch_size"} for name in outputs}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Tower(run, model), tuple(inputs), str(path), input_names=names, output_names=outputs,
                          dynamic_axes=axes, opset_version=OPSET, do_constant_folding=True)


def weights_beside(path):
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location=path.name + "_data", size_threshold=256)


# ---- Tokenizers -----------------------------------------------------------------------------------------------------


def learnt_merges(count):
    """Byte-pair merges of the corpus as CLIP's words are cut. Written out, because tokenizers' own trainer breaks ties
    another way every time."""
    normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    cut = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = Counter(word for line in corpus() for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(line)))
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


def clip_tokenizer(folder, length, pad_token):
    """CLIP's byte-level BPE and its order of the vocabulary: bytes, bytes at a word's end, merges, two specials."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learnt_merges(200)
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "vocab.json").write_text(json.dumps(vocabulary))
        (Path(scratch) / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        fast = CLIPTokenizerFast(f"{scratch}/vocab.json", f"{scratch}/merges.txt", pad_token=pad_token,
                                 model_max_length=length)
    fast.save_pretrained(folder)
    return CLIPTokenizerFast.from_pretrained(folder)


class SiglipConverter(SpmConverter):
    """SiglipTokenizer's own rules, written as a tokenizer.json: transformers has no converter for it."""

    def normalizer(self, proto):
        return normalizers.Sequence([
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[" + re.escape(string.punctuation) + "]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
        ])

    def post_processor(self):
        return processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])


def siglip_tokenizer(folder):
    with tempfile.TemporaryDirectory() as scratch:
        # A few of NFKC's rules stand for all of them, whose table is larger than everything else here.
        rules = {"ﬁ": "fi", "½": "1/2", "Ａ": "A", "ａ": "a", "e\u0301": "é", "\t": " ", "\n": " ", "\u3000": " "}
        hexadecimal = lambda text: " ".join(f"{ord(letter):X}" for letter in text)
        Path(f"{scratch}/rules.tsv").write_text(
            "".join(f"{hexadecimal(a)}\t{hexadecimal(b)}\n" for a, b in sorted(rules.items())))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line.lower() for line in corpus()), model_prefix=f"{scratch}/spiece", vocab_size=500,
            model_type="unigram", character_coverage=0.999, normalization_rule_tsv=f"{scratch}/rules.tsv", pad_id=0,
            eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2)
        official = SiglipTokenizer(f"{scratch}/spiece.model", model_max_length=64)
        converted = SiglipConverter(official).converted()
        converted.add_special_tokens([AddedToken(token, lstrip=True, rstrip=True, normalized=False, special=True)
                                      for token in ["</s>", "<unk>"]])
        PreTrainedTokenizerFast(tokenizer_object=converted, eos_token="</s>", unk_token="<unk>", pad_token="</s>",
                                model_max_length=64, model_input_names=["input_ids"]).save_pretrained(folder)
        fast = PreTrainedTokenizerFast.from_pretrained(folder)
        for text in TEXTS:
            ours, theirs = (t(text, padding="max_length", truncation=True).input_ids for t in (fast, official))
            # SiglipTokenizer puts its mark of a word's begin before it strips spaces, and so keeps leading ones.
            assert ours == theirs or text.startswith(" "), text
    return fast


# ---- What is expected -----------------------------------------------------------------------------------------------


def unit(rows):
    rows = rows.detach().double().numpy()
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def rounded(rows):
    return [[round(float(x), 7) for x in row] for row in rows]


def crop_and_pad(image, box, scale, side, mean, std):
    """ViLD's crop, written from the description: `box` grown by `scale` about its centre, all pixels that it touches,
    whole in the square, the rest in the mean colour (0 after the normalisation)."""
    x1, y1, x2, y2 = box
    cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) * scale, (y2 - y1) * scale
    left, top = int(np.floor(max(cx - w / 2, 0))), int(np.floor(max(cy - h / 2, 0)))
    right, bottom = int(np.ceil(min(cx + w / 2, image.width))), int(np.ceil(min(cy + h / 2, image.height)))
    cut = image.crop((left, top, right, bottom))
    shrink = side / max(cut.size)
    sizes = [length * shrink for length in cut.size]
    assert all(abs(size % 1 - 0.5) > 0.01 for size in sizes), f"{box}: {sizes} hangs on how halves are rounded"
    cut = cut.resize([max(1, round(size)) for size in sizes], Image.BICUBIC)
    pixels = (np.asarray(cut) / 255.0 - np.array(mean)) / np.array(std)
    square = np.zeros((side, side, 3))
    top, left = (side - cut.height) // 2, (side - cut.width) // 2
    square[top : top + cut.height, left : left + cut.width] = pixels
    return square.transpose(2, 0, 1)


def expect(name, tokens, text_rows, image_model, processor, side, texts, pictures):
    """`tokens`: a caption's ids on its own; `image_model`: pixel values to rows."""
    embed = lambda pixels: unit(image_model(torch.tensor(np.asarray(pixels), dtype=torch.float32)))
    squares = {key: image for key, image in pictures.items() if image.width == image.height}
    images = {}
    (OUT / f"resized/{side}").mkdir(parents=True, exist_ok=True)
    for key, image in squares.items():
        images[key] = embed(processor(image, return_tensors="np").pixel_values)[0]
        resized = processor(image, do_rescale=False, do_normalize=False, return_tensors="np").pixel_values[0]
        assert resized.shape == (3, side, side)
        Image.fromarray(resized.transpose(1, 2, 0).astype(np.uint8)).save(OUT / f"resized/{side}/{key}.png")
    wide, mean, std = pictures["wide"], processor.image_mean, processor.image_std
    crops = [[crop_and_pad(wide, box, scale, side, mean, std) for scale in (1.0, 1.5)] for box in BOXES]
    boxes = [unit(torch.tensor(embed(pair).sum(axis=0))) for pair in crops]
    expected = {
        "side": side,
        "texts": [{"text": text, "tokens": ids, "embedding": row}
                  for text, ids, row in zip(texts, tokens, rounded(unit(text_rows)))],
        "images": [{"image": key, "embedding": row} for key, row in zip(images, rounded(images.values()))],
        "boxes": [{"image": "wide", "box": box, "embedding": row} for box, row in zip(BOXES, rounded(boxes))],
    }
    lines = ",\n".join(
        f'"{key}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]"
        if isinstance(entries, list) else f'"{key}": {entries}'
        for key, entries in expected.items())
    (OUT / name / "expected.json").write_text("{\n" + lines + "\n}\n")
    for kind in ("texts", "images", "boxes"):
        rows = np.array([entry["embedding"] for entry in expected[kind]])
        apart = np.abs(rows[:, None] - rows[None]).max(axis=-1) + 9 * np.eye(len(rows))
        print(f"{name}: {len(rows)} {kind}, the nearest two {apart.min():.3f} apart in their most different number")


def save_config(config, folder, name):
    """config.json as save_pretrained writes it: numbers that are the default are left out."""
    config._name_or_path = name
    config.save_pretrained(folder)


def make_clip(name, pictures, *, length, pad_token, mask, projection, activation, eos_token_id, sizes, seed):
    folder = OUT / name
    tokenizer = clip_tokenizer(folder, length, pad_token)
    end = tokenizer.eos_token_id
    assert end == len(tokenizer) - 1, "CLIP's end is its largest id"
    common = dict(TINY, projection_dim=projection, hidden_act=activation)
    text_config = dict(common, vocab_size=len(tokenizer), max_position_embeddings=length,
                       bos_token_id=tokenizer.bos_token_id, eos_token_id=eos_token_id or end)
    config = CLIPConfig(text_config=text_config, vision_config=dict(common, image_size=32, patch_size=8),
                        projection_dim=projection)
    model = randomise(CLIPModel(config), seed)
    save_config(config, folder, f"wordsight/tiny-random-{name}")
    processor = CLIPImageProcessor(**sizes)
    processor.save_pretrained(folder)
    # It writes sizes as dictionaries; older files have plain numbers.
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sizes, indent=2) + "\n")

    ids = tokenizer(CLIP_TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    assert ids.input_ids.shape[1] == length
    inputs, names = [ids.input_ids], ["input_ids"]
    if mask:
        inputs, names = [ids.input_ids, ids.attention_mask], ["input_ids", "attention_mask"]
        text, text_outputs = openclip_text, ["pooler_output", "text_embeds"]
        vision, vision_outputs = openclip_vision, ["pooler_output", "image_embeds"]
    else:
        text, text_outputs = clip_text, ["text_embeds", "last_hidden_state"]
        vision, vision_outputs = clip_vision, ["image_embeds", "last_hidden_state"]
    export(model, text, [rows[:2] for rows in inputs], names, text_outputs, folder / "onnx/text_model.onnx")
    export(model, vision, [torch.zeros(2, 3, 32, 32)], ["pixel_values"], vision_outputs,
           folder / "onnx/vision_model.onnx")
    tokens = [tokenizer(text, padding=False if mask else "max_length", truncation=True).input_ids
              for text in CLIP_TEXTS]
    # transformers' own names for an embedding, whatever the exports above make of them.
    text_rows = model.get_text_features(input_ids=ids.input_ids, attention_mask=ids.attention_mask)
    image_model = lambda pixels: model.get_image_features(pixel_values=pixels)
    expect(name, tokens, text_rows, image_model, processor, 32, CLIP_TEXTS, pictures)


def make_siglip(pictures):
    folder = OUT / "siglip"
    tokenizer = siglip_tokenizer(folder)
    config = SiglipConfig(text_config=dict(TINY, vocab_size=len(tokenizer)),
                          vision_config=dict(TINY, image_size=40, patch_size=8))
    model = randomise(SiglipModel(config), 3)
    # The same as its "valid", which torch 1.13 can't export.
    model.vision_model.embeddings.patch_embedding.padding = (0, 0)
    save_config(config, folder, "wordsight/tiny-random-siglip")
    processor = SiglipImageProcessor(size={"height": 40, "width": 40})
    processor.save_pretrained(folder)

    ids = tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ids.shape[1] == 64
    text_rows = model.get_text_features(input_ids=ids)
    outputs = ["last_hidden_state", "pooler_output"]
    export(model, siglip_text, [ids[:2]], ["input_ids"], outputs, folder / "onnx/text_model.onnx")
    export(model, siglip_vision, [torch.zeros(2, 3, 40, 40)], ["pixel_values"], outputs,
           folder / "onnx/vision_model.onnx")
    image_model = lambda pixels: model.get_image_features(pixel_values=pixels)
    expect("siglip", ids.tolist(), text_rows, image_model, processor, 40, TEXTS, pictures)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    pictures = make_pictures()
    make_clip("clip", pictures, length=77, pad_token="<|endoftext|>", mask=False, projection=20,
              activation="quick_gelu", eos_token_id=2, seed=1,
              sizes=dict(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}))
    make_clip("openclip", pictures, length=20, pad_token="!", mask=True, projection=16, activation="gelu",
              eos_token_id=None, seed=2, sizes=dict(size=32, crop_size=32))
    for tower in ("vision", "text"):
        weights_beside(OUT / f"openclip/onnx/{tower}_model.onnx")
    make_siglip(pictures)
    keep = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "expected.json"}
    for path in OUT.glob("*/*"):
        if path.is_file() and path.suffix != ".png" and path.name not in keep:
            path.unlink()
    print(sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file()) // 1024, "KiB in all")


main()
