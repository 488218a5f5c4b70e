//! The token bucket of an interface, as netlink has it (`include/uapi/linux/pkt_sched.h`: `tc_tbf_qopt`).

use crate::observed::Shape;
use netlink_packet_core::{DefaultNla, Nla, NlaBuffer, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_BURST: u16 = 6;
/// `struct tc_ratespec`.
const RATESPEC: usize = 12;
/// `TC_LINKLAYER_ETHERNET`: no table of cell sizes.
const ETHERNET: u8 = 1;

/// The name of the discipline.
pub const KIND: &str = "tbf";

/// The request for one at the root of an interface; without a shape, for what is to be removed.
pub fn message(index: u32, shape: Option<Shape>) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = TcHeader {
        family: AddressFamily::Unspec,
        index: index.cast_signed(),
        handle: TcHandle::UNSPEC,
        parent: TcHandle::ROOT,
        info: 0,
    };
    if let Some(shape) = shape {
        let options =
            [(TCA_TBF_PARMS, parameters(shape)), (TCA_TBF_BURST, burst(shape).to_ne_bytes().to_vec())];
        let options = options.into_iter().map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
        message.attributes =
            vec![TcAttribute::Kind(KIND.to_owned()), TcAttribute::Options(options.collect())];
    }
    message
}

/// The queue holds the burst and 50 ms: see `Rate`.
fn burst(shape: Shape) -> u32 {
    shape.queue.saturating_sub(shape.rate / 20)
}

/// `struct tc_tbf_qopt`: rate, peak rate, bytes that may wait, ticks of the burst (said in bytes elsewhere), MTU.
fn parameters(shape: Shape) -> Vec<u8> {
    let mut out = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    out.extend(shape.rate.to_ne_bytes());
    out.resize(2 * RATESPEC, 0);
    out.extend(shape.queue.to_ne_bytes());
    out.resize(2 * RATESPEC + 12, 0);
    out
}

/// What an interface's root discipline says, if it is one of ours.
pub fn shape(message: &TcMessage) -> Option<Shape> {
    if message.header.parent != TcHandle::ROOT {
        return None;
    }
    let is_ours = |a: &TcAttribute| matches!(a, TcAttribute::Kind(kind) if kind == KIND);
    message.attributes.iter().find(|a| is_ours(a))?;
    let options = message.attributes.iter().find_map(|a| match a {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    options.iter().find_map(|option| {
        let TcOption::Other(nla) = option else { return None };
        // The codec does not know the discipline: what it reads is the attribute around the options.
        let mut bytes = vec![0; nla.value_len()];
        nla.emit_value(&mut bytes);
        let parameters = if nla.kind() == TCA_TBF_PARMS { Some(bytes) } else { inner(&bytes) }?;
        let word = |at: usize| Some(u32::from_ne_bytes(parameters.get(at..at + 4)?.try_into().ok()?));
        Some(Shape { rate: word(8)?, queue: word(2 * RATESPEC)? })
    })
}

/// The parameters among the options.
fn inner(options: &[u8]) -> Option<Vec<u8>> {
    let parameters = |nla: NlaBuffer<&[u8]>| (nla.kind() == TCA_TBF_PARMS).then(|| nla.value().to_vec());
    NlasIterator::new(options).find_map(|nla| parameters(nla.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::Rate;

    #[test]
    fn what_is_asked_for_is_read_back() {
        for bits in [64_000, 10_000_000, 30_000_000_000] {
            let wanted = Shape::from(Rate::new(bits).unwrap());
            let message = message(3, Some(wanted));
            assert_eq!(shape(&message), Some(wanted));
            assert!(burst(wanted) >= 128 << 10 && burst(wanted) < wanted.queue);
        }
        assert_eq!(shape(&message(3, None)), None);
    }
}
