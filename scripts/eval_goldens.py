"""Writes crates/eval/tests/goldens.json: what scikit-learn, scipy and seqeval say about small made-up data.

Run: python scripts/eval_goldens.py   (needs numpy, scipy, scikit-learn, seqeval; versions are written to the output)
"""

import json
import pathlib
import platform

import numpy as np
import scipy
import seqeval
import sklearn
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from seqeval import metrics as spans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

BINS = 15
TARGET = pathlib.Path(__file__).parent.parent / "crates/eval/tests/goldens.json"


def ece(confidence, right):
    """Expected calibration error over bins (low, high] of equal width."""
    bins = np.clip(np.ceil(confidence * BINS).astype(int), 1, BINS)
    parts = [(bins == b).mean() * abs(right[bins == b].mean() - confidence[bins == b].mean()) for b in set(bins)]
    return float(sum(parts))


def class_case(rng, n=60, k=5):
    """Single-label predictions. Class 4 never occurs, class 3 is never predicted."""
    gold = rng.integers(0, k - 1, n)
    logits = rng.normal(size=(n, k)) * 2.0
    logits[np.arange(n), gold] += 1.5
    logits[:, 3] = logits.min(axis=1)
    logits = logits.astype(np.float32).astype(float)
    p, predicted = softmax(logits, axis=1), logits.argmax(axis=1)
    nll = lambda t: -log_softmax(logits / t, axis=1)[np.arange(n), gold].mean()
    return {
        "num_classes": k,
        "logits": logits.ravel().tolist(),
        "gold": gold.tolist(),
        "metrics": {
            "accuracy": accuracy_score(gold, predicted),
            "micro_f1": f1_score(gold, predicted, average="micro", zero_division=0),
            "macro_f1": f1_score(gold, predicted, average="macro", zero_division=0),
            "nll": log_loss(gold, p, labels=range(k)),
            "brier": brier_score_loss(gold, p, labels=range(k), scale_by_half=False),
            "ece": ece(p.max(axis=1), predicted == gold),
        },
        "temperature": float(np.exp(minimize_scalar(lambda t: nll(np.exp(t)), bracket=(-1, 1), tol=1e-12).x)),
    }


def multilabel_case(rng, n=40, k=6):
    """Multi-label predictions. Label 5 neither occurs nor is predicted."""
    gold = rng.random((n, k)) < 0.3
    logits = rng.normal(size=(n, k)) * 1.5 + np.where(gold, 0.8, -0.8)
    gold[:, 5], logits[:, 5] = False, -9.0
    logits = logits.astype(np.float32).astype(float)
    p, predicted = expit(logits), logits > 0
    mean = lambda score: float(np.mean([score(gold[:, j].astype(int), p[:, j]) for j in range(k)]))
    return {
        "num_labels": k,
        "logits": logits.ravel().tolist(),
        "gold": gold.ravel().tolist(),
        "metrics": {
            "accuracy": accuracy_score(gold, predicted),
            "micro_f1": f1_score(gold, predicted, average="micro", zero_division=0),
            "macro_f1": f1_score(gold, predicted, average="macro", zero_division=0),
            "nll": mean(lambda y, q: log_loss(y, q, labels=[0, 1])),
            "brier": mean(lambda y, q: brier_score_loss(y, q, labels=[0, 1], pos_label=1)),
            "ece": ece(np.maximum(p, 1 - p).ravel(), (predicted == gold).ravel()),
        },
    }


def span_case(rng, n=80):
    """Tag sequences, most of them breaking the rules of IOB2 somewhere."""
    tags = ["O", "O", "O", "B-A", "I-A", "B-B", "I-B"]
    gold = [[tags[t] for t in rng.integers(0, len(tags), rng.integers(1, 9))] for _ in range(n)]
    keep = lambda tag: tag if rng.random() < 0.75 else tags[rng.integers(0, len(tags))]
    predicted = [[keep(tag) for tag in sentence] for sentence in gold]
    return {
        "gold": gold,
        "predicted": predicted,
        "precision": float(spans.precision_score(gold, predicted)),
        "recall": float(spans.recall_score(gold, predicted)),
        "f1": float(spans.f1_score(gold, predicted)),
    }


TEXTS = [
    "The p53 gene is a tumour suppressor; the gene is mutated in many cancers.",
    "Aspirin inhibits COX-2, and COX_2 inhibition lowers prostaglandin levels.",
    "A patient with Sjögren's syndrome was treated with aspirin and was treated again.",
    "Many cancers carry a mutated gene, as the p53 gene shows.",
    "Prostaglandin levels were lower; inhibition by aspirin was shown again and again and again.",
    "In many patients the syndrome was mild: 12 of 30 were treated, 18 were not.",
    "Of 30 mice, 12 carry the gene.",
]


def tfidf_case():
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    matrix = vectorizer.fit_transform(TEXTS)
    return {
        "texts": TEXTS,
        "features": vectorizer.get_feature_names_out().tolist(),
        "rows": matrix.toarray().tolist(),
    }


def logistic_case(rng, n=90, d=8):
    """Sparse rows, three classes and three labels."""
    rows = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.5)
    rows = rows.astype(np.float32).astype(float)
    classes = (rows @ rng.normal(size=(d, 3)) + rng.normal(size=(n, 3))).argmax(axis=1)
    labels = rows @ rng.normal(size=(d, 3)) + rng.normal(size=(n, 3)) > 0.5
    fit = lambda y, c: LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(rows, y)
    softmax_fits, label_fits = {}, {}
    for c in (0.1, 2.0, 50.0):
        model = fit(classes, c)
        softmax_fits[c] = {
            "weights": model.coef_.T.ravel().tolist(),
            "intercepts": model.intercept_.tolist(),
            "probabilities": model.predict_proba(rows).ravel().tolist(),
        }
        models = [fit(labels[:, j], c) for j in range(3)]
        label_fits[c] = {
            "weights": np.stack([m.coef_[0] for m in models], axis=1).ravel().tolist(),
            "intercepts": [float(m.intercept_[0]) for m in models],
            "probabilities": np.stack([m.predict_proba(rows)[:, 1] for m in models], axis=1).ravel().tolist(),
        }
    return {
        "num_columns": d,
        "rows": rows.tolist(),
        "classes": classes.tolist(),
        "labels": labels.ravel().tolist(),
        "softmax": softmax_fits,
        "sigmoid": label_fits,
    }


def main():
    rng = np.random.default_rng(7)
    goldens = {
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
            "seqeval": getattr(seqeval, "__version__", "1.2.2"),
        },
        "class": class_case(rng),
        "multilabel": multilabel_case(rng),
        "spans": span_case(rng),
        "tfidf": tfidf_case(),
        "logistic": logistic_case(rng),
    }
    TARGET.write_text(json.dumps(goldens, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
