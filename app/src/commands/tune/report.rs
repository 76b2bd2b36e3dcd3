//! What tuning found, as text.

use std::fmt::Write as _;
use std::path::Path;

use dreamglass_engine::kernels::choice::Tuning;

use super::Found;
use super::frames::Verdict;

/// Classes that are listed, those that take the most of a frame first.
const LISTED: usize = 20;

/// A line for each of the largest classes, and the verdict of whole frames.
pub fn text(found: &[Found], tuning: &Tuning, verdict: Option<&Verdict>, saved: Option<&Path>) -> String {
    let mut text = String::new();
    let mut sorted: Vec<&Found> = found.iter().collect();
    sorted.sort_by(|a, b| b.share_ms().total_cmp(&a.share_ms()));
    // Writing to a string does not fail.
    let _ = writeln!(text, "{:>9} {:>5}  {:<28} class", "ms", "gain", "chosen");
    for entry in sorted.iter().take(LISTED) {
        let (best, ms) = entry.outcome.ranked(0).unwrap_or(("none", 0.0));
        let guess = entry.outcome.first_guess_ms().unwrap_or(ms);
        let chosen = tuning.get(entry.job.class()).unwrap_or_else(|| guess_of(entry));
        let mark = if chosen == best { "" } else { " (in frames)" };
        let gain = if ms > 0.0 { guess / ms } else { 1.0 };
        let chosen = format!("{chosen}{mark}");
        let count = entry.job.count;
        let _ = writeln!(text, "{ms:>9.3} {gain:>5.2}  {chosen:<28} {count} x {}", entry.job.class());
    }
    if sorted.len() > LISTED {
        let _ = writeln!(text, "and {} classes that take less", sorted.len() - LISTED);
    }
    let changed = found.iter().filter(|f| tuning.get(f.job.class()).is_some_and(|c| c != guess_of(f)));
    let _ = writeln!(text, "{} of {} classes have another kernel than by rule", changed.count(), found.len());
    match verdict {
        Some(Verdict { before_ms, after_ms }) => {
            let ratio = before_ms / after_ms;
            let _ = writeln!(
                text,
                "a frame: {before_ms:.2} ms by rule, {after_ms:.2} ms tuned, {ratio:.2} times as fast"
            );
        }
        None => text += "ended before whole frames were compared\n",
    }
    match saved {
        Some(path) => {
            let _ = writeln!(text, "kept in {}", path.display());
        }
        None => text += "nothing is kept\n",
    }
    text
}

fn guess_of(found: &Found) -> &str {
    found.job.candidates().next().unwrap_or("")
}
