//! The listening sockets: inherited from a predecessor, passed by systemd, or bound here.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd as _;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Settings;
use crate::instance::{InheritedSocket, SocketRole, find_listener};
use crate::server;

/// A socket that this process did not bind.
#[derive(Debug)]
pub struct PassedSocket {
    /// What it is for, if whoever passed it said so.
    role: Option<SocketRole>,
    /// The address in the settings of whoever bound it; `None` when that is not known, and its role is enough.
    configured: Option<SocketAddr>,
    listener: StdListener,
}

impl PassedSocket {
    /// One that systemd passed under a name.
    pub fn by_name(name: &str, listener: StdListener) -> Self {
        let role = match name {
            "public" => Some(SocketRole::Public),
            "admin" => Some(SocketRole::Admin),
            _ => None,
        };
        Self {
            role,
            configured: None,
            listener,
        }
    }

    fn matches_role(&self, role: SocketRole, wanted: SocketAddr) -> bool {
        self.role == Some(role) && self.configured.is_none_or(|address| address == wanted)
    }

    fn matches_address(&self, wanted: SocketAddr) -> bool {
        let is_free = self.role.is_none() || self.configured.is_some();
        is_free
            && self
                .listener
                .local_addr()
                .is_ok_and(|there| there == wanted)
    }
}

impl From<InheritedSocket> for PassedSocket {
    fn from(socket: InheritedSocket) -> Self {
        Self {
            role: Some(socket.role),
            configured: socket.configured,
            listener: socket.listener,
        }
    }
}

/// The two listeners.
pub struct ListeningSockets {
    pub public: TcpListener,
    pub admin: TcpListener,
    /// Sockets of single addresses, from before the public listener was one of all addresses: connections to these addresses
    /// go to them for as long as they exist, and wait there when they are closed.
    pub extra_public: Vec<TcpListener>,
    /// Where the settings say that they are; `None` for one that systemd gave for its role, wherever it is.
    configured: [Option<SocketAddr>; 2],
}

impl ListeningSockets {
    /// Takes those that fit the settings, and binds the rest. What is not needed is closed.
    pub fn open(
        settings: &Settings,
        passed: Vec<PassedSocket>,
        are_from_systemd: bool,
    ) -> Result<Self, StartError> {
        let mut passed = passed;
        let public = take_matching(&mut passed, SocketRole::Public, settings.public);
        let admin = take_matching(&mut passed, SocketRole::Admin, settings.admin);
        if are_from_systemd && let Some(unknown) = passed.first() {
            return Err(StartError::UnknownSocket(
                unknown.listener.local_addr().map_err(StartError::Socket)?,
            ));
        }
        let configured = |found: &Option<PassedSocket>, address| match found {
            Some(socket) if socket.role.is_some() => socket.configured.map(|_| address),
            _ => Some(address),
        };
        let configured = [
            configured(&public, settings.public),
            configured(&admin, settings.admin),
        ];
        let open = |setting, found: Option<PassedSocket>, address| match found {
            Some(found) => server::listener_from_std(found.listener).map_err(StartError::Socket),
            None => bind_setting(setting, address, &passed),
        };
        let (public, admin) = (
            open("PORT", public, settings.public)?,
            open("ADMIN_PORT", admin, settings.admin)?,
        );
        let covering = public.local_addr().map_err(StartError::Socket)?;
        let is_covered = |socket: &PassedSocket| {
            let there = socket.listener.local_addr();
            there.is_ok_and(|there| {
                covering.ip().is_unspecified()
                    && (there.port(), there.is_ipv4()) == (covering.port(), covering.is_ipv4())
            })
        };
        let mut also_public = Vec::new();
        for socket in passed.into_iter().filter(is_covered) {
            also_public
                .push(server::listener_from_std(socket.listener).map_err(StartError::Socket)?);
        }
        let sockets = Self {
            public,
            admin,
            extra_public: also_public,
            configured,
        };
        let admin = sockets.admin.local_addr().map_err(StartError::Socket)?;
        if !admin.ip().is_loopback() {
            return Err(StartError::AdminNotLoopback(admin));
        }
        Ok(sockets)
    }

    /// The same sockets once more, for a successor.
    pub fn clone_for_handoff(&self) -> io::Result<Vec<InheritedSocket>> {
        let share = |role, configured, listener: &TcpListener| {
            let listener = listener.as_fd().try_clone_to_owned()?.into();
            io::Result::Ok(InheritedSocket {
                role,
                configured,
                listener,
            })
        };
        let [public, admin] = self.configured;
        let mut shared = vec![
            share(SocketRole::Public, public, &self.public)?,
            share(SocketRole::Admin, admin, &self.admin)?,
        ];
        for listener in &self.extra_public {
            shared.push(share(
                SocketRole::Public,
                listener.local_addr().ok(),
                listener,
            )?);
        }
        Ok(shared)
    }
}

fn take_matching(
    passed: &mut Vec<PassedSocket>,
    role: SocketRole,
    wanted: SocketAddr,
) -> Option<PassedSocket> {
    let at = passed
        .iter()
        .position(|socket| socket.matches_role(role, wanted))
        .or_else(|| {
            passed
                .iter()
                .position(|socket| socket.matches_address(wanted))
        })?;
    Some(passed.remove(at))
}

fn bind_setting(
    setting: &'static str,
    address: SocketAddr,
    unused: &[PassedSocket],
) -> Result<TcpListener, StartError> {
    let in_the_way = || {
        unused.iter().find(|socket| {
            let there = socket.listener.local_addr();
            there.is_ok_and(|there| there.port() == address.port())
        })
    };
    let bound = match server::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match in_the_way() {
            Some(socket) => server::bind_overlapping(address, &socket.listener),
            None => Err(error),
        },
        other => other,
    };
    bound.map_err(|source| StartError::Bind {
        setting,
        address,
        owner: (source.kind() == io::ErrorKind::AddrInUse)
            .then(|| find_listener(address.port()))
            .flatten()
            .map(|process| process.describe()),
        source,
    })
}
