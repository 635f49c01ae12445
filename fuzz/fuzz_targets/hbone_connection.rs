//! Two machines that talk to each other, by operations: the conversation of the property tests, with
//! the fuzzer choosing the steps.
#![no_main]

#[path = "../../protocols/tests/hbone/conversation.rs"]
mod conversation;
#[allow(dead_code)]
#[path = "../../protocols/tests/hbone/support.rs"]
mod support;

use arbitrary::Arbitrary;
use conversation::Step;
use libfuzzer_sys::fuzz_target;

/// A step in few bytes, so that small changes of the input make small changes of the conversation.
#[derive(Arbitrary, Debug)]
enum Operation {
    Open,
    Accept(u8),
    Refuse(u8),
    Send { client: bool, pick: u8, bytes: u16, end: bool },
    Reset { client: bool, pick: u8 },
    Release { client: bool, pick: u8, bytes: u16 },
    Arrive { at_client: bool, bytes: u16 },
    ArriveAll { at_client: bool },
    Wait(u16),
    Leave,
}

impl From<Operation> for Step {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Open => Self::Open,
            Operation::Accept(pick) => Self::Accept(pick.into()),
            Operation::Refuse(pick) => Self::Refuse(pick.into()),
            Operation::Send { client, pick, bytes, end } => {
                Self::Send { client, pick: pick.into(), bytes: bytes.into(), end }
            }
            Operation::Reset { client, pick } => Self::Reset { client, pick: pick.into() },
            Operation::Release { client, pick, bytes } => {
                Self::Release { client, pick: pick.into(), bytes: bytes.into() }
            }
            Operation::Arrive { at_client, bytes } => {
                Self::Arrive { at_client, bytes: bytes.into() }
            }
            Operation::ArriveAll { at_client } => Self::Arrive { at_client, bytes: usize::MAX },
            Operation::Wait(milliseconds) => Self::Wait(milliseconds.into()),
            Operation::Leave => Self::Leave,
        }
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    conversation::play(operations.into_iter().map(Step::from).collect());
});
