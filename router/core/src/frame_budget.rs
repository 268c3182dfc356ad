//! What one HTTP/2 connection may send of the frames that cost the router work and carry nothing: counted by frame
//! headers, judged against a budget each.
//!
//! A budget is a number of frames in a window of [`WINDOW_MS`]; some grow with the work that is done on the connection, as
//! honest peers answer work with such frames. Time is an argument. Does not read bytes and does not close.

/// Length of a window.
pub const WINDOW_MS: u64 = 10_000;
/// Requests that a client may have open at once on one connection.
pub const STREAMS_MAX: u32 = 256;
/// PING and its answers in a window, beside one for each frame with data in either direction (clients measure bandwidth so).
const PING_MAX: u64 = 100;
/// SETTINGS in a window.
const SETTINGS_MAX: u64 = 50;
/// PRIORITY in a window, and again for each stream opened in it.
const PRIORITY_MAX: u64 = 100;
/// DATA without data that do not end their stream, in a window.
const EMPTY_DATA_MAX: u64 = 100;
/// RST_STREAM in a window: leaving a page may reset every open stream at once, not again and again.
const RESET_MAX: u64 = STREAMS_MAX as u64 + 44;
/// WINDOW_UPDATE in a window, beside those that answer data.
const WINDOW_UPDATE_MAX: u64 = 200;
/// WINDOW_UPDATE for each frame with data sent to the client.
const WINDOW_UPDATES_EACH: u64 = 10;
/// CONTINUATION in one header block: the largest list there may be takes four of the smallest frame size. No more than the
/// codec takes, so that it is this budget that is named.
const CONTINUATION_MAX: u64 = 5;
/// Frames of unknown types, and GOAWAY, in a window.
const OTHER_MAX: u64 = 100;
/// Requests in a window that are malformed or whose heads are too large: each leaves a record, so that a flood would fill the log.
pub const MALFORMED_MAX: u64 = 100;

/// Why a connection is told to calm down. A closed list; each has a stable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Budget {
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// PRIORITY and PRIORITY_UPDATE.
    Priority,
    /// DATA without data.
    EmptyData,
    /// RST_STREAM: rapid reset.
    Reset,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// CONTINUATION.
    Continuation,
    /// Frames of unknown types, and GOAWAY.
    Other,
    /// Requests that are malformed, each of which makes the router reset a stream, or whose heads are too large for the codec.
    Malformed,
    /// A bound that the codec keeps: streams that other faults of the client made it reset ("made you reset"), streams
    /// reset before they were taken, memory of small DATA frames, size of the header list.
    Codec,
}

impl Budget {
    /// Every budget, in the order of [`Budget::index`].
    pub const ALL: [Budget; 10] = [
        Budget::Ping,
        Budget::Settings,
        Budget::Priority,
        Budget::EmptyData,
        Budget::Reset,
        Budget::WindowUpdate,
        Budget::Continuation,
        Budget::Other,
        Budget::Malformed,
        Budget::Codec,
    ];

    /// The place in [`Budget::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable word in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Budget::Ping => "ping",
            Budget::Settings => "settings",
            Budget::Priority => "priority",
            Budget::EmptyData => "empty_data",
            Budget::Reset => "reset",
            Budget::WindowUpdate => "window_update",
            Budget::Continuation => "continuation",
            Budget::Other => "other",
            Budget::Malformed => "malformed",
            Budget::Codec => "codec",
        }
    }
}

/// The nine bytes in front of each frame (RFC 9113 section 4.1), without the stream they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Type of the frame.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
}

/// Frame types (RFC 9113 section 6, and one of RFC 9218).
pub mod kind {
    #![expect(missing_docs, reason = "each is the type it is named after")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    /// RFC 9218 section 7.1; browsers send one for many requests.
    pub const PRIORITY_UPDATE: u8 = 16;
}

/// END_STREAM, and ACK.
const FIRST_FLAG: u8 = 1;
const END_HEADERS: u8 = 4;

/// Counts of one connection.
#[derive(Debug, Default)]
pub struct FrameCounts {
    since_ms: u64,
    counts: [u64; Budget::ALL.len()],
    streams: u64,
    data: u64,
    in_head: bool,
}

impl FrameCounts {
    /// Counts a frame from the client.
    ///
    /// # Errors
    /// The budget that it is over.
    pub fn receive(&mut self, frame: FrameHeader, now_ms: u64) -> Result<(), Budget> {
        self.turn_window(now_ms);
        let first_flag = frame.flags & FIRST_FLAG != 0;
        let budget = match frame.kind {
            kind::DATA if frame.length > 0 => {
                self.data += 1;
                return Ok(());
            }
            kind::DATA if first_flag => return Ok(()),
            kind::DATA => Budget::EmptyData,
            kind::HEADERS => {
                self.streams += 1;
                self.in_head = frame.flags & END_HEADERS == 0;
                self.set(Budget::Continuation, 0);
                return Ok(());
            }
            kind::PRIORITY | kind::PRIORITY_UPDATE => Budget::Priority,
            kind::RST_STREAM => Budget::Reset,
            // One we did not ask for is an error of its own.
            kind::SETTINGS if first_flag => return Ok(()),
            kind::SETTINGS => Budget::Settings,
            kind::PING => Budget::Ping,
            kind::WINDOW_UPDATE => Budget::WindowUpdate,
            kind::CONTINUATION => {
                self.in_head = frame.flags & END_HEADERS == 0;
                Budget::Continuation
            }
            _ => Budget::Other,
        };
        self.count(budget)
    }

    /// Counts a request that is none, or that was refused before anybody saw it. Frames do not tell.
    ///
    /// # Errors
    /// There are too many.
    pub fn note_malformed(&mut self, now_ms: u64) -> Result<(), Budget> {
        self.turn_window(now_ms);
        self.count(Budget::Malformed)
    }

    /// Begins a new window where the last one is over.
    fn turn_window(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.since_ms) >= WINDOW_MS {
            *self = Self { since_ms: now_ms, in_head: self.in_head, ..Self::default() };
        }
    }

    fn count(&mut self, budget: Budget) -> Result<(), Budget> {
        let count = self.counts.get(budget.index()).copied().unwrap_or(0) + 1;
        self.set(budget, count);
        if count > self.allowed(budget) { Err(budget) } else { Ok(()) }
    }

    /// Counts a frame to the client.
    pub fn send(&mut self, frame: FrameHeader) {
        self.data += u64::from(frame.kind == kind::DATA && frame.length > 0);
    }

    /// Whether a header block has begun and not ended.
    pub fn in_head(&self) -> bool {
        self.in_head
    }

    fn set(&mut self, budget: Budget, count: u64) {
        if let Some(place) = self.counts.get_mut(budget.index()) {
            *place = count;
        }
    }

    fn allowed(&self, budget: Budget) -> u64 {
        match budget {
            Budget::Ping => PING_MAX + self.data,
            Budget::Settings => SETTINGS_MAX,
            Budget::Priority => PRIORITY_MAX * (1 + self.streams),
            Budget::EmptyData => EMPTY_DATA_MAX,
            Budget::Reset => RESET_MAX,
            Budget::WindowUpdate => WINDOW_UPDATE_MAX + self.streams + WINDOW_UPDATES_EACH * self.data,
            Budget::Continuation => CONTINUATION_MAX,
            Budget::Other => OTHER_MAX,
            Budget::Malformed => MALFORMED_MAX,
            Budget::Codec => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: u8 = FIRST_FLAG;

    fn frame(kind: u8, flags: u8, length: u32) -> FrameHeader {
        FrameHeader { length, kind, flags }
    }

    /// How many of a frame pass at one moment, up to a thousand.
    fn passes(counts: &mut FrameCounts, frame: FrameHeader) -> u64 {
        (0..1_000).take_while(|_| counts.receive(frame, 1).is_ok()).count() as u64
    }

    #[test]
    fn each_budget_ends_at_its_number() {
        let rows = [
            (frame(kind::PING, 0, 8), 100, Budget::Ping),
            (frame(kind::SETTINGS, 0, 0), 50, Budget::Settings),
            (frame(kind::PRIORITY, 0, 5), 100, Budget::Priority),
            (frame(kind::DATA, 0, 0), 100, Budget::EmptyData),
            (frame(kind::RST_STREAM, 0, 4), 300, Budget::Reset),
            (frame(kind::WINDOW_UPDATE, 0, 4), 200, Budget::WindowUpdate),
            (frame(kind::CONTINUATION, 0, 1), 5, Budget::Continuation),
            (frame(0xbe, 0, 0), 100, Budget::Other),
        ];
        for (frame, most, budget) in rows {
            let mut counts = FrameCounts::default();
            assert_eq!(passes(&mut counts, frame), most, "{budget:?}");
            assert_eq!(counts.receive(frame, 9_999), Err(budget));
            assert_eq!(counts.receive(frame, WINDOW_MS), Ok(()), "a new window");
        }
    }

    /// However long a connection lives, it may send as many in each window, and no more in one.
    #[test]
    fn malformed_requests_are_a_rate() {
        let mut counts = FrameCounts::default();
        for window in 0..10 {
            for _ in 0..MALFORMED_MAX {
                assert_eq!(counts.note_malformed(window * WINDOW_MS), Ok(()), "in window {window}");
            }
        }
        assert_eq!(counts.note_malformed(10 * WINDOW_MS - 1), Err(Budget::Malformed));
        assert_eq!(counts.note_malformed(10 * WINDOW_MS), Ok(()));
    }

    #[test]
    fn answers_and_work_are_free() {
        for free in [
            frame(kind::SETTINGS, ACK, 0),
            frame(kind::DATA, 0, 1),
            frame(kind::DATA, FIRST_FLAG, 0),
            frame(kind::HEADERS, END_HEADERS, 9),
        ] {
            assert_eq!(passes(&mut FrameCounts::default(), free), 1_000, "{free:?}");
        }
    }

    #[test]
    fn work_earns_frames() {
        let mut counts = FrameCounts::default();
        for _ in 0..10 {
            counts.send(frame(kind::DATA, 0, 1));
            assert_eq!(counts.receive(frame(kind::HEADERS, END_HEADERS, 9), 1), Ok(()));
        }
        assert_eq!(passes(&mut counts, frame(kind::PING, 0, 8)), 110);
        assert_eq!(passes(&mut counts, frame(kind::WINDOW_UPDATE, 0, 4)), 200 + 10 + 100);
        assert_eq!(passes(&mut counts, frame(kind::PRIORITY, 0, 5)), 1_000);
        assert_eq!(passes(&mut counts, frame(kind::RST_STREAM, 0, 4)), 300);
    }

    #[test]
    fn a_header_block_is_followed_to_its_end() {
        let mut counts = FrameCounts::default();
        for _ in 0..20 {
            assert_eq!(counts.receive(frame(kind::HEADERS, 0, 9), 1), Ok(()));
            assert!(counts.in_head());
            assert_eq!(counts.receive(frame(kind::CONTINUATION, 0, 9), 1), Ok(()));
            assert_eq!(counts.receive(frame(kind::CONTINUATION, END_HEADERS, 9), 1), Ok(()));
            assert!(!counts.in_head());
        }
    }

    #[test]
    fn words_are_unlike() {
        for (index, budget) in Budget::ALL.iter().enumerate() {
            assert_eq!(budget.index(), index);
            assert_eq!(Budget::ALL.iter().filter(|other| other.code() == budget.code()).count(), 1);
        }
    }
}
