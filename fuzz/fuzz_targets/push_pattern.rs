#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parley_fuzz_targets::push_pattern(input));
