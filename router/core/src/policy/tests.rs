//! The seam holds: a policy sees the facts, and a list of them is a plain walk.

use super::{FixedAnswer, HeadPatch, Policy, Verdict};
use crate::claims::Shown;
use crate::table::{Facts, Fields};

/// Refuses a method, marks the rest.
struct Fake {
    refused: &'static str,
}

impl Policy for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn judge(&self, facts: &Facts<'_>, now_ns: u64) -> Verdict {
        if facts.method == self.refused {
            return Verdict::Answer(FixedAnswer { status: 403, fields: Vec::new(), body: "no".into() });
        }
        let mut marked = false;
        facts.fields.each("x-marked", &mut |_| {
            marked = true;
            false
        });
        if marked {
            return Verdict::Pass;
        }
        let mut patch = HeadPatch::default();
        patch.fields.set.push(("X-Marked".into(), now_ns.to_string().into()));
        Verdict::Edit(patch)
    }
}

struct Marked(bool);

impl Fields for Marked {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        if self.0 && name == "x-marked" {
            visit(b"1");
        }
    }
}

#[test]
fn a_policy_judges_by_the_facts_and_the_time_it_is_given() {
    let policies: Vec<Box<dyn Policy>> = vec![Box::new(Fake { refused: "PATCH" })];
    let judged = |method, marked| {
        let fields = Marked(marked);
        let facts = Facts {
            host: "",
            path: "/",
            loose: None,
            query: "",
            method,
            fields: &fields,
            client_cert: None,
            claims: Shown::Nothing,
        };
        policies.iter().map(|policy| (policy.name(), policy.judge(&facts, 7))).collect::<Vec<_>>()
    };
    assert!(matches!(
        judged("PATCH", false)[..],
        [("fake", Verdict::Answer(FixedAnswer { status: 403, .. }))]
    ));
    assert_eq!(judged("GET", true), [("fake", Verdict::Pass)]);
    let edit = judged("GET", false).remove(0).1;
    assert!(matches!(&edit, Verdict::Edit(patch) if &*patch.fields.set[0].1 == "7"), "{edit:?}");
}
