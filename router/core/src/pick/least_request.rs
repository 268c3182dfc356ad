//! Least request: the member with the fewest requests in flight per weight of all, up to [`SEEN_MAX`] of them.
//!
//! The walk begins at a member drawn by weight, and a tie goes to the first, so that an idle cluster follows the weights. A pick
//! looks at each cell: good for some ten endpoints. With more, workers and routers that see the same minimum at the same time
//! all go there, and p2c does better. Does not count requests in.

use super::p2c::{Draw, less_loaded};
use super::ready::{Member, View};

/// Members that one pick looks at: of more, so many in a row.
pub const SEEN_MAX: usize = 256;

/// The least loaded eligible member; none when there is none among those it sees.
pub(super) fn choose(
    draw: &Draw,
    members: &[Member],
    view: View<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Option<Member> {
    let (head, tail) = members.split_at_checked(draw.place(members, random))?;
    let seen = tail.iter().chain(head).take(SEEN_MAX).copied().filter(|member| view.eligible(*member));
    seen.reduce(|best, member| less_loaded(best, member, view))
}
