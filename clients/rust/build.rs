//! Generates the client from the document of the daemon, after two changes for progenitor.

use std::path::PathBuf;
use std::{env, fs};

use progenitor::{GenerationSettings, Generator, InterfaceStyle};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let document = "../../openapi/admin.json";
    println!("cargo::rerun-if-changed={document}");
    // Progenitor supports only `application/json`, not `application/problem+json`.
    let text =
        fs::read_to_string(document)?.replace("application/problem+json", "application/json");
    let mut document: openapiv3::OpenAPI = serde_json::from_str(&text)?;
    // Progenitor takes `default` for a success type, too. Every error has its own response.
    for (_, item) in &mut document.paths.paths {
        let openapiv3::ReferenceOr::Item(item) = item else {
            continue;
        };
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            operation.responses.default = None;
        }
    }
    let mut settings = GenerationSettings::default();
    settings.with_interface(InterfaceStyle::Builder);
    let tokens = Generator::new(&settings).generate_tokens(&document)?;
    let code = prettyplease::unparse(&syn::parse2(tokens)?);
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("client.rs"), code)?;
    Ok(())
}
