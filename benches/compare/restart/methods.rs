//! Who is restarted, and how.

use std::ffi::OsString;

use anyhow::{Error, Result};

use crate::contender::{Arguments, Contender};
use crate::ports::Ports;
use crate::rivals::{self, Blank, FULLON};

/// Fullon without a restart: what the machine alone lets clients wait.
pub const NOTHING: &str = "no restart";

/// One column of the table.
pub struct Way {
    pub name: &'static str,
    pub contender: Contender,
    /// Commands, one after the other.
    pub restart: Vec<Arguments>,
}

type Builder = fn(&'static str, &mut Ports) -> Result<Way>;

/// All that can run here. `left_out` hears of the others.
pub fn all(ports: &mut Ports, left_out: impl Fn(&str, &Error)) -> Vec<Way> {
    let builders: [(&'static str, Builder); 5] = [
        (FULLON, fullon),
        (NOTHING, nothing),
        ("nginx reload", nginx_reload),
        ("nginx upgrade", nginx_upgrade),
        ("original", original),
    ];
    let mut ways = Vec::new();
    for (name, builder) in builders {
        match builder(name, ports) {
            Ok(way) => ways.push(way),
            Err(error) => left_out(&format!("the restart of {name}"), &error),
        }
    }
    ways
}

fn fullon(name: &'static str, ports: &mut Ports) -> Result<Way> {
    let contender = rivals::fullon_with(ports, [])?;
    let restart = vec![vec![contender.start[0].clone(), "restart".into()]];
    Ok(Way {
        name,
        contender,
        restart,
    })
}

fn nothing(name: &'static str, ports: &mut Ports) -> Result<Way> {
    Ok(Way {
        name,
        contender: rivals::fullon_with(ports, [])?,
        restart: Vec::new(),
    })
}

fn nginx_reload(name: &'static str, ports: &mut Ports) -> Result<Way> {
    let contender = rivals::nginx(Blank::new(name, ports)?)?;
    let signal = ["-s", "reload"].map(OsString::from);
    let reload = contender.start.iter().cloned().chain(signal).collect();
    Ok(Way {
        name,
        contender,
        restart: vec![reload],
    })
}

fn nginx_upgrade(name: &'static str, ports: &mut Ports) -> Result<Way> {
    let blank = Blank::new(name, ports)?;
    let script = include_str!("../../rivals/upgrade-nginx.sh");
    let upgrade = vec!["sh".into(), blank.write("upgrade-nginx.sh", script)?];
    Ok(Way {
        name,
        contender: rivals::nginx(blank)?,
        restart: vec![upgrade],
    })
}

fn original(name: &'static str, ports: &mut Ports) -> Result<Way> {
    let contender = rivals::original(Blank::new(name, ports)?)?;
    let stop = contender.stop.iter().cloned();
    let restart = stop.chain([contender.start.clone()]).collect();
    Ok(Way {
        name,
        contender,
        restart,
    })
}
