"""The numbers of pycocotools and lvis for many cases. Only for `reference.rs`.

Reads a JSON list of cases {"dataset", "detections", "protocol"} from standard input and writes the list of their
numbers to standard output, null where the programs have -1:

    "summary"   by its usual name, from the programs' own summarize() wherever that computes it
    "odd"       AP of every second category, by the categories' numbers
    "classes"   for each category, area and number of detections: average precision and recall at every IoU

Nothing here is shared with the Rust code: limits and means are made again, as plainly as can be.
"""

import contextlib
import json
import logging
import os
import sys
import types

import numpy as np

# lvis was written for an older numpy and Python, and imports packages that only its drawing needs.
np.float = float
logging.Logger.warn = logging.Logger.warning
for name in ["cv2", "matplotlib", "matplotlib.pyplot", "matplotlib.patches"]:
    sys.modules[name] = types.ModuleType(name)
sys.modules["matplotlib"].pyplot = sys.modules["matplotlib.pyplot"]
sys.modules["matplotlib.patches"].Polygon = None

from lvis import LVIS, LVISEval, LVISResults  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

logging.disable(logging.CRITICAL)
AREAS = ["all", "small", "medium", "large"]


class LoadedLVIS(LVIS):
    """Takes a dataset instead of a path."""

    def _load_json(self, dataset):
        return dataset


def number(value):
    return None if value == -1 else float(value)


def mean(values):
    values = values[values > -1]
    return float(np.mean(values)) if values.size else None


def classes(precision, recall):
    """From [T,R,K,A,M] and [T,K,A,M] to [K][A][M] of {"precision": [T], "recall": [T]}, or null."""
    _, _, K, A, M = precision.shape

    def one(k, a, m):
        if (precision[:, :, k, a, m] == -1).all() and (recall[:, k, a, m] == -1).all():
            return None
        return {"precision": precision[:, :, k, a, m].mean(axis=1).tolist(), "recall": recall[:, k, a, m].tolist()}

    return [[[one(k, a, m) for m in range(M)] for a in range(A)] for k in range(K)]


def coco(case, max_detections, class_agnostic):
    truth = COCO()
    truth.dataset = case["dataset"]
    truth.createIndex()
    if case["detections"]:
        found = truth.loadRes(case["detections"])
    else:  # loadRes looks at the first detection.
        found = COCO()
        found.dataset = {**case["dataset"], "annotations": []}
        found.createIndex()
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.maxDets = list(max_detections)
    evaluation.params.useCats = 0 if class_agnostic else 1
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    cutoffs = evaluation.params.maxDets
    if cutoffs == [1, 10, 100]:
        evaluation.summarize()
        names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
        summary = {name: number(value) for name, value in zip(names, evaluation.stats)}
    else:  # summarize() knows no other numbers of detections: its AP is always at 100.
        summary = {"AP": mean(precision[..., 0, -1])}
        summary |= {"AP50": mean(precision[0, :, :, 0, -1]), "AP75": mean(precision[5, :, :, 0, -1])}
        for area, name in enumerate(AREAS[1:], start=1):
            summary["AP" + name[0]] = mean(precision[..., area, -1])
            summary["AR" + name[0]] = mean(recall[..., area, -1])
        summary |= {f"AR{cutoff}": mean(recall[..., 0, m]) for m, cutoff in enumerate(cutoffs)}
    odd = None
    if not class_agnostic:
        odd = mean(precision[:, :, 1::2, 0, -1])
        categories = sorted(case["dataset"]["categories"], key=lambda category: category["id"])
        for frequency in "rcf":  # Unknown to pycocotools, but no different from any other part of the categories.
            wanted = [k for k, category in enumerate(categories) if category["frequency"] == frequency]
            summary["AP" + frequency] = mean(precision[:, :, wanted, 0, -1])
    return {"summary": summary, "odd": odd, "classes": classes(precision, recall)}


def best_per_category(detections, most):
    """Picked one by one: the best that is left, of equals the first."""
    kept = []
    for category in {detection["category_id"] for detection in detections}:
        left = [detection for detection in detections if detection["category_id"] == category]
        while left and most > sum(detection["category_id"] == category for detection in kept):
            best = max(detection["score"] for detection in left)
            index = next(i for i, detection in enumerate(left) if detection["score"] == best)
            kept.append(left.pop(index))
    return kept


def lvis(case, limit):
    detections = case["detections"]
    if "PerCategory" in limit:
        detections, most = best_per_category(detections, limit["PerCategory"]), -1
    else:
        most = limit["PerImage"]
    truth = LoadedLVIS(case["dataset"])
    if detections:
        found = LVISResults(truth, detections, max_dets=most)
    else:  # LVISResults looks at the first detection.
        image, category = (case["dataset"][kind][0]["id"] for kind in ["images", "categories"])
        placeholder = {"image_id": image, "category_id": category, "bbox": [0, 0, 1, 1], "score": 0}
        found = LVISResults(truth, [placeholder], max_dets=most)
        found.dataset["annotations"] = []
        found._create_index()
    evaluation = LVISEval(truth, found, "bbox")
    evaluation.params.max_dets = most
    evaluation.run()
    rename = {"AR": "AR" if most == -1 else f"AR{most}"}
    summary = {}
    for name, value in evaluation.get_results().items():
        name = name.split("@")[0]
        summary[rename.get(name, name)] = number(value)
    precision, recall = evaluation.eval["precision"][..., None], evaluation.eval["recall"][..., None]
    return {"summary": summary, "odd": mean(precision[:, :, 1::2, 0, 0]), "classes": classes(precision, recall)}


def numbers(case):
    for index, annotation in enumerate(case["dataset"]["annotations"]):
        # From 1: pycocotools and lvis take a match with the ground truth 0 for none.
        annotation["id"] = index + 1
    [(name, options)] = case["protocol"].items()
    return {"Coco": coco, "Lvis": lvis}[name](case, **options)


def main():
    cases = json.load(sys.stdin)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), np.errstate(all="ignore"):
        results = [numbers(case) for case in cases]
    iou_thresholds = [repr(threshold) for threshold in COCOeval(iouType="bbox").params.iouThrs.tolist()]
    json.dump({"iou_thresholds": iou_thresholds, "results": results}, sys.stdout)


main()
