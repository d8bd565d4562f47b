//! A public server with an application, in process, whose workers are sockets of the test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fullon_master_api::config::{Flags, Limits, LiveSettings, Settings, SettingsLocation};
use fullon_master_api::health::{Health, Phase};
use fullon_master_api::proxy::{Balancer, Proxy, Upstream, UpstreamAddress};
use fullon_master_api::server::metrics::Metrics;
use fullon_master_api::server::public::{Mounts, service};
use fullon_master_api::server::{ConnectionPool, Shutdown, run};
use fullon_master_api::sys::listen;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::DEADLINE;

/// A server with an application.
pub struct Server {
    pub address: SocketAddr,
    pub balancer: Arc<Balancer>,
    pub proxy: Arc<Proxy>,
    pub shutdown: Shutdown,
    directory: TempDir,
    workers: AtomicUsize,
    runtime: Runtime,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[], |_| {})
    }

    /// With these settings, and limits of the server.
    pub fn with(settings: &[(&str, &str)], change: impl FnOnce(&mut Limits)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut flags: Flags = [("APP_COMMAND".to_owned(), "app {fd}".to_owned())].into();
        for (name, value) in settings {
            flags.insert((*name).to_owned(), (*value).to_owned());
        }
        let location = SettingsLocation {
            directory: directory.path().to_owned(),
            env_file: Some("/dev/null".into()),
            flags,
        };
        let settings = Settings::load(&location.read_sources()).unwrap();
        let settings = Arc::new(LiveSettings::new(location, settings));
        let mut limits = Limits {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(30),
            max_header_size: 16 * 1024,
            max_body_size: 1024,
            max_connections: 1000,
            admin_max_connections: 1000,
            failed_tokens_per_minute: 1000,
        };
        change(&mut limits);
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let health = Arc::new(Health::new(None));
        health.enter(Phase::Ready);
        let balancer = Arc::new(Balancer::new());
        let proxy = Proxy::new(Arc::clone(&balancer), Arc::clone(&settings));
        let service = service(
            health,
            Mounts::default(),
            Arc::new(ConnectionPool::new(limits, 1000)),
            &Metrics::new().unwrap(),
            shutdown.clone(),
            Some(settings),
            Some(Arc::clone(&proxy)),
        );
        runtime.spawn(run(listener, service, shutdown.clone()));
        drop(entered);
        Self {
            address,
            balancer,
            proxy,
            shutdown,
            directory,
            workers: AtomicUsize::new(0),
            runtime,
        }
    }

    /// Runs a future of the library.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A socket for a worker, and its address.
    pub fn socket(&self) -> (UnixListener, UpstreamAddress) {
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(number.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        (listener, UpstreamAddress::Unix(path))
    }

    /// Adds a worker whose connections the test accepts.
    pub fn worker(&self) -> (UnixListener, Arc<Upstream>) {
        let (listener, address) = self.socket();
        (listener, self.balancer.add(address))
    }

    /// Adds a worker that responds to each request with what `respond` returns.
    pub fn responder(
        &self,
        respond: impl Fn(&Request) -> String + Send + Sync + 'static,
    ) -> Arc<Upstream> {
        let (listener, upstream) = self.worker();
        let respond = Arc::new(respond);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut worker, respond) = (Worker::over(stream.unwrap()), Arc::clone(&respond));
                thread::spawn(move || {
                    while let Some(request) = worker.read_request() {
                        worker.send(&respond(&request));
                    }
                });
            }
        });
        upstream
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client { stream }
    }

    /// The whole response to this request on a connection of its own.
    pub fn ask(&self, request: &str) -> String {
        let mut client = self.client();
        client.send(request);
        client.read_to_end()
    }
}

/// A client that sees every byte.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the text is there.
    #[track_caller]
    pub fn read_until(&mut self, end: &str) -> String {
        read_until(&mut self.stream, end)
    }

    /// Breaks off the connection.
    pub fn reset(&self) {
        let at_once = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, at_once).unwrap();
    }

    /// Everything until the server closes the connection.
    pub fn read_to_end(&mut self) -> String {
        self.try_read_to_end().unwrap()
    }

    pub fn try_read_to_end(&mut self) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A connection that a worker has accepted.
pub struct Worker {
    pub stream: UnixStream,
}

/// A request as the worker got it.
#[derive(Debug)]
pub struct Request {
    /// With the empty line at its end.
    pub head: String,
    pub body: String,
}

impl Request {
    /// The values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        let fields = lines.filter_map(|line| line.split_once(": "));
        let values = fields.filter(|(there, _)| there.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value).collect()
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

impl Worker {
    pub fn accept(listener: &UnixListener) -> Self {
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        let mut sockets = [PollFd::new(listener, PollFlags::IN)];
        let ready = poll(&mut sockets, Some(&deadline)).unwrap();
        assert_eq!(ready, 1, "no connection within {DEADLINE:?}");
        Self::over(listener.accept().unwrap().0)
    }

    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads the headers of a request, byte by byte, so that nothing after them is lost.
    pub fn read_head(&mut self) -> Option<String> {
        let head = read_up_to(&mut self.stream, "\r\n\r\n");
        (!head.is_empty()).then_some(head)
    }

    /// Reads a request with the body that its framing announces; `None` at the end.
    pub fn read_request(&mut self) -> Option<Request> {
        let head = self.read_head()?;
        let mut request = Request {
            head,
            body: String::new(),
        };
        if request.all("transfer-encoding") == ["chunked"] {
            request.body = read_until(&mut self.stream, "0\r\n\r\n");
        } else if let [length] = request.all("content-length")[..] {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).unwrap();
            request.body = String::from_utf8(body).unwrap();
        }
        Some(request)
    }

    /// Reads until the text is there.
    #[track_caller]
    pub fn read_until(&mut self, end: &str) -> String {
        read_until(&mut self.stream, end)
    }

    /// Everything until the proxy closes the connection.
    pub fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Whether there is something to read.
    pub fn has_input(&self) -> bool {
        rustix::io::ioctl_fionread(&self.stream).is_ok_and(|length| length > 0)
    }

    /// Waits until the proxy has closed the connection.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection is still open: {other:?}"),
        }
    }
}

/// Reads until the text is there.
#[track_caller]
fn read_until(stream: &mut impl std::io::Read, end: &str) -> String {
    let text = read_up_to(stream, end);
    assert!(text.ends_with(end), "no {end:?} in {text:?}");
    text
}

/// Reads until the text is there, or the stream has ended.
fn read_up_to(stream: &mut impl std::io::Read, end: &str) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end.as_bytes()) && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A response with this body.
pub fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
}
