//! A service with its own API that runs as a daemon: `cargo run --example embed -- start`, then
//! `curl http://127.0.0.1:8000/shop/hello/you`. The program has all commands of `fullon`, such as
//! `stop`, `restart`, `status` and `logs`, and the admin API.

use std::process::ExitCode;

use fullon_master_api::App;
use poem_openapi::param::Path;
use poem_openapi::payload::PlainText;
use poem_openapi::{OpenApi, OpenApiService};

struct Shop;

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl Shop {
    /// Greets a customer.
    #[oai(path = "/hello/:name", method = "get")]
    async fn hello(&self, name: Path<String>) -> PlainText<String> {
        tracing::info!(customer = *name, "greeted");
        PlainText(format!("Hello, {}!", *name))
    }
}

fn main() -> ExitCode {
    let shop = OpenApiService::new(Shop, "Shop", "1.0.0");
    App::new().mount_api("/shop", shop).main()
}
