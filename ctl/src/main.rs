mod certs;
mod failure;
mod term;
use clap::Parser;
#[derive(Parser)]
enum C { #[command(subcommand)] Certs(certs::Certs) }
fn main() -> std::process::ExitCode { let C::Certs(c)=C::parse(); match certs::run(&c) { Ok(())=>std::process::ExitCode::SUCCESS, Err(f)=>{f.print(); f.exit_code()} } }
