//! Memory that was freed goes back: from a thread to the process, and from the process to the system. So does the code that only
//! the start needed.
//!
//! The allocator is chosen by the binary (`router/bin/src/main.rs`); with another one it gives nothing back.

use std::ops::Range;

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

/// Lets go of the pages of code and constants, of which a start touches more than half: command line, files, their checks. They come
/// back from the page cache as they are used again, some microseconds each time. Called once, when everything runs.
pub fn forget_start() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    maps.lines().filter_map(unwritten).for_each(drop_pages);
}

/// The range of a line of `/proc/self/maps`, if it is a part of a program or a library that was never written to: code, and what
/// stands before it. What is read only behind that was written to when it was loaded.
fn unwritten(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights, offset, path) = (words.next()?, words.next()?, words.next()?, words.nth(2)?);
    let is_first = u64::from_str_radix(offset, 16) == Ok(0);
    if !path.starts_with('/') || !(rights == "r-xp" || (rights == "r--p" && is_first)) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[expect(unsafe_code, reason = "the system call takes an address")]
fn drop_pages(pages: Range<usize>) {
    let start = std::ptr::without_provenance_mut(pages.start);
    // SAFETY: the pages are a private mapping of a file that was never written to, so that each is what the file has, and what is
    // dropped is read from it again. An error means that nothing was dropped.
    let _ = unsafe { libc::madvise(start, pages.len(), libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_to_is_let_go() {
        for (line, found) in [
            ("00400000-00500000 r-xp 00bbd000 fe:00 7      /usr/bin/ekiden", Some(0x40_0000..0x50_0000)),
            ("00400000-00500000 r--p 00000000 fe:00 7      /usr/lib/libc.so.6", Some(0x40_0000..0x50_0000)),
            ("00500000-00600000 r--p 00bbd000 fe:00 7      /usr/bin/ekiden", None),
            ("00500000-00600000 rw-p 00000000 fe:00 7      /usr/bin/ekiden", None),
            ("00600000-00700000 rwxp 00000000 fe:00 7      /usr/bin/ekiden", None),
            ("00400000-00500000 r-xp 00000000 00:00 0      [vdso]", None),
            ("00400000-00500000 r--p 00000000 00:00 0", None),
            ("no line", None),
        ] {
            assert_eq!(unwritten(line), found, "{line}");
        }
    }

    #[test]
    fn what_was_let_go_runs_on() {
        for _ in 0..3 {
            forget_start();
            assert_eq!(std::hint::black_box([3, 1, 2].iter().max()), Some(&3));
        }
    }
}
