//! Timeouts of slow clients, on a paused clock.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::Server;

/// Reads without waiting. `None` if nothing has arrived and the connection is open.
fn try_read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = [0; 4096];
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn timeouts_close_slow_clients_but_not_slow_handlers() {
    async fn let_the_server_run() {
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }

    let server = Server::start();
    let open = |text: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut slow_headers = open("GET /health HTTP/1.1\r\nHos");
    let mut idle = open("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut silent = open("");
    let mut slow_answer = open("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut slow_body = open("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234");
    let_the_server_run().await;
    assert!(try_read(&mut idle).unwrap().starts_with("HTTP/1.1 200"));
    let after = async |milliseconds| {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
        let_the_server_run().await;
    };
    after(9_900).await;
    for stream in [
        &mut slow_headers,
        &mut idle,
        &mut silent,
        &mut slow_answer,
        &mut slow_body,
    ] {
        assert_eq!(try_read(stream), None);
    }
    after(200).await;
    let response = try_read(&mut slow_headers).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 408 ") && response.contains("did not arrive within 10s"),
        "{response}"
    );
    assert_eq!(try_read(&mut silent).as_deref(), Some(""));
    // Request headers that begin late get the full timeout.
    idle.write_all(b"GET /hea").unwrap();
    let_the_server_run().await;
    after(9_800).await;
    assert_eq!(
        (try_read(&mut idle), try_read(&mut slow_body)),
        (None, None)
    );
    after(300).await;
    assert!(try_read(&mut idle).unwrap().starts_with("HTTP/1.1 408 "));
    let response = try_read(&mut slow_body).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 408 ")
            && response.contains("the request body did not arrive within 20s"),
        "{response}"
    );
    let mut kept = open("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let_the_server_run().await;
    assert!(try_read(&mut kept).unwrap().starts_with("HTTP/1.1 200"));
    after(29_800).await;
    assert_eq!(try_read(&mut kept), None);
    after(300).await;
    assert_eq!(try_read(&mut kept).as_deref(), Some(""));
    assert_eq!(try_read(&mut slow_answer), None);
    server.permits.add_permits(1);
    let_the_server_run().await;
    assert!(try_read(&mut slow_answer).unwrap().ends_with("done"));
}
