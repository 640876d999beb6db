//! `easel models list`: what there is to make pictures with, and what in the folder of models cannot be used.

use std::process::ExitCode;

use clap::Args;
use easel_core::{Control, ModelInfo, Numbers, Readiness};
use easel_engine::inventory::{Listed, inventory};

use crate::app::House;
use crate::cli::{ConfigOptions, Failure, runtime, table};
use crate::config::Mode;

/// List the models: the demo model, those in the folder of models, and those of the plugins.
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  easel models list
  easel models list --data /srv/easel   with the models in /srv/easel/models")]
pub(super) struct List {
    #[command(flatten)]
    options: ConfigOptions,
}

impl List {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let loaded = self.options.load_quietly()?;
        let listed = match loaded.config.mode {
            Mode::Engine => inventory(&loaded.config.models_folder()).map_err(easel_core::Error::from)?,
            Mode::Stub => Vec::new(),
        };
        let lines = runtime()?.block_on(async {
            let house = House::without_store(loaded.config);
            house.furnish().await?;
            let snapshot = house.world().snapshot();
            let models = snapshot.models();
            let head = ["MODEL", "BACKEND", "FAMILY", "SIZE", "STEPS", "LAYOUT", "STORED", "ON DISK", "SAFETY"];
            let mut lines: Vec<[String; 9]> = vec![head.map(str::to_owned)];
            lines.extend(models.iter().map(|(backend, model)| {
                let lies = listed.iter().find(|listed| listed.id == model.id && listed.family == Some(&*model.family));
                row(backend.id(), model, lies.filter(|_| backend.id() == easel_engine::Engine::ID))
            }));
            let idle = snapshot.backends.iter().filter(|backend| backend.models().is_empty());
            lines.extend(idle.map(|backend| {
                let reason = match backend.readiness() {
                    Readiness::NotReady(reason) => reason,
                    Readiness::Ready | Readiness::Loading => "it has no models".to_owned(),
                };
                let mut line: [String; 9] = std::array::from_fn(|_| String::new());
                (line[0], line[1], line[2]) = ("-".to_owned(), backend.id().to_owned(), reason);
                line
            }));
            house.shut_down().await;
            Ok::<_, Failure>(lines)
        })?;
        print!("{}", table(&lines));
        for broken in listed.iter().filter_map(|listed| Some((&listed.id, listed.problem.as_ref()?))) {
            println!("{} cannot be used: {}", broken.0, broken.1);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(backend: &str, model: &ModelInfo, lies: Option<&Listed>) -> [String; 9] {
    let size = model.sizes.default_size().map_or_else(|| "any".to_owned(), |size| size.to_string());
    let steps = match &model.steps {
        Control::Honoured(Numbers { default: Some(steps), .. }) => steps.to_string(),
        Control::Honoured(Numbers { default: None, .. }) | Control::Ignored | Control::Refused => "-".to_owned(),
    };
    let none = || "-".to_owned();
    let (layout, stored, bytes, safety) = match lies {
        Some(Listed { layout, stored, bytes, checks, .. }) => {
            let safety = if *checks { "own checker" } else { "-" };
            (layout.clone(), stored.join("+"), length(*bytes), safety.to_owned())
        }
        None => (none(), none(), none(), none()),
    };
    let family = if model.family.is_empty() { none() } else { model.family.clone() };
    [model.id.clone(), backend.to_owned(), family, size, steps, layout, stored, bytes, safety]
}

/// A length as people read it.
pub(super) fn length(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::length;
    use crate::cli::table;

    #[test]
    fn lengths_are_written_as_people_read_them() {
        assert_eq!([999, 1000, 12_345_678, 6_900_000_000].map(length), ["999 B", "1.0 kB", "12.3 MB", "6.9 GB"]);
    }

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let lines = [["MODEL", "BACKEND", "SIZE", "STEPS"], ["shapes", "engine", "128x128", "20"]];
        let lines = lines.map(|line| line.map(str::to_owned));
        assert_eq!(table(&lines), "MODEL   BACKEND  SIZE     STEPS\nshapes  engine   128x128  20\n");
    }
}
