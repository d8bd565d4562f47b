//! The listening sockets: inherited from the old process, passed by systemd, or bound here.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd as _;

use tokio::net::TcpListener;

use crate::config::Settings;
use crate::daemon::error::StartError;
use crate::instance::{InheritedSocket, Occupant, SocketRole};
use crate::sys::{self, HeldPort, LoneListener, SocketId};

/// A listening socket that this process did not bind.
#[derive(Debug)]
pub struct PassedSocket {
    /// `None` when it was passed without a known name.
    role: Option<SocketRole>,
    /// The address in the settings of the process that bound it. `None` for a socket from systemd,
    /// which is used for its role wherever it listens.
    configured: Option<SocketAddr>,
    /// See [`InheritedSocket::is_exclusive`].
    is_exclusive: bool,
    listener: StdListener,
}

impl PassedSocket {
    /// A socket that systemd passed under a name (`FileDescriptorName=`).
    pub fn from_systemd(name: &str, listener: StdListener) -> Self {
        let role = match name {
            "public" => Some(SocketRole::Public),
            "admin" => Some(SocketRole::Admin),
            _ => None,
        };
        Self {
            role,
            configured: None,
            is_exclusive: false,
            listener,
        }
    }

    fn matches_role(&self, role: SocketRole, address: SocketAddr) -> bool {
        self.role == Some(role)
            && self
                .configured
                .is_none_or(|configured| configured == address)
    }

    fn matches_address(&self, address: SocketAddr) -> bool {
        let is_unassigned = self.role.is_none() || self.configured.is_some();
        is_unassigned
            && self
                .listener
                .local_addr()
                .is_ok_and(|local| local == address)
    }

    /// The role of a socket that is served wherever it listens: systemd passed it for this role.
    fn fixed_role(&self) -> Option<SocketRole> {
        self.role.filter(|_| self.configured.is_none())
    }

    fn has_port_of(&self, address: SocketAddr) -> bool {
        let local = self.listener.local_addr();
        local.is_ok_and(|local| local.port() == address.port())
    }

    /// Whether a listener on all addresses of the same port accepts the connections to this one.
    fn is_covered_by(&self, listener: SocketAddr) -> bool {
        self.listener.local_addr().is_ok_and(|local| {
            listener.ip().is_unspecified()
                && (local.port(), local.is_ipv4()) == (listener.port(), listener.is_ipv4())
        })
    }
}

impl From<InheritedSocket> for PassedSocket {
    fn from(socket: InheritedSocket) -> Self {
        Self {
            role: Some(socket.role),
            configured: socket.configured,
            is_exclusive: socket.is_exclusive,
            listener: socket.listener,
        }
    }
}

/// A further socket of a port.
pub struct ExtraSocket {
    pub role: SocketRole,
    /// See [`InheritedSocket::configured`].
    configured: Option<SocketAddr>,
    is_exclusive: bool,
    pub address: SocketAddr,
    pub listener: TcpListener,
}

impl ExtraSocket {
    /// Takes a socket that was left over, if it has to be served.
    fn adopt(socket: PassedSocket, public: SocketAddr) -> Option<io::Result<Self>> {
        let role = socket
            .fixed_role()
            .or_else(|| socket.is_covered_by(public).then_some(SocketRole::Public))?;
        let is_fixed = socket.fixed_role().is_some();
        let is_exclusive = socket.is_exclusive;
        let adopted = sys::adopt_listener(socket.listener).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Self {
                role,
                configured: (!is_fixed).then_some(address),
                is_exclusive,
                address,
                listener,
            })
        });
        Some(adopted)
    }
}

/// The sockets of both ports.
pub struct ListeningSockets {
    pub public: TcpListener,
    pub public_address: SocketAddr,
    pub admin: TcpListener,
    pub admin_address: SocketAddr,
    pub admin_id: SocketId,
    /// The port of `admin`. `None` if it cannot be held, because another program made the socket.
    pub admin_port: Option<HeldPort>,
    /// Further sockets of both ports: those that systemd passed, such as one for IPv4 and one for
    /// IPv6, and those for single addresses, left over from before `public` listened on all
    /// addresses. The kernel sends connections to these addresses to them while they exist, so they
    /// must be served; connections that wait in them would be lost if they were closed.
    pub extra: Vec<ExtraSocket>,
    /// The addresses of `public` and `admin` in the settings; `None` for a socket that systemd
    /// passed for its role, wherever it listens.
    configured: [Option<SocketAddr>; 2],
    /// Whether `admin` is. See [`InheritedSocket::is_exclusive`].
    is_exclusive: bool,
}

impl ListeningSockets {
    /// Takes the passed sockets that match the settings, and binds the others. Passed sockets that
    /// are not needed are closed; if they came from systemd, they are an error.
    pub fn open(
        settings: &Settings,
        mut passed: Vec<PassedSocket>,
        are_from_systemd: bool,
    ) -> Result<Self, StartError> {
        let public = take_matching(&mut passed, SocketRole::Public, settings.public);
        let admin = take_matching(&mut passed, SocketRole::Admin, settings.admin);
        let is_unknown = |socket: &&PassedSocket| socket.fixed_role().is_none();
        if are_from_systemd && let Some(unknown) = passed.iter().find(is_unknown) {
            return Err(StartError::UnknownSocket(
                unknown.listener.local_addr().map_err(StartError::Socket)?,
            ));
        }
        let configured = [
            configured_address(public.as_ref(), settings.public),
            configured_address(admin.as_ref(), settings.admin),
        ];
        let public = match public {
            Some(socket) => adopt(socket.listener)?,
            None => bind("PORT", settings.public, &passed)?,
        };
        let (admin, admin_port, mut is_exclusive) = match admin {
            Some(socket) => (adopt(socket.listener)?, None, socket.is_exclusive),
            None => bind_admin(settings.admin, &passed)?,
        };
        let admin_address = admin.local_addr().map_err(StartError::Socket)?;
        // Such as that of the public port, after `PORT` and `ADMIN_PORT` were exchanged.
        let replaced: Vec<_> = passed
            .iter()
            .filter(|socket| socket.fixed_role().is_none() && socket.has_port_of(admin_address))
            .map(|socket| &socket.listener)
            .collect();
        let admin_port = match admin_port.map_or_else(|| sys::hold_port(&admin, &replaced), Ok) {
            Ok(port) => Some(port),
            // A port that systemd passed belongs to root.
            Err(_) if configured[1].is_none() => None,
            Err(source) => return Err(unheld_port(admin_address, source)),
        };
        let public_address = public.local_addr().map_err(StartError::Socket)?;
        let mut extra: Vec<ExtraSocket> = passed
            .into_iter()
            .filter_map(|socket| ExtraSocket::adopt(socket, public_address))
            .collect::<Result<_, _>>()
            .map_err(StartError::Socket)?;
        check_admin(admin_address, &mut is_exclusive)?;
        for socket in extra.iter_mut().filter(|it| it.role == SocketRole::Admin) {
            check_admin(socket.address, &mut socket.is_exclusive)?;
        }
        let admin_id = SocketId::of(&admin).map_err(StartError::Socket)?;
        Ok(Self {
            public,
            public_address,
            admin,
            admin_address,
            admin_id,
            admin_port,
            extra,
            configured,
            is_exclusive,
        })
    }

    /// Duplicates the sockets for a later successor.
    pub fn clone_for_handoff(&self) -> io::Result<Vec<InheritedSocket>> {
        let clone = |role, configured, is_exclusive, listener: &TcpListener| {
            io::Result::Ok(InheritedSocket {
                role,
                configured,
                is_exclusive,
                listener: listener.as_fd().try_clone_to_owned()?.into(),
            })
        };
        let [public, admin] = self.configured;
        let mut sockets = vec![
            clone(SocketRole::Public, public, false, &self.public)?,
            clone(SocketRole::Admin, admin, self.is_exclusive, &self.admin)?,
        ];
        for extra in &self.extra {
            let (configured, is_exclusive) = (extra.configured, extra.is_exclusive);
            sockets.push(clone(
                extra.role,
                configured,
                is_exclusive,
                &extra.listener,
            )?);
        }
        Ok(sockets)
    }
}

/// Why the port of the admin API cannot be held. Other users could bind it at a multicast address and
/// take over connections.
fn unheld_port(admin: SocketAddr, source: io::Error) -> StartError {
    match sys::other_socket_at_port(admin) {
        Ok(Some(socket)) => StartError::SharedAdminPort(socket.into()),
        Ok(None) | Err(_) => StartError::UncheckedAdminPort {
            port: admin.port(),
            source,
        },
    }
}

/// Checks that an admin socket, which listens, is at a loopback address, and that no other user has
/// a socket there, unless that is known.
fn check_admin(address: SocketAddr, is_exclusive: &mut bool) -> Result<(), StartError> {
    if !address.ip().is_loopback() {
        return Err(StartError::AdminNotLoopback(address));
    }
    if !*is_exclusive {
        let port = address.port();
        match sys::foreign_socket_in_repeated_looks(port) {
            Ok(None) => *is_exclusive = true,
            Ok(Some(socket)) => return Err(StartError::SharedAdminPort(socket.into())),
            Err(source) => return Err(StartError::UncheckedAdminPort { port, source }),
        }
    }
    Ok(())
}

/// Removes the socket for a role from `passed`: by its role first, then by its address.
fn take_matching(
    passed: &mut Vec<PassedSocket>,
    role: SocketRole,
    address: SocketAddr,
) -> Option<PassedSocket> {
    let position = passed
        .iter()
        .position(|socket| socket.matches_role(role, address))
        .or_else(|| {
            passed
                .iter()
                .position(|socket| socket.matches_address(address))
        })?;
    Some(passed.remove(position))
}

/// The address to note for a successor.
fn configured_address(passed: Option<&PassedSocket>, address: SocketAddr) -> Option<SocketAddr> {
    match passed {
        Some(socket) if socket.role.is_some() => socket.configured.map(|_| address),
        _ => Some(address),
    }
}

fn adopt(listener: StdListener) -> Result<TcpListener, StartError> {
    sys::adopt_listener(listener).map_err(StartError::Socket)
}

/// Binds the address of the admin API, and holds its port. Returns whether it is known that no other
/// user has a socket there.
fn bind_admin(
    address: SocketAddr,
    unused: &[PassedSocket],
) -> Result<(TcpListener, Option<HeldPort>, bool), StartError> {
    match sys::listen_alone(address) {
        Ok(LoneListener {
            listener,
            port,
            is_alone,
        }) => Ok((listener, Some(port), is_alone)),
        // A socket of the old process may occupy the port.
        Err(_) => bind("ADMIN_PORT", address, unused).map(|listener| (listener, None, false)),
    }
}

/// Binds an address, also while a passed socket that is no longer needed occupies its port.
fn bind(
    setting: &'static str,
    address: SocketAddr,
    unused: &[PassedSocket],
) -> Result<TcpListener, StartError> {
    let conflicting = || unused.iter().find(|socket| socket.has_port_of(address));
    let listener = match sys::listen(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match conflicting() {
            Some(socket) => sys::listen_overlapping(address, &socket.listener),
            None => Err(error),
        },
        other => other,
    };
    listener.map_err(|source| StartError::Bind {
        setting,
        address,
        occupant: (source.kind() == io::ErrorKind::AddrInUse)
            .then(|| Occupant::find(address, None))
            .flatten(),
        source,
    })
}
