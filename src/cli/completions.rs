//! `completions`: the script by which a shell completes the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Ui};
use crate::Result;

/// Command-line arguments of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// Shell to print the script for
    pub shell: Shell,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw completions bash > ~/.local/share/bash-completion/completions/ssmv-raw
  ssmv-raw completions zsh > ~/.zfunc/_ssmv-raw
  ssmv-raw completions fish > ~/.config/fish/completions/ssmv-raw.fish";

/// Prints the completion script to stdout.
pub fn run(args: &CompletionsArgs, ui: &Ui) -> Result<()> {
    // Into memory first: the generator would panic on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ssmv-raw", &mut script);
    ui.print(&String::from_utf8_lossy(&script))
}
