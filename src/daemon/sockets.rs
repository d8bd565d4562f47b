//! The listening sockets: inherited from a predecessor, passed by systemd, or bound here.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd as _;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Settings;
use crate::instance::{InheritedSocket, Role, listener_on};
use crate::server;

/// A socket that this process did not bind.
#[derive(Debug)]
pub struct Passed {
    /// What it is for, if whoever passed it said so.
    role: Option<Role>,
    /// The address in the settings of whoever bound it; `None` when that is not known, and its role is enough.
    configured: Option<SocketAddr>,
    listener: StdListener,
}

impl Passed {
    /// One that systemd passed under a name.
    pub fn by_name(name: &str, listener: StdListener) -> Self {
        let role = match name {
            "public" => Some(Role::Public),
            "admin" => Some(Role::Admin),
            _ => None,
        };
        Self {
            role,
            configured: None,
            listener,
        }
    }

    fn suits(&self, role: Role, wanted: SocketAddr) -> bool {
        self.role == Some(role) && self.configured.is_none_or(|address| address == wanted)
    }

    fn listens_at(&self, wanted: SocketAddr) -> bool {
        let is_free = self.role.is_none() || self.configured.is_some();
        is_free
            && self
                .listener
                .local_addr()
                .is_ok_and(|there| there == wanted)
    }
}

impl From<InheritedSocket> for Passed {
    fn from(socket: InheritedSocket) -> Self {
        Self {
            role: Some(socket.role),
            configured: socket.configured,
            listener: socket.listener,
        }
    }
}

/// The two listeners.
pub struct Sockets {
    pub public: TcpListener,
    pub admin: TcpListener,
    /// Sockets of single addresses, from before the public listener was one of all addresses: connections to these addresses
    /// go to them for as long as they exist, and wait there when they are closed.
    pub also_public: Vec<TcpListener>,
    /// Where the settings say that they are; `None` for one that systemd gave for its role, wherever it is.
    configured: [Option<SocketAddr>; 2],
}

impl Sockets {
    /// Takes those that fit the settings, and binds the rest. What is not needed is closed.
    pub fn open(
        settings: &Settings,
        passed: Vec<Passed>,
        are_from_systemd: bool,
    ) -> Result<Self, StartError> {
        let mut passed = passed;
        let public = take(&mut passed, Role::Public, settings.public);
        let admin = take(&mut passed, Role::Admin, settings.admin);
        if are_from_systemd && let Some(unknown) = passed.first() {
            return Err(StartError::UnknownSocket(
                unknown.listener.local_addr().map_err(StartError::Socket)?,
            ));
        }
        let configured = |found: &Option<Passed>, address| match found {
            Some(socket) if socket.role.is_some() => socket.configured.map(|_| address),
            _ => Some(address),
        };
        let configured = [
            configured(&public, settings.public),
            configured(&admin, settings.admin),
        ];
        let open = |setting, found: Option<Passed>, address| match found {
            Some(found) => server::adopt(found.listener).map_err(StartError::Socket),
            None => bind(setting, address, &passed),
        };
        let (public, admin) = (
            open("PORT", public, settings.public)?,
            open("ADMIN_PORT", admin, settings.admin)?,
        );
        let covering = public.local_addr().map_err(StartError::Socket)?;
        let is_covered = |socket: &Passed| {
            let there = socket.listener.local_addr();
            there.is_ok_and(|there| {
                covering.ip().is_unspecified()
                    && (there.port(), there.is_ipv4()) == (covering.port(), covering.is_ipv4())
            })
        };
        let mut also_public = Vec::new();
        for socket in passed.into_iter().filter(is_covered) {
            also_public.push(server::adopt(socket.listener).map_err(StartError::Socket)?);
        }
        let sockets = Self {
            public,
            admin,
            also_public,
            configured,
        };
        let admin = sockets.admin.local_addr().map_err(StartError::Socket)?;
        if !admin.ip().is_loopback() {
            return Err(StartError::AdminNotLoopback(admin));
        }
        Ok(sockets)
    }

    /// The same sockets once more, for a successor.
    pub fn share(&self) -> io::Result<Vec<InheritedSocket>> {
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
            share(Role::Public, public, &self.public)?,
            share(Role::Admin, admin, &self.admin)?,
        ];
        for listener in &self.also_public {
            shared.push(share(Role::Public, listener.local_addr().ok(), listener)?);
        }
        Ok(shared)
    }
}

fn take(passed: &mut Vec<Passed>, role: Role, wanted: SocketAddr) -> Option<Passed> {
    let at = passed
        .iter()
        .position(|socket| socket.suits(role, wanted))
        .or_else(|| passed.iter().position(|socket| socket.listens_at(wanted)))?;
    Some(passed.remove(at))
}

fn bind(
    setting: &'static str,
    address: SocketAddr,
    unused: &[Passed],
) -> Result<TcpListener, StartError> {
    let in_the_way = || {
        unused.iter().find(|socket| {
            let there = socket.listener.local_addr();
            there.is_ok_and(|there| there.port() == address.port())
        })
    };
    let bound = match server::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match in_the_way() {
            Some(socket) => server::bind_beside(address, &socket.listener),
            None => Err(error),
        },
        other => other,
    };
    bound.map_err(|source| StartError::Bind {
        setting,
        address,
        owner: (source.kind() == io::ErrorKind::AddrInUse)
            .then(|| listener_on(address.port()))
            .flatten()
            .map(|process| process.describe()),
        source,
    })
}
