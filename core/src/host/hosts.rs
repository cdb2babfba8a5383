//! The content of /etc/hosts in a container.

use super::settings::settings;
use crate::spec::Spec;

/// The content of `hosts` after a line with the container's name.
pub(crate) fn hosts_file(hostname: &[u8], domainname: Option<&[u8]>, hosts: &[u8]) -> Vec<u8> {
    let mut content = b"127.0.1.1\t".to_vec();
    if let Some(domainname) = domainname {
        content.extend_from_slice(hostname);
        content.push(b'.');
        content.extend_from_slice(domainname);
        content.push(b' ');
    }
    content.extend_from_slice(hostname);
    content.push(b'\n');
    content.extend_from_slice(hosts);
    content
}

/// A hosts file for the container's own root: with the caller's content if the network is shared, else with localhost.
pub(super) fn own_hosts_file(spec: &Spec, hostname: &[u8], network_is_shared: bool) -> Vec<u8> {
    const LOCAL: &[u8] = b"127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        ff02::1\tip6-allnodes\n\
        ff02::2\tip6-allrouters\n";
    let callers = network_is_shared.then(|| settings("/etc/hosts")).flatten();
    let rest = callers.as_deref().unwrap_or(LOCAL);
    hosts_file(hostname, spec.domainname.as_deref(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hostname_comes_first_in_the_hosts_file() {
        let content = hosts_file(b"db", Some(b"example.org"), b"127.0.0.1 localhost\n");
        assert_eq!(content, b"127.0.1.1\tdb.example.org db\n127.0.0.1 localhost\n");
    }
}
