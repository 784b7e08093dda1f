"""How many scenes a second an equal student trains in PyTorch, beside the figure that `wordsight-distill train` prints.

Only time is measured: weights, features, objects and embeddings are random, of the true shapes and about the true
number. A step is one of distill/src/train: features from FP16 rows, pyramid, proposal head, assignment, losses and
their values read out, backward, every parameter's gradient clipped, AdamW, the weights' moving average. It is not
optimised less than natural PyTorch would be: assignment and sampling run on the whole batch at once, in tensors, and
what takes no gradient is computed without.

With `--train-from` the whole network trains from there on, as `train --train-from` does: pictures instead of features,
EfficientNet-Lite0 with its batch normalisations folded in, the neck and heads that belong to it, all in channels_last,
which is what PyTorch's convolutions are fastest with. Stride-2 layers pad on both sides, which spares PyTorch a copy.

    /usr/bin/python3 distill/tests/reference_training.py --train-from stride8 --size 416

    apt-get install --no-install-recommends python3-torch python3-numpy libopenblas0-openmp
    /usr/bin/python3 distill/tests/reference_training.py --learn regions --fresh-head vild-ensemble

Debian's PyTorch multiplies matrices with the system's BLAS, and only this one lets it show what it can: the reference
BLAS, which it comes with, makes it over ten times slower, and the threads of libopenblas0-pthread fight with its own
for the cores, which makes it half as fast. Measure on an idle machine: waiting for threads, it loses more than others.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--learn", choices=["all", "proposals", "regions"], default="all", help="what trains")
parser.add_argument("--fresh-head", choices=["vild-ensemble"], help="a region head without the backbone's classifier")
parser.add_argument("--train-from", choices=["stem", "stride8", "stride16", "stride32", "heads"],
                    help="train the whole network from here on; by default heads on stored features")
parser.add_argument("--size", type=int, default=416, help="side of the input in pixels, a multiple of 32")
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--steps", type=int, default=20, help="steps that are timed, after 3 that are not")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--json", action="store_true", help="print a JSON object instead of a line")
options = parser.parse_args()
if options.size % 32 or options.size < 64:
    parser.error("--size is a multiple of 32, at least 64")
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)  # read by the imports
try:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, log_softmax, max_pool2d, normalize
except ImportError as error:
    sys.exit(f"{error}: on Debian, apt-get install python3-torch python3-numpy, and run this with /usr/bin/python3")

WHOLE = options.train_from is not None
SIDE, STRIDES, CHANNELS = options.size, (8, 16, 32), (40, 112, 320)
GRIDS = [SIDE // stride for stride in STRIDES]
PYRAMID, BINS, POOLED, WIDTH, REFINER_WIDTH, SIZE, WORDS = 64, 7, 64 * 7 * 7, 384 if WHOLE else 256, 128, 384, 587
NECK, STEM = 128, 32
STAGES = [(1, 16, 1, 3, 1), (2, 24, 6, 3, 2), (2, 40, 6, 5, 2), (3, 80, 6, 3, 2), (3, 112, 6, 5, 1), (4, 192, 6, 5, 2),
          (1, 320, 6, 3, 1)]  # blocks, channels, expansion, kernel, stride
CELLS = [grid * grid for grid in GRIDS]
NUMBERS = [channels * cells for channels, cells in zip(CHANNELS, CELLS)]
HEAD_CHANNELS, CLASSES, PROPOSALS, LIKED, CELLS_AN_OBJECT, DOUBTFUL = 1280, 1000, 100, 32, 10, 0.4
BATCH, STORED, REFINED, SCENES, WARM_UP = options.batch, 12, 16, 256, 3
IMAGES = torch.arange(BATCH).unsqueeze(1)  # boxes[IMAGES, places]: some of every image's boxes


class Student(nn.Module):
    """The layers of distill/src/student/mod.rs."""

    def __init__(self, fresh):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, PYRAMID, 1) for channels in CHANNELS)
        self.smooth = nn.ModuleList(nn.Conv2d(PYRAMID, PYRAMID, 3, padding=1) for _ in STRIDES)
        self.tower, self.scales = nn.Conv2d(PYRAMID, PYRAMID, 3, padding=1), nn.Parameter(torch.ones(len(STRIDES)))
        self.objectness, self.distances = nn.Conv2d(PYRAMID, 1, 1), nn.Conv2d(PYRAMID, 4, 1)
        self.refiner = nn.Sequential(nn.Linear(POOLED, REFINER_WIDTH), nn.ReLU(), nn.Linear(REFINER_WIDTH, 4))
        self.cells = nn.Linear(CHANNELS[2], HEAD_CHANNELS).requires_grad_(False)
        self.classifier = None if fresh else nn.Linear(HEAD_CHANNELS, CLASSES).requires_grad_(False)
        self.class_embeddings = normalize(torch.randn(CLASSES, SIZE), dim=1)
        self.hidden, self.from_cells = nn.Linear(POOLED, WIDTH), nn.Linear(HEAD_CHANNELS, WIDTH)
        self.hidden2, self.text, self.image = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, SIZE), nn.Linear(WIDTH, SIZE)
        self.background = nn.Parameter(torch.randn(SIZE))
        steps = [(torch.arange(grid) + 0.5) * stride for grid, stride in zip(GRIDS, STRIDES)]
        self.centres = torch.cat([torch.cartesian_prod(axis, axis).flip(1) for axis in steps])
        strides = torch.tensor(STRIDES).repeat_interleave(torch.tensor(CELLS)).unsqueeze(1)
        self.signed_strides = strides * torch.tensor([-1.0, -1.0, 1.0, 1.0])

    def propose(self, features):
        """Coarse features, the pyramid's fine map, objectness logits [N,cells] and boxes [N,cells,4]."""
        coarse = self.lateral[2](features[2])
        middle = self.lateral[1](features[1]) + interpolate(coarse, scale_factor=2.0)
        fine = self.lateral[0](features[0]) + interpolate(middle, scale_factor=2.0)
        maps = [smooth(level).relu() for smooth, level in zip(self.smooth, (fine, middle, coarse))]
        towers = [self.tower(level).relu() for level in maps]
        logits = torch.cat([self.objectness(tower).flatten(1) for tower in towers], 1)
        raw = [self.distances(tower).flatten(2) * self.scales[level] for level, tower in enumerate(towers)]
        return features[2], maps[0], logits, self.boxes(torch.cat(raw, 2).transpose(1, 2))

    def boxes(self, logarithms):
        """Boxes from the logarithms of the distances to their sides, in strides."""
        return logarithms.clamp(-4.0, 4.0).exp() * self.signed_strides + self.centres.repeat(1, 2)

    def embed(self, coarse, fine, boxes):
        """The text and the image embeddings of regions [N,regions,4], each [N * regions, SIZE]."""
        cells = self.cells(coarse.flatten(2).transpose(1, 2)).clamp(0.0, 6.0)
        across, down = (bin_weights(boxes, axis, STRIDES[2]).mean(2) for axis in (0, 1))
        features = (down.unsqueeze(3) * across.unsqueeze(2)).flatten(2) @ cells
        hidden = self.hidden2((self.hidden(pool(fine, boxes)) + self.from_cells(features)).relu()).relu()
        known = 0.0 if self.classifier is None else self.classifier(features).softmax(2) @ self.class_embeddings
        return [normalize(branch(hidden) + known, dim=2).flatten(0, 1) for branch in (self.text, self.image)]


def layer(inputs, outputs, kernel=1, stride=1, groups=1, activation=nn.ReLU):
    """A convolution and its activation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
    return convolution if activation is None else nn.Sequential(convolution, activation(inplace=True))


def separable(channels, stride=1):
    """A depthwise 5x5 and a pointwise convolution."""
    return nn.Sequential(layer(channels, channels, 5, stride, channels), layer(channels, channels))


class Block(nn.Module):
    """An inverted residual."""

    def __init__(self, inputs, outputs, expansion, kernel, stride):
        super().__init__()
        middle = inputs * expansion
        expand = [layer(inputs, middle, activation=nn.ReLU6)] if expansion > 1 else []
        depthwise = layer(middle, middle, kernel, stride, middle, nn.ReLU6)
        self.layers = nn.Sequential(*expand, depthwise, layer(middle, outputs, activation=None))
        self.stride, self.has_shortcut = stride, stride == 1 and inputs == outputs

    def forward(self, image):
        return self.layers(image) + image if self.has_shortcut else self.layers(image)


class WholeStudent(Student):
    """The layers of distill/src/student: backbone.rs, neck.rs, and the heads above on them."""

    def __init__(self, fresh, train_from):
        super().__init__(fresh)
        for replaced in ("smooth", "tower", "scales", "objectness", "distances"):
            delattr(self, replaced)
        self.stem, self.blocks, channels = layer(3, STEM, 3, 2, activation=nn.ReLU6), nn.ModuleList(), STEM
        for blocks, outputs, expansion, kernel, stride in STAGES:
            for place in range(blocks):
                self.blocks.append(Block(channels, outputs, expansion, kernel, stride if place == 0 else 1))
                channels = outputs
        self.lateral = nn.ModuleList(layer(channels, NECK, activation=None) for channels in CHANNELS)
        self.top_down, self.shrink, self.bottom_up = (
            nn.ModuleList(separable(NECK, stride) for _ in range(2)) for stride in (1, 2, 1))
        self.to_regions = layer(NECK, PYRAMID)
        self.towers = nn.ModuleList(nn.Sequential(separable(NECK), separable(NECK)) for _ in STRIDES)
        self.answers = nn.ModuleList(nn.Conv2d(NECK, 5, 1) for _ in STRIDES)
        for module in self.modules():  # as trained ones are: neither dying out nor growing from layer to layer
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        for answer in self.answers:
            nn.init.normal_(answer.weight, std=0.01)
        self.freeze(train_from)

    def freeze(self, train_from):
        """Leaves the backbone before a stride as it is."""
        first, stride = {"stem": 1, "stride8": 8, "stride16": 16, "stride32": 32, "heads": 64}[train_from], 2
        self.stem.requires_grad_(first <= stride)
        for block in self.blocks:
            stride *= block.stride
            block.requires_grad_(first <= stride)

    def see(self, image):
        """The backbone's maps of strides 8, 16 and 32."""
        image, last = self.stem(image), []
        for block in self.blocks:
            if block.stride == 2:
                last.append(image)
            image = block(image)
        return last[-2], last[-1], image

    def propose(self, image):
        features = self.see(image)
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.lateral, features))
        middle = self.top_down[1](middle + interpolate(coarse, scale_factor=2.0))
        fine = self.top_down[0](fine + interpolate(middle, scale_factor=2.0))
        middle = self.bottom_up[0](middle + self.shrink[0](fine))
        coarse = self.bottom_up[1](coarse + self.shrink[1](middle))
        levels = zip(self.answers, self.towers, (fine, middle, coarse))
        answers = torch.cat([answer(tower(level)).flatten(2) for answer, tower, level in levels], 2).transpose(1, 2)
        return features[2], self.to_regions(fine), answers[..., 0], self.boxes(answers[..., 1:])


def bin_weights(boxes, axis, stride):
    """Bilinear weights of RoI pooling along an axis, [N,regions,bins,cells]."""
    cells = SIDE // stride
    start, end = (boxes[..., axis + corner, None] / stride - 0.5 for corner in (0, 2))
    points = (start + (end - start) * (torch.arange(2 * BINS) + 0.5) / (2 * BINS)).clamp(0.0, cells - 1)
    weights = (1.0 - (torch.arange(cells) - points.unsqueeze(-1)).abs()).clamp(min=0.0)
    return weights.unflatten(2, (BINS, 2)).mean(3)


def pool(fine, boxes):
    """The fine map under boxes, as two matrix products: [N, regions, bin row * channel * bin column]."""
    rows = bin_weights(boxes, 1, STRIDES[0]).flatten(1, 2) @ fine.transpose(1, 2).flatten(2)
    return (rows.view(BATCH, -1, BINS * PYRAMID, GRIDS[0]) @ bin_weights(boxes, 0, STRIDES[0]).transpose(2, 3)).flatten(2)


def overlaps(a, b):
    """The IoU and the area of the union of boxes [...,4] that broadcast."""
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0.0).prod(-1)
    area_a, area_b = ((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (a, b))
    either = (area_a + area_b - both).clamp(min=1e-6)
    return both / either, either


def closest_object(boxes, truth, exists):
    """The IoU of every box with the object that it overlaps most, and which one that is."""
    return overlaps(boxes.unsqueeze(2), truth.unsqueeze(1))[0].masked_fill(~exists.unsqueeze(1), 0.0).max(2)


@torch.no_grad()
def assign(centres, logits, boxes, truth, exists):
    """Task alignment: objectness every cell should have, its object, and whether it has one; [N,cells]."""
    objects = truth.unsqueeze(2)
    inside = ((centres > objects[..., :2]) & (centres < objects[..., 2:])).all(-1)
    nearest = (centres - (objects[..., :2] + objects[..., 2:]) / 2).square().sum(-1).argmin(2, keepdim=True)
    inside |= torch.zeros_like(inside).scatter_(2, nearest, True) & ~inside.any(2, keepdim=True)
    inside &= exists.unsqueeze(2)
    overlap, _ = overlaps(boxes.unsqueeze(1), objects)
    alignment = logits.sigmoid().unsqueeze(1) * overlap**6
    best = alignment.masked_fill(~inside, -1.0).topk(CELLS_AN_OBJECT, 2).indices
    chosen = torch.zeros_like(inside).scatter_(2, best, True) & inside
    claim, owner = overlap.masked_fill(~chosen, -1.0).max(1)
    owned = torch.zeros_like(inside).scatter_(1, owner.unsqueeze(1), True) & chosen
    best_overlap, best_alignment = (of.masked_fill(~owned, 0.0).amax(2, keepdim=True) for of in (overlap, alignment))
    targets = alignment / best_alignment.clamp(min=1e-20) * best_overlap
    return targets.masked_fill(~owned, 0.0).sum(1), owner, claim >= 0.0


@torch.no_grad()
def best_proposals(logits, boxes):
    """The boxes at the highest peaks of objectness, [N,100,4]."""
    objectness = logits.sigmoid()
    levels = [level.view(BATCH, grid, grid) for level, grid in zip(objectness.split(CELLS, 1), GRIDS)]
    highest = torch.cat([max_pool2d(level, 3, stride=1, padding=1).flatten(1) for level in levels], 1)
    order = objectness.masked_fill(objectness < highest, 0.0).topk(PROPOSALS, 1).indices
    return boxes[IMAGES, order].clamp(0.0, SIDE)


def moved(boxes, shifts=None):
    """Boxes with each side moved by a share of its length; at random by up to a tenth."""
    shifts = torch.rand_like(boxes) * 0.2 - 0.1 if shifts is None else shifts
    return (boxes + shifts * (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)).clamp(0.0, SIDE)


def random_boxes(count):
    lengths = SIDE * (0.08 + 0.72 * torch.rand(BATCH, count, 2))
    start = (SIDE - lengths) * torch.rand(BATCH, count, 2)
    return torch.cat([start, start + lengths], 2)


def giou_loss(boxes, objects, weights):
    overlap, either = overlaps(boxes, objects)
    hull = (torch.maximum(boxes[:, 2:], objects[:, 2:]) - torch.minimum(boxes[:, :2], objects[:, :2])).prod(1)
    return ((1.0 - overlap + (hull - either) / hull) * weights).sum() / weights.sum().clamp(min=1e-6)


def proposal_losses(student, fine, logits, boxes, proposals, truth, exists):
    """Varifocal loss of objectness, and generalised IoU losses of cells' boxes and of refined ones."""
    targets, owner, positive = assign(student.centres, logits, boxes, truth, exists)
    weights = torch.where(targets > 0.0, targets, 0.75 * logits.detach().sigmoid().square() * DOUBTFUL)
    objectness = binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")
    # The refiner's lessons: where there are any, proposals near objects, then objects' boxes moved twice.
    overlap, closest = closest_object(proposals, truth, exists)
    key, order = (torch.rand(overlap.shape) * (overlap >= 0.4)).topk(REFINED // 2, 1)
    objects = truth[IMAGES, (torch.rand(BATCH, REFINED) * exists.sum(1, keepdim=True)).long()]
    rough, near, half = moved(moved(objects)), key.unsqueeze(2) > 0.0, REFINED // 2
    rough[:, :half] = torch.where(near, proposals[IMAGES, order], rough[:, :half])
    objects[:, :half] = torch.where(near, truth[IMAGES, closest[IMAGES, order]], objects[:, :half])
    refined = moved(rough, student.refiner(pool(fine, rough))).flatten(0, 1)
    of_refined = giou_loss(refined, objects.flatten(0, 1), torch.ones(len(refined)))
    of_cells = giou_loss(boxes[positive], truth[IMAGES, owner][positive], targets[positive])
    return objectness / targets.sum().clamp(min=1.0), of_cells, of_refined


def region_losses(student, coarse, fine, proposals, truth, exists, words, stored):
    """The text loss over background and words, and the image loss of the stored regions, which come first."""
    own = moved(truth[IMAGES, (torch.rand(BATCH, 4) * exists.sum(1, keepdim=True)).long()])
    liked = proposals[IMAGES, torch.randint(LIKED, (BATCH, 6))]
    regions = torch.cat([random_boxes(STORED), own, liked, random_boxes(2)], 1)
    overlap, closest = closest_object(regions, truth, exists)
    labels = torch.where(overlap >= 0.5, torch.randint(WORDS, exists.shape)[IMAGES, closest] + 1, 0).view(-1, 1)
    weights = torch.where(overlap >= 0.5, 1.0, torch.where(overlap >= 0.3, 0.0, DOUBTFUL)).flatten()
    text, image = student.embed(coarse, fine, regions)
    classes = torch.cat([normalize(student.background, dim=0).unsqueeze(0), words])
    likelihood = log_softmax(text @ classes.T / 0.01, 1).gather(1, labels).squeeze(1)
    distances = (image.view(BATCH, -1, SIZE)[:, :STORED] - stored).abs().sum(2)
    return -(likelihood * weights).sum() / weights.sum().clamp(min=1.0), distances.mean()


def loss_of_step(student, table, embeddings, counts, words):
    """The weighted sum of what is learnt on 16 scenes, and its parts as numbers."""
    scenes = np.random.permutation(SCENES)[:BATCH]
    if WHOLE:  # [N, height, width, 3] seen as [N, 3, height, width] is what channels_last means
        seen = torch.from_numpy(table[scenes]).float().sub_(127.0).div_(128.0).permute(0, 3, 1, 2)
    else:
        levels = torch.from_numpy(table[scenes]).float().split(NUMBERS, 1)
        seen = [level.view(BATCH, -1, grid, grid) for level, grid in zip(levels, GRIDS)]
    exists = torch.arange(counts[scenes].max()) < torch.from_numpy(counts[scenes]).unsqueeze(1)
    truth, losses = random_boxes(exists.shape[1]), []
    with torch.set_grad_enabled(options.learn != "regions"):
        coarse, fine, logits, boxes = student.propose(seen)
    proposals = best_proposals(logits, boxes)
    if options.learn != "regions":
        losses += zip((1.0, 2.0, 2.0), proposal_losses(student, fine, logits, boxes, proposals, truth, exists))
    if options.learn != "proposals":
        stored = torch.from_numpy(embeddings[scenes]).float()
        losses += zip((0.2, 0.5), region_losses(student, coarse, fine, proposals, truth, exists, words, stored))
    return sum(weight * loss for weight, loss in losses), [loss.item() for _, loss in losses]


torch.manual_seed(1)
torch.set_num_threads(options.threads)
good_blas = torch.backends.mkl.is_available() or "openblas-openmp" in Path("/proc/self/maps").read_text()
if not good_blas:
    print("warning: a slow BLAS; apt-get install libopenblas0-openmp, without -pthread beside it", file=sys.stderr)
if WHOLE:
    table = np.random.randint(0, 256, (SCENES, SIDE, SIDE, 3), np.uint8)
    student = WholeStudent(options.fresh_head is not None, options.train_from).to(memory_format=torch.channels_last)
else:
    table = np.random.randn(SCENES, sum(NUMBERS)).astype(np.float16)
    student = Student(fresh=options.fresh_head is not None)
embeddings = np.random.randn(SCENES, STORED, SIZE).astype(np.float16)
counts, words = np.random.poisson(3.5, SCENES) + 1, normalize(torch.randn(WORDS, SIZE), dim=1)
times = []
trained = [weights for weights in student.parameters() if weights.requires_grad]
averages = [weights.detach().clone() for weights in trained]
optimizer = torch.optim.AdamW(trained, lr=1e-3, eps=1e-5, weight_decay=0.05)
for step in range(WARM_UP + options.steps):
    began = time.perf_counter()
    optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1) / 150
    loss, parts = loss_of_step(student, table, embeddings, counts, words)
    assert np.isfinite(parts).all(), parts
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for weights in trained:  # each by its own norm, as Burn does
        nn.utils.clip_grad_norm_([weights], 5.0)
    optimizer.step()
    with torch.no_grad():
        kept = min(0.998, (1.0 + step) / (10.0 + step))
        torch._foreach_mul_(averages, kept)
        torch._foreach_add_(averages, trained, alpha=1.0 - kept)
    times.append(time.perf_counter() - began)
median = statistics.median(times[WARM_UP:])
result = {"pytorch": torch.__version__, "threads": options.threads, "learn": options.learn,
          "train_from": options.train_from, "size": SIDE, "batch": BATCH, "fresh_head": options.fresh_head,
          "scenes_per_second": BATCH / median, "good_blas": good_blas}
print(json.dumps(result) if options.json else f"PyTorch {torch.__version__}, {options.threads} threads, "
      f"learn={options.learn}, train-from={options.train_from}, {SIDE}x{SIDE}: {BATCH / median:.1f} scenes/s "
      "(median of step times)")
