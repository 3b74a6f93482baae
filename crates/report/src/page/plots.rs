//! Plots: SVG with coordinates in percent, which need no script and no style of their own.

use maud::{Markup, html};

use arkstream_format::Component;

/// One bar that is read from its left end.
pub(super) struct Bar {
    /// What it is about.
    pub(super) component: Component,
    /// What stands above it, left.
    pub(super) label: String,
    /// What stands above it, right.
    pub(super) value: String,
    /// Its length, and the length of the stronger bar in it; both as a share of the plot, 0 to 1.
    pub(super) outer: f64,
    /// See `outer`.
    pub(super) inner: f64,
}

/// Height of one bar with its line of text, in CSS pixels.
const ROW: u32 = 46;

/// Bars below one another. `title` and `description` are for those who do not see them.
pub(super) fn bars(id: &str, title: &str, description: &str, bars: &[Bar]) -> Markup {
    let height = ROW * u32::try_from(bars.len()).unwrap_or(u32::MAX / ROW);
    html! {
        figure {
            figcaption { (title) }
            svg class="plot" width="100%" height=(height) role="img"
                aria-labelledby={ (id) "-title " (id) "-text" } {
                title id={ (id) "-title" } { (title) }
                desc id={ (id) "-text" } { (description) }
                @for (bar, top) in bars.iter().zip((0..).step_by(ROW as usize)) {
                    text x="0" y=(top + 15) { (bar.label) }
                    text x="100%" y=(top + 15) class="end" { (bar.value) }
                    rect x="0" y=(top + 22) width="100%" height="14" rx="3" class="track" {}
                    rect x="0" y=(top + 22) width=(percent(bar.outer)) height="14" rx="3"
                        class={ "faint " (class(bar.component)) } {}
                    rect x="0" y=(top + 22) width=(percent(bar.inner)) height="14" rx="3"
                        class=(class(bar.component)) {}
                }
            }
        }
    }
}

/// A part of a whole.
pub(super) struct Piece {
    /// The class that colours it.
    pub(super) class: &'static str,
    /// What it is.
    pub(super) label: String,
    /// How much it is, in words.
    pub(super) value: String,
    /// How much it is.
    pub(super) weight: u64,
}

/// One bar made of pieces, with its legend.
pub(super) fn stacked(id: &str, title: &str, pieces: &[Piece]) -> Markup {
    let all = pieces.iter().map(|piece| piece.weight).sum::<u64>().max(1) as f64;
    let mut at = 0.0;
    let placed: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let (start, width) = (at, piece.weight as f64 / all);
            at += width;
            (piece, start, width)
        })
        .collect();
    let words: Vec<String> = pieces
        .iter()
        .map(|piece| format!("{}: {}", piece.label, piece.value))
        .collect();
    html! {
        figure {
            figcaption { (title) }
            svg class="plot" width="100%" height="28" role="img"
                aria-labelledby={ (id) "-title " (id) "-text" } {
                title id={ (id) "-title" } { (title) }
                desc id={ (id) "-text" } { (words.join("; ")) "." }
                rect x="0" y="0" width="100%" height="28" rx="4" class="track" {}
                @for (piece, start, width) in &placed {
                    rect x=(percent(*start)) y="0" width=(percent(*width)) height="28"
                        class={ "piece " (piece.class) } {}
                }
            }
            ul class="legend" {
                @for piece in pieces {
                    li {
                        svg width="12" height="12" aria-hidden="true" {
                            rect width="12" height="12" rx="3" class=(piece.class) {}
                        }
                        span { (piece.label) " " b { (piece.value) } }
                    }
                }
            }
        }
    }
}

/// A share of the plot's width as a coordinate.
pub(super) fn percent(share: f64) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    format!("{:.2}%", share * 100.0)
}

/// The class that colours a component.
pub(super) fn class(component: Component) -> &'static str {
    match component {
        Component::Models => "c-models",
        Component::Filestore => "c-filestore",
        Component::Graph => "c-graph",
        Component::Chroma => "c-chroma",
        Component::OdooDump => "c-odoo-dump",
        Component::Xlsx => "c-xlsx",
        Component::Description => "c-description",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_stay_within_the_plot() {
        assert_eq!(percent(0.12345), "12.35%");
        assert_eq!(percent(7.0), "100.00%");
        assert_eq!(percent(-1.0), "0.00%");
        assert_eq!(percent(f64::NAN), "0.00%");
        assert_eq!(percent(f64::INFINITY), "0.00%");
    }

    #[test]
    fn pieces_fill_the_bar_whatever_they_weigh() {
        let piece = |weight| Piece {
            class: "c-models",
            label: "<a>".into(),
            value: "1".into(),
            weight,
        };
        let bar = stacked("x", "t", &[piece(1), piece(3)]).into_string();
        assert!(
            bar.contains("x=\"25.00%\" y=\"0\" width=\"75.00%\""),
            "{bar}"
        );
        assert!(bar.contains("&lt;a&gt;") && !bar.contains("<a>"));
        let empty = stacked("x", "t", &[piece(0)]).into_string();
        assert!(empty.contains("width=\"0.00%\""));
    }
}
