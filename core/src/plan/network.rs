//! The network namespace: loopback, and the groups that may open ICMP sockets.

use super::call::{Arg, named};
use super::file_calls::write_file;
use super::kernel_filesystems::KernelFilesystems;
use super::number;
use super::sequence::Sequence;
use crate::host::Host;
use crate::host::id_pool::RANGE;
use crate::host::ids::Ids;
use crate::spec::{CommandSpec, IdMap, Spec};
use crate::step::Step;

/// `ip link set lo up`, which gives `127.0.0.1` and `::1`.
pub(super) fn loopback_up(sequence: &mut Sequence) {
    let socket = sequence.cell();
    let args = [named!(AF_INET), named!(SOCK_DGRAM | SOCK_CLOEXEC), Arg::Int(0)];
    sequence.call(Step::Loopback, number::SOCKET, args).into(socket);
    // struct ifreq: the name in 16 bytes, then the flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let request = sequence.structure(&request, "{\"lo\", IFF_UP|IFF_RUNNING}");
    let args = [socket.into(), named!(SIOCSIFFLAGS), request];
    sequence.call(Step::Loopback, number::IOCTL, args).note("127.0.0.1 and ::1");
    sequence.call(Step::Loopback, number::CLOSE, [socket.into()]);
}

/// The range of mapped groups, which may open ICMP sockets.
pub(super) fn ping_group_range(
    spec: &Spec,
    host: &Host,
    command: Option<&CommandSpec>,
    ids: Option<Ids>,
) -> (u32, u32) {
    /// The kernel's `GID_T_MAX`.
    const LAST: u32 = u32::MAX >> 1;
    let group = command.and_then(|command| command.group);
    let single = ids.map_or(0, |ids| group.unwrap_or(ids.gid));
    match &spec.gid_map {
        IdMap::Caller if host.id_pool.is_some() => (0, RANGE - 1),
        IdMap::Caller if host.uid == 0 => {
            let rows = host.gid_rows.first();
            rows.map_or((0, LAST), |row| (row.inside, (row.inside + (row.count - 1)).min(LAST)))
        }
        IdMap::Rows(rows) => rows
            .first()
            .map_or((single, single), |row| (row.inside, (row.inside + (row.count - 1)).min(LAST))),
        _ => (single, single),
    }
}

/// Allows ICMP sockets, which a new network namespace forbids even to its root. Ignores a failure: if /proc/sys is not
/// writable, ping needs `CAP_NET_RAW`, which root inside has.
pub(super) fn allow_ping(
    sequence: &mut Sequence,
    (first, last): (u32, u32),
    kernel_fs: KernelFilesystems,
) {
    let range = format!("{first} {last}");
    let at = kernel_fs.in_proc(c"/proc/sys/net/ipv4/ping_group_range");
    write_file(sequence, Step::Ping, at, range.as_bytes(), true);
}
