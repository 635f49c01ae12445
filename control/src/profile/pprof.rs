//! A profile as `go tool pprof` reads it: the message `perftools.profiles.Profile`.
//!
//! ```text
//!   Sample { location ids, innermost first; [count, nanoseconds]; label thread }
//!   Location { id } ─▶ Line { function id } ─▶ Function { id, name }        names are indexes into one table of texts
//! ```
//!
//! Functions that were inlined are locations of their own. There are no addresses: names were looked up already.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

/// What a profile was recorded under.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// CPU time of the process meanwhile.
    pub cpu_time: Duration,
    /// The CPU time between two samples that was asked for.
    pub interval: Duration,
}

/// Encodes stacks as they are folded, and how often each was seen; so many more found no room.
pub(super) fn encode<'a>(
    stacks: impl Iterator<Item = (&'a str, u64)>,
    lost: u64,
    circumstances: &Circumstances,
) -> Vec<u8> {
    let stacks: Vec<_> = stacks.collect();
    let seen = lost + stacks.iter().map(|(_, count)| count).sum::<u64>();
    let period = period(seen, circumstances);
    let mut names = Names::default();
    let mut profile = ProfileMessage {
        sample_type: vec![names.unit("samples", "count"), names.unit("cpu", "nanoseconds")],
        time_nanos: nanos(circumstances.began.duration_since(UNIX_EPOCH).unwrap_or_default()),
        duration_nanos: nanos(circumstances.took),
        period_type: Some(names.unit("cpu", "nanoseconds")),
        period,
        ..ProfileMessage::default()
    };
    let thread_key = names.text("thread");
    for (stack, count) in stacks {
        let (thread, functions) = stack.split_once(';').unwrap_or((stack, ""));
        let functions = functions.split(';').rev().filter(|name| !name.is_empty());
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        profile.sample.push(SampleMessage {
            location_id: functions.map(|name| names.function(name)).collect(),
            value: vec![count, count.saturating_mul(period)],
            label: vec![LabelMessage { key: thread_key, text: names.text(thread) }],
        });
    }
    if lost > 0 {
        profile.comment.push(names.text(&format!("{lost} more samples found no room")));
    }
    for id in 1..=names.functions.len() as u64 {
        let line = vec![LineMessage { function_id: id }];
        profile.location.push(LocationMessage { id, line });
    }
    profile.function = names.functions;
    profile.string_table = names.texts;
    profile.encode_to_vec()
}

/// What one sample stands for. The kernel does not take samples as often as is asked for, so what was really used is
/// divided among those that were taken.
fn period(seen: u64, circumstances: &Circumstances) -> i64 {
    match u32::try_from(seen) {
        Ok(seen @ 1..) if !circumstances.cpu_time.is_zero() => nanos(circumstances.cpu_time / seen),
        _ => nanos(circumstances.interval),
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Texts and functions, each once.
struct Names {
    texts: Vec<String>,
    text_ids: HashMap<String, i64>,
    functions: Vec<FunctionMessage>,
    function_ids: HashMap<i64, u64>,
}

impl Default for Names {
    /// The first text is the empty one.
    fn default() -> Self {
        Self {
            texts: vec![String::new()],
            text_ids: HashMap::from([(String::new(), 0)]),
            functions: Vec::new(),
            function_ids: HashMap::new(),
        }
    }
}

impl Names {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(id) = self.text_ids.get(text) {
            return *id;
        }
        let id = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.text_ids.insert(text.to_owned(), id);
        id
    }

    /// Ids begin with 1; a function's is its location's, too.
    fn function(&mut self, name: &str) -> u64 {
        let name = self.text(name);
        let functions = &mut self.functions;
        *self.function_ids.entry(name).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(FunctionMessage { id, name, system_name: name });
            id
        })
    }

    fn unit(&mut self, of: &str, unit: &str) -> ValueTypeMessage {
        ValueTypeMessage { of: self.text(of), unit: self.text(unit) }
    }
}

#[derive(Clone, PartialEq, Message)]
struct ProfileMessage {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueTypeMessage>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<LocationMessage>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<FunctionMessage>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueTypeMessage>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueTypeMessage {
    #[prost(int64, tag = "1")]
    of: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SampleMessage {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<LabelMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct LabelMessage {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LocationMessage {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<LineMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct LineMessage {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct FunctionMessage {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circumstances() -> Circumstances {
        Circumstances {
            began: UNIX_EPOCH + Duration::from_secs(1),
            took: Duration::from_secs(10),
            cpu_time: Duration::from_millis(800),
            interval: Duration::from_millis(10),
        }
    }

    #[test]
    fn stacks_come_out_innermost_first_with_their_thread_and_their_share_of_the_time() {
        let stacks = [("shard-0;run;poll", 3), ("shard-1;run", 4)];
        let bytes = encode(stacks.into_iter(), 1, &circumstances());
        let profile = ProfileMessage::decode(&bytes[..]).unwrap();
        let text = |id: i64| profile.string_table[id as usize].as_str();
        assert_eq!(text(0), "", "the format asks for it");
        let types: Vec<_> =
            profile.sample_type.iter().map(|one| (text(one.of), text(one.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        assert_eq!(profile.period, 100_000_000);
        assert_eq!((profile.time_nanos, profile.duration_nanos), (1_000_000_000, 10_000_000_000));
        assert_eq!(text(profile.comment[0]), "1 more samples found no room");

        let name = |location: u64| {
            let line = profile.location.iter().find(|one| one.id == location).unwrap().line[0];
            let functions = &profile.function;
            text(functions.iter().find(|one| one.id == line.function_id).unwrap().name)
        };
        let samples: Vec<_> = profile
            .sample
            .iter()
            .map(|sample| {
                let names: Vec<_> = sample.location_id.iter().map(|id| name(*id)).collect();
                (text(sample.label[0].text), names, sample.value.clone())
            })
            .collect();
        assert_eq!(
            samples,
            [
                ("shard-0", vec!["poll", "run"], vec![3, 300_000_000]),
                ("shard-1", vec!["run"], vec![4, 400_000_000]),
            ]
        );
        assert_eq!(profile.function.len(), 2, "each function once");
    }

    /// Worked out by hand from profile.proto: tag and type, then length or number.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = encode([("t;f", 1)].into_iter(), 0, &circumstances());
        // 800,000,000 is 0x2faf0800: 80 90 bc fd 02 in sevens of bits, the lowest first.
        let want: [&[u8]; 18] = [
            &[0x0a, 4, 0x08, 1, 0x10, 2], // sample_type: samples, count
            &[0x0a, 4, 0x08, 3, 0x10, 4], // sample_type: cpu, nanoseconds
            &[0x12, 3 + 8 + 6],           // a sample:
            &[0x0a, 1, 1],                // its locations, packed
            &[0x12, 6, 1, 0x80, 0x90, 0xbc, 0xfd, 0x02], // its values
            &[0x1a, 4, 0x08, 5, 0x10, 7], // its label: thread, t
            &[0x22, 6, 0x08, 1, 0x22, 2, 0x08, 1], // location 1, line of function 1
            &[0x2a, 6, 0x08, 1, 0x10, 6, 0x18, 6], // function 1, named f
            b"\x32\x00\x32\x07samples",
            b"\x32\x05count",
            b"\x32\x03cpu",
            b"\x32\x0bnanoseconds",
            b"\x32\x06thread",
            b"\x32\x01f\x32\x01t",
            &[0x48, 0x80, 0x94, 0xeb, 0xdc, 0x03], // time, 1,000,000,000
            &[0x50, 0x80, 0xc8, 0xaf, 0xa0, 0x25], // duration, 10,000,000,000
            &[0x5a, 4, 0x08, 3, 0x10, 4],          // period_type
            &[0x60, 0x80, 0x90, 0xbc, 0xfd, 0x02], // period
        ];
        let want = want.concat();
        assert_eq!(bytes, want);
    }

    #[test]
    fn without_samples_there_is_still_a_profile() {
        let bytes = encode(std::iter::empty(), 0, &circumstances());
        let profile = ProfileMessage::decode(&bytes[..]).unwrap();
        assert_eq!((profile.sample.len(), profile.period), (0, 10_000_000));
    }
}
