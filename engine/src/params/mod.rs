//! Everything that can be changed while a stream runs, declared once.
//!
//! [`schema`] lists each parameter with its name, type, range, default, unit and meaning. Command
//! lines, windows, presets and network interfaces are made from that list and set parameters by
//! name ([`Params::set`]); the engine reads the fields of [`Params`].

mod value;

use std::sync::LazyLock;

use dreamglass_kernels::ops::Orientation;
use serde::Serialize;

use crate::error::EngineError;
use crate::family::Defaults;
use crate::frame::{Fit, Size};
use crate::schedule::{Sampler, StrengthRule};
use crate::settings::{DEFAULT_ETA, Settings};
pub(crate) use value::choices;
pub use value::{AUTO, Field, Kind, Value};

/// LoRAs whose weights are parameters; those past them keep the weights that they were loaded with.
pub const MAX_LORAS: usize = 4;

/// Longest prompt in bytes: hundreds of times what any text encoder reads.
pub const MAX_PROMPT_BYTES: usize = 64 << 10;

/// Characters of a wrong value that an error shows.
const LONGEST_SHOWN: usize = 60;

/// Which part of the engine a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// What the picture shows.
    Prompt,
    /// How much of the model's LoRAs there is; a single picture has them as they were loaded.
    Lora,
    /// How it is denoised.
    Sampling,
    /// Size and shape.
    Picture,
    /// How frames follow each other; without meaning for a single picture.
    Stream,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// Name, in `snake_case`.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Whether [`AUTO`] is a value too: the model or the source decides.
    pub has_auto: bool,
    /// Value where nobody says one.
    pub default: Value,
    /// Unit, empty where there is none.
    pub unit: &'static str,
    /// One sentence on what it does.
    pub doc: &'static str,
    /// Where it belongs.
    pub group: Group,
}

impl Parameter {
    /// Which LoRA's weight it is, from 0; none where it is something else. Models have the first so many.
    pub fn lora(&self) -> Option<usize> {
        let number: usize = self.name.strip_prefix("lora_")?.parse().ok()?;
        number.checked_sub(1)
    }
}

/// How the steps of one picture are spread over frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Batching {
    /// All steps of a frame at once: the least lag.
    #[default]
    Latency,
    /// One step of each of the last frames in one pass: the most frames per second.
    Throughput,
}
choices!(Batching: "latency" = Latency, "throughput" = Throughput);

/// Where guidance takes its unconditional prediction from (StreamDiffusion's residual CFG).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GuidanceMode {
    /// No guidance.
    None,
    /// The noise that would carry the source to the sample: no extra pass.
    SelfNegative,
    /// The negative prompt's prediction at the first step, carried on: one extra row.
    Initialize,
    /// The negative prompt's prediction at every step: twice the rows.
    #[default]
    Full,
}
choices!(GuidanceMode: "none" = None, "self" = SelfNegative, "initialize" = Initialize, "full" = Full);

/// How two prompts are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BlendMode {
    /// Along the line between their embeddings.
    #[default]
    Linear,
    /// Along the arc between them.
    Slerp,
}
choices!(BlendMode: "linear" = Linear, "slerp" = Slerp);

/// How a source picture is turned, clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Turn {
    /// As it comes.
    #[default]
    Upright,
    /// A quarter turn.
    Quarter,
    /// Upside down.
    Half,
    /// A quarter turn the other way.
    ThreeQuarters,
}
choices!(Turn: "0" = Upright, "90" = Quarter, "180" = Half, "270" = ThreeQuarters);

choices!(Fit: "crop" = Crop, "fit" = Fit, "stretch" = Stretch);
choices!(Sampler: "lcm" = Lcm, "euler" = Euler, "tcd" = Tcd);
choices!(StrengthRule: "lcm" = Lcm, "img2img" = Img2Img);

const UNIT: Kind = Kind::Number { min: 0.0, max: 1.0, step: 0.01 };
const BELOW_ONE: Kind = Kind::Number { min: 0.0, max: 0.99, step: 0.01 };
const LORA: Kind = Kind::Number { min: -2.0, max: 2.0, step: 0.05 };
const PROMPT: Kind = Kind::Text { max_bytes: MAX_PROMPT_BYTES };
// Whole numbers up to 2⁵³ pass through JSON unharmed.
const SEED: Kind = Kind::Whole { min: 0, max: 1 << 53 };

macro_rules! parameters {
    ($($name:ident: $type:ty = $default:expr; $kind:expr, $auto:literal, $unit:literal, $group:ident, $doc:literal;)+) => {
        /// A value for each parameter of [`schema`].
        #[derive(Debug, Clone, PartialEq)]
        pub struct Params {
            $(#[doc = $doc] pub $name: $type,)+
        }

        impl Default for Params {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        static SCHEMA: LazyLock<Vec<Parameter>> = LazyLock::new(|| {
            let defaults = Params::default();
            vec![$(Parameter {
                name: stringify!($name),
                kind: $kind,
                has_auto: $auto,
                default: defaults.$name.value(),
                unit: $unit,
                doc: $doc,
                group: Group::$group,
            },)+]
        });

        impl Params {
            /// The value of the parameter called `name`.
            pub fn get(&self, name: &str) -> Option<Value> {
                match name {
                    $(stringify!($name) => Some(self.$name.value()),)+
                    _ => None,
                }
            }
            /// Sets a field that exists, false when the value is not of its kind.
            fn put(&mut self, parameter: &Parameter, value: &Value) -> bool {
                match parameter.name {
                    $(stringify!($name) => match Field::from_value(value, &parameter.kind) {
                        Some(value) => { self.$name = value; true }
                        None => false,
                    },)+
                    _ => false,
                }
            }
        }
    };
}

parameters! {
    prompt: String = String::new(); PROMPT, false, "", Prompt,
        "What the result shows";
    negative: String = String::new(); PROMPT, false, "", Prompt,
        "What it does not show; read when guidance is above 1";
    blend_prompt: String = String::new(); PROMPT, false, "", Prompt,
        "A second prompt to mix in";
    blend: f64 = 0.0; UNIT, false, "", Prompt,
        "How much of the second prompt: 0 is the first alone, 1 the second alone";
    blend_mode: BlendMode = BlendMode::Linear; Kind::Choice { names: BlendMode::NAMES }, false, "", Prompt,
        "How prompts are mixed, also in a transition";
    transition: f64 = 0.0; Kind::Number { min: 0.0, max: 60.0, step: 0.1 }, false, "s", Prompt,
        "How long a new prompt takes to replace the old one";
    lora_1: Option<f64> = None; LORA, true, "", Lora,
        "Weight of the model's first LoRA: 1 as it was trained, 0 nothing [auto: as it was loaded]";
    lora_2: Option<f64> = None; LORA, true, "", Lora,
        "Weight of the second LoRA [auto: as it was loaded]";
    lora_3: Option<f64> = None; LORA, true, "", Lora,
        "Weight of the third LoRA [auto: as it was loaded]";
    lora_4: Option<f64> = None; LORA, true, "", Lora,
        "Weight of the fourth LoRA [auto: as it was loaded]";
    strength: Option<f64> = None; UNIT, true, "", Sampling,
        "How far the source is noised, above 0 to 1 [auto: what suits the model]";
    steps: Option<u32> = None; Kind::Whole { min: 1, max: 50 }, true, "", Sampling,
        "Denoising steps; a stream takes at most 4 [auto: what suits the model]";
    guidance: Option<f64> = None; Kind::Number { min: 0.0, max: 20.0, step: 0.1 }, true, "", Sampling,
        "How strongly the prompt is followed; 1 is no guidance [auto: what suits the model]";
    guidance_mode: GuidanceMode = GuidanceMode::Full; Kind::Choice { names: GuidanceMode::NAMES }, false, "",
        Stream, "Where guidance takes its unconditional prediction from: self is free, full costs a second pass";
    guidance_delta: f64 = 1.0; Kind::Number { min: 0.0, max: 2.0, step: 0.01 }, false, "", Stream,
        "Weight of the unconditional prediction of the guidance modes self and initialize";
    sampler: Option<Sampler> = None; Kind::Choice { names: Sampler::NAMES }, true, "", Sampling,
        "Sampler [auto: the one that the model was made for]";
    strength_rule: StrengthRule = StrengthRule::Lcm; Kind::Choice { names: StrengthRule::NAMES }, false, "",
        Sampling, "How strength chooses lcm and tcd steps: all of them within the first part of the range, or the last of a full schedule (img2img)";
    eta: f64 = DEFAULT_ETA; UNIT, false, "", Sampling,
        "How much of the noise the tcd sampler makes anew in each step";
    seed: u64 = 0; SEED, false, "", Sampling,
        "Seed of the noise: the same seed gives the same noise everywhere";
    blend_seed: u64 = 0; SEED, false, "", Sampling,
        "A second seed to mix in";
    seed_blend: f64 = 0.0; UNIT, false, "", Sampling,
        "How much of the second seed's noise";
    size: Option<Size> = None; Kind::Size, true, "px", Picture,
        "Size of the result, multiples of 8 [auto: the source's shape at the model's own size]";
    fit: Fit = Fit::Crop; Kind::Choice { names: Fit::NAMES }, false, "", Picture,
        "How a source of another shape is brought to the size: cut, whole with its edges drawn out, or stretched";
    rotate: Turn = Turn::Upright; Kind::Choice { names: Turn::NAMES }, false, "degrees", Picture,
        "How the source is turned, clockwise";
    mirror: bool = false; Kind::Flag, false, "", Picture,
        "Whether left and right change places";
    batching: Batching = Batching::Latency; Kind::Choice { names: Batching::NAMES }, false, "", Stream,
        "All steps of a frame at once (latency), or one step of each of the last frames (throughput)";
    similarity_filter: bool = false; Kind::Flag, false, "", Stream,
        "Whether frames like the last one are mostly skipped";
    similarity_threshold: f64 = 0.98; UNIT, false, "", Stream,
        "Cosine similarity above which frames are skipped, the more often the closer to 1";
    max_skip: u32 = 10; Kind::Whole { min: 0, max: 1000 }, false, "frames", Stream,
        "Most frames skipped in a row";
    feedback: f64 = 0.0; BELOW_ONE, false, "", Stream,
        "How much of the last result's latents goes into the next frame";
    smoothing: f64 = 0.0; BELOW_ONE, false, "", Stream,
        "How much of the last picture stays in the next one";
}

/// Every parameter, in the order in which people should see them.
pub fn schema() -> &'static [Parameter] {
    &SCHEMA
}

/// The parameter called `name`.
pub fn parameter(name: &str) -> Option<&'static Parameter> {
    schema().iter().find(|p| p.name == name)
}

impl Params {
    /// Sets the parameter called `name`.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] when there is none of that name or it does not take the value.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), EngineError> {
        let error = |expected: String| {
            // A prompt may be megabytes long.
            let got: String = value.to_string().chars().take(LONGEST_SHOWN).collect();
            let name = name.to_string();
            Err(EngineError::Parameter { name, expected, got })
        };
        let Some(parameter) = parameter(name) else {
            let names: Vec<_> = schema().iter().map(|p| p.name).collect();
            return error(format!("one of the names {}", names.join(", ")));
        };
        if self.put(parameter, value) {
            return Ok(());
        }
        let auto = if parameter.has_auto { format!(", or {AUTO}") } else { String::new() };
        error(format!("{}{auto}", parameter.kind))
    }
    /// Checks fields that were set directly. Texts of any length pass: the tokenizer says which it
    /// does not read, and a stream goes on with the prompt before.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] as [`Params::set`].
    pub fn check(&self) -> Result<(), EngineError> {
        let mut copy = self.clone();
        let set = |p: &Parameter| self.get(p.name).map_or(Ok(()), |value| copy.set(p.name, &value));
        schema().iter().filter(|p| !matches!(p.kind, Kind::Text { .. })).try_for_each(set)
    }
    /// The parameters that are not at their default, by name.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let changed =
            |p: &'static Parameter| self.get(p.name).filter(|v| *v != p.default).map(|v| (p.name, v));
        schema().iter().filter_map(changed)
    }
    /// Weights of the model's first LoRAs, in the order in which they were loaded; none where it was loaded with the
    /// right one.
    pub fn lora_weights(&self) -> [Option<f64>; MAX_LORAS] {
        [self.lora_1, self.lora_2, self.lora_3, self.lora_4]
    }
    /// How the source is turned.
    pub fn orientation(&self) -> Orientation {
        let quarter_turns = match self.rotate {
            Turn::Upright => 0,
            Turn::Quarter => 1,
            Turn::Half => 2,
            Turn::ThreeQuarters => 3,
        };
        Orientation { quarter_turns, mirror: self.mirror }
    }
    /// Whether the source is laid on its side.
    pub fn is_on_side(&self) -> bool {
        self.orientation().is_on_side()
    }
    /// The settings of a picture of `size`, with `defaults` where the parameters say nothing.
    pub fn settings(&self, size: Size, defaults: Defaults) -> Settings {
        Settings {
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            steps: self.steps.unwrap_or(defaults.steps),
            strength: self.strength.unwrap_or(defaults.strength),
            guidance: self.guidance.unwrap_or(defaults.guidance) as f32,
            seed: self.seed,
            size: self.size.unwrap_or(size),
            sampler: self.sampler.unwrap_or(defaults.sampler),
            strength_rule: self.strength_rule,
            eta: self.eta,
            fit: self.fit,
            orientation: self.orientation(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn every_parameter_reads_back_what_was_set() {
        let mut params = Params::default();
        for p in schema() {
            assert_eq!(params.get(p.name).as_ref(), Some(&p.default), "{}", p.name);
            let values = match p.kind {
                Kind::Number { min, max, .. } => vec![Value::Number(min), Value::Number(max)],
                Kind::Whole { min, max } => vec![Value::Whole(min), Value::Whole(max)],
                Kind::Flag => vec![Value::Flag(true), Value::Flag(false)],
                Kind::Choice { names } => names.iter().map(|n| Value::Text((*n).into())).collect(),
                Kind::Text { .. } => vec![Value::Text("an ink drawing".into())],
                Kind::Size => vec![Value::Text("640x360".into())],
            };
            for value in values {
                params.set(p.name, &value).unwrap();
                assert_eq!(params.get(p.name), Some(value.clone()), "{}", p.name);
                assert_eq!(p.kind.read(&value.to_string()), value, "{}", p.name);
            }
            let auto = params.set(p.name, &Value::Text(AUTO.into()));
            assert_eq!(auto.is_ok(), p.has_auto || matches!(p.kind, Kind::Text { .. }), "{}", p.name);
            assert!(!p.doc.is_empty() && !p.doc.ends_with('.'), "{}", p.name);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut params = Params::default();
        let text = |t: &str| Value::Text(t.into());
        let cases = [
            ("strength", Value::Number(1.5), "0..=1, or auto"),
            ("strength", Value::Number(f64::NAN), "NaN"),
            ("steps", Value::Whole(0), "1..=50"),
            ("steps", Value::Number(1.5), "whole"),
            ("steps", Value::Whole(u64::MAX), "50"),
            ("batching", text("fast"), "latency, throughput"),
            ("size", text("512"), "WIDTHxHEIGHT"),
            ("size", text("0x512"), "WIDTHxHEIGHT"),
            ("size", text("99999x8"), "8192"),
            ("mirror", text("maybe"), "true or false"),
            ("prompt", text(&"x".repeat(MAX_PROMPT_BYTES + 1)), "bytes"),
            ("strengthh", Value::Number(0.5), "strength"),
        ];
        for (name, value, expected) in cases {
            let message = params.set(name, &value).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(expected), "{message}");
        }
        assert_eq!(params, Params::default());
        let direct = Params { transition: f64::NAN, ..Params::default() };
        assert!(direct.check().unwrap_err().to_string().contains("transition"));
        assert!(Params::default().check().is_ok());
    }

    #[test]
    fn values_are_plain_in_json() {
        let json = r#"[true,4,0.5,"512x512"]"#;
        let values: Vec<Value> = serde_json::from_str(json).unwrap();
        let expected =
            [Value::Flag(true), Value::Whole(4), Value::Number(0.5), Value::Text("512x512".into())];
        assert_eq!(values, expected);
        assert_eq!(serde_json::to_string(&values).unwrap(), json);
        let mut params = Params::default();
        params.set("steps", &Value::Number(3.0)).unwrap();
        params.set("guidance", &Value::Whole(2)).unwrap();
        assert_eq!((params.steps, params.guidance), (Some(3), Some(2.0)));
    }
}
