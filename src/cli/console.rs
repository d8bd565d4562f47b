//! `fullon console`

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::context::{CommandContext, block_on};
use super::error::Result;
use super::flags::scopes;
use super::output::{Output, notice};
use crate::auth::Scopes;
use crate::control::ConsoleAddress;
use crate::identity::identity;

#[derive(Debug, clap::Args)]
pub struct ConsoleArgs {
    /// Open the address in a browser: $BROWSER, or xdg-open
    #[arg(long)]
    open: bool,
    /// Scopes of the browser session, separated by commas
    #[arg(long, value_name = "SCOPES", default_value_t = Scopes::ALL, value_parser = scopes())]
    scope: Scopes,
}

pub fn run(context: &CommandContext, arguments: &ConsoleArgs, output: &Output) -> Result {
    let control = context.control()?;
    let address =
        block_on(control.console_address(arguments.scope))?.map_err(anyhow::Error::from)?;
    let seconds = address.expires_in_seconds;
    output.print_line(&address.page)?;
    notice(&format!("the address can be used once, within {seconds} s"));
    if arguments.open
        && let Err(error) = open(&address)
    {
        notice(&format!("cannot open a browser: {error}"));
    }
    output.print_json(&json!({ "address": address.page, "expires_in_seconds": seconds }))
}

/// Opens the address through a file that only this user can read, because the arguments of a program
/// are visible to all users. The file first loads the image that clears what another program may
/// have left in the browser while it listened on the port.
fn open(address: &ConsoleAddress) -> anyhow::Result<()> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let directory = directory.filter(|directory| directory.is_dir());
    let directory = directory.unwrap_or_else(std::env::temp_dir);
    let name = format!(
        "{}-console-{}.html",
        identity().command,
        uuid::Uuid::new_v4().simple()
    );
    let path = directory.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let title = format!("{} console", identity().product);
    let command = identity().command;
    let nonce = uuid::Uuid::new_v4().simple();
    // Both addresses consist of characters that have no meaning in a script.
    let ConsoleAddress {
        page, clear_image, ..
    } = address;
    // `reload` passes no cache by, `include` makes Chromium obey `Clear-Site-Data`, and without
    // CORS the response is hidden: only that of this daemon may be loaded from another origin. The
    // policy names schemes, because it cannot name an IPv6 address.
    writeln!(
        file,
        "<!doctype html>
<meta charset=\"utf-8\">
<meta name=\"referrer\" content=\"no-referrer\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-{nonce}'; connect-src http: https:; base-uri 'none'; form-action 'none'\">
<title>{title}</title>
<body>
<p>Opening the console …</p>
<script nonce=\"{nonce}\">
fetch(\"{clear_image}\", {{ mode: 'no-cors', cache: 'reload', credentials: 'include' }}).then(
  () => location.replace(\"{page}\"),
  () => {{ document.body.textContent = 'The daemon does not respond, or the address was used before. Run `{command} console --open` again.'; }});
</script>"
    )?;
    let browser = std::env::var_os("BROWSER").filter(|browser| !browser.is_empty());
    let browser = browser.unwrap_or_else(|| OsString::from("xdg-open"));
    let browser_process = Command::new(&browser)
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match browser_process {
        // The browser may read the file after this program has exited. The token in it is valid for
        // one minute only.
        Ok(_) => Ok(()),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(anyhow::anyhow!("{}: {error}", browser.display()))
        }
    }
}
