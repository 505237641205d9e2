//! Where a call writes: a bounded buffer of the host's, wiped when dropped.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use postrider_plugin::abi::{Bytes, SINK_CAP, Sink};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Octets, Overflow};

/// What a call has written so far.
#[derive(Default)]
pub(super) struct Buffer {
    octets: Octets,
    /// Once refused, always refused: output with a hole in it is worse than none.
    overflowed: bool,
}

impl Buffer {
    /// Takes all of `chunk`, or refuses it and everything after it.
    fn put(&mut self, chunk: &[u8]) -> bool {
        if self.overflowed || chunk.len() > SINK_CAP - self.octets.len() {
            self.overflowed = true;
            return false;
        }
        let needed = self.octets.len() + chunk.len();
        if needed > self.octets.capacity() {
            // Grown by hand, so that the smaller buffer is wiped before it is given back.
            let mut larger = Vec::with_capacity((2 * needed).clamp(4096, SINK_CAP));
            larger.extend_from_slice(&self.octets);
            self.octets.zeroize();
            self.octets = Zeroizing::new(larger);
        }
        self.octets.extend_from_slice(chunk);
        true
    }
}

/// Makes a call with a sink of its own; returns the call's code and what it wrote.
pub(super) fn collect(call: impl FnOnce(*mut Sink) -> i32) -> (i32, Result<Octets, Overflow>) {
    // A lock costs nothing here, and a plugin that writes from two threads at once then
    // garbles its own output rather than our memory.
    let buffer = Mutex::new(Buffer::default());
    let mut sink = Sink {
        ctx: ptr::from_ref(&buffer).cast_mut().cast(),
        put: Some(put),
    };
    let code = call(&raw mut sink);
    let buffer = buffer.into_inner().unwrap_or_else(PoisonError::into_inner);
    let output = if buffer.overflowed {
        Err(Overflow)
    } else {
        Ok(buffer.octets)
    };
    (code, output)
}

/// [`Sink::put`].
unsafe extern "C" fn put(ctx: *mut c_void, chunk: Bytes) -> i32 {
    // SAFETY: `ctx` is the buffer `collect` put there, which lives as long as the sink may
    // be used: for the call.
    let buffer = unsafe { &*ctx.cast::<Mutex<Buffer>>() };
    let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the header obliges the plugin to pass readable octets.
    let octets = unsafe { chunk.as_slice() };
    let taken = octets.is_some_and(|octets| buffer.put(octets));
    buffer.overflowed |= !taken;
    i32::from(!taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(sink: *mut Sink, octets: &[u8]) -> i32 {
        // SAFETY: called inside `collect`, with its sink.
        unsafe { ((*sink).put.unwrap())((*sink).ctx, Bytes::new(octets)) }
    }

    #[test]
    fn chunks_come_out_in_order() {
        let (code, output) = collect(|sink| {
            assert_eq!(write(sink, b"one "), 0);
            assert_eq!(write(sink, b""), 0);
            assert_eq!(write(sink, b"two"), 0);
            7
        });

        assert_eq!(code, 7);
        assert_eq!(*output.unwrap(), b"one two");
    }

    #[test]
    fn a_full_sink_takes_its_cap_and_not_an_octet_more() {
        let (_, output) = collect(|sink| write(sink, &vec![b'x'; SINK_CAP]));
        assert_eq!(output.unwrap().len(), SINK_CAP);

        let (code, output) = collect(|sink| write(sink, &vec![b'x'; SINK_CAP + 1]));
        assert_eq!(code, 1);
        assert!(output.is_err());
    }

    #[test]
    fn after_a_refusal_nothing_more_is_taken() {
        let (_, output) = collect(|sink| {
            assert_eq!(write(sink, &vec![b'x'; SINK_CAP]), 0);
            assert_eq!(write(sink, b"y"), 1);
            assert_eq!(write(sink, b""), 1, "even what would fit");
            0
        });

        assert!(output.is_err());
    }

    #[test]
    fn a_chunk_that_cannot_be_a_slice_is_refused() {
        let (code, output) = collect(|sink| {
            let chunk = Bytes {
                ptr: std::ptr::null(),
                len: 5,
            };
            // SAFETY: called inside `collect`, with its sink; the chunk is not read.
            unsafe { ((*sink).put.unwrap())((*sink).ctx, chunk) }
        });

        assert_eq!(code, 1);
        assert!(output.is_err());
    }
}
