"""Curates six public corpora with Arable and with datatrove, the same filters and near-duplicates; prints Markdown.

Run: python scripts/bench_curation.py ARABLE DATA   (the binary, the folder of public data; scripts/requirements-peers.txt)

Both on two workers: Gopher quality and repetition, C4 and FineWeb filters, then near-duplicates by MinHash (runs of five
words, 14 bands of 8). Arable measures all of its attributes, tells languages and verifies every pair; datatrove does not.
"""

import glob
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

ARABLE, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
NAMES = [
    "biomed/corpus/medquad",
    "biomed/corpus/abstracts",
    "biomed/corpus/craft",
    "general/corpus/novels",
    "general/corpus/history",
    "general/corpus/reviews",
]
CONFIG = """name = "curation"
data = "{data}"
[corpus]
keep = "gopher_quality AND gopher_repetition AND c4 AND fineweb"
[corpus.dedup.near]
{sources}
[model]
size = "nano"
num_hidden_layers = 1
hidden_size = 32
intermediate_size = 32
[tokenizer]
vocab_size = 300
[pretrain]
num_tokens = 1000
tokens_per_batch = 500
max_length = 64
"""
SOURCE = """[[corpus.source]]
name = "{name}"
path = "{path}.jsonl.gz"
"""


def arable(folder):
    """Seconds of the stages that do the same work, and documents left."""
    sources = "".join(SOURCE.format(name=name.split("/")[-1], path=name) for name in NAMES)
    (folder / "arable.toml").write_text(CONFIG.format(data=DATA, sources=sources))
    command = [ARABLE, "run", "--config", folder / "arable.toml", "--out", folder / "runs", "--threads", "2"]
    subprocess.run(command, check=True, capture_output=True)
    run = json.loads((folder / "runs/curation/run.json").read_text())
    seconds = {stage["kind"]: stage["wall_s"] for stage in run["stages"]}
    facts = json.loads((folder / "runs/curation/results.json").read_text())["corpus"]
    filtered = sum(it["num_documents"] for it in facts["sources"]) - facts["num_filtered"] - facts["num_too_short"]
    return seconds["documents"] + seconds["attributes"], seconds["corpus"], filtered, facts["num_train"] + facts["num_held_out"]


def in_two_files(folder):
    """The same documents in two files of equal size, one for each worker of datatrove."""
    size = 0
    outs = [gzip.open(folder / f"input/{idx}.jsonl.gz", "wt", compresslevel=1) for idx in range(2)]
    for name in NAMES:
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
            for idx, line in enumerate(lines):
                document = json.loads(line)
                size += len(document["text"].encode())
                outs[idx % 2].write(json.dumps({"text": document["text"], "id": f"{name}/{document['id']}"}) + "\n")
    for out in outs:
        out.close()
    return size


def datatrove(folder):
    """Seconds of the filters and of the near-duplicates, and documents left after each."""
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    parts = {name: str(folder / name) for name in ("input", "filtered", "signatures", "buckets", "removed", "output")}
    filters = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter()]
    steps = [
        ([JsonlReader(parts["input"]), *filters, JsonlWriter(parts["filtered"])], 2),
        ([JsonlReader(parts["filtered"]), MinhashDedupSignature(parts["signatures"], config=config)], 2),
        ([MinhashDedupBuckets(parts["signatures"], parts["buckets"], config=config)], 14),
        ([MinhashDedupCluster(parts["buckets"], parts["removed"], config=config)], 1),
        ([JsonlReader(parts["filtered"]), MinhashDedupFilter(parts["removed"]), JsonlWriter(parts["output"])], 2),
    ]
    seconds = []
    for idx, (pipeline, tasks) in enumerate(steps):
        start = time.monotonic()
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=str(folder / f"logs/{idx}")).run()
        seconds.append(time.monotonic() - start)
    count = lambda part: sum(sum(1 for _ in gzip.open(path, "rt")) for path in glob.glob(f"{parts[part]}/*.gz"))
    return seconds[0], sum(seconds[1:]), count("filtered"), count("output")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "input").mkdir()
        size = in_two_files(folder) / 1e6
        rows = {"Arable": [], "datatrove": []}
        for _ in range(2):
            with tempfile.TemporaryDirectory() as own:
                rows["Arable"].append(arable(pathlib.Path(own)))
            if not rows["datatrove"]:
                rows["datatrove"].append(datatrove(folder))
        print(f"{size:.1f} MB of text\n")
        print("| program | filters, s | near-duplicates, s | MB/s a core | left by filters | left |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for program, runs in rows.items():
            filters, near, filtered, left = min(runs, key=lambda run: run[0] + run[1])
            speed = size / (filters + near) / 2
            print(f"| {program} | {filters:.1f} | {near:.1f} | {speed:.2f} | {filtered} | {left} |")
