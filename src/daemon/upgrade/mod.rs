//! Zero-downtime restarts: the old process (`parent`), the new process (`child`), and what the one
//! passes to the other (`handoff`).

mod child;
pub mod handoff;
mod parent;

pub use child::{ParentLink, ReceivedHandoff, UpgradeChild};
pub use parent::{ReadySuccessor, start_successor};
