//! The same seed gives the same run.

use std::{collections::HashSet, process::Command, thread};

// What takes the place of the operating system's chance comes with it.
use parley_simulation as _;

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
fn a_set_of_a_thread_of_its_own_has_the_same_order_each_time() {
    fn order() -> Vec<u32> {
        let set: HashSet<u32> = (0..100).collect();
        set.into_iter().collect()
    }
    let [one, other] = [(); 2].map(|()| thread::spawn(order).join().expect("it ends"));
    assert_eq!(one, other);
    assert!(!one.is_sorted());
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
