//! What can be typed: commands and flags, without what they do.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Grows models that know a domain from its raw text, its knowledge and few labels.
#[derive(Clone, Debug, Parser)]
#[command(name = "arable", version, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command may be told.
    #[command(flatten)]
    pub global: Global,
}

const FIRST_STEPS: &str = "\
First steps:
  arable demo            the whole thing on a bundled domain, offline
  arable init turbines   a commented arable.toml for a domain of your own
  arable run             do what it says; a second time, only what changed";

/// Flags that stand before or after any command.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Global {
    /// The configuration to read [default: arable.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Put a value over what the configuration says; may be repeated, later ones win
    ///
    /// Elements of a list go by name or by index: `--set corpus.source.manuals.weight=0.5`. The value is TOML, or else a
    /// text.
    #[arg(long = "set", global = true, value_name = "KEY.PATH=VALUE")]
    pub sets: Vec<String>,
    /// The folder that holds the runs [default: runs]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// How many threads compute [default: one for each core]; the results are the same for any number
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// The precision of matrix work: `auto` takes what the processor is fastest at [default: auto]
    #[arg(long, global = true, value_enum, hide_possible_values = true, value_name = "auto|f32|bf16|i16")]
    pub precision: Option<Precision>,
    /// Say more about what is done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Print the facts as JSON on stdout; what is for people stays on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

/// The precision of matrix work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// bf16 where the processor has fast products of it, i16 where it has AVX512-VNNI, f32 elsewhere.
    #[default]
    Auto,
    /// 32 bits throughout.
    F32,
    /// bf16 products with f32 sums.
    Bf16,
    /// Products of 16-bit integers that share scales, activations in bf16.
    I16,
}

/// The commands, in the order of a domain's life.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Write a commented arable.toml to start from
    ///
    /// Nothing that exists is written over.
    #[command(after_help = "Example:\n  arable init turbines")]
    Init {
        /// The folder of the domain, made where it does not exist
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Do what the configuration says: curate, tokenize, pretrain, adapt, evaluate, report
    ///
    /// What an earlier run has done and nothing has changed since is not done again.
    #[command(after_help = "Examples:\n  arable run\n  arable run --dry-run --set pretrain.steps=200")]
    Run {
        /// Check the configuration, show what would be done, and stop
        #[arg(long)]
        dry_run: bool,
    },
    /// Go on with a run that was stopped, to the same bits as if it had not been
    #[command(after_help = "Examples:\n  arable resume\n  arable resume turbines-0f3a2b --threads 8")]
    Resume {
        /// The run [default: the latest]
        name: Option<String>,
    },
    /// Show the stages that a run would do, the plan of the pretraining, and about how long it would take
    ///
    /// Nothing runs but two steps of each stage's model, to time them. The same as `arable run --dry-run`.
    #[command(after_help = GATES)]
    Plan,
    /// Take a run back to a checkpoint: its weights and its place in the data
    ///
    /// Nothing is deleted: what was trained after it stays, and --undo brings it back. `arable resume` goes on from there, and
    /// `arable run` does so with the settings in arable.toml, as far as the checkpoint fits them.
    #[command(
        after_help = "Examples:\n  arable rollback --to domain/step-400 --why \"loss rises\"\n  arable rollback --undo"
    )]
    Rollback {
        /// The run [default: the latest]
        name: Option<String>,
        /// The checkpoint: STAGE/step-N, or step-N of the last stage that began
        #[arg(long, value_name = "CHECKPOINT", required_unless_present = "undo", conflicts_with = "undo")]
        to: Option<String>,
        /// Go on as if there had been no rollback
        #[arg(long)]
        undo: bool,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT", default_value = "not said")]
        why: String,
        /// Read the data from its beginning, as after a change of the corpus
        #[arg(long, conflicts_with = "undo")]
        restart_data: bool,
    },
    /// Compute a past step again and compare it, bit for bit; exit code 3 where it differs
    #[command(after_help = "Example:\n  arable replay --step 412")]
    Replay {
        /// The run [default: the latest]
        name: Option<String>,
        /// The stage [default: the last that began]
        #[arg(long)]
        stage: Option<String>,
        /// The step, counted in its stage
        #[arg(long)]
        step: u64,
    },
    /// Verify every byte of a run, its records and its lineage; exit code 3 where something is not as it was left
    #[command(after_help = "Example:\n  arable verify")]
    Verify {
        /// The run [default: the latest]
        name: Option<String>,
    },
    /// Write a run's report as one HTML page, and show its table
    #[command(after_help = "Examples:\n  arable report\n  arable report turbines-0f3a2b --json")]
    Report {
        /// The run [default: the latest]
        name: Option<String>,
    },
    /// Do the whole thing on a bundled domain, offline, in about a minute
    #[command(after_help = "Example:\n  arable demo --out /tmp/arable-demo")]
    Demo,
    /// Time what Arable does, as shares of what this machine can do at best
    ///
    /// Medians of nine; operations forward and backward; peaks are measured in the same run.
    #[command(
        after_help = "Examples:\n  arable bench\n  arable bench step --layers 6 --hidden 384 --tokens 4096 --json"
    )]
    Bench {
        /// The part to time [default: all]
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(arable_pipeline::bench::PARTS))]
        part: Option<String>,
        /// Layers of the model
        #[arg(long, default_value_t = 6)]
        layers: usize,
        /// Width of the model
        #[arg(long, default_value_t = 384)]
        hidden: usize,
        /// Tokens in the vocabulary
        #[arg(long, default_value_t = 16_384)]
        vocab: usize,
        /// Tokens in a batch
        #[arg(long, default_value_t = 4096)]
        tokens: usize,
        /// Tokens in a sequence
        #[arg(long, default_value_t = 128)]
        length: usize,
        /// Percentage of tokens that are masked
        #[arg(long, default_value_t = 15)]
        mask: usize,
    },
    /// Show what the sources hold: sizes, telling words, lines that repeat, documents far out
    ///
    /// Words are telling that occur more often than in the sources of `reference`. The same is a section of the report.
    #[command(after_help = "Examples:\n  arable profile\n  arable profile --json > profile.json")]
    Profile,
    /// Show how two runs differ, or what shifted between two profiles
    ///
    /// Of two runs: settings, program and machine, artifacts, the first step at which they part, and what shifted between
    /// their documents. Of two profiles: words, attributes, sources, languages, time, personal data; what two samples of
    /// one corpus differ by is no shift. A profile is named `latest`, `previous`, by the beginning of its digest or of that
    /// of a version of the corpus, or as a file that `arable profile --json` wrote.
    #[command(
        after_help = "Examples:\n  arable diff\n  arable diff turbines turbines-small\n  arable diff 3f2a91 latest --json"
    )]
    Diff {
        /// A run, or the earlier profile
        #[arg(default_value = "previous")]
        before: String,
        /// Another run, or the later profile
        #[arg(default_value = "latest")]
        after: String,
    },
    /// Check the corpus against what the table `check` of the configuration expects; exit code 3 where it is otherwise
    ///
    /// A version of which all holds is accepted; facts such as `shift_words_js` say how far the next has shifted since.
    #[command(after_help = "Example:\n  arable check --json")]
    Check,
    /// Try decisions about data about it
    #[command(subcommand, after_help = "Example:\n  arable data rules --keep gopher_quality")]
    Data(DataCommand),
    /// Find doubtful labels, and put right what people agree on
    #[command(subcommand, after_help = LABELS)]
    Labels(LabelsCommand),
    /// Show an adapter, or merge adapters into the weights of their base
    #[command(subcommand, after_help = "Example:\n  arable adapter show runs/turbines/adapt-triage/adapter")]
    Adapter(AdapterCommand),
    /// List the runs
    #[command(after_help = "Example:\n  arable runs --json")]
    Runs,
    /// Show the configuration with everything filled in, or what it may hold
    #[command(subcommand, after_help = "Example:\n  arable config show --origin")]
    Config(ConfigCommand),
    /// Read a PDF from standard input: what the program starts itself for, so that no PDF can stop a run
    #[command(name = arable_pipeline::PDF_COMMAND, hide = true)]
    ReadPdf,
}

/// What to do about data.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum DataCommand {
    /// List what is measured of every document and the rules there are: the names that `corpus.keep` may use
    #[command(after_help = "Example:\n  arable data attributes")]
    Attributes,
    /// List the facts that the table `check` may name
    #[command(after_help = "Example:\n  arable data facts")]
    Facts,
    /// Show what each condition of `corpus.keep` would leave out, with samples
    ///
    /// Nothing is removed. Attributes are measured once; another expression takes seconds.
    #[command(after_help = "Examples:\n  arable data rules\n  arable data rules --keep gopher_repetition --samples 5")]
    Rules {
        /// The expression to try [default: the one of the configuration]
        #[arg(long, value_name = "EXPRESSION")]
        keep: Option<String>,
        /// Documents to show for each condition
        #[arg(long, default_value_t = 2)]
        samples: usize,
    },
    /// List the versions of the corpus, the newest first
    #[command(after_help = "Example:\n  arable data log --json")]
    Log,
    /// Verify every byte of a version, and show its files, sources and what curation left out
    #[command(after_help = "Examples:\n  arable data show\n  arable data show 3f2a91")]
    Show {
        /// The version: `latest`, `previous`, or the beginning of its digest
        #[arg(default_value = "latest")]
        version: String,
    },
    /// Show what differs between two versions: documents added, changed, and removed with the reason
    #[command(after_help = "Examples:\n  arable data diff\n  arable data diff 3f2a91 latest --json")]
    Diff {
        /// The earlier version
        #[arg(default_value = "previous")]
        before: String,
        /// The later one
        #[arg(default_value = "latest")]
        after: String,
    },
    /// Write a version out as JSON lines, with its facts, its manifest and a description in Croissant
    #[command(after_help = "Example:\n  arable data restore 3f2a91 --to corpus-of-may")]
    Restore {
        /// The version: `latest`, `previous`, or the beginning of its digest
        version: String,
        /// The folder to write, which must not exist
        #[arg(long)]
        to: PathBuf,
    },
}

const GATES: &str = "\
A gate is an SQL expression over what is measured at the end of its stage:
  loss, accuracy              on held-out text of all sources
  change, accuracy_change     the same, less what it was when the stage began
  loss_SOURCE, change_SOURCE  of one source
  noise                       the standard deviation of the loss over draws of masks

Example:
  arable plan --json";

const LABELS: &str = "\
A review:
  arable labels suspects triage --reviewers anna,ben
  arable labels review triage anna.csv ben.csv
  arable labels review triage anna.csv ben.csv --to triage-1.jsonl";

/// What to do about adapters.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum AdapterCommand {
    /// Show what a folder with an adapter holds
    #[command(after_help = "Example:\n  arable adapter show runs/turbines/adapt-triage/adapter --json")]
    Show {
        /// The folder, as `arable run` or PEFT wrote it
        folder: PathBuf,
    },
    /// Merge one or more adapters into the weights of their base: a model as `transformers` reads it
    ///
    /// The head is that of the first.
    #[command(after_help = "Examples:\n  arable adapter merge BASE ADAPTER --to merged\n  arable adapter merge BASE \
                            FIRST SECOND --weights 0.5,0.5 --method ties --density 0.3 --to merged")]
    Merge {
        /// The folder of the base
        base: PathBuf,
        /// The folders of the adapters
        #[arg(required = true)]
        adapters: Vec<PathBuf>,
        /// A weight for each [default: 1]
        #[arg(long, value_delimiter = ',', value_name = "NUMBERS", allow_negative_numbers = true)]
        weights: Vec<f32>,
        /// `linear`: the weighted sum; `ties`: of the largest changes, where signs agree
        #[arg(long, value_enum, default_value_t = MergeMethod::Linear, value_name = "linear|ties")]
        method: MergeMethod,
        /// The part of each change that `ties` keeps
        #[arg(long, default_value_t = 0.2, value_name = "PART")]
        density: f64,
        /// The folder to write, which must not exist
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
}

/// How adapters become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MergeMethod {
    /// The weighted sum.
    Linear,
    /// TIES.
    Ties,
}

/// What to do about labels.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum LabelsCommand {
    /// List training labels that do not fit the rest, the most doubtful first
    ///
    /// A linear model is trained on four fifths of the examples and asked about the fifth it has not seen, five times;
    /// confident learning tells doubtful labels from hard examples.
    #[command(after_help = "Examples:\n  arable labels suspects triage --most 50\n  arable labels suspects triage \
                            --reviewers anna,ben --to review")]
    Suspects {
        /// The task
        task: String,
        /// How many, at most
        #[arg(long, default_value_t = 100)]
        most: usize,
        /// People for whom a table is written, and tasks for Label Studio
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        reviewers: Vec<String>,
        /// The folder for these files [default: review/TASK]
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// Say how far reviewers agree, and write the corrections they agree on
    ///
    /// Corrections take effect where `corrections` of the task in arable.toml names their file.
    #[command(after_help = "Examples:\n  arable labels review triage anna.csv ben.csv\n  arable labels review triage \
                            anna.csv ben.csv --adjudicated carol.csv --to triage-1.jsonl")]
    Review {
        /// The task
        task: String,
        /// Tables that people filled in, or exports of Label Studio
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The table of disputed examples, filled in by one who decides
        #[arg(long, value_name = "FILE")]
        adjudicated: Option<PathBuf>,
        /// The file to write the corrections to
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// The date of corrections where the files say none [default: today]
        #[arg(long, requires = "to")]
        date: Option<String>,
    },
}

/// What to show about the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print every value as a run would use it
    #[command(after_help = "Example:\n  arable config show --origin --set model.size=mini")]
    Show {
        /// Say for each value where it comes from: a line of the file, --set, another value, or the default
        #[arg(long)]
        origin: bool,
    },
    /// Print the JSON schema of arable.toml, for editors
    #[command(after_help = "Example:\n  arable config schema > arable.schema.json")]
    Schema,
}

impl Args {
    /// Reads the command line. Of a flag that may be repeated, clap keeps the values on one side of the command only; here all
    /// of `--set` count, in order.
    ///
    /// # Errors
    /// When it is no command line of this program, or help is asked for.
    pub fn read<T: Into<String>>(line: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let line: Vec<String> = line.into_iter().map(Into::into).collect();
        let mut args = Self::try_parse_from(&line)?;
        let after = |(idx, word): (usize, &String)| match word.strip_prefix("--set") {
            Some("") => line.get(idx + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        args.global.sets = line.iter().enumerate().filter_map(after).collect();
        Ok(args)
    }

    /// The flags that were given and that the command has no use for. A setting that cannot take effect is an error,
    /// so the caller refuses them.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let Global { config, sets, out, threads, precision, .. } = &self.global;
        let takes = self.command.takes();
        let given = [
            ("--config", config.is_some()),
            ("--set", !sets.is_empty()),
            ("--out", out.is_some()),
            ("--threads", threads.is_some()),
            ("--precision", precision.is_some()),
        ];
        given.into_iter().filter(|(flag, is_given)| *is_given && !takes.contains(flag)).map(|(flag, _)| flag).collect()
    }
}

impl Command {
    /// The flags that change what the command does. A resumed run keeps the configuration and the precision that it
    /// was started with.
    fn takes(&self) -> &'static [&'static str] {
        match self {
            Self::Init { .. }
            | Self::ReadPdf
            | Self::Config(ConfigCommand::Schema)
            | Self::Data(DataCommand::Attributes | DataCommand::Facts) => &[],
            Self::Run { .. } | Self::Plan => &["--config", "--set", "--out", "--threads", "--precision"],
            Self::Verify { .. } | Self::Diff { .. } => &["--out"],
            Self::Rollback { .. } | Self::Replay { .. } => &["--out", "--threads"],
            Self::Resume { .. } => &["--config", "--out", "--threads"],
            Self::Report { .. } | Self::Runs => &["--config", "--out"],
            Self::Adapter(_) => &[],
            Self::Bench { .. } => &["--threads", "--precision"],
            Self::Demo => &["--set", "--out", "--threads", "--precision"],
            Self::Config(ConfigCommand::Show { .. }) => &["--config", "--set"],
            Self::Profile | Self::Check | Self::Data(DataCommand::Rules { .. }) => {
                &["--config", "--set", "--out", "--threads"]
            }
            Self::Data(
                DataCommand::Log | DataCommand::Show { .. } | DataCommand::Diff { .. } | DataCommand::Restore { .. },
            ) => &["--out"],
            Self::Labels(LabelsCommand::Suspects { .. }) => &["--config", "--set", "--threads"],
            Self::Labels(LabelsCommand::Review { .. }) => &["--config", "--set"],
        }
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 is wanted".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Args {
        Args::read(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}\n{error}"))
    }

    /// The lines of the help texts that start with the program's name.
    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().map(str::trim).filter(|line| line.starts_with("arable "));
        let typed = lines.map(|line| line.split("   ").next().unwrap_or(line).split(" > ").next().unwrap_or(line));
        found.extend(typed.map(str::to_owned));
        command.get_subcommands().for_each(|inner| examples(inner, found));
    }

    #[test]
    fn examples_in_the_help_texts_are_true() {
        Args::command().debug_assert();
        let mut lines = Vec::new();
        examples(&Args::command(), &mut lines);
        assert!(lines.len() >= 12, "{lines:?}");
        for line in lines {
            assert_eq!(parse(&line).without_effect(), [""; 0], "{line}");
        }
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        let args = parse("arable --set a=1 --threads 2 run --dry-run --precision bf16 --set b.c=x=y -v");
        assert_eq!(args.command, Command::Run { dry_run: true });
        assert_eq!((args.global.threads, args.global.precision), (Some(2), Some(Precision::Bf16)));
        assert!(args.global.verbose);
        assert_eq!(args.global.sets, ["a=1", "b.c=x=y"]);
        assert_eq!(parse("arable --set=a=1 run --set b=2 --set=c=3").global.sets, ["a=1", "b=2", "c=3"]);
        assert!(Args::try_parse_from(["arable", "run", "--threads", "0"]).is_err());
    }

    #[test]
    fn flags_without_effect_are_found() {
        assert_eq!(parse("arable config schema --config a.toml --out b").without_effect(), ["--config", "--out"]);
        assert_eq!(parse("arable resume --set a=1 --threads 2").without_effect(), ["--set"]);
        assert!(parse("arable init").without_effect().is_empty());
    }
}
