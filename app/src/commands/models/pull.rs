//! `dreamglass models pull`: the only way by which anything is downloaded.

use std::cell::RefCell;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::{ask, is_terminal};
use crate::commands::print;
use crate::failure::{INTERRUPTED, bad_input};
use crate::interrupt;
use crate::repository::{
    Cache, Environment, Interrupted, Name, Pull, Reporter, SHORT_NAMES, ShortName, Stop, Terms, Variant,
    Wanted,
};

/// The help behind the options, with the short names.
pub fn help() -> String {
    let width = SHORT_NAMES.iter().map(|short| short.short.len()).max().unwrap_or(0);
    let name = |known: &ShortName| {
        format!("  {:width$}  {}\n  {:width$}    {}\n", known.short, known.name(), "", known.about)
    };
    format!(
        "\
Examples:
  dreamglass models pull sd-turbo
  dreamglass models pull latent-consistency/lcm-lora-sdv1-5
  dreamglass models pull OWNER/NAME@refs/pr/1
  dreamglass models pull OWNER/NAME/FILE.safetensors
  HF_ENDPOINT=https://hf-mirror.example dreamglass models pull taesd

Short names:
{}
Of a repository in diffusers' layout only the configs and the safetensors of unet, vae,
text_encoder and tokenizer are fetched, never pickles. Where it holds its weights twice, half
precision (.fp16) is taken, which is all that --dtype f16 and most adapters need; --variant full
takes the other.

A licence that restricts use is shown first: on a terminal you are asked, elsewhere
--accept-licence says that you have read and accept it. Gated and private repositories need a
token, from HF_TOKEN, the file that HF_TOKEN_PATH names or the one that `huggingface-cli login`
writes; only the hub itself sees it.

What was interrupted goes on where it stopped. Every file is checked before it is used: the hub's
SHA-256 or git's SHA-1 of it. HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and
HF_HUB_DOWNLOAD_TIMEOUT (seconds that a connection may be silent) mean what they mean in Python.

Exit codes: 0 done, 1 the download failed, 2 bad arguments, no such model or no access, 130 ended
by Ctrl-C.",
        SHORT_NAMES.iter().map(name).collect::<String>()
    )
}

#[derive(Debug, Args)]
pub struct PullArgs {
    /// Repository OWNER/NAME, one file of it OWNER/NAME/FILE.safetensors, or a short name, see below; with @REV a
    /// branch, tag or commit
    #[arg(value_name = "REPO[@REV]")]
    pub name: String,
    /// Which weights, where the repository holds them twice
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub variant: Variant,
    /// You have read the model's licence and accept it
    #[arg(long, alias = "accept-license")]
    pub accept_licence: bool,
    /// Download nothing: only say whether it is there
    #[arg(long)]
    pub offline: bool,
}

/// Fetches a model and prints where it is.
pub fn run(arguments: &PullArgs) -> Result<ExitCode> {
    let wanted =
        Wanted { name: arguments.name.parse::<Name>().map_err(bad_input)?, variant: arguments.variant };
    let environment = Environment::read()?;
    if arguments.offline || environment.is_offline {
        return offline(&wanted, &environment);
    }
    let (stop, bars) = (Stop::new(interrupt::watch()?), Bars::new());
    match fetch(arguments, &wanted, &environment, &stop, &bars) {
        Err(error) if error.is::<Interrupted>() => {
            bars.clear();
            eprintln!("{}: stopped; what came is kept, and the next pull goes on from there", wanted.name);
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => {
            bars.clear();
            Err(error)
        }
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn fetch(
    arguments: &PullArgs,
    wanted: &Wanted,
    environment: &Environment,
    stop: &Stop,
    bars: &Bars,
) -> Result<()> {
    let pull = Pull::ask(wanted, environment, stop, bars)?;
    if !pull.is_there() {
        eprint!("{}", in_words(&wanted.name, pull.commit(), &pull.terms()));
        accept(arguments, &pull.terms(), stop)?;
    }
    let pulled = pull.run()?;
    bars.clear();
    let (size, commit) = (BinaryBytes(pulled.size), &pulled.commit[..12]);
    match pulled.fetched {
        0 => eprintln!("{}: up to date at {commit}, {size}", wanted.name),
        fetched => eprintln!("{}: {} fetched, {size} in all, at {commit}", wanted.name, BinaryBytes(fetched)),
    }
    print(&format!("{}\n", pulled.path.display()))
}

/// Says whether it is there.
fn offline(wanted: &Wanted, environment: &Environment) -> Result<ExitCode> {
    let cache = Cache::new(environment.cache.clone());
    match cache.snapshot(&wanted.name)? {
        Some(snapshot) => {
            print(&format!("{}\n", snapshot.path(&wanted.name)?.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        None => Err(bad_input(format!(
            "{} is not in the cache ({}), and nothing is downloaded: --offline or HF_HUB_OFFLINE says so",
            wanted.name,
            cache.folder().display()
        ))),
    }
}

/// What is known of a model before it is fetched.
fn in_words(name: &Name, commit: &str, terms: &Terms) -> String {
    let card = terms.card.as_deref().unwrap_or("not named");
    let link = terms.link.as_ref().map(|link| format!(" ({link})")).unwrap_or_default();
    let printable = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    let note = terms.note.map(|note| format!("  note: {note}\n")).unwrap_or_default();
    format!(
        "{name} at {}\n  licence by its card: {}{}\n{note}",
        &commit[..12],
        printable(card),
        printable(&link)
    )
}

/// Asks whether terms that restrict use are accepted.
fn accept(arguments: &PullArgs, terms: &Terms, stop: &Stop) -> Result<()> {
    if !terms.is_restricted || arguments.accept_licence {
        return Ok(());
    }
    let page = "read it on the model's page";
    if !is_terminal() {
        return Err(bad_input(format!(
            "the licence of {} may restrict what you do with it: {page}, and say --accept-licence if you accept it",
            arguments.name
        )));
    }
    let question = format!("This licence may restrict what you do with the model: {page}. Do you accept it?");
    match ask(&question, stop)? {
        true => Ok(()),
        false => Err(bad_input("the licence was not accepted: nothing was downloaded")),
    }
}

/// Where the bars were when a file was begun for the first time.
#[derive(Default)]
struct Current {
    path: String,
    have: u64,
    whole: u64,
}

/// Progress on a terminal, a line for each file elsewhere.
struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    file: ProgressBar,
    /// The file that is being fetched.
    current: RefCell<Current>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let bar = |style: &str| {
            let bar = all.add(ProgressBar::no_length());
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        };
        let file = bar("{wide_msg} {bar:24} {binary_bytes:>11}/{binary_total_bytes:11}");
        let whole = bar("all {bar:32} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}");
        Self { all: all.clone(), whole, file, current: RefCell::default() }
    }
    fn clear(&self) {
        self.file.finish_and_clear();
        self.whole.finish_and_clear();
    }
    /// A line above the bars.
    fn line(&self, text: &str) {
        self.all.suspend(|| eprintln!("{text}"));
    }
}

impl Reporter for Bars {
    fn begin(&self, path: &str, size: u64, have: u64) {
        self.file.set_message(path.to_owned());
        self.file.set_length(size);
        self.file.set_position(have);
        let mut current = self.current.borrow_mut();
        if current.path != path {
            *current = Current { path: path.to_owned(), have, whole: self.whole.position() };
        }
        // What came before a connection broke counts, unless it had to be thrown away.
        self.whole.set_position(current.whole + have.saturating_sub(current.have));
        if have > 0 {
            self.line(&format!("{path}: going on from {} of {}", BinaryBytes(have), BinaryBytes(size)));
        }
    }
    fn advance(&self, bytes: u64) {
        self.file.inc(bytes);
        self.whole.inc(bytes);
    }
    fn done(&self, path: &str, size: u64) {
        self.line(&format!("{path}: {}", BinaryBytes(size)));
    }
    fn total(&self, bytes: u64) {
        self.whole.set_length(bytes);
    }
    fn warn(&self, text: &str) {
        self.line(&format!("warning: {text}"));
    }
}
