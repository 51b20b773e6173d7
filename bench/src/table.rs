//! Tables for reading: they are Markdown, so that they can be pasted into a page as they are.

use std::fmt::Write as _;

use crate::report::{Better, Document, Figure, Outcome};

const COLUMNS: [&str; 10] = [
    "scenario",
    "per second",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "max ms",
    "errors",
    "CPU ms each",
    "MiB",
    "own CPU",
];

/// The result of a run: one table, then what only some scenarios have, then what is wrong.
pub(crate) fn result(document: &Document) -> String {
    let mut text = format!("{} ({})\n\n", document.label, document.machine());
    let rows = document.outcomes.iter().map(row).collect();
    text.push_str(&markdown(COLUMNS, rows));
    for outcome in &document.outcomes {
        let name = outcome.scenario.as_str();
        if !outcome.figures.is_empty() {
            let figures: Vec<String> = outcome.figures.iter().map(words).collect();
            let _ = write!(text, "\n{name}: {}", figures.join("; "));
        }
        for (kind, count) in &outcome.errors {
            let _ = write!(text, "\n{name}: ERROR {kind}, {count} times");
        }
        for problem in &outcome.problems {
            let _ = write!(text, "\n{name}: PROBLEM {problem}");
        }
        for doubt in &outcome.doubts {
            let _ = write!(text, "\n{name}: NOTE {doubt}");
        }
    }
    text.push('\n');
    text
}

/// How many times better each number of `new` is than that of `old`, for the scenarios that both have.
pub(crate) fn comparison(new: &Document, old: &Document) -> String {
    let mut rows = Vec::new();
    let mut notes = String::new();
    if !new.is_of_same_machine(old) {
        let _ = write!(
            notes,
            "\nmeasured on different machines: {}; {}",
            new.machine(),
            old.machine()
        );
    }
    for outcome in &new.outcomes {
        let same = |other: &&Outcome| other.scenario == outcome.scenario;
        let Some(other) = old.outcomes.iter().find(same) else {
            continue;
        };
        if outcome.parameters != other.parameters {
            let name = outcome.scenario.as_str();
            let _ = write!(
                notes,
                "\n{name}: not run with the same parameters, so the ratios mean little"
            );
        }
        let others = other.all_figures();
        for figure in outcome.all_figures() {
            if let Some(other) = others.iter().find(|other| other.name == figure.name) {
                rows.push(comparison_row(outcome.scenario.as_str(), &figure, other));
            }
        }
    }
    if rows.is_empty() {
        return "no scenario was run in both results, so there is nothing to compare\n".to_owned();
    }
    let columns = ["scenario", "", &new.label, &old.label, ""];
    format!("{}{notes}\n", markdown(columns, rows))
}

fn comparison_row(scenario: &str, figure: &Figure, other: &Figure) -> [String; 5] {
    let value = |figure: &Figure| {
        format!("{} {}", number(figure.value), figure.unit)
            .trim_end()
            .to_owned()
    };
    [
        scenario.to_owned(),
        figure.name.clone(),
        value(figure),
        value(other),
        verdict(figure, other.value),
    ]
}

/// By which factor a figure is better or worse than another value of it.
fn verdict(figure: &Figure, other: f64) -> String {
    if figure.value <= 0.0 || other <= 0.0 {
        return String::new();
    }
    let ratio = match figure.better {
        Some(Better::More) => figure.value / other,
        Some(Better::Less) => other / figure.value,
        None => return String::new(),
    };
    if ratio >= 1.0 {
        format!("{}x better", factor(ratio))
    } else {
        format!("{}x worse", factor(1.0 / ratio))
    }
}

fn factor(ratio: f64) -> String {
    if ratio < 9.95 {
        format!("{ratio:.1}")
    } else {
        format!("{ratio:.0}")
    }
}

fn row(outcome: &Outcome) -> [String; 10] {
    let some = |value: Option<f64>| value.map_or("-".to_owned(), number);
    let latency = outcome.latency;
    [
        outcome.scenario.as_str().to_owned(),
        some(outcome.rate_per_second),
        some(latency.map(|latency| latency.p50_ms)),
        some(latency.map(|latency| latency.p90_ms)),
        some(latency.map(|latency| latency.p99_ms)),
        some(latency.map(|latency| latency.max_ms)),
        outcome.error_count().to_string(),
        some(outcome.cpu_ms_per_operation),
        some(outcome.memory.map(crate::process::Memory::mib)),
        format!("{:.0}%", outcome.own_cpu_percent),
    ]
}

fn words(figure: &Figure) -> String {
    format!("{} {} {}", figure.name, number(figure.value), figure.unit)
        .trim_end()
        .to_owned()
}

/// About three significant digits, and thousands separated.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        return thousands(value);
    }
    let decimals = match size {
        0.0 => 0,
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    // A whole number, such as a count, needs no decimals.
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.decimals$}")
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table whose first column is text and whose others are aligned to the right.
fn markdown<const N: usize>(columns: [&str; N], rows: Vec<[String; N]>) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([columns[column].chars().count(), 3])
            .max()
            .unwrap_or(3)
    });
    let line = |cells: [&str; N]| {
        let padded: [String; N] = std::array::from_fn(|column| {
            let (cell, width) = (cells[column], widths[column]);
            if column == 0 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        format!("| {} |\n", padded.join(" | "))
    };
    let rule: [String; N] = std::array::from_fn(|column| {
        let dashes = "-".repeat(widths[column] - 1);
        if column == 0 {
            format!("{dashes}-")
        } else {
            format!("{dashes}:")
        }
    });
    let mut text = line(columns) + &line(rule.each_ref().map(String::as_str));
    for row in &rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options::Name, report::tests::outcome};

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [
            0.0,
            0.0124,
            1.234,
            12.34,
            123.4,
            12_345.6,
            1_234_567.0,
            7.0,
            -2048.0,
        ]
        .map(number);
        assert_eq!(
            shown,
            [
                "0",
                "0.012",
                "1.23",
                "12.3",
                "123",
                "12,346",
                "1,234,567",
                "7",
                "-2,048"
            ]
        );
    }

    #[test]
    fn a_higher_rate_and_a_lower_latency_are_better() {
        assert_eq!(
            verdict(&Figure::more("rate", 500.0, "/s"), 100.0),
            "5.0x better"
        );
        assert_eq!(
            verdict(&Figure::less("p50", 30.0, "ms"), 10.0),
            "3.0x worse"
        );
        assert_eq!(
            verdict(&Figure::less("memory", 1.0, "MiB"), 25.4),
            "25x better"
        );
        assert_eq!(verdict(&Figure::less("missed", 0.0, ""), 3.0), "");
    }

    #[test]
    fn the_table_shows_errors_and_problems() {
        let mut bad = outcome(Name::LongPoll, 1000.0);
        bad.errors.insert("timeout".to_owned(), 2);
        bad.problems.push("3 messages were missed".to_owned());
        let text = result(&Document::new("A".to_owned(), vec![bad]));
        let start = "| long-poll |      1,000 |      1 |      2 |      4 |      8 |      2 |       0.500 |  32 |     20% |\n";
        assert!(text.contains(start), "{text}");
        assert!(
            text.contains("\nlong-poll: ERROR timeout, 2 times\n"),
            "{text}"
        );
        assert!(
            text.contains("\nlong-poll: PROBLEM 3 messages were missed\n"),
            "{text}"
        );
    }

    #[test]
    fn only_scenarios_of_both_results_are_compared() {
        let new = Document::new(
            "new".to_owned(),
            vec![outcome(Name::Join, 80.0), outcome(Name::Idle, 1.0)],
        );
        let mut other = outcome(Name::Join, 10.0);
        let old = Document::new("old".to_owned(), vec![other.clone()]);
        let text = comparison(&new, &old);
        assert!(
            text.contains("80 /s") && text.contains("8.0x better"),
            "{text}"
        );
        assert!(
            !text.contains("idle") && !text.contains("same parameters"),
            "{text}"
        );

        other.parameters.clear();
        let text = comparison(&new, &Document::new("old".to_owned(), vec![other]));
        assert!(
            text.contains("join: not run with the same parameters"),
            "{text}"
        );
    }

    #[test]
    fn nothing_in_common_is_said_so() {
        let new = Document::new("new".to_owned(), vec![outcome(Name::Join, 80.0)]);
        let old = Document::new("old".to_owned(), Vec::new());
        assert!(comparison(&new, &old).starts_with("no scenario"));
    }
}
