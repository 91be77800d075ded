//! What each command does.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use arable_ledger::{RunRecord, RunStatus, list_records};
use arable_pipeline::advice::{Advise, with_hint};
use arable_pipeline::buckets::OPTION_PREFIXES;
use arable_pipeline::domain::{Config, Domain};
use arable_pipeline::results::Results;
use arable_pipeline::run::{Finished, Run, stored_precision};
use arable_pipeline::{Device, Precision};
use arable_pipeline::{bench, config, report};
use fs_err as fs;

use crate::args::{self, Global};
use crate::errors::Usage;
use crate::pack;
use crate::progress::Printer;

const CONFIG: &str = "arable.toml";

/// The folder of the runs.
pub fn out(global: &Global) -> PathBuf {
    global.out.clone().unwrap_or_else(|| "runs".into())
}

/// The domain that the flags name.
pub fn load(global: &Global) -> Result<Domain> {
    let path = global.config.clone().unwrap_or_else(|| CONFIG.into());
    load_from(&path, &global.sets)
}

/// The domain that a file says, with what the environment says about buckets.
fn load_from(path: &Path, sets: &[String]) -> Result<Domain> {
    let is_about_buckets = |name: &str| OPTION_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let store_options =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let store_options = store_options.filter(|(name, _)| is_about_buckets(name)).collect();
    Ok(Domain { store_options, ..Domain::load(path, sets)? })
}

/// The precision that the flags ask for.
pub fn precision(global: &Global) -> Precision {
    match global.precision.unwrap_or_default() {
        args::Precision::Auto => Precision::fastest(),
        args::Precision::F32 => Precision::F32,
        args::Precision::Bf16 => Precision::Bf16,
        args::Precision::I16 => Precision::I16,
    }
}

/// The device that the flags ask for.
pub fn device(global: &Global, precision: Precision) -> Result<Device> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Device::cpu(global.threads.unwrap_or(cores), precision).advise()
}

/// The first Ctrl+C asks the run to stop at a safe place; the second ends the process.
fn cancel_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if shared.swap(true, Ordering::Relaxed) {
            std::process::exit(4);
        }
        eprintln!("\nstopping after this step; press Ctrl+C again to stop at once");
    })
    .context("listen for Ctrl+C")?;
    Ok(flag)
}

/// Writes a commented `arable.toml`.
pub fn init(dir: &Path) -> Result<()> {
    let path = dir.join(CONFIG);
    if path.exists() {
        bail!(Usage(format!("write {}: it exists", path.display())));
    }
    fs::create_dir_all(dir)?;
    let full = fs::canonicalize(dir)?;
    let name = full.file_name().map_or("domain".into(), |name| name.to_string_lossy().replace(' ', "-"));
    fs::write(&path, pack::SCAFFOLD.replace("NAME", &name))?;
    eprintln!("wrote {}; say there what to read, then: arable run", path.display());
    Ok(())
}

/// Does what the configuration says.
pub fn run(global: &Global) -> Result<()> {
    let domain = load(global)?;
    let finished = execute(global, &domain, precision(global))?;
    show(global, finished, "arable report")
}

/// Goes on with a run, from its own resolved configuration.
pub fn resume(global: &Global, name: Option<&str>) -> Result<()> {
    let folder = find_run(global, name)?;
    let domain = load_from(&folder.join("resolved.toml"), &[])?;
    let precision = stored_precision(&folder)?;
    let finished = execute(global, &domain, precision)?;
    show(global, finished, "arable report")
}

fn execute(global: &Global, domain: &Domain, precision: Precision) -> Result<Finished> {
    let device = device(global, precision)?;
    let flag = cancel_flag()?;
    let mut printer = Printer::new(global.verbose);
    Run::new(domain, &out(global), &device, &mut printer, &flag)?.execute()
}

fn show(global: &Global, finished: Finished, next: &str) -> Result<()> {
    let results = &finished.results;
    if global.json {
        println!("{}", serde_json::to_string_pretty(results)?);
    }
    if finished.nothing_to_do {
        eprintln!("nothing to do: every stage is unchanged");
    }
    print_table(results, Some(next));
    eprintln!("report: {}", finished.folder.join("report.html").display());
    finished.failed_gate.map_or(Ok(()), |failed| Err(failed).advise())
}

fn print_table(results: &Results, next: Option<&str>) {
    let color = std::io::stderr().is_terminal();
    let options = report::TableOptions { width: 80, color, next };
    eprint!("\n{}", report::table(results, &options));
}

/// Writes a run's report again and shows its table.
pub fn report(global: &Global, name: Option<&str>) -> Result<()> {
    let folder = find_run(global, name)?;
    let path = folder.join("results.json");
    if !path.exists() {
        let message = format!("find results in {}", folder.display());
        return Err(with_hint(Usage(message), "the run is not finished: `arable resume` continues it"));
    }
    let results: Results =
        serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("read {}", path.display()))?;
    let page = folder.join("report.html");
    arable_ledger::write_atomic(&page, report::html(&results).as_bytes())?;
    if global.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    print_table(&results, None);
    eprintln!("report: {}", page.display());
    Ok(())
}

/// Runs the bundled domain.
pub fn demo(global: &Global) -> Result<()> {
    let path = pack::unpack(&out(global).join("domains/glasshouse"))?;
    let domain = Domain::load(&path, &global.sets)?;
    let finished = execute(global, &domain, precision(global))?;
    show(global, finished, "arable init turbines")
}

/// Times what Arable does.
pub fn bench(global: &Global, part: Option<&str>, shape: bench::Shape) -> Result<()> {
    let found = bench::run(part, shape, &device(global, precision(global))?)?;
    if global.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        eprint!("{}", found.table());
    }
    Ok(())
}

/// Lists the runs.
pub fn runs(global: &Global) -> Result<()> {
    let (records, broken) = list_records(&out(global)).advise()?;
    for flaw in broken {
        eprintln!("warning: {flaw}");
    }
    if global.json {
        println!("{}", serde_json::to_string_pretty(&records)?);
    } else if records.is_empty() {
        eprintln!("no runs in {}; `arable run` makes one", out(global).display());
    } else {
        records.iter().for_each(|record| eprintln!("{}", run_line(record)));
    }
    Ok(())
}

fn run_line(record: &RunRecord) -> String {
    let status = match &record.status {
        RunStatus::Running => "running",
        RunStatus::Done => "done",
        RunStatus::Failed { .. } => "failed",
        RunStatus::Cancelled => "cancelled",
    };
    let what = match (&record.result_line, &record.status) {
        (Some(line), _) => line.clone(),
        (None, RunStatus::Failed { error }) => error.clone(),
        (None, _) => String::new(),
    };
    format!("{:<16} {status:<9} {}  {what}", record.name, record.started)
}

/// The folder of a run: the one named, or the latest.
pub fn find_run(global: &Global, name: Option<&str>) -> Result<PathBuf> {
    let (records, _) = list_records(&out(global)).advise()?;
    let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    let found = match name {
        Some(name) => records.iter().find(|record| record.name == name),
        None => records.iter().max_by_key(|record| record.started.clone()),
    };
    let Some(record) = found else {
        let message = name.map_or("find a run".to_owned(), |name| format!("find a run called `{name}`"));
        let place = out(global).display().to_string();
        let hint = if names.is_empty() {
            format!("there is none in {place}; `arable run` makes one, --out names another folder")
        } else {
            format!("there are: {}", names.join(", "))
        };
        return Err(with_hint(Usage(message), hint));
    };
    Ok(out(global).join(&record.name))
}

/// Prints every setting.
pub fn config_show(global: &Global, origin: bool) -> Result<()> {
    let domain = load(global)?;
    let config: &Config = domain.config();
    if global.json {
        println!("{}", serde_json::to_string_pretty(config)?);
    } else if origin {
        println!("{}", config::render(&domain.loaded.origins));
    } else {
        print!("{}", config::to_toml(config));
    }
    Ok(())
}

/// Prints the JSON schema of `arable.toml`.
pub fn config_schema() -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&config::schema::<Config>())?);
    Ok(())
}
