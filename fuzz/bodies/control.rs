//! What the fuzz target of the control socket does with its input, and what must hold whatever it is.
//! Included by the fuzz target and by the test that replays its corpus.

use stoq_control::{decode_call, decode_reply, encode};

/// A line of the control socket, as either end reads it: what is taken is written and read again as
/// the same message, and what is refused says why.
pub fn line(data: &[u8]) {
    match decode_call(data) {
        Ok(call) => {
            let line = encode(&call).expect("what was read can be written");
            assert_eq!(decode_call(&line).as_ref(), Ok(&call));
        }
        Err(refusal) => assert!(!refusal.message.is_empty()),
    }
    match decode_reply(data) {
        Ok(reply) => {
            let line = encode(&reply).expect("what was read can be written");
            assert_eq!(decode_reply(&line).expect("just written"), reply);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
