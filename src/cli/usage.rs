//! Wrong usage, as one line.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::Ui;

/// Prints what the argument parser has to say: help and version as they are, an error as one line on stderr.
pub fn report(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // `--help | head` closes the pipe early, and that is not a failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            Ui::new(false).error(&one_line(&error.render().to_string()));
            ExitCode::from(2)
        }
    }
}

/// The parser's error without its heading, its usage summary and its line breaks.
pub(super) fn one_line(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let said =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let mut text = String::new();
    for line in said {
        match line {
            _ if text.is_empty() => text.push_str(line.trim_start_matches("error: ")),
            _ if line.starts_with("tip:") => text.extend(["; ", line]),
            _ => text.extend([" ", line]),
        }
    }
    text + "; try --help"
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[test]
    fn errors_of_the_parser_fit_on_a_line() {
        for (arguments, expected) in [
            (
                "train --batchsize 3",
                "unexpected argument '--batchsize' found; tip: a similar argument exists: '--batch-size'; try --help",
            ),
            (
                "train --rule x",
                "invalid value 'x' for '--rule <RULE>' [possible values: standard, ssm-video]; try --help",
            ),
            ("eval", "the following required arguments were not provided: --checkpoint <DIR>; try --help"),
            (
                "eval --checkpoint c --batch-size 0",
                "invalid value '0' for '--batch-size <N>': 0 is not in 1..=65536; try --help",
            ),
            (
                "train --epochs 1 --steps 2",
                "the argument '--epochs <N>' cannot be used with '--steps <N>'; try --help",
            ),
            (
                "tarin",
                "unrecognized subcommand 'tarin'; tip: a similar subcommand exists: 'train'; try --help",
            ),
        ] {
            let words = std::iter::once("ssmv-raw").chain(arguments.split(' '));
            let error = crate::cli::Cli::try_parse_from(words).unwrap_err();
            assert_eq!(super::one_line(&error.render().to_string()), expected, "{arguments}");
        }
    }
}
