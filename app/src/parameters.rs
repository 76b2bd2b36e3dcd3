//! The engine's parameters as options of a command line.

use std::fs::File;
use std::io::Read;

use anyhow::Result;
use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use dreamglass_engine::Params;
use dreamglass_engine::params::{Group, Kind, MAX_PROMPT_BYTES, Parameter, Value, schema};

use crate::failure::bad_input;

/// Values of parameters that somebody gave, in the order of the schema.
pub type Given = Vec<(&'static str, Value)>;

/// One option for each parameter of the schema, with those of streams or without.
#[derive(Debug, Clone, Default)]
pub struct ParameterArgs<const STREAM: bool>(pub Given);

/// Whether a single picture knows nothing of it.
fn is_of_streams(parameter: &Parameter) -> bool {
    matches!(parameter.group, Group::Stream | Group::Lora)
}

fn parameters(with_stream: bool) -> impl Iterator<Item = &'static Parameter> {
    schema().iter().filter(move |p| with_stream || !is_of_streams(p))
}

/// `strength_rule` as `strength-rule`.
fn flag(parameter: &Parameter) -> String {
    parameter.name.replace('_', "-")
}

fn option(parameter: &'static Parameter) -> Arg {
    let name = match parameter.kind {
        Kind::Number { .. } => "X",
        Kind::Whole { .. } => "N",
        Kind::Flag => "on|off",
        Kind::Choice { .. } => "NAME",
        Kind::Text { .. } => "TEXT|@FILE",
        Kind::Size => "WxH",
    };
    let option = Arg::new(parameter.name)
        .long(flag(parameter))
        .value_name(name)
        .help(help(parameter))
        .help_heading(heading(parameter.group))
        .env(format!("DREAMGLASS_{}", parameter.name.to_uppercase()))
        .hide_env(true)
        .allow_hyphen_values(true)
        .value_parser(ValueParser::from(move |text: &str| read(parameter, text)));
    match parameter.kind {
        Kind::Flag => option.num_args(0..=1).default_missing_value("on").require_equals(true),
        _ => option,
    }
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Prompt => "Prompt",
        Group::Lora => "LoRAs",
        Group::Sampling => "Sampling",
        Group::Picture => "Picture",
        Group::Stream => "Stream",
    }
}

fn help(parameter: &Parameter) -> String {
    let Parameter { kind, doc, unit, default, has_auto, .. } = parameter;
    let unit = if unit.is_empty() { String::new() } else { format!(", in {unit}") };
    let range = match kind {
        Kind::Number { min, max, .. } => format!(" ({min} to {max}{unit})"),
        Kind::Whole { min, max } if *max <= 1000 => format!(" ({min} to {max}{unit})"),
        Kind::Choice { names } => format!(" ({}{unit})", names.join(", ")),
        _ => String::new(),
    };
    // What `auto` stands for is in the sentence itself, and no text is the default of texts.
    let default = match (default, has_auto) {
        (Value::Text(text), false) if text.is_empty() => String::new(),
        (_, true) => String::new(),
        (value, false) => format!(" [default: {value}]"),
    };
    format!("{doc}{range}{default}")
}

/// Reads and checks one value.
fn read(parameter: &Parameter, text: &str) -> Result<Value, String> {
    let text = match parameter.kind {
        Kind::Text { .. } => text_or_file(text).map_err(|e| format!("{e:#}"))?,
        _ => text.to_string(),
    };
    let value = parameter.kind.read(&text);
    match Params::default().set(parameter.name, &value) {
        Ok(()) => Ok(value),
        Err(_) if text.len() > MAX_PROMPT_BYTES => Err(format!(
            "the {} is {} bytes long, at most {MAX_PROMPT_BYTES} are read",
            parameter.name,
            text.len()
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// `text` itself, or the contents of FILE for `@FILE`.
fn text_or_file(text: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.into()) };
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PROMPT_BYTES as u64 + 1).read_to_end(&mut contents))
        .map_err(|e| bad_input(format!("{path}: {e}")))?;
    if contents.len() > MAX_PROMPT_BYTES {
        return Err(bad_input(format!("{path} is longer than {MAX_PROMPT_BYTES} bytes")));
    }
    String::from_utf8(contents).map_err(|_| bad_input(format!("{path} is not UTF-8 text")))
}

impl<const STREAM: bool> Args for ParameterArgs<STREAM> {
    fn augment_args(command: Command) -> Command {
        let command = command.args(parameters(STREAM).map(option));
        command.mut_arg("prompt", |prompt| prompt.conflicts_with("look"))
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const STREAM: bool> FromArgMatches for ParameterArgs<STREAM> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |p: &'static Parameter| matches.get_one::<Value>(p.name).map(|v| (p.name, v.clone()));
        Ok(Self(parameters(STREAM).filter_map(given).collect()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn parse<const STREAM: bool>(words: &[&str]) -> Result<Given, clap::Error> {
        let command = Command::new("test").arg(Arg::new("look").long("look"));
        let command = ParameterArgs::<STREAM>::augment_args(command);
        let matches = command.try_get_matches_from([&["test"], words].concat())?;
        Ok(ParameterArgs::<STREAM>::from_arg_matches(&matches)?.0)
    }

    #[test]
    fn every_parameter_has_an_option_of_its_type() {
        for parameter in schema() {
            let flag = format!("--{}", flag(parameter));
            let word = match parameter.kind {
                Kind::Flag => format!("{flag}=on"),
                _ => format!("{flag}={}", parameter.default),
            };
            let given = parse::<true>(&[&word]).unwrap();
            assert_eq!(given.len(), 1, "{word}");
            assert_eq!(parse::<false>(&[&word]).is_err(), is_of_streams(parameter), "{word}");
        }
        assert_eq!(parse::<true>(&["--mirror"]).unwrap(), [("mirror", Value::Flag(true))]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |words: &[&str]| parse::<true>(words).unwrap_err().to_string();
        assert!(message(&["--strength", "2"]).contains("0..=1"));
        assert!(message(&["--strength", "-1"]).contains("--strength"));
        assert!(message(&["--batching", "fast"]).contains("latency, throughput"));
        assert!(message(&["--prompt", "@/nonexistent"]).contains("/nonexistent"));
        assert!(message(&["--prompt", "a", "--look", "b"]).contains("--look"));
    }
}
