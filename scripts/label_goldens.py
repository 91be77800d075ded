"""Writes what cleanlab says about made-up label noise and what scikit-learn, statsmodels and krippendorff say about made-up
ratings: crates/corpus/tests/noise_goldens.json, crates/eval/tests/agreement_goldens.json.

Run: python scripts/label_goldens.py   (versions are written to the output)
"""

import json
import pathlib
from importlib.metadata import version

import krippendorff
import numpy as np
from cleanlab.count import estimate_joint
from cleanlab.filter import find_label_issues
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

CRATES = pathlib.Path(__file__).parent.parent / "crates"


def noise_case(rng, n, k, rate):
    """A fair model and labels of which some went to a neighbouring class."""
    right = rng.integers(0, k, n)
    given = np.where(rng.random(n) < rate, (right + rng.integers(1, k, n)) % k, right)
    logits = rng.normal(size=(n, k)) + 2.2 * np.eye(k)[right]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = np.round(p, 6)
    issues = find_label_issues(given, p, filter_by="prune_by_noise_rate")
    return {
        "num_classes": k,
        "probabilities": p.ravel().tolist(),
        "given": given.tolist(),
        "issues": np.flatnonzero(issues).tolist(),
        "joint": estimate_joint(given, p).ravel().tolist(),
    }


def agreement_case(rng, n, raters, k, gaps):
    """People who mostly see what is there; in some places nobody was asked."""
    right = rng.integers(0, k, n)
    said = np.where(rng.random((n, raters)) < 0.7, right[:, None], rng.integers(0, k, (n, raters)))
    asked = rng.random((n, raters)) >= gaps
    table = np.where(asked, said.astype(float), np.nan)
    whole = said[asked.all(axis=1)]
    both = said[asked[:, :2].all(axis=1)][:, :2]
    return {
        "rows": [[int(x) if ok else None for x, ok in zip(*row)] for row in zip(said, asked)],
        "cohen_of_the_first_two": cohen_kappa_score(both[:, 0], both[:, 1]),
        "fleiss": fleiss_kappa(aggregate_raters(whole)[0]),
        "alpha": krippendorff.alpha(table.T, level_of_measurement="nominal"),
    }


def write(path, packages, cases):
    versions = {package: version(package) for package in packages}
    path.write_text(json.dumps({"versions": versions, "cases": cases}) + "\n")
    print(path, len(cases), "cases")


rng = np.random.default_rng(3)
noise = [noise_case(rng, n, k, rate) for n, k, rate in [(120, 2, 0.1), (150, 3, 0.2), (200, 5, 0.3), (60, 4, 0.0)]]
write(CRATES / "corpus/tests/noise_goldens.json", ["cleanlab", "numpy"], noise)
ratings = [agreement_case(rng, *shape) for shape in [(40, 2, 2, 0.0), (60, 3, 4, 0.0), (80, 4, 3, 0.2)]]
write(CRATES / "eval/tests/agreement_goldens.json", ["scikit-learn", "statsmodels", "krippendorff", "numpy"], ratings)
