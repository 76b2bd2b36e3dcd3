//! Values of parameters, and which of them a parameter takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::{MAX_SIDE, Size};

/// The word for a value that the model or the source decides.
pub const AUTO: &str = "auto";

/// A value of any parameter. In JSON and TOML a number, a boolean or a string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A switch.
    Flag(bool),
    /// A whole number.
    Whole(u64),
    /// Any number.
    Number(f64),
    /// A text, a choice, a size such as `512x384`, or [`AUTO`].
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(v) => write!(f, "{v}"),
            Self::Whole(v) => write!(f, "{v}"),
            Self::Number(v) => write!(f, "{v}"),
            Self::Text(v) => write!(f, "{v}"),
        }
    }
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Kind {
    /// A number in `min..=max`; `step` is what one notch of a slider changes.
    Number {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// Notch.
        step: f64,
    },
    /// A whole number in `min..=max`.
    Whole {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// On or off.
    Flag,
    /// One of these words.
    Choice {
        /// The words.
        names: &'static [&'static str],
    },
    /// Text of at most so many bytes.
    Text {
        /// Longest, in bytes.
        max_bytes: usize,
    },
    /// `WIDTHxHEIGHT` in pixels, multiples of 8 (or of what the model's autoencoder asks for).
    Size,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { min, max, .. } => write!(f, "a number in {min}..={max}"),
            Self::Whole { min, max } => write!(f, "a whole number in {min}..={max}"),
            Self::Flag => write!(f, "true or false"),
            Self::Choice { names } => write!(f, "one of {}", names.join(", ")),
            Self::Text { max_bytes } => write!(f, "text of at most {max_bytes} bytes"),
            Self::Size => write!(f, "WIDTHxHEIGHT in pixels, such as 512x384, sides up to {MAX_SIDE}"),
        }
    }
}

impl Kind {
    /// Reads what a person typed; it is checked when it is set.
    pub fn read(&self, text: &str) -> Value {
        let other = || Value::Text(text.to_string());
        let word = text.trim();
        match self {
            Self::Number { .. } => word.parse().map_or_else(|_| other(), Value::Number),
            Self::Whole { .. } => word.parse().map_or_else(|_| other(), Value::Whole),
            Self::Flag => match word {
                "true" | "on" | "yes" | "1" => Value::Flag(true),
                "false" | "off" | "no" | "0" => Value::Flag(false),
                _ => other(),
            },
            Self::Choice { .. } | Self::Text { .. } | Self::Size => other(),
        }
    }
}

/// A type that a parameter's field has.
pub trait Field: Sized {
    /// The field's value.
    fn value(&self) -> Value;
    /// The field from a value, none when it is not of `kind`.
    fn from_value(value: &Value, kind: &Kind) -> Option<Self>;
}

impl Field for f64 {
    fn value(&self) -> Value {
        Value::Number(*self)
    }
    fn from_value(value: &Value, kind: &Kind) -> Option<Self> {
        let number = match value {
            Value::Number(v) => *v,
            Value::Whole(v) => *v as f64,
            _ => return None,
        };
        matches!(kind, Kind::Number { min, max, .. } if (*min..=*max).contains(&number)).then_some(number)
    }
}

impl Field for u64 {
    fn value(&self) -> Value {
        Value::Whole(*self)
    }
    fn from_value(value: &Value, kind: &Kind) -> Option<Self> {
        let number = match value {
            Value::Whole(v) => *v,
            // JSON from a browser does not tell 4 from 4.0; exact up to 2⁵³.
            Value::Number(v) if v.fract() == 0.0 && (0.0..9e15).contains(v) => *v as u64,
            _ => return None,
        };
        matches!(kind, Kind::Whole { min, max } if (*min..=*max).contains(&number)).then_some(number)
    }
}

impl Field for u32 {
    fn value(&self) -> Value {
        Value::Whole((*self).into())
    }
    fn from_value(value: &Value, kind: &Kind) -> Option<Self> {
        u64::from_value(value, kind).and_then(|v| v.try_into().ok())
    }
}

impl Field for bool {
    fn value(&self) -> Value {
        Value::Flag(*self)
    }
    fn from_value(value: &Value, _: &Kind) -> Option<Self> {
        if let Value::Flag(flag) = value { Some(*flag) } else { None }
    }
}

impl Field for String {
    fn value(&self) -> Value {
        Value::Text(self.clone())
    }
    fn from_value(value: &Value, kind: &Kind) -> Option<Self> {
        match (value, kind) {
            (Value::Text(text), Kind::Text { max_bytes }) if text.len() <= *max_bytes => Some(text.clone()),
            _ => None,
        }
    }
}

impl Field for Size {
    fn value(&self) -> Value {
        Value::Text(format!("{}x{}", self.width, self.height))
    }
    fn from_value(value: &Value, _: &Kind) -> Option<Self> {
        let Value::Text(text) = value else { return None };
        let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
        let (width, height) = text.split_once(['x', 'X'])?;
        Some(Self::new(side(width)?, side(height)?))
    }
}

impl<T: Field> Field for Option<T> {
    fn value(&self) -> Value {
        self.as_ref().map_or_else(|| Value::Text(AUTO.into()), T::value)
    }
    fn from_value(value: &Value, kind: &Kind) -> Option<Self> {
        match value {
            Value::Text(text) if text.trim().eq_ignore_ascii_case(AUTO) => Some(None),
            value => T::from_value(value, kind).map(Some),
        }
    }
}

/// Declares the words of an enum, in one place for every reader and writer.
macro_rules! choices {
    ($type:ty: $($name:literal = $variant:ident),+) => {
        impl $type {
            /// The words for every choice.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }
        impl crate::params::Field for $type {
            fn value(&self) -> crate::params::Value {
                let name = match self { $(Self::$variant => $name),+ };
                crate::params::Value::Text(name.into())
            }
            fn from_value(value: &crate::params::Value, _: &crate::params::Kind) -> Option<Self> {
                let crate::params::Value::Text(text) = value else { return None };
                match text.trim().to_lowercase().as_str() {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use choices;
