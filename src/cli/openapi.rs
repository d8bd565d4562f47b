//! `fullon openapi`

use std::io::Write as _;

use super::error::Result;
use super::output::Output;
use crate::server::{admin_document, public_document};

#[derive(Debug, clap::Args)]
pub struct OpenapiArgs {
    /// API to print the document of
    api: Api,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Api {
    Public,
    Admin,
}

pub fn run(arguments: &OpenapiArgs, output: &Output) -> Result {
    let document = match arguments.api {
        Api::Public => public_document(),
        Api::Admin => admin_document(),
    };
    if output.is_json() {
        return output.print_json(&document);
    }
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}
