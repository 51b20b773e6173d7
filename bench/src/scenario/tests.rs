//! The scenarios against a server whose faults are known.

use std::collections::BTreeMap;

use clap::ValueEnum as _;

use super::run;
use crate::{
    fake::{self, Fault},
    options::Name,
    report::Outcome,
};

const LONG_POLL: &str = "--pollers 3 --poll-messages 4";

async fn outcome(name: Name, fault: Fault, arguments: &str) -> Outcome {
    run(&fake::bench(fault, arguments).await, name)
        .await
        .unwrap()
}

fn figure(outcome: &Outcome, name: &str) -> f64 {
    outcome
        .figures
        .iter()
        .find(|figure| figure.name == name)
        .unwrap()
        .value
}

#[tokio::test]
async fn every_scenario_finds_nothing_wrong_with_a_server_that_does_right() {
    let itself = std::process::id();
    let small = format!(
        "{LONG_POLL} --senders 3 --one-room-senders 2 --history 25 --page 10 --readers 2 --joiners 12 \
         --idle-polls 11 --sync-rooms 3 --sync-members 2 --sync-events 4 --sync-repeats 2 \
         --growth-steps 9,12 --people 7 --rooms 9 --events 20 --pid {itself} \
         --federation-members 5 --federation-rooms 3 --federation-messages 31 --peer-pid {itself}"
    );
    for name in Name::value_variants()
        .iter()
        .filter(|name| **name != Name::Start)
    {
        let outcome = outcome(*name, Fault::None, &small).await;
        assert!(outcome.is_good(), "{outcome:?}");
        assert!(
            outcome.operations > 0 && outcome.memory.is_some(),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn what_never_reaches_the_other_server_is_missed() {
    let rooms = "--federation-rooms 2 --federation-messages 400";
    let outcome = outcome(Name::FederationSend, Fault::ForgetsHistory, rooms).await;
    assert_eq!(figure(&outcome, "missing"), 200.0);
    assert!(!outcome.is_good(), "{outcome:?}");
}

#[tokio::test]
async fn each_message_reaches_each_poller_once() {
    let outcome = outcome(Name::LongPoll, Fault::None, LONG_POLL).await;
    assert_eq!(outcome.operations, 3 * 4);
    assert_eq!(
        (figure(&outcome, "missed"), figure(&outcome, "duplicated")),
        (0.0, 0.0)
    );
}

#[tokio::test]
async fn a_message_that_is_never_delivered_is_missed_by_each_poller() {
    let outcome = outcome(Name::LongPoll, Fault::Drops, LONG_POLL).await;
    assert_eq!(
        (figure(&outcome, "missed"), figure(&outcome, "duplicated")),
        (3.0, 0.0)
    );
    assert!(
        !outcome.is_good() && outcome.errors.is_empty(),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn messages_that_are_delivered_again_are_counted() {
    let outcome = outcome(Name::LongPoll, Fault::Repeats, LONG_POLL).await;
    assert_eq!(figure(&outcome, "missed"), 0.0);
    assert!(
        figure(&outcome, "duplicated") > 0.0 && !outcome.is_good(),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_history_that_ends_too_early_is_noticed() {
    let room = "--history 25 --page 10 --readers 1";
    let outcome = outcome(Name::Messages, Fault::ForgetsHistory, room).await;
    assert!(
        outcome.problems[0].contains("ended before its first message"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_limits_rates_gives_no_result_but_says_why() {
    let bench = fake::bench(Fault::Limits, "--senders 2").await;
    let error = run(&bench, Name::SendOwnRooms).await.unwrap_err();
    assert!(
        error.to_string().contains("429 M_LIMIT_EXCEEDED"),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_set_is_part_of_the_result() {
    let outcome = outcome(Name::SendOneRoom, Fault::None, "--one-room-senders 2").await;
    let parameters = BTreeMap::from_iter(outcome.parameters);
    assert_eq!(parameters["senders"], 2);
    assert_eq!(parameters["duration_seconds"], 0.2);
}

#[tokio::test]
async fn growth_shows_a_point_of_the_curve_for_each_step() {
    let itself = std::process::id();
    let arguments = format!("--growth-steps 12,9 --pid {itself}");
    let outcome = outcome(Name::Growth, Fault::None, &arguments).await;
    let names: Vec<&str> = outcome
        .figures
        .iter()
        .map(|figure| figure.name.as_str())
        .filter(|name| name.starts_with("CPU"))
        .collect();
    assert_eq!(
        names,
        ["9 rooms", "12 rooms", "9 members", "12 members"]
            .map(|with| format!("CPU of a send with {with}"))
    );
}
