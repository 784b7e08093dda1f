"""The sentence encoder once more, in NumPy and double precision, written from the papers and not from our graph.

Prints the numbers that standin/tests/standin.rs compares against. Run it from the repository's root:

    scripts/fetch-packages host && scripts/fetch-packages reference
    PYTHONPATH=.deps/reference/python python3 standin/tests/reference_minilm.py
"""

import math

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SENTENCES = ["a photo of a cat.", "An espresso machine, steaming", "the quick brown fox jumps over thirteen lazy dogs"]
HEADS = 12

weights = {name: w.astype(np.float64) for name, w in load_file(".deps/minilm/model.safetensors").items()}
tokenizer = Tokenizer.from_file(".deps/minilm/tokenizer.json")
tokenizer.no_padding()
erf = np.vectorize(math.erf)


def layer_norm(x, name):
    centred = x - x.mean(axis=-1, keepdims=True)
    std = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return centred / std * weights[name + ".weight"] + weights[name + ".bias"]


def dense(x, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def attention(x, name):
    query, key, value = (np.split(dense(x, f"{name}.{part}"), HEADS, axis=-1) for part in ("query", "key", "value"))
    heads = []
    for q, k, v in zip(query, key, value):
        scores = np.exp(q @ k.T / math.sqrt(q.shape[-1]))
        heads.append(scores / scores.sum(axis=-1, keepdims=True) @ v)
    return np.concatenate(heads, axis=-1)


def embed(sentence):
    ids = tokenizer.encode(sentence).ids
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = layer_norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        context = dense(attention(x, f"{name}.attention.self"), f"{name}.attention.output.dense")
        x = layer_norm(x + context, f"{name}.attention.output.LayerNorm")
        wide = dense(x, f"{name}.intermediate.dense")
        wide = wide * (1 + erf(wide / math.sqrt(2))) / 2
        x = layer_norm(x + dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


for sentence in SENTENCES:
    print(f'("{sentence}", [{", ".join(f"{value:.6f}" for value in embed(sentence)[:8])}]),')
