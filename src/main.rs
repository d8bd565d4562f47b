//! The `fullon` program.

fn main() -> std::process::ExitCode {
    fullon_master_api::App::new().main()
}
