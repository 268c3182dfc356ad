//! `Max-Forwards` (RFC 9110 section 7.6.2): how many may still pass a request of OPTIONS on. Counts it down, and answers
//! the request that nobody may pass on.
//!
//! TRACE, the other method that the field counts for, is refused before this. Does not look at it with other methods.

use ekiden_core::table::RouteEntry;

use crate::exchange::answer::{ALLOWED_METHODS, Answer};
use crate::exchange::downstream::Downstream;
use crate::exchange::run::{end_answered, may_keep, send_answer};
use crate::exchange::{After, Workspace};
use crate::head::Head;
use crate::wire::decimal;
use crate::wire::request::RequestHead;
use crate::worker::connection::Connection;

const MAX_FORWARDS: &[u8] = b"max-forwards";

/// Whether the request ends here. Called once, before it is passed on: the field counts down.
#[inline]
pub fn end_here(request: &mut RequestHead) -> bool {
    request.method() == "OPTIONS" && count_down(&mut request.head)
}

/// A value that is no number says nothing, and is passed on as it is; so are several.
fn count_down(head: &mut Head) -> bool {
    let hops = {
        let mut values = head.get_all(MAX_FORWARDS);
        let only = values.next().filter(|_| values.next().is_none());
        only.and_then(decimal)
    };
    let Some(hops) = hops else { return false };
    let Some(left) = hops.checked_sub(1) else { return true };
    head.set(b"Max-Forwards", left.to_string().as_bytes());
    false
}

/// Answers as the last recipient: with the methods that the route lets in.
pub async fn answer<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    entry: &RouteEntry,
) -> After {
    let worker = std::rc::Rc::clone(&connection.worker);
    let keep = may_keep(&worker, ws);
    let listed = entry.admission.as_ref().map(|steps| steps.allow_line()).filter(|line| !line.is_empty());
    let fields = [("Allow", listed.unwrap_or(ALLOWED_METHODS))];
    let found = Answer { status: 204, fields: &fields, content_type: "", body: "" };
    let cause = send_answer(connection, ws, &found, keep).await;
    end_answered(&worker, ws, cause, keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: &[&str]) -> (bool, Vec<String>) {
        let mut head = Head::default();
        for value in values {
            head.append(b"Max-forwards", value.as_bytes());
        }
        let ends = count_down(&mut head);
        let left = head.get_all(MAX_FORWARDS).map(|value| String::from_utf8_lossy(value).into_owned());
        (ends, left.collect())
    }

    #[test]
    fn the_field_counts_down_to_the_one_who_answers() {
        let rows: &[(&[&str], bool, &[&str])] = &[
            (&["0"], true, &["0"]),
            (&["000"], true, &["000"]),
            (&["1"], false, &["0"]),
            (&["10"], false, &["9"]),
            (&[], false, &[]),
            (&["-1"], false, &["-1"]),
            (&["x"], false, &["x"]),
            (&[""], false, &[""]),
            (&["0", "5"], false, &["0", "5"]),
        ];
        for (values, ends, left) in rows {
            assert_eq!(
                counted(values),
                (*ends, left.iter().map(|&text| text.to_owned()).collect()),
                "{values:?}"
            );
        }
    }
}
