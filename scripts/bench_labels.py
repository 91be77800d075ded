"""Plants wrong labels at known rates and compares what `arable labels suspects` and cleanlab find; prints Markdown.

Run: python scripts/bench_labels.py ARABLE DATA   (the binary, the folder of public data; scripts/requirements-peers.txt)

cleanlab as its users run it: TF-IDF of words and pairs of words, logistic regression, five-fold predictions,
`find_label_issues` with its defaults, ranked by self-confidence.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from cleanlab.filter import find_label_issues
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

ARABLE, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
SEEDS = range(2)
CONFIG = """name = "labels"
[[corpus.source]]
name = "none"
path = "train.jsonl"
[task.t]
kind = "classification"
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
"""


def plant(rows, rate, kind, rng):
    """Gives `rate` of the rows another label: any (`any`), or the next one by name (`next`). Returns their ids."""
    labels = sorted({row["label"] for row in rows})
    chosen = rng.choice(len(rows), round(rate * len(rows)), replace=False)
    for idx in chosen:
        at = labels.index(rows[idx]["label"])
        step = rng.integers(1, len(labels)) if kind == "any" else 1
        rows[idx]["label"] = labels[(at + step) % len(labels)]
    return {rows[idx]["id"] for idx in chosen}


def arable(folder):
    command = [ARABLE, "labels", "suspects", "t", "--config", folder / "arable.toml", "--most", "1000000", "--json"]
    start = time.monotonic()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(out)
    return [it["id"] for it in found["suspects"]], found["noise_rate"], time.monotonic() - start


def cleanlab(rows):
    start = time.monotonic()
    labels = sorted({row["label"] for row in rows})
    given = np.array([labels.index(row["label"]) for row in rows])
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    p = cross_val_predict(model, [row["text"] for row in rows], given, cv=5, method="predict_proba")
    issues = find_label_issues(given, p, return_indices_ranked_by="self_confidence")
    return [rows[idx]["id"] for idx in issues], len(issues) / len(rows), time.monotonic() - start


def average_precision(found, planted):
    hits, total = 0, 0.0
    for rank, id in enumerate(found, 1):
        if id in planted:
            hits += 1
            total += hits / rank
    return total / len(planted)


def scores(found, planted):
    hits = len(planted.intersection(found))
    top = found[: len(planted) // 2]
    return hits / max(len(found), 1), hits / len(planted), average_precision(found, planted), np.mean([i in planted for i in top])


print("| task | planted | program | precision | recall | average precision | right in the first half | rate found | seconds |")
print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
for task in ["scicite"]:
    source = DATA / "biomed/tasks" / task
    for kind, rate in [("any", 0.05), ("any", 0.1), ("any", 0.2), ("next", 0.1)]:
        found = {"Arable": [], "cleanlab": []}
        for seed in SEEDS:
            rows = [json.loads(line) for line in open(source / "train.jsonl")]
            planted = plant(rows, rate, kind, np.random.default_rng(seed))
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
                dev = [json.loads(line) for line in open(source / "dev.jsonl")]
                plant(dev, rate, kind, np.random.default_rng(100 + seed))
                (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dev))
                (folder / "test.jsonl").write_text((source / "test.jsonl").read_text())
                (folder / "arable.toml").write_text(CONFIG)
                runs = {"Arable": lambda: arable(folder), "cleanlab": lambda: cleanlab(rows)}
                for name, run in runs.items():
                    suspects, estimate, seconds = run()
                    found[name].append([*scores(suspects, planted), estimate, seconds])
        for name, values in found.items():
            mean = np.mean(values, axis=0)
            cells = " | ".join(f"{value:.2f}" for value in mean[:4])
            print(f"| {task} | {100 * rate:.0f} %, {kind} | {name} | {cells} | {100 * mean[4]:.1f} % | {mean[5]:.1f} |", flush=True)
