//! Bytes on a connection: however they are split, the same messages come out, and each is parsed or refused.
#![no_main]

use debug_wire::frame::Decoder;
use debug_wire::messages::{Call, EvalParams, EvalPayload, FromAgent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte gives the position of the split.
    let Some((cut, bytes)) = data.split_first() else {
        return;
    };
    let mut whole = messages(&[bytes]);
    let (first, second) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let mut cut = messages(&[first, second]);
    // After an error there is nothing to compare: the connection is closed.
    let ends = |found: &mut Vec<Option<Vec<u8>>>| {
        let end = found.iter().position(Option::is_none).unwrap_or(found.len());
        found.truncate(end);
    };
    ends(&mut whole);
    ends(&mut cut);
    assert_eq!(whole, cut);
    for line in whole.into_iter().flatten() {
        if let Ok(call) = Call::parse(&line)
            && let Ok(params) = call.params::<EvalParams>()
        {
            let _ = EvalPayload::parse(&params.payload);
        }
        let _ = FromAgent::parse(&line);
    }
});

/// The messages of a stream in pieces; `None` is an error.
fn messages(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let mut reader = Decoder::default();
    let mut found = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(line)) => found.push(Some(line)),
                Ok(None) => break,
                Err(_) => {
                    found.push(None);
                    return found;
                }
            }
        }
    }
    found
}
