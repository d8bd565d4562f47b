//! The contenders and their restart commands.

use std::ffi::OsString;

use anyhow::Result;

use crate::contender::{CommandLine, Contender};
use crate::ports::Ports;
use crate::progress::report_skipped;
use crate::rivals::{self, ContenderBuilder, FULLON};

/// Fullon without a restart: the delays that the machine alone causes.
pub const NO_RESTART: &str = "no restart";

/// One column of the table.
pub struct RestartMethod {
    pub name: &'static str,
    pub contender: Contender,
    /// Run one after the other.
    pub commands: Vec<CommandLine>,
}

type Builder = fn(&'static str, &mut Ports) -> Result<RestartMethod>;

/// The methods that can run here. Reports the others.
pub fn available_methods(ports: &mut Ports) -> Vec<RestartMethod> {
    let builders: [(&'static str, Builder); 5] = [
        (FULLON, fullon),
        (NO_RESTART, no_restart),
        ("nginx reload", nginx_reload),
        ("nginx upgrade", nginx_upgrade),
        ("original", original),
    ];
    let mut methods = Vec::new();
    for (name, builder) in builders {
        match builder(name, ports) {
            Ok(method) => methods.push(method),
            Err(error) => report_skipped(&format!("the restart of {name}"), &error),
        }
    }
    methods
}

fn fullon(name: &'static str, ports: &mut Ports) -> Result<RestartMethod> {
    let contender = rivals::fullon_with(ports, [])?;
    let commands = vec![vec![contender.start[0].clone(), "restart".into()]];
    Ok(RestartMethod {
        name,
        contender,
        commands,
    })
}

fn no_restart(name: &'static str, ports: &mut Ports) -> Result<RestartMethod> {
    Ok(RestartMethod {
        name,
        contender: rivals::fullon_with(ports, [])?,
        commands: Vec::new(),
    })
}

fn nginx_reload(name: &'static str, ports: &mut Ports) -> Result<RestartMethod> {
    let contender = rivals::nginx_contender(ContenderBuilder::new(name, ports)?)?;
    let signal = ["-s", "reload"].map(OsString::from);
    let reload = contender.start.iter().cloned().chain(signal).collect();
    Ok(RestartMethod {
        name,
        contender,
        commands: vec![reload],
    })
}

fn nginx_upgrade(name: &'static str, ports: &mut Ports) -> Result<RestartMethod> {
    let builder = ContenderBuilder::new(name, ports)?;
    let script = include_str!("../../rivals/upgrade-nginx.sh");
    let upgrade = vec!["sh".into(), builder.write_file("upgrade-nginx.sh", script)?];
    Ok(RestartMethod {
        name,
        contender: rivals::nginx_contender(builder)?,
        commands: vec![upgrade],
    })
}

fn original(name: &'static str, ports: &mut Ports) -> Result<RestartMethod> {
    let contender = rivals::original_contender(ContenderBuilder::new(name, ports)?)?;
    let stop = contender.stop.iter().cloned();
    let commands = stop.chain([contender.start.clone()]).collect();
    Ok(RestartMethod {
        name,
        contender,
        commands,
    })
}
