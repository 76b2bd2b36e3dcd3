//! Which text embeddings the stream has, and how it gets from one prompt to the next.
//!
//! Texts are encoded beside the stream; a new mix takes effect between two frames, when all its
//! texts are there. Until then the old one stays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::blend::mix;
use crate::params::BlendMode;

/// Prompts whose embeddings are kept, so that going back to one costs nothing.
const KEPT: usize = 16;

/// Embeddings of one text, flattened.
pub type Embeddings = Arc<Vec<f32>>;

/// What the stream should be conditioned on.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptMix {
    /// The prompt.
    pub prompt: String,
    /// A second one, not read while `blend` is 0.
    pub second: String,
    /// Share of the second, 0 to 1.
    pub blend: f64,
    /// How they are mixed, and the old with the new in a transition.
    pub mode: BlendMode,
    /// How long other texts take to replace the old.
    pub transition: Duration,
}

impl PromptMix {
    /// One prompt at once.
    pub fn only(prompt: &str) -> Self {
        Self {
            prompt: prompt.into(),
            second: String::new(),
            blend: 0.0,
            mode: BlendMode::Linear,
            transition: Duration::ZERO,
        }
    }
    /// The texts that are read.
    fn texts(&self) -> impl Iterator<Item = &str> {
        [(&self.prompt, self.blend < 1.0), (&self.second, self.blend > 0.0)]
            .into_iter()
            .filter_map(|(text, is_read)| is_read.then_some(text.as_str()))
    }
    fn has_texts_of(&self, other: &Self) -> bool {
        self.texts().eq(other.texts())
    }
}

/// The prompts of a stream.
#[derive(Debug)]
pub struct Prompts {
    wanted: PromptMix,
    /// The mix that takes effect, as soon as all its texts were there.
    active: Option<PromptMix>,
    known: VecDeque<(String, Embeddings)>,
    /// The text that is being encoded.
    encoding: Option<String>,
    /// Texts that cannot be encoded.
    refused: Vec<String>,
    /// Where the transition came from and when it began.
    from: Option<(Embeddings, Duration)>,
    /// What was handed out last.
    current: Option<Embeddings>,
    /// Whether `current` is what `active` asks for, now and later.
    is_settled: bool,
}

impl Prompts {
    /// Prompts that want `mix` and have nothing yet.
    pub fn new(mix: PromptMix) -> Self {
        Self {
            wanted: mix,
            active: None,
            known: VecDeque::new(),
            encoding: None,
            refused: Vec::new(),
            from: None,
            current: None,
            is_settled: false,
        }
    }
    /// Wants another mix.
    pub fn set(&mut self, mix: PromptMix) {
        if mix != self.wanted {
            self.wanted = mix;
            self.refused.clear();
        }
    }
    /// The next text to encode; [`Prompts::encoded`] or [`Prompts::refused`] must follow.
    pub fn next_text(&mut self) -> Option<String> {
        if self.encoding.is_some() {
            return None;
        }
        let is_missing =
            |text: &&str| self.embeddings(text).is_none() && !self.refused.iter().any(|r| r == text);
        let text = self.wanted.texts().find(is_missing)?.to_string();
        self.encoding = Some(text.clone());
        Some(text)
    }
    /// The embeddings of the text that [`Prompts::next_text`] gave.
    pub fn encoded(&mut self, text: &str, embeddings: Vec<f32>) {
        self.encoding = None;
        self.known.retain(|(known, _)| known != text);
        self.known.push_front((text.into(), Arc::new(embeddings)));
        self.known.truncate(KEPT);
    }
    /// The text that [`Prompts::next_text`] gave cannot be encoded: the old mix stays.
    pub fn refused(&mut self, text: &str) {
        self.encoding = None;
        self.refused.push(text.into());
    }
    /// Whether there is something to be conditioned on.
    pub fn are_ready(&self) -> bool {
        self.current.is_some() || self.has_all()
    }
    /// Whether [`Prompts::next`] has something new to hand out.
    pub fn have_news(&self) -> bool {
        let is_replaced = self.active.as_ref() != Some(&self.wanted) && self.has_all();
        is_replaced || (self.active.is_some() && !self.is_settled)
    }
    /// New embeddings at `now`, none where those handed out last still hold.
    pub fn next(&mut self, now: Duration) -> Option<Embeddings> {
        if self.active.as_ref() != Some(&self.wanted) && self.has_all() {
            self.activate(now);
        }
        if self.is_settled {
            return None;
        }
        let Some(mix_now) = self.active.clone() else {
            self.is_settled = true;
            return self.current.clone();
        };
        let target = self.target(&mix_now)?;
        let progress = self.progress(&mix_now, now);
        let embeddings = match &self.from {
            Some((from, _)) if progress < 1.0 => Arc::new(mix(from, &target, progress, mix_now.mode)),
            _ => {
                self.from = None;
                self.is_settled = true;
                target
            }
        };
        self.current = Some(Arc::clone(&embeddings));
        Some(embeddings)
    }
    /// Forgets what was handed out, so that [`Prompts::next`] hands it out again.
    pub fn resend(&mut self) {
        self.is_settled = false;
    }
    /// The same, and the text that is being encoded is lost: it is asked for again.
    pub fn abandon(&mut self) {
        self.resend();
        self.encoding = None;
    }
    /// The text encoder is another: every text is asked for again. Until all are encoded, the embeddings that were
    /// handed out last hold, and [`Prompts::next`] hands them out once more.
    pub fn renew(&mut self) {
        self.abandon();
        self.known.clear();
        self.refused.clear();
        self.active = None;
    }

    fn activate(&mut self, now: Duration) {
        let keeps_texts = self.active.as_ref().is_some_and(|a| a.has_texts_of(&self.wanted));
        if !keeps_texts {
            self.from = self.current.clone().map(|current| (current, now));
        }
        self.active = Some(self.wanted.clone());
        self.is_settled = false;
    }
    fn progress(&self, mix: &PromptMix, now: Duration) -> f64 {
        match &self.from {
            Some((_, began)) if !mix.transition.is_zero() => {
                now.saturating_sub(*began).as_secs_f64() / mix.transition.as_secs_f64()
            }
            _ => 1.0,
        }
    }
    fn target(&self, wanted: &PromptMix) -> Option<Embeddings> {
        if wanted.blend <= 0.0 {
            return self.embeddings(&wanted.prompt).cloned();
        }
        let second = self.embeddings(&wanted.second)?;
        if wanted.blend >= 1.0 {
            return Some(Arc::clone(second));
        }
        Some(Arc::new(mix(self.embeddings(&wanted.prompt)?, second, wanted.blend, wanted.mode)))
    }
    fn has_all(&self) -> bool {
        self.wanted.texts().all(|text| self.embeddings(text).is_some())
    }
    fn embeddings(&self, text: &str) -> Option<&Embeddings> {
        self.known.iter().find(|(known, _)| known == text).map(|(_, e)| e)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn encode(prompts: &mut Prompts, text: &str, value: f32) {
        assert_eq!(prompts.next_text().as_deref(), Some(text));
        assert_eq!(prompts.next_text(), None);
        prompts.encoded(text, vec![value, 0.0]);
    }

    #[test]
    fn a_prompt_replaces_another_when_it_is_there() {
        let mut prompts = Prompts::new(PromptMix::only("a"));
        assert!(!prompts.are_ready() && prompts.next(SECOND).is_none());
        encode(&mut prompts, "a", 1.0);
        assert_eq!(*prompts.next(SECOND).unwrap(), [1.0, 0.0]);
        assert!(prompts.next(SECOND).is_none());
        prompts.set(PromptMix::only("b"));
        assert!(prompts.next(SECOND).is_none() && prompts.are_ready());
        encode(&mut prompts, "b", 2.0);
        assert_eq!(*prompts.next(SECOND).unwrap(), [2.0, 0.0]);
        prompts.set(PromptMix::only("a"));
        assert_eq!(prompts.next_text(), None);
        assert_eq!(*prompts.next(SECOND).unwrap(), [1.0, 0.0]);
        prompts.resend();
        assert_eq!(*prompts.next(SECOND).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn a_transition_takes_its_time_and_can_be_turned_around() {
        let mut prompts = Prompts::new(PromptMix::only("a"));
        encode(&mut prompts, "a", 0.0);
        prompts.next(SECOND).unwrap();
        let slow = |prompt: &str| PromptMix { transition: 4 * SECOND, ..PromptMix::only(prompt) };
        prompts.set(slow("b"));
        encode(&mut prompts, "b", 8.0);
        let mut at = |seconds| prompts.next(seconds * SECOND).map(|e| e[0]);
        assert_eq!([at(10), at(11), at(12)], [Some(0.0), Some(2.0), Some(4.0)]);
        prompts.set(slow("a"));
        let mut at = |seconds| prompts.next(seconds * SECOND).map(|e| e[0]);
        assert_eq!([at(12), at(14), at(16), at(17)], [Some(4.0), Some(2.0), Some(0.0), None]);
    }

    #[test]
    fn a_blend_follows_its_slider_at_once() {
        let slow =
            |blend| PromptMix { second: "b".into(), blend, transition: SECOND, ..PromptMix::only("a") };
        let mut prompts = Prompts::new(slow(0.5));
        encode(&mut prompts, "a", 0.0);
        assert!(!prompts.are_ready());
        encode(&mut prompts, "b", 8.0);
        assert_eq!(prompts.next(SECOND).unwrap()[0], 4.0);
        prompts.set(slow(0.25));
        assert_eq!(prompts.next(SECOND).unwrap()[0], 2.0);
        assert!(prompts.next(2 * SECOND).is_none());
    }

    #[test]
    fn another_text_encoder_encodes_everything_anew() {
        let mut prompts = Prompts::new(PromptMix::only("a"));
        encode(&mut prompts, "a", 1.0);
        prompts.next(SECOND).unwrap();
        prompts.renew();
        // What other weights computed from the old embeddings is needed at once, and once.
        assert_eq!(*prompts.next(SECOND).unwrap(), [1.0, 0.0]);
        assert!(prompts.next(SECOND).is_none() && prompts.are_ready());
        encode(&mut prompts, "a", 3.0);
        assert!(prompts.have_news());
        assert_eq!(*prompts.next(SECOND).unwrap(), [3.0, 0.0]);
        assert!(prompts.next(SECOND).is_none());
        // One that was being encoded is asked for again.
        prompts.set(PromptMix::only("b"));
        assert_eq!(prompts.next_text().as_deref(), Some("b"));
        prompts.renew();
        encode(&mut prompts, "b", 4.0);
        assert_eq!(*prompts.next(SECOND).unwrap(), [4.0, 0.0]);
    }

    #[test]
    fn a_text_that_cannot_be_read_changes_nothing() {
        let mut prompts = Prompts::new(PromptMix::only("a"));
        encode(&mut prompts, "a", 1.0);
        prompts.next(SECOND).unwrap();
        prompts.set(PromptMix::only("b"));
        assert_eq!(prompts.next_text().as_deref(), Some("b"));
        prompts.refused("b");
        assert!(prompts.next_text().is_none() && prompts.next(SECOND).is_none() && prompts.are_ready());
    }
}
