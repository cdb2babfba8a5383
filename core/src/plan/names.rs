//! The hostname and the domainname, and the hosts file with them.

use std::ffi::CString;

use super::call::{at_cwd, named};
use super::file_calls::open_write_close;
use super::kernel_filesystems::fresh_shm;
use super::mount_calls::mount;
use super::number;
use super::sequence::Sequence;
use super::setup::NamespaceSetup;
use crate::error::{Reason, Remedy, SpecError};
use crate::spec::Spec;
use crate::spec::namespaces::Kind;
use crate::step::Step;

/// Refuses names that sethostname(2) would refuse, and any name if the UTS namespace is shared.
pub(super) fn check(spec: &Spec) -> Result<(), SpecError> {
    let show = |name: &[u8]| format!("{:?}", String::from_utf8_lossy(name));
    for (option, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(name) = name else { continue };
        let wrong = |reason: Reason, remedy: Remedy| {
            Err(SpecError::new(option, show(name), reason, remedy))
        };
        if !(1..=64).contains(&name.len()) {
            return wrong(
                format!("it has {} bytes", name.len()).into(),
                "Give 1 to 64 bytes".into(),
            );
        }
        if CString::new(name.as_slice()).is_err() || name.iter().any(u8::is_ascii_whitespace) {
            return wrong(
                "it contains a NUL or white space".into(),
                "Leave that character out".into(),
            );
        }
        if !spec.namespaces.contains(Kind::Uts) {
            return wrong(
                Reason::shared_namespace(
                    "it would change the caller's, because the UTS namespace is shared",
                ),
                Remedy::with("{}", Kind::Uts.made_new()),
            );
        }
    }
    Ok(())
}

pub(super) fn set_names(sequence: &mut Sequence, spec: &Spec) {
    for (name, step, number) in [
        (&spec.hostname, Step::Hostname, number::SETHOSTNAME),
        (&spec.domainname, Step::Domainname, number::SETDOMAINNAME),
    ] {
        if let Some(name) = name {
            let buffer = sequence.buffer(name);
            sequence.call(step, number, [buffer, name.len().into()]);
        }
    }
}

/// Binds a new hosts file over /etc/hosts. The file is on a tmpfs that is covered or unmounted afterwards, which hides
/// its other name. It is not unlinked, because a container inside this one binds its own file over it, and the
/// kernel mounts nothing on an unlinked file.
pub(super) fn bind_hosts(sequence: &mut Sequence, content: &[u8], setup: &NamespaceSetup<'_>) {
    const STEP: Step = Step::Hosts;
    let shm_is_private = setup.new.contains(Kind::Ipc) && setup.host.shm;
    // Where /dev/shm is the caller's, a temporary tmpfs on /tmp holds the file.
    let (directory, file) = if shm_is_private {
        (None, c"/dev/shm/.minidocker-hosts")
    } else {
        (Some(c"/tmp"), c"/tmp/.minidocker-hosts")
    };
    if let Some(directory) = directory {
        let flags = named!(MS_NOSUID | MS_NODEV);
        mount(sequence, STEP, Some(c"tmpfs"), directory, Some(c"tmpfs"), flags, None);
    }
    let flags = named!(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
    open_write_close(sequence, STEP, (at_cwd(), file), content, flags, Some(0o644), false);
    mount(sequence, STEP, Some(file), c"/etc/hosts", None, named!(MS_BIND), None);
    if let Some(directory) = directory {
        let path = sequence.text(directory);
        sequence.call(STEP, number::UMOUNT2, [path, named!(MNT_DETACH)]).about(directory);
    } else {
        fresh_shm(sequence, STEP).note("covers the file's other name");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_hostname_is_counted_in_bytes() {
        let spec = |name: &str| Spec { hostname: Some(name.into()), ..Spec::default() };
        assert!(check(&spec(&"é".repeat(32))).is_ok());
        assert!(check(&spec(&"é".repeat(33))).is_err());
        assert!(check(&spec(&"a".repeat(64))).is_ok());
        assert!(check(&spec(&"a".repeat(65))).is_err());
        assert!(check(&spec("")).is_err());
    }
}
