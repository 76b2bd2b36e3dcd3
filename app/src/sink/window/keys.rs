//! What keys do.

use dreamglass_engine::Params;
use winit::keyboard::{Key, NamedKey};

/// The keys, for people.
pub const HELP: &str = "1-9 0 look   ←→ strength   R new seed   S source   P panel   F full screen   \
C snapshot   V record   Space hold   M mirror   Esc Q quit";

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// The look at this place.
    Look(usize),
    /// More strength, or less.
    Strength(f64),
    /// Another seed.
    Seed,
    /// The next view of the source.
    SourceView,
    /// The panel, or none.
    Panel,
    /// Full screen, or not.
    FullScreen,
    /// A picture file.
    Snapshot,
    /// A recording, or its end.
    Record,
    /// The picture stays, or moves on.
    Hold,
    /// Left and right change places.
    Mirror,
    /// Leaves full screen, else closes.
    Leave,
    /// Closes.
    Quit,
}

/// What `key` asks for.
pub fn command(key: &Key) -> Option<Command> {
    match key {
        Key::Named(NamedKey::Escape) => Some(Command::Leave),
        Key::Named(NamedKey::F11) => Some(Command::FullScreen),
        Key::Named(NamedKey::Space) => Some(Command::Hold),
        Key::Named(NamedKey::ArrowLeft) => Some(Command::Strength(-0.05)),
        Key::Named(NamedKey::ArrowRight) => Some(Command::Strength(0.05)),
        Key::Character(text) => match text.to_lowercase().as_str() {
            "r" => Some(Command::Seed),
            "s" => Some(Command::SourceView),
            "p" => Some(Command::Panel),
            "f" => Some(Command::FullScreen),
            "c" => Some(Command::Snapshot),
            "v" => Some(Command::Record),
            "m" => Some(Command::Mirror),
            "q" => Some(Command::Quit),
            digit => digit.parse::<usize>().ok().filter(|d| *d < 10).map(|d| Command::Look((d + 9) % 10)),
        },
        _ => None,
    }
}

/// `params` after a key that changes them.
pub fn changed(params: &Params, command: Command, looks: &[(String, String)]) -> Option<Params> {
    let mut params = params.clone();
    match command {
        Command::Look(at) => params.prompt.clone_from(&looks.get(at)?.1),
        Command::Strength(by) => {
            let strength = params.strength.unwrap_or(0.5) + by;
            params.strength = Some((strength.clamp(0.05, 1.0) * 100.0).round() / 100.0);
        }
        // Any other number makes other noise; 52 bits pass through JSON unharmed.
        Command::Seed => {
            let next = params.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            params.seed = next.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 12;
        }
        Command::Mirror => params.mirror = !params.mirror,
        _ => return None,
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_choose_looks_in_the_order_of_the_keyboard() {
        let key = |text: &str| command(&Key::Character(text.into()));
        assert_eq!(key("1"), Some(Command::Look(0)));
        assert_eq!(key("0"), Some(Command::Look(9)));
        assert_eq!((key("F"), key("ä")), (Some(Command::FullScreen), None));
        let looks = [("ink".to_string(), "an ink drawing".to_string())];
        let params = Params::default();
        assert!(changed(&params, Command::Look(0), &looks).is_some_and(|p| p.prompt == "an ink drawing"));
        assert!(changed(&params, Command::Look(1), &looks).is_none());
    }

    #[test]
    fn keys_keep_parameters_in_range() {
        let mut params = Params::default();
        for _ in 0..40 {
            params = changed(&params, Command::Strength(0.05), &[]).unwrap_or_default();
        }
        assert_eq!(params.strength, Some(1.0));
        let mut seeds = std::collections::HashSet::new();
        for _ in 0..1000 {
            params = changed(&params, Command::Seed, &[]).unwrap_or_default();
            assert!(params.seed <= 1 << 53 && seeds.insert(params.seed));
        }
    }
}
