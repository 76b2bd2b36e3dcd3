//! The stochastic similarity filter: frames like the last one are mostly skipped.
//!
//! `p = max(0, 1 − (1 − c)/(1 − η))` of the cosine similarity c; a frame is processed if `p < u`
//! with u uniform in (0, 1] (StreamDiffusion, arXiv 2312.12491), or after `max_skip` skips in a row.

use super::noise::uniform;

/// Settings of the filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FilterSettings {
    /// η: similarity above which frames are skipped at all; at 1 or more none is.
    pub threshold: f64,
    /// Most skips in a row.
    pub max_skip: u32,
}

/// The filter's state.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    skipped: u32,
    drawn: u64,
}

impl Filter {
    /// Probability of skipping a frame of similarity `c`.
    pub fn skip_probability(threshold: f64, c: f64) -> f64 {
        if threshold >= 1.0 || c.is_nan() {
            return 0.0;
        }
        (1.0 - (1.0 - c) / (1.0 - threshold)).clamp(0.0, 1.0)
    }
    /// Whether a frame of cosine similarity `c` to the last processed one is processed.
    pub fn admits(&mut self, settings: FilterSettings, c: f64) -> bool {
        let u = uniform(0, self.drawn);
        self.drawn += 1;
        let admits = self.skipped >= settings.max_skip || Self::skip_probability(settings.threshold, c) < u;
        if admits {
            self.processed();
        } else {
            self.skipped += 1;
        }
        admits
    }
    /// A frame was processed: skips are counted anew.
    pub fn processed(&mut self) {
        self.skipped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: FilterSettings = FilterSettings { threshold: 0.98, max_skip: 10 };

    #[test]
    fn a_still_picture_is_processed_once_in_eleven_frames() {
        let mut filter = Filter::default();
        let processed = (0..1100).filter(|_| filter.admits(SETTINGS, 1.0)).count();
        // u is 1 with probability 2⁻⁵³ only, so p = 1 always skips.
        assert_eq!(processed, 100);
    }

    #[test]
    fn frames_below_the_threshold_all_pass_and_the_share_follows_the_formula() {
        let mut filter = Filter::default();
        assert!((0..1000).all(|_| filter.admits(SETTINGS, 0.98) && filter.admits(SETTINGS, -1.0)));
        let free = FilterSettings { max_skip: u32::MAX, ..SETTINGS };
        let processed = (0..10_000).filter(|_| filter.admits(free, 0.99)).count();
        // p is a half; five standard errors are 250.
        assert!((4750..=5250).contains(&processed), "{processed}");
        let off = FilterSettings { threshold: 1.0, max_skip: 10 };
        assert!((0..100).all(|_| filter.admits(off, 1.0) && filter.admits(SETTINGS, f64::NAN)));
    }
}
