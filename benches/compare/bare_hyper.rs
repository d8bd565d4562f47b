//! The baseline for throughput: hyper alone, on the runtime that fullon uses.
//!
//! A mode of the benchmark's program, so that compiler, settings and allocator are the same.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::health;

/// The first argument of this mode. The second is the port.
pub const MODE: &str = "serve-bare-hyper";

/// Serves until it is killed.
pub fn serve(port: &str) -> Result<()> {
    let port: u16 = port.parse().context("the port")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve_connection(stream));
        }
    })
}

async fn serve_connection(stream: TcpStream) {
    let service = service_fn(|_| async {
        let mut response = hyper::Response::new(Full::new(Bytes::from_static(health::BODY)));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok::<_, Infallible>(response)
    });
    // A client may close its connection in any way.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
