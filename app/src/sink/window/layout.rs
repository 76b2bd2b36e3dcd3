//! Where pictures are in a window.

use clap::ValueEnum;
use dreamglass_engine::Size;

/// Where the source is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SourceView {
    /// Nowhere.
    #[default]
    Hidden,
    /// Small, in the lower left corner of the result.
    Inset,
    /// Left of the result.
    Beside,
    /// Below the result.
    Under,
}

impl SourceView {
    /// All of them, in the order in which a key goes through.
    pub const ALL: [Self; 4] = [Self::Hidden, Self::Inset, Self::Beside, Self::Under];
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Inset => "inset",
            Self::Beside => "beside",
            Self::Under => "under",
        }
    }
    /// The one after it.
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|v| *v == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// A rectangle in pixels: `[x, y, width, height]`.
pub type Rect = [f32; 4];

/// Side of an inset in sides of the result.
const INSET: f32 = 0.28;

/// The largest rectangle of the shape of `size` in the middle of `area`.
fn fit(area: Rect, size: Size) -> Rect {
    let [x, y, width, height] = area;
    let scale = (width / size.width.max(1) as f32).min(height / size.height.max(1) as f32).max(0.0);
    let [w, h] = [size.width as f32 * scale, size.height as f32 * scale];
    [x + (width - w) / 2.0, y + (height - h) / 2.0, w, h]
}

/// Places of the result and of the source in `area`.
pub fn places(area: Rect, view: SourceView, result: Size, source: Size) -> (Rect, Option<Rect>) {
    let [x, y, width, height] = area;
    match view {
        SourceView::Hidden => (fit(area, result), None),
        SourceView::Inset => {
            let [rx, ry, rw, rh] = fit(area, result);
            let [_, _, w, h] = fit([0.0, 0.0, rw * INSET, rh * INSET], source);
            let margin = rw.min(rh) * 0.02;
            ([rx, ry, rw, rh], Some([rx + margin, ry + rh - margin - h, w, h]))
        }
        SourceView::Beside => {
            let half = width / 2.0;
            (fit([x + half, y, half, height], result), Some(fit([x, y, half, height], source)))
        }
        SourceView::Under => {
            let half = height / 2.0;
            (fit([x, y, width, half], result), Some(fit([x, y + half, width, half], source)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Rect = [10.0, 0.0, 800.0, 400.0];

    #[test]
    fn pictures_keep_their_shape_and_stay_inside() {
        let (result, source) = (Size::new(512, 512), Size::new(640, 360));
        for view in SourceView::ALL {
            let (at, other) = places(AREA, view, result, source);
            assert!((at[2] / at[3] - 1.0).abs() < 1e-4, "{view:?}");
            assert_eq!(other.is_some(), view != SourceView::Hidden);
            for [x, y, w, h] in [Some(at), other].into_iter().flatten() {
                assert!(x >= 10.0 && y >= 0.0 && x + w <= 810.01 && y + h <= 400.01, "{view:?}");
            }
            if let Some([_, _, w, h]) = other {
                assert!((w / h - 640.0 / 360.0).abs() < 1e-3, "{view:?}");
            }
        }
    }

    #[test]
    fn a_key_goes_through_all_views() {
        let views = std::iter::successors(Some(SourceView::Hidden), |view| Some(view.next()));
        let seen: Vec<SourceView> = views.take(5).collect();
        assert_eq!(seen[..4], SourceView::ALL);
        assert_eq!(seen[4], SourceView::Hidden);
    }
}
