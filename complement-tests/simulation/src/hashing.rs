//! Hash tables whose entries come in the same order each time.
//!
//! The tables of the standard library draw a key for each thread from the operating system, and another for each table from
//! that. Going through one is then in an order that is another in each run, and what is asked of other servers with it. Here
//! the operating system's chance is none: this takes the place of the C library's function in each program that this crate is
//! linked into. A run has a thread of its own, whose first table is the first in each run.

#![expect(
    unsafe_code,
    reason = "a function that C calls has to write where a pointer points to"
)]

use std::ffi::{c_uint, c_void};

/// Fills `buffer` with what is no chance at all. See getrandom(2).
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller says that there is room for so much.
    unsafe { std::ptr::write_bytes(buffer.cast::<u8>(), 0x5a, length) };
    isize::try_from(length).unwrap_or(-1)
}
