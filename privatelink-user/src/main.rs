//! The `privatelink` command.

fn main() -> std::process::ExitCode {
    privatelink_user::cli::main()
}
