//! The unique id and the requested failures.

use std::net::SocketAddr;

/// Size of a unique id in bytes (`NCCL_UNIQUE_ID_BYTES`).
pub const BYTES: usize = 128;

/// The operations that can fail on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `ncclCommInitRankConfig`.
    Init,
    /// `ncclSend`.
    Send,
    /// `ncclRecv`.
    Recv,
    /// `ncclAllReduce`.
    AllReduce,
    /// `ncclReduceScatter`.
    ReduceScatter,
    /// `ncclAllGather`.
    AllGather,
    /// `ncclBroadcast`.
    Broadcast,
}

/// Operations by their names in requests.
pub const OPERATIONS: [(&str, Operation); 7] = [
    ("init", Operation::Init),
    ("send", Operation::Send),
    ("recv", Operation::Recv),
    ("allreduce", Operation::AllReduce),
    ("reducescatter", Operation::ReduceScatter),
    ("allgather", Operation::AllGather),
    ("broadcast", Operation::Broadcast),
];

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call returns an error.
    Fail,
    /// The call succeeds, then the connections to the other ranks are lost.
    Lose,
    /// The operation does not end until the communicator is aborted.
    Hang,
}

const FAULTS: [(&str, &str, Fault); 3] = [
    ("fail", "STANDIN_FAIL", Fault::Fail),
    ("lose", "STANDIN_LOSE", Fault::Lose),
    ("hang", "STANDIN_HANG", Fault::Hang),
];

/// A request that one call of an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How the call fails.
    pub fault: Fault,
    /// The operation that fails.
    pub operation: Operation,
    /// The number of its call, from 1.
    pub call: usize,
    /// The rank on which it fails; `None` for all ranks.
    pub rank: Option<usize>,
}

impl Order {
    fn parse(fault: Fault, text: &str) -> Option<Self> {
        let (call, rank) = text.split_once('@').map_or((text, None), |(call, rank)| (call, Some(rank)));
        let (name, call) = call.split_once(':')?;
        let (_, operation) = OPERATIONS.into_iter().find(|(known, _)| *known == name)?;
        let rank = rank.map(str::parse).transpose().ok()?;
        Some(Self { fault, operation, call: call.parse().ok()?, rank })
    }
}

/// The unique id of a communicator whose rank 0 listens at an address.
pub fn write(address: SocketAddr) -> [u8; BYTES] {
    let text = address.to_string().into_bytes();
    let mut id = [0; BYTES];
    id.iter_mut().zip(text).for_each(|(to, from)| *to = from);
    id
}

/// The address and the requests of a unique id, with the requests of the environment; `None` if the id or a request cannot be
/// parsed.
pub fn read(id: &[u8; BYTES]) -> Option<(SocketAddr, Vec<Order>)> {
    read_with(id, |name| std::env::var(name).ok())
}

fn read_with(
    id: &[u8; BYTES],
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(SocketAddr, Vec<Order>)> {
    let end = id.iter().position(|&byte| byte == 0).unwrap_or(BYTES);
    let mut parts = std::str::from_utf8(&id[..end]).ok()?.split(';');
    let address = parts.next()?.parse().ok()?;
    let of_id = parts.map(|part| {
        let (kind, order) = part.split_once('=')?;
        let (.., fault) = FAULTS.into_iter().find(|(known, ..)| *known == kind)?;
        Order::parse(fault, order)
    });
    let mut orders = of_id.collect::<Option<Vec<_>>>()?;
    for (_, name, fault) in FAULTS {
        let text = variable(name).unwrap_or_default();
        for order in text.split(',').filter(|order| !order.is_empty()) {
            orders.push(Order::parse(fault, order)?);
        }
    }
    Some((address, orders))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(fault: Fault, operation: Operation, call: usize, rank: Option<usize>) -> Order {
        Order { fault, operation, call, rank }
    }

    #[test]
    fn orders_are_read_from_the_environment() {
        let id = write("127.0.0.1:4000".parse().unwrap());
        let with = |text: &'static str| {
            read_with(&id, move |name| (name == "STANDIN_LOSE").then(|| text.to_owned()))
        };
        let expected = vec![
            order(Fault::Lose, Operation::Recv, 1, Some(0)),
            order(Fault::Lose, Operation::Broadcast, 20, None),
        ];
        assert_eq!(with("recv:1@0,broadcast:20").unwrap().1, expected);
        assert_eq!(with("").unwrap().1, Vec::new());
        for wrong in ["recv", "recv:x", "recv:1@", "gather:1"] {
            assert_eq!(with(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_carries_the_address_and_the_orders() {
        let address: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let mut id = write(address);
        assert_eq!(read(&id), Some((address, Vec::new())));
        let extra = b";hang=allreduce:2@1;fail=send:3";
        id[14..14 + extra.len()].copy_from_slice(extra);
        let expected = vec![
            order(Fault::Hang, Operation::AllReduce, 2, Some(1)),
            order(Fault::Fail, Operation::Send, 3, None),
        ];
        assert_eq!(read(&id), Some((address, expected)));
        id[15] = b'x';
        assert_eq!(read(&id), None);
    }
}
