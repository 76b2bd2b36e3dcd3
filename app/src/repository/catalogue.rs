//! Short names of published models, and what their licences allow.

use super::name::Name;

/// A published model that has a short name.
#[derive(Debug, PartialEq, Eq)]
pub struct ShortName {
    /// What it is called here.
    pub short: &'static str,
    /// Its repository.
    pub repository: &'static str,
    /// The one file of it that is meant.
    pub file: Option<&'static str>,
    /// What it is.
    pub about: &'static str,
    /// Its licence, and what to know about that.
    pub licence: &'static str,
    /// Whether the licence restricts use.
    pub is_restricted: bool,
}

impl ShortName {
    /// The name that it stands for.
    pub fn name(&self) -> Name {
        let (repository, file) = (self.repository.into(), self.file.map(String::from));
        Name { repository, revision: None, file, short: short(self.short) }
    }
}

/// OpenRAIL licences differ in their names; their attachment A is the same.
const RAIL: &str = "an OpenRAIL licence: its attachment A excludes uses that are unlawful, harm people or deceive them, \
                    and whoever hands on the model, or one made from it, hands that on; commercial use is allowed \
                    within it";
/// What Stability AI asks since July 2024; sd-turbo was under a non-commercial research licence before.
const STABILITY: &str = "Stability AI Community License: research, non-commercial use, and commercial use by those with a \
                         yearly revenue below 1 million US dollars who register with Stability AI; others need an \
                         enterprise licence";

/// Every short name. Licences are those of the models' cards when this was written; what the hub says is shown beside
/// them when a model is pulled.
pub const SHORT_NAMES: &[ShortName] = &[
    ShortName {
        short: "sd-turbo",
        repository: "stabilityai/sd-turbo",
        file: None,
        about: "SD 2.1 distilled to 1 to 4 steps",
        licence: STABILITY,
        is_restricted: true,
    },
    ShortName {
        short: "lcm-dreamshaper",
        repository: "SimianLuo/LCM_Dreamshaper_v7",
        file: None,
        about: "SD 1.5 as a latent consistency model, 1 to 8 steps",
        licence: "MIT by its card; made from Dreamshaper, which is under an OpenRAIL licence that restricts use",
        is_restricted: true,
    },
    ShortName {
        short: "sdxs",
        repository: "IDKiro/sdxs-512-0.9",
        file: None,
        about: "a small UNet on SD 2.1's text encoder, 1 step",
        licence: RAIL,
        is_restricted: true,
    },
    ShortName {
        short: "sdxs-dreamshaper",
        repository: "IDKiro/sdxs-512-dreamshaper",
        file: None,
        about: "a small UNet on SD 1.5's text encoder, 1 step",
        licence: RAIL,
        is_restricted: true,
    },
    ShortName {
        short: "tiny-sd",
        repository: "segmind/tiny-sd",
        file: None,
        about: "SD 1.5 with 45 % of its UNet, not distilled in steps",
        licence: RAIL,
        is_restricted: true,
    },
    ShortName {
        short: "small-sd",
        repository: "segmind/small-sd",
        file: None,
        about: "SD 1.5 with 65 % of its UNet, not distilled in steps",
        licence: RAIL,
        is_restricted: true,
    },
    ShortName {
        short: "bk-sdm-small",
        repository: "nota-ai/bk-sdm-small",
        file: None,
        about: "SD 1.4 with blocks left out, not distilled in steps",
        licence: RAIL,
        is_restricted: true,
    },
    ShortName {
        short: "taesd",
        repository: "madebyollin/taesd",
        file: None,
        about: "a tiny autoencoder for SD 1.x and 2.x, for --vae",
        licence: "MIT",
        is_restricted: false,
    },
    ShortName {
        short: "lcm-lora-sd15",
        repository: "latent-consistency/lcm-lora-sdv1-5",
        file: None,
        about: "makes SD 1.5 and its fine-tunes latent consistency models, for --lora",
        licence: RAIL,
        is_restricted: true,
    },
    ShortName {
        short: "hyper-sd",
        repository: "ByteDance/Hyper-SD",
        file: Some("Hyper-SD15-1step-lora.safetensors"),
        about: "Hyper-SD's LoRA for SD 1.5, 1 to 8 steps with the tcd sampler, for --lora",
        licence: "its card names no licence: all rights may be reserved",
        is_restricted: true,
    },
];

/// The model with that short name.
pub fn short(name: &str) -> Option<&'static ShortName> {
    SHORT_NAMES.iter().find(|short| short.short.eq_ignore_ascii_case(name))
}

/// Licences, as the hub writes them, that ask for no more than to be handed on with the work.
const PERMISSIVE: [&str; 14] = [
    "apache-2.0",
    "mit",
    "mit-0",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "zlib",
    "unlicense",
    "wtfpl",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-3.0",
    "pddl",
];

/// What is said about a model's licence, and whether it has to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What its card says, as the hub writes it; none where it says nothing.
    pub card: Option<String>,
    /// Where its text is, as the card says.
    pub link: Option<String>,
    /// What is known here.
    pub note: Option<&'static str>,
    /// Whether use is restricted, or may be.
    pub is_restricted: bool,
}

/// The terms of `name` whose card says `card`. What nobody says is taken as restricted.
pub fn terms(name: &Name, card: Option<String>, link: Option<String>) -> Terms {
    let known = name.known();
    let is_permissive = card.as_deref().is_some_and(|card| PERMISSIVE.contains(&card));
    let is_restricted = !is_permissive || known.is_some_and(|known| known.is_restricted);
    Terms { card, link, note: known.map(|known| known.licence), is_restricted }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn short_names_stand_for_names_that_can_be_read() {
        for known in SHORT_NAMES {
            let written = known.name().to_string();
            let read: Name = written.parse().unwrap();
            assert_eq!(Name { short: None, ..known.name() }, read, "{written}");
            assert_eq!(known.short.parse::<Name>().unwrap().short, Some(known));
            assert!(!known.short.contains('/') && !known.licence.is_empty());
        }
    }

    #[test]
    fn only_known_permissive_licences_need_no_yes() {
        let of = |name: &str, card: Option<&str>| terms(&name.parse().unwrap(), card.map(String::from), None);
        assert!(!of("a/b", Some("mit")).is_restricted && !of("taesd", Some("mit")).is_restricted);
        assert!(of("a/b", None).is_restricted && of("a/b", Some("other")).is_restricted);
        // A card that became permissive does not lift what is known of the model.
        assert!(of("lcm-dreamshaper", Some("mit")).is_restricted);
        assert!(of("stabilityai/sd-turbo", Some("other")).note.unwrap().contains("Stability"));
    }
}
