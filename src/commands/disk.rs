//! The command that says what takes the disk.

use agent_management::app;
use am_core::config::Config;
use am_retention::{DiskPlaces, DiskUsage, disk_usage};

use super::{
    CommandError,
    output::{OutputForm, print_table},
    print_output,
};

/// Measure what takes the disk, and print it.
pub async fn print_usage(config: &Config, json: bool) -> Result<(), CommandError> {
    let db = app::open_database(config).await?;
    let data = &config.data_dir;
    let places = DiskPlaces {
        folders: vec![
            ("policies", data.join("policies")),
            ("training", data.join("training")),
            ("archive", config.retention.archive_dir.clone().unwrap_or_else(|| data.join("archive"))),
            ("sandboxes", config.sandbox.directory.clone().unwrap_or_else(|| data.join("sandboxes"))),
        ],
    };
    let usage = disk_usage(&db, places).await?;
    db.close().await;
    match OutputForm::choose(json) {
        OutputForm::Json => print_output(&serde_json::to_string_pretty(&usage)?),
        OutputForm::Table => print_table(&["WHAT", "SIZE", ""], usage_rows(&usage)),
    }
    Ok(())
}

/// Bytes in the unit in which they have one to three digits before the point.
fn in_words(bytes: u64) -> String {
    let (mut size, mut units) = (bytes as f64, ["B", "KiB", "MiB", "GiB", "TiB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    while size >= 1024.0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

fn usage_rows(usage: &DiskUsage) -> Vec<Vec<String>> {
    let count = |bytes: i64| in_words(bytes.unsigned_abs());
    let mut rows: Vec<Vec<String>> = Vec::new();
    let database = usage.database.display().to_string();
    rows.push(vec!["database".into(), count(usage.database_bytes), database]);
    match &usage.causes {
        Some(causes) => rows.extend(causes.iter().map(|cause| {
            let mut tables: Vec<(&String, &i64)> = cause.tables.iter().collect();
            tables.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
            let largest: Vec<&str> = tables.iter().take(3).map(|(table, _)| table.as_str()).collect();
            vec![format!("  {}", cause.cause), count(cause.bytes), largest.join(", ")]
        })),
        None => rows.push(vec!["  tables".into(), "?".into(), "this SQLite has no dbstat".into()]),
    }
    rows.push(vec!["  unused".into(), count(usage.unused_bytes), "pages that new rows get first".into()]);
    rows.push(vec!["write-ahead log".into(), in_words(usage.wal_bytes), String::new()]);
    for folder in &usage.folders {
        let place = format!("{} files in {}", folder.files, folder.path.display());
        rows.push(vec![folder.cause.into(), in_words(folder.bytes), place]);
    }
    rows.push(vec!["disk free".into(), in_words(usage.disk_free_bytes), format!("of {}", in_words(usage.disk_bytes))]);
    rows
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (bytes, words) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (1 << 51, "2048.0 TiB")]
        {
            assert_eq!(in_words(bytes), words);
        }
    }
}
