use std::collections::HashSet;

use super::*;
use crate::testing::{
    host::Host,
    run::{Path, run},
    tables::Options,
};

/// The cases on the host: both paths, both tables. A failure does not hide the next.
#[test]
fn all_cases_hold_on_the_host() {
    let mut wrong = Vec::new();
    for reference in [false, true] {
        let mut host = Host::new(Options { reference, ..Options::default() });
        for case in all() {
            for path in [Path::Tc, Path::XdpThenTc] {
                if let Err(error) = run(&case, path, &mut host) {
                    wrong.push(format!("{}{error}", if reference { "reference table: " } else { "" }));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} runs:\n{}", wrong.len(), 4 * all().len(), wrong.join("\n"));
}

#[test]
fn cases_are_many_and_named_once() {
    let all = all();
    assert!(all.len() >= 120, "{} cases", all.len());
    let names: HashSet<_> = all.iter().map(|case| (case.name, case.ipv6, case.translated)).collect();
    assert_eq!(names.len(), all.len());
    for case in &all {
        assert!(!case.steps.is_empty(), "{} does nothing", case.name);
    }
}

/// The runner notices: each of these expects something false.
#[test]
fn false_expectations_fail() {
    use crate::{abi::Counter, testing::script::*};
    let mut host = Host::new(Options::default());
    let false_cases = [
        case("not dropped").frame(syn(A).dropped(Counter::NoListener)),
        case("another count").frame(syn(A).opens().counts(Counter::FlowReplaced)),
        case("no count").frame(syn(A)),
        case("another size").frame(syn(A).opens().clamped(1000)),
        case("no answer").frame(ack(A).dropped(Counter::NoFlow)),
        case("more flows").handshake(A).check(Check::Flows(2)),
        case("another state").handshake(A).check(Check::State(A, crate::abi::flow::FlowState::Closing)),
        case("bytes differ").handshake(A).frame(data(A, 10).adjusted(|tcp| tcp.src_port = 1)),
    ];
    for case in false_cases {
        assert!(run(&case, Path::Tc, &mut host).is_err(), "{} holds", case.name);
    }
}
