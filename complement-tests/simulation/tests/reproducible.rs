//! The same seed gives the same run.

use std::process::Command;

/// All that a run says: what happened, and its hash.
fn trace(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_parley-simulation"))
        .args(["--seed", &seed.to_string(), "--steps", "40", "--verbose"])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "seed {seed}: {said}");
    said
}

#[test]
fn a_seed_gives_the_same_trace_twice_and_another_seed_another() {
    let traces = [1, 2, 3].map(|seed| {
        let [first, second] = [trace(seed), trace(seed)];
        let mut lines = first.lines().zip(second.lines());
        let differing = lines.find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        assert!(first.lines().count() > 50, "seed {seed} does something");
        first
    });
    assert_ne!(traces[0], traces[1]);
    assert_ne!(traces[1], traces[2]);
}
