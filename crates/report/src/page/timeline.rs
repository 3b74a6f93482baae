//! The run that published the bundle: who was read when, where the barrier was, how fast it went.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use arkstream_format::{Component, member_names};
use arkstream_pipeline::words;

use super::{
    count, moment,
    plots::{self, Bar, class, percent},
    table, text, title,
};
use crate::{Facts, Span};

/// Height of one component in the plot, in CSS pixels.
const ROW: u32 = 42;
/// Room above the first for the barrier's name.
const HEAD: u32 = 24;
/// Room below the last for the scale.
const FOOT: u32 = 24;

/// The time that the plot covers.
struct Scale {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Scale {
    /// From the first line of the log to the moment at which the last description was written.
    fn of(facts: &Facts<'_>) -> Option<Self> {
        let from = facts.run.from?;
        let mut members = facts.manifest.members.iter().rev();
        let described = members.find(|member| member.name == member_names::METADATA);
        let ends = [facts.run.to, described.map(|member| member.modified_at)];
        let to = ends.into_iter().flatten().max()?;
        (to > from).then_some(Self { from, to })
    }

    fn length(&self) -> Duration {
        (self.to - self.from).to_std().unwrap_or_default()
    }

    /// The place of a moment, as a share of the width.
    fn share(&self, at: DateTime<Utc>) -> f64 {
        seconds(at - self.from) / self.length().as_secs_f64().max(1e-9)
    }

    /// Some four round times since the beginning.
    fn ticks(&self) -> Vec<Duration> {
        let length = self.length().as_secs_f64();
        let steps = [
            0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0,
            1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0,
        ];
        let fits = |step: &&f64| length / **step <= 5.0;
        let step = steps.iter().find(fits).copied().unwrap_or(length / 4.0);
        let last = (length / step) as u32;
        (0..=last.min(6))
            .map(|tick| Duration::from_secs_f64(step * f64::from(tick)))
            .collect()
    }
}

fn seconds(time: TimeDelta) -> f64 {
    time.num_microseconds().unwrap_or(0) as f64 / 1e6
}

pub(super) fn section(facts: &Facts<'_>) -> Markup {
    let scale = Scale::of(facts);
    html! {
        section id="run" {
            h2 { "The run" }
            @match &scale {
                Some(scale) => {
                    (plot(facts, scale))
                    (speeds(facts))
                    details {
                        summary { "The same as a table" }
                        (as_table(facts))
                    }
                }
                None => p {
                    "When each component was read is not recorded: the bundle has no log that says so."
                }
            }
            (warnings(facts))
        }
    }
}

fn plot(facts: &Facts<'_>, scale: &Scale) -> Markup {
    let spans = &facts.run.spans;
    let mut components: Vec<Component> = Vec::new();
    for span in spans {
        if !components.contains(&span.component) {
            components.push(span.component);
        }
    }
    let bottom = HEAD + ROW * u32::try_from(components.len()).unwrap_or(0);
    let words = match facts.run.barriers.last() {
        Some(at) => format!(
            "The barrier, at which all snapshots were taken, was passed after {} of {}.",
            since(scale, *at),
            words::duration(scale.length())
        ),
        None => "The log does not tell of the barrier.".into(),
    };
    html! {
        figure {
            figcaption { "When each component was read" }
            svg class="plot" width="100%" height=(bottom + FOOT) role="img"
                aria-labelledby="timeline-title timeline-text" {
                title id="timeline-title" { "When each component was read" }
                desc id="timeline-text" { (words) " The table below has every moment." }
                @for tick in scale.ticks() {
                    @let x = tick.as_secs_f64() / scale.length().as_secs_f64();
                    line x1=(percent(x)) x2=(percent(x)) y1=(HEAD) y2=(bottom) class="grid" {}
                    text x=(percent(x)) y=(bottom + 17) class={ "tick " (anchor(x)) } {
                        (words::duration(tick))
                    }
                }
                @for at in &facts.run.barriers {
                    @let x = scale.share(*at);
                    line x1=(percent(x)) x2=(percent(x)) y1="18" y2=(bottom) class="barrier" {}
                    // Earlier ones are of generations that were given up.
                    @if Some(at) == facts.run.barriers.last() {
                        text x=(percent(x)) y="13" class={ "strong " (anchor(x)) } { "barrier" }
                    }
                }
                @for (component, top) in components.iter().zip((HEAD..).step_by(ROW as usize)) {
                    text x="0" y=(top + 14) { (title(*component)) }
                    @for span in spans.iter().filter(|span| span.component == *component) {
                        (bar(facts, scale, span, top))
                    }
                }
            }
        }
        p class="note" {
            (words) " Everything that was read behind it is as of that one moment. ChromaDB's quiet files \
             are read before it, and again behind it where they changed."
        }
    }
}

fn bar(facts: &Facts<'_>, scale: &Scale, span: &Span, top: u32) -> Markup {
    let start = scale.share(span.from);
    // When work was given up is not logged; it was before the barrier was passed again.
    let again = facts.run.barriers.last().filter(|last| **last > span.from);
    let given_up = again.copied().unwrap_or(scale.to);
    let end = scale.share(span.to.unwrap_or(given_up)).max(start);
    let faint = if span.to.is_none() { "faint " } else { "" };
    html! {
        rect x=(percent(start)) width=(percent((end - start).max(0.004))) y=(top + 20) height="14" rx="3"
            class={ (faint) (class(span.component)) } {
            title { (title(span.component)) ": " (told(scale, span)) }
        }
    }
}

fn told(scale: &Scale, span: &Span) -> String {
    match span.to {
        Some(to) => format!("from {} to {}", since(scale, span.from), since(scale, to)),
        None => format!("from {}, given up and begun anew", since(scale, span.from)),
    }
}

fn since(scale: &Scale, at: DateTime<Utc>) -> String {
    words::duration((at - scale.from).to_std().unwrap_or_default())
}

/// Text at an edge of the plot must not leave it.
fn anchor(share: f64) -> &'static str {
    match share {
        share if share < 0.06 => "start",
        share if share > 0.94 => "end",
        _ => "middle",
    }
}

/// Bytes a second of each component. What was kept of an earlier run is not counted as read.
fn speeds(facts: &Facts<'_>) -> Markup {
    let rates: Vec<(&Span, f64, f64)> = Component::ALL
        .into_iter()
        .filter_map(|component| {
            let span = facts.run.completed(component)?;
            let took = seconds(span.to? - span.from);
            let read = span.read.filter(|read| *read > 0)?;
            Some((span, took, read as f64 / took.max(1e-6)))
        })
        .collect();
    let fastest = rates.iter().map(|(.., rate)| *rate).fold(1.0, f64::max);
    let bars: Vec<Bar> = rates
        .iter()
        .map(|(span, took, rate)| Bar {
            component: span.component,
            label: title(span.component).into(),
            value: format!(
                "{} in {}, {}/s",
                words::size(span.read.unwrap_or(0)),
                words::duration(Duration::from_secs_f64(took.max(0.0))),
                words::size(*rate as u64),
            ),
            outer: rate / fastest,
            inner: rate / fastest,
        })
        .collect();
    html! {
        @if !bars.is_empty() {
            (plots::bars(
                "speeds",
                "How fast it was read",
                "Bytes a second of each component, as the source gave them.",
                &bars,
            ))
        }
    }
}

fn as_table(facts: &Facts<'_>) -> Markup {
    let mut events: Vec<(DateTime<Utc>, Markup)> = Vec::new();
    for at in &facts.run.barriers {
        events.push((*at, html! { "all snapshots taken: the barrier" }));
    }
    for span in &facts.run.spans {
        events.push((span.from, html! { (title(span.component)) " begins" }));
        if let Some(to) = span.to {
            events.push((to, finished(span)));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    let rows: Vec<Markup> = events
        .iter()
        .map(|(at, what)| html! { th scope="row" { (moment(*at)) } td { (what) } })
        .collect();
    table("Moments of the run", &["UTC", "What"], &rows)
}

fn finished(span: &Span) -> Markup {
    html! {
        (title(span.component)) " is complete"
        @if let Some(read) = span.read { ", " (words::size(read)) " read" }
        @if let Some(kept) = span.kept.filter(|kept| *kept > 0) { ", " (words::size(kept)) " kept" }
    }
}

fn warnings(facts: &Facts<'_>) -> Markup {
    let run = &facts.run;
    html! {
        @if !run.warnings.is_empty() {
            h3 { "Warnings of the run" }
            ul { @for warning in &run.warnings { li { (text(warning)) } } }
            @if run.warned > run.warnings.len() as u64 {
                p class="note" {
                    "… and " (count(run.warned - run.warnings.len() as u64)) " more: "
                    code { (member_names::LOG) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_few_round_ticks_whatever_its_length() {
        for millis in [1, 400, 4_700, 61_000, 3_600_000, 200_000_000, 9_000_000_000] {
            let from = DateTime::UNIX_EPOCH;
            let to = from + TimeDelta::milliseconds(millis);
            let scale = Scale { from, to };
            let ticks = scale.ticks();
            assert!((1..=7).contains(&ticks.len()), "{millis}: {ticks:?}");
            assert!(ticks.last().unwrap() <= &scale.length());
            assert_eq!(scale.share(from), 0.0);
            assert_eq!(scale.share(to), 1.0);
        }
    }
}
