//! `trilobite completions` and `trilobite man`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::{interrupt, output};

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "trilobite", &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(dir: &Path) -> Result<ExitCode> {
    interrupt::listen()?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let pages = command.get_subcommands().filter(|command| !command.is_hide_set());
    for page in pages.chain([&command]) {
        let page = Man::new(page.clone());
        output::write_file(&dir.join(page.get_filename()), |mut out| Ok(page.render(&mut out)?))?;
    }
    Ok(ExitCode::SUCCESS)
}
