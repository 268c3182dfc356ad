//! Memory that was freed goes back: from a thread to the process, and from the process to the system.
//!
//! The allocator is chosen by the binary (`router/bin/src/main.rs`); with another one these do nothing.

/// What this thread has freed and kept becomes anybody's. Called by a worker that has just freed much; looks at the thread's
/// own pages only.
#[expect(unsafe_code, reason = "the allocator has no safe form of the question")]
pub fn let_go() {
    // SAFETY: takes no pointer, may be called by any thread at any time, and touches free memory only.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// What is free in the whole process goes back to the system at once. May take milliseconds: called off the workers.
#[expect(unsafe_code, reason = "the allocator has no safe form of the question")]
pub fn give_back() {
    // SAFETY: as above.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
