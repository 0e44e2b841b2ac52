//! Where words, numbers and progress go: results to standard output, everything else to standard error.

use std::{
    cell::Cell,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Without a terminal, a line of progress at most so often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// What the user asked to see.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    is_quiet: bool,
    is_json: bool,
}

impl Output {
    pub fn new(is_quiet: bool, is_json: bool) -> Self {
        Self { is_quiet, is_json }
    }

    /// Prints the result: the JSON when it is asked for, the text otherwise.
    pub fn result(self, text: &str, json: &impl serde::Serialize) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.is_json {
            serde_json::to_writer_pretty(&mut out, json)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    /// A remark that is no part of the result.
    pub fn note(self, text: &str) {
        if !self.is_quiet {
            eprintln!("{text}");
        }
    }

    /// Progress of something with this much work, `None` when nobody knows.
    pub fn progress(self, work: Option<f64>) -> Progress {
        Progress::new(self.is_quiet, work)
    }
}

/// A bar with the time left on a terminal, plain lines elsewhere, nothing when quiet.
pub struct Progress {
    shown: Shown,
    work: Option<f64>,
    done: Cell<f64>,
    start: Instant,
    last: Cell<Option<Instant>>,
}

enum Shown {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

/// The bar counts in whole numbers; work is a number of any size.
const BAR_LENGTH: f64 = 10_000.0;

impl Progress {
    fn new(is_quiet: bool, work: Option<f64>) -> Self {
        let shown = if is_quiet {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Bar(bar(work.is_some()))
        } else {
            Shown::Lines
        };
        Self { shown, work, done: Cell::new(0.0), start: Instant::now(), last: Cell::new(None) }
    }

    /// The work is done up to here, and this is where it stands.
    pub fn set(&self, done: f64, words: impl FnOnce() -> String) {
        self.done.set(done);
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                if let Some(work) = self.work {
                    bar.set_position((BAR_LENGTH * (done / work).clamp(0.0, 1.0)) as u64);
                }
                bar.set_message(words());
            }
            Shown::Lines => {
                if self.last.get().is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL) {
                    self.last.set(Some(Instant::now()));
                    eprintln!("{}{}", self.share(), words());
                }
            }
        }
    }

    /// So much more is done.
    pub fn advance(&self, more: f64, words: impl FnOnce() -> String) {
        self.set(self.done.get() + more, words);
    }

    /// `12 % (3 min left) `, as far as it is known.
    fn share(&self) -> String {
        let Some(work) = self.work else { return String::new() };
        let share = (self.done.get() / work).clamp(0.0, 1.0);
        if share <= 0.0 {
            return "  0 % ".into();
        }
        let left = self.start.elapsed().mul_f64((1.0 - share) / share);
        format!("{:3.0} % ({} left) ", 100.0 * share, duration(left))
    }

    /// A line that stays, above the bar.
    pub fn line(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.println(text),
            Shown::Lines => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(is_length_known: bool) -> ProgressBar {
    let template = if is_length_known {
        "{bar:16} {percent:>3} %  {elapsed}, {left} left  {wide_msg}"
    } else {
        "{spinner} {elapsed}  {wide_msg}"
    };
    let left = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let share = f64::from(state.fraction());
        // Nothing can be said of the rest before a first part is done.
        let _ = match (share > 0.0).then(|| state.elapsed().mul_f64((1.0 - share) / share)) {
            Some(left) => write!(text, "{}", duration(left)),
            None => write!(text, "?"),
        };
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("left", left);
    let bar = if is_length_known { ProgressBar::new(BAR_LENGTH as u64) } else { ProgressBar::new_spinner() };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar
}

/// A time span as people say it.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", 1e3 * seconds)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else if seconds < 6_000.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3_600.0)
    }
}

/// A number of bytes as people say it.
pub fn bytes(count: f64) -> String {
    let (unit, name) = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
        .into_iter()
        .find(|(unit, _)| count >= *unit)
        .unwrap_or((1.0, "bytes"));
    let number = count / unit;
    let digits = usize::from(unit > 1.0 && number < 100.0);
    format!("{number:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_the_unit_that_people_would_use() {
        let say = |seconds| duration(Duration::from_secs_f64(seconds));
        assert_eq!(say(0.0314), "31 ms");
        assert_eq!(say(12.34), "12.3 s");
        assert_eq!(say(600.0), "10 min");
        assert_eq!(say(9_000.0), "2.5 h");
    }

    #[test]
    fn sizes_are_said_in_the_unit_that_people_would_use() {
        assert_eq!(bytes(512.0), "512 bytes");
        assert_eq!(bytes(32e6), "32.0 MB");
        assert_eq!(bytes(1.5e9), "1.5 GB");
    }
}
