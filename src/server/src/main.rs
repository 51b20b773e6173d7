//! The program `parley`.
fn main() {}
