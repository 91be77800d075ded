//! Arable beside PyTorch and `transformers`: the same model, data and batch, in turns, in one run.
//!
//! ```text
//! virtual environment ──> rounds of (Arable, each peer) ──> medians and ratios ──> benchmarks/engine-<yyyymm>.md
//! ```
//!
//! Behind the month the page has `amx` on a processor with tiles, and the precision where the fastest is not bf16.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde_json::Value;

use crate::python::{done, environment, program, target};
use crate::workspace_root;

/// Rounds of which the median counts.
const ROUNDS: usize = 3;

/// How `arable bench` ends the names of products of narrow numbers alone.
const ALL_NARROW: &str = ", bf16";

const SHAPE: &str = "--layers 6 --hidden 384 --vocab 16384 --tokens 4096 --length 128";

/// Tokens of the two pretrainings whose difference is timed, so that neither start nor end counts.
const PRETRAINING: [u64; 2] = [100_000, 500_000];

/// What a round found: seconds for so many tokens, and bytes of memory at most, where that was measured.
#[derive(Clone, Copy, Debug)]
struct Found {
    seconds: f64,
    tokens: f64,
    peak_bytes: f64,
}

/// One side of a comparison.
struct Contender<'a> {
    name: String,
    run: Box<dyn Fn() -> Result<Found> + 'a>,
}

/// Rows of a comparison: who, and the medians.
type Table = Vec<(String, Found)>;

/// Measures everything and writes the page.
pub fn engine(data: &Path) -> Result<()> {
    ensure!(
        data.join("biomed/corpus").exists(),
        "find biomed/corpus in {}; name the folder of the data in ARABLE_DATA",
        data.display()
    );
    let bench = Bench::new(Some(data))?;
    let month = Command::new("date").arg("+%Y%m").output().context("ask for the date")?.stdout;
    let suffix = match bench.best.as_str() {
        "bf16" if cpuinfo().contains("amx_bf16") => "-amx".to_owned(),
        "bf16" => String::new(),
        best => format!("-{best}"),
    };
    let name = format!("benchmarks/engine-{}{suffix}.md", String::from_utf8(month)?.trim());
    let path = workspace_root().join(name);
    fs::create_dir_all(workspace_root().join("benchmarks"))?;
    let mut page = bench.head()?;
    bench.all_products(&mut page)?;
    for (title, work) in [
        ("A training step (MLM 15 %)", "step"),
        ("A step of fine-tuning (sequence classifier)", "finetune"),
        ("Inference (encoder)", "inference"),
    ] {
        write_table(&mut page, title, &bench.rounds(bench.contenders(work))?);
        fs::write(&path, &page)?;
    }
    write_table(&mut page, "Pretraining on documents of mixed length", &bench.rounds(bench.pretrainings())?);
    fs::write(&path, page)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Prints the tables of matrix products.
pub fn products() -> Result<()> {
    let mut page = String::new();
    Bench::new(None)?.all_products(&mut page)?;
    Ok(std::io::Write::write_all(&mut std::io::stdout(), page.as_bytes())?)
}

/// Prints the tables of curation beside datatrove and of doubtful labels beside cleanlab.
pub fn curation(data: &Path) -> Result<()> {
    let (program, python) = (program()?, environment("peers-venv", "requirements-peers.txt")?);
    for script in ["bench_curation.py", "bench_labels.py"] {
        done(Command::new(&python).arg(workspace_root().join("scripts").join(script)).arg(&program).arg(data))?;
    }
    Ok(())
}

struct Bench {
    python: PathBuf,
    program: PathBuf,
    folder: PathBuf,
    /// The precision that Arable is fastest in on this machine.
    best: String,
}

impl Bench {
    /// Builds Arable, makes the virtual environment, and tokenizes the corpus, where one is to be read.
    fn new(data: Option<&Path>) -> Result<Self> {
        let (program, python) = (program()?, environment("peers-venv", "requirements-peers.txt")?);
        let mut bench = Self { python, program, folder: target().join("peers"), best: String::new() };
        if let Some(data) = data {
            bench.tokenize(data)?;
        }
        bench.best = text(&bench.arable(&["bench", "kernels"])?["precision"])?.to_owned();
        Ok(bench)
    }

    fn tokenize(&self, data: &Path) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("arable.toml"), configuration(&fs::canonicalize(data)?))?;
        self.arable_pretrains(1000)?;
        Ok(())
    }

    /// Those that Arable takes part in.
    fn precisions(&self) -> impl Iterator<Item = &str> {
        [self.best.as_str(), "f32"].into_iter().take(if self.best == "f32" { 1 } else { 2 })
    }

    fn head(&self) -> Result<String> {
        let found = self.arable(&["bench", "step", "--mask", "15"])?;
        let step = self.torch("step", &["--rounds", "1"])?;
        let cpu = cpuinfo();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(" : unknown");
        Ok(format!(
            "# The engine beside its peers\n\n`cargo xtask bench-peers`, medians of {ROUNDS} rounds in turns; {} threads; {}; \
             torch {}, transformers {}.\nModel: ModernBERT, {SHAPE}; masked-only logits and fused AdamW on both sides. Peaks \
             measured in the same run:\n{:.0} GFLOP/s of matrix products in {}, {:.1} GB/s of copying; a step reaches {:.0} % of \
             the former.\n",
            found["threads"],
            cpu.trim_start_matches([' ', '\t', ':']),
            step["versions"]["torch"].as_str().unwrap_or_default(),
            step["versions"]["transformers"].as_str().unwrap_or_default(),
            number(&found["peak_flops"])? / 1e9,
            self.best,
            number(&found["peak_bytes"])? / 1e9,
            100.0 * number(&found["rows"][0]["share_of_peak"])?,
        ))
    }

    /// All contenders in turns, [`ROUNDS`] times.
    fn rounds(&self, contenders: Vec<Contender<'_>>) -> Result<Table> {
        let mut found: Vec<Vec<Found>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 0..ROUNDS {
            for (contender, found) in contenders.iter().zip(&mut found) {
                let result = (contender.run)().with_context(|| contender.name.clone())?;
                eprintln!("round {round}: {} {:.3} s for {} tokens", contender.name, result.seconds, result.tokens);
                found.push(result);
            }
        }
        Ok(contenders
            .into_iter()
            .map(|contender| contender.name)
            .zip(found.iter().map(|found| median(found)))
            .collect())
    }

    /// Arable and PyTorch in each precision, PyTorch also compiled.
    fn contenders(&self, work: &'static str) -> Vec<Contender<'_>> {
        let arable = self.precisions().map(|precision| Contender {
            name: format!("Arable {precision}"),
            run: Box::new(move || self.arable_bench(work, precision)),
        });
        let torch = [("bf16", false), ("f32", false), ("bf16", true), ("f32", true)].map(|(precision, compile)| {
            let name = format!("PyTorch {precision}{}", if compile { ", torch.compile" } else { "" });
            let run = move || {
                let flag: &[&str] = if compile { &["--compile"] } else { &[] };
                let found = self.torch(work, &[&["--precision", precision][..], flag].concat())?;
                Ok(Found { peak_bytes: f64::NAN, ..as_found(&found)? })
            };
            Contender { name, run: Box::new(run) }
        });
        arable.chain(torch).collect()
    }

    fn all_products(&self, page: &mut String) -> Result<()> {
        self.precisions().try_for_each(|precision| self.products(precision, page))
    }

    /// Matrix products beside oneDNN's, as PyTorch calls them, at its faster precision where ours is not f32. There ours are
    /// timed twice: as training has them, with weights and their gradients in f32, and with the work that PyTorch does.
    fn products(&self, precision: &str, page: &mut String) -> Result<()> {
        let theirs: &[&str] = if precision == "f32" { &["f32"] } else { &["bf16", "f32"] };
        let ours: &[&str] = if precision == "f32" { &[""] } else { &["", ALL_NARROW] };
        let mut found: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
        let mut note = |case: &str, contender: usize, milliseconds: f64| {
            let times = found.entry(case.to_owned()).or_insert_with(|| vec![Vec::new(); ours.len() + theirs.len()]);
            times[contender].push(milliseconds);
        };
        for _ in 0..ROUNDS {
            let rows = self.arable(&["bench", "kernels", "--mask", "15", "--precision", precision])?;
            for row in rows["rows"].as_array().context("rows")? {
                let case = text(&row["case"])?;
                let (case, contender) = case.strip_suffix(ALL_NARROW).map_or((case, 0), |case| (case, 1));
                note(case, contender, 1e3 * number(&row["seconds"])?);
            }
            for (i, precision) in theirs.iter().enumerate() {
                let rows = self.torch("kernels", &["--precision", precision])?;
                for (case, milliseconds) in rows["milliseconds"].as_object().context("milliseconds")? {
                    note(case, ours.len() + i, number(milliseconds)?);
                }
            }
        }
        let of = |who: &str, ends: &[&str]| ends.iter().map(|end| format!(" {who}{end}, ms |")).collect::<String>();
        let (names, them) = (of("Arable", ours), of("PyTorch ", theirs));
        let ratios = if ours.len() == 1 { " faster by |" } else { " faster by | bf16 by |" };
        write!(page, "\n## Products in {precision}\n\n| |{names}{them}{ratios}\n")?;
        writeln!(page, "|---|{}", "--:|".repeat(2 * ours.len() + theirs.len()))?;
        for (case, times) in found {
            let medians: Vec<f64> = times.into_iter().map(middle).collect();
            let columns: String = medians.iter().map(|median| format!(" {median:.2} |")).collect();
            let (ours, theirs) = medians.split_at(ours.len());
            let best = theirs.iter().copied().fold(f64::INFINITY, f64::min);
            let ratios: String = ours.iter().map(|own| format!(" {:.2} |", best / own)).collect();
            writeln!(page, "| {case} |{columns}{ratios}")?;
        }
        Ok(())
    }

    /// Arable at its best, and the Trainer in both precisions.
    fn pretrainings(&self) -> Vec<Contender<'_>> {
        let arable = Contender { name: format!("Arable {}", self.best), run: Box::new(|| self.arable_pretraining()) };
        let trainers = ["bf16", "f32"].map(|precision| Contender {
            name: format!("transformers Trainer {precision}"),
            run: Box::new(move || {
                let shards = self.shards()?;
                let shards = shards.to_str().context("a path of text")?;
                as_found(&self.torch("pretrain", &["--precision", precision, "--rounds", "60", "--shards", shards])?)
            }),
        });
        std::iter::once(arable).chain(trainers).collect()
    }

    fn arable_bench(&self, work: &str, precision: &str) -> Result<Found> {
        let found = self.arable(&["bench", work, "--mask", "15", "--precision", precision])?;
        let rows = found["rows"].as_array().context("rows")?;
        let row = rows.iter().find(|row| row["unit"] == "token").context("a row in tokens")?;
        let seconds = number(&row["seconds"])?;
        Ok(Found { seconds, tokens: seconds * number(&row["rate"])?, peak_bytes: f64::NAN })
    }

    /// What `arable bench` finds for the shape of the page.
    fn arable(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(&self.program).args(arguments).arg("--json").args(SHAPE.split(' ')).output()?;
        serde_json::from_slice(&output.stdout).context("read what `arable bench` prints")
    }

    /// The difference of a long and a short pretraining.
    fn arable_pretraining(&self) -> Result<Found> {
        let [short, long] = [self.arable_pretrains(PRETRAINING[0])?, self.arable_pretrains(PRETRAINING[1])?];
        let tokens = long.tokens - short.tokens;
        Ok(Found { seconds: long.seconds - short.seconds, tokens, peak_bytes: long.peak_bytes })
    }

    /// A whole `arable run` that pretrains anew on so many tokens.
    fn arable_pretrains(&self, num_tokens: u64) -> Result<Found> {
        for entry in fs::read_dir(self.folder.join("out/artifacts")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("pretrain-") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let mut command = Command::new(&self.program);
        command.args(["run", "--config", "arable.toml", "--out", "out", "--set"]);
        command.arg(format!("pretrain.num_tokens={num_tokens}")).current_dir(&self.folder);
        let start = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut peak_bytes = 0.0f64;
        let status = loop {
            peak_bytes = peak_bytes.max(resident_peak(child.id()));
            if let Some(status) = child.try_wait()? {
                break status;
            }
            sleep(Duration::from_millis(20));
        };
        ensure!(status.success(), "`arable run` failed: {status}");
        Ok(Found { seconds: start.elapsed().as_secs_f64(), tokens: num_tokens as f64, peak_bytes })
    }

    /// The tokenized training text of Arable's run.
    fn shards(&self) -> Result<PathBuf> {
        let artifacts = fs::read_dir(self.folder.join("out/artifacts"))?.flatten().map(|entry| entry.path());
        let is_shards = |path: &PathBuf| path.join("train/0/tokens.bin").exists();
        Ok(artifacts.into_iter().find(is_shards).context("find shards")?.join("train"))
    }

    fn torch(&self, work: &str, arguments: &[&str]) -> Result<Value> {
        let script = workspace_root().join("scripts/bench_pytorch.py");
        let output = Command::new(&self.python).arg(script).arg(work).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().last().context("a line of JSON")?;
        Ok(serde_json::from_str(line)?)
    }
}

/// What Linux says of the processors; nothing elsewhere.
fn cpuinfo() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

fn configuration(data: &Path) -> String {
    let corpus = data.join("biomed/corpus");
    let sources: String = ["medquad", "abstracts", "craft"]
        .map(|name| format!("[[corpus.source]]\nname = \"{name}\"\npath = \"{}/{name}.jsonl.gz\"\n", corpus.display()))
        .concat();
    format!(
        "name = \"peers\"\n{sources}\n[tokenizer]\nvocab_size = 16384\n\n[model]\nsize = \"small\"\n\n[pretrain]\n\
         tokens_per_batch = 4096\nmlm = {{ mask_prob = 0.15 }}\nheld_out_every = 1000000\nheld_out_tokens = 1000\n\
         checkpoint_every = 1000000\n"
    )
}

/// The most memory that a process had resident so far, in bytes; 0 where the system does not say.
fn resident_peak(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    1024.0 * kilobytes.unwrap_or(0.0)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("a text, not {value}"))
}

/// The median; NaN of nothing.
fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("a number, not {value}"))
}

fn as_found(value: &Value) -> Result<Found> {
    let [seconds, tokens, peak_bytes] = ["seconds", "tokens", "peak_bytes"].map(|key| number(&value[key]));
    Ok(Found { seconds: seconds?, tokens: tokens?, peak_bytes: peak_bytes? })
}

/// The round with the median rate.
fn median(found: &[Found]) -> Found {
    let mut sorted = found.to_vec();
    sorted.sort_by(|a, b| (a.tokens / a.seconds).total_cmp(&(b.tokens / b.seconds)));
    sorted[sorted.len() / 2]
}

/// The first contender is Arable at its best: ratios say how much faster it is.
fn write_table(page: &mut String, title: &str, table: &Table) {
    let rate = |found: &Found| found.tokens / found.seconds;
    write!(page, "\n## {title}\n\n| | seconds | tokens/s | peak memory | {} is faster by |\n", table[0].0)
        .expect("text");
    page.push_str("|---|--:|--:|--:|--:|\n");
    for (name, found) in table {
        let memory = if found.peak_bytes > 0.0 { format!("{:.0} MB", found.peak_bytes / 1e6) } else { "-".into() };
        let ratio = rate(&table[0].1) / rate(found);
        writeln!(page, "| {name} | {:.3} | {:.0} | {memory} | {ratio:.2} |", found.seconds, rate(found)).expect("text");
    }
}
