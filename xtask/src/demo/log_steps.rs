//! What the audit log shows, and that altering it is detected.

use std::fs;
use std::path::{Path, PathBuf};

use super::engine::{DemoStep, Unexpected, check};
use super::sabotage::Sabotage;
use super::world::DemoWorld;
use crate::scratch::free_address;

/// The steps, in order.
pub(super) const STEPS: &[DemoStep<DemoWorld>] = &[
    DemoStep {
        name: "audit-list",
        about: "who did what, the denied included",
        run: list,
    },
    DemoStep {
        name: "audit-verify",
        about: "the log is whole, and the agent's key vouches for it",
        run: verify,
    },
    DemoStep {
        name: "tamper-found",
        about: "one byte changed in a copy is found",
        run: tamper,
    },
];

/// `debugctl audit verify`: the log does not verify.
const EXIT_BROKEN: i32 = 6;

fn folder(world: &DemoWorld) -> PathBuf {
    world.set().join("agent/audit")
}

fn list(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let mut folder = folder(world);
    if world.is(Sabotage::LogNotWritten) {
        folder = copy(&folder, &world.scratch("emptied"))?;
        for file in records(&folder)? {
            fs::write(&file, "").map_err(|e| e.to_string())?;
        }
    }
    let mut command = world.debugctl("alice");
    let said = world.show(command.args(["audit", "list"]).arg(folder))?;
    let told = ["alice", "vera", "patch"]
        .iter()
        .all(|word| said.out.contains(word));
    check(
        said.code == Some(0) && told,
        "what alice and vera did and tried",
        || said.all(),
    )
}

fn verify(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let mut inventory = world.set().join("inventory.json");
    if world.is(Sabotage::SignatureWrong) {
        let other = world.scratch("other");
        let mut command = world.program("debugctl");
        command
            .args(["certs", "init"])
            .arg(&other)
            .args(["--service", "dienstplan", "--operator", "alice"]);
        let said =
            world.show(command.args(["--role", "oncall", "--listen", &free_address()?.to_string()]))?;
        check(said.code == Some(0), "another set of certificates", || said.all())?;
        inventory = other.join("inventory.json");
    }
    let folder = folder(world);
    let mut command = world.debugctl("alice");
    let said = world.show(
        command
            .args(["audit", "verify"])
            .arg(folder)
            .arg("--inventory")
            .arg(inventory),
    )?;
    let verified = said.code == Some(0) && said.out.contains("verified");
    check(verified, "`verified`, exit code 0", || said.all())
}

fn tamper(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let copied = copy(&folder(world), &world.scratch("tampered"))?;
    let number = tampered(&copied, world.is(Sabotage::TamperForgotten))?;
    println!("record {number} of the copy now says INC-43 where it said INC-42");
    let inventory = world.set().join("inventory.json");
    let mut command = world.debugctl("alice");
    let said = world.show(
        command
            .args(["audit", "verify"])
            .arg(copied)
            .arg("--inventory")
            .arg(inventory),
    )?;
    let found = said.code == Some(EXIT_BROKEN) && names_record(&format!("{}{}", said.out, said.err), number);
    check(found, &format!("record {number} named, exit code 6"), || {
        said.all()
    })
}

fn names_record(text: &str, number: u64) -> bool {
    text.match_indices("record ").any(|(index, word)| {
        let rest = text.get(index + word.len()..).unwrap_or_default();
        rest.split(|c: char| !c.is_ascii_digit()).next() == Some(&number.to_string())
    })
}

/// Changes one byte of the first record that names the incident, unless `left_alone`. Returns the record's number.
fn tampered(folder: &Path, left_alone: bool) -> Result<u64, String> {
    for file in records(folder)? {
        let text = fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        let Some(line) = text.lines().position(|line| line.contains("INC-42")) else {
            continue;
        };
        if !left_alone {
            // The first occurrence in the text is in that record.
            fs::write(&file, text.replacen("INC-42", "INC-43", 1)).map_err(|e| e.to_string())?;
        }
        let first = first_number(&file).ok_or_else(|| format!("{} names no record", file.display()))?;
        return u64::try_from(line)
            .map(|line| first + line)
            .map_err(|e| e.to_string());
    }
    Err(format!("no record in {} names INC-42", folder.display()))
}

/// The files of records, the oldest first.
fn records(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files: Vec<_> = files(folder)?
        .into_iter()
        .filter(|file| first_number(file).is_some())
        .collect();
    files.sort_by_key(|file| first_number(file));
    Ok(files)
}

/// The number in `records-17.jsonl`: that of its first record.
fn first_number(file: &Path) -> Option<u64> {
    file.file_name()?
        .to_str()?
        .strip_prefix("records-")?
        .strip_suffix(".jsonl")?
        .parse()
        .ok()
}

fn copy(from: &Path, to: &Path) -> Result<PathBuf, String> {
    let told = |e: std::io::Error| format!("cannot copy {}: {e}", from.display());
    fs::create_dir(to).map_err(told)?;
    for file in files(from)? {
        fs::copy(&file, to.join(file.file_name().unwrap_or_default())).map_err(told)?;
    }
    Ok(to.into())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    Ok(entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_by_its_whole_number() {
        assert!(names_record("broken at record 17: the hash differs", 17));
        assert!(!names_record("broken at record 17", 1));
        assert!(!names_record("17 records", 17));
    }

    #[test]
    fn a_file_of_records_is_known_by_its_name() {
        assert_eq!(first_number(Path::new("a/records-17.jsonl")), Some(17));
        assert_eq!(first_number(Path::new("a/records-000000.jsonl")), Some(0));
        assert_eq!(first_number(Path::new("a/checkpoint")), None);
    }

    #[test]
    fn one_byte_of_the_first_record_of_the_incident_is_changed() {
        let folder = std::env::temp_dir().join(format!("xtask-tamper-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("records-0.jsonl"), "{\"seq\":0}\n").unwrap();
        fs::write(
            folder.join("records-1.jsonl"),
            "{}\n{\"why\":\"INC-42\"}\n{\"why\":\"INC-42\"}\n",
        )
        .unwrap();
        let copied = copy(&folder, &folder.join("copy")).unwrap();
        assert_eq!(tampered(&copied, true), Ok(2));
        assert_eq!(tampered(&copied, false), Ok(2));
        let text = fs::read_to_string(copied.join("records-1.jsonl")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(text, "{}\n{\"why\":\"INC-43\"}\n{\"why\":\"INC-42\"}\n");
    }
}
