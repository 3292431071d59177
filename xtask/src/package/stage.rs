//! The folder from which both packages are packed. Owns its layout, which `packaging/package.toml` names;
//! filled anew for each pair of packages by the job.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::{Job, PROGRAMS, licences};
use crate::workspace;

/// Shells, and what their completions are called.
const SHELLS: [(&str, &str); 3] =
    [("bash", "stoqctl.bash"), ("zsh", "_stoqctl"), ("fish", "stoqctl.fish")];

/// What is taken out of the programs: symbols, and the compilers' names.
const STRIP: [&str; 2] = ["--strip-all", "--remove-section=.comment"];

/// Folders of `packaging/` that go as they are.
const FOLDERS: [&str; 3] = ["units", "deb", "rpm"];

/// Who answers for the packages unless [`MAINTAINER_VARIABLE`] names somebody: the project has no address that
/// would hold for whoever builds them. The manifest says the same.
const MAINTAINER: &str = "The STOQ maintainers <maintainers@stoq.invalid>";

/// The variable that names whoever answers for the packages, as `NAME <ADDRESS>`.
const MAINTAINER_VARIABLE: &str = "STOQ_MAINTAINER";

/// Fills `stage` with everything that is in the packages.
///
/// # Errors
/// When something is missing or cannot be written.
pub fn fill(stage: &Path, job: &Job<'_>, date: u64) -> Result<()> {
    let packaging = workspace::root().join("packaging");
    fs::create_dir_all(stage)?;
    let maintainer = maintainer(env::var(MAINTAINER_VARIABLE).ok())?;
    manifest(stage, &packaging, job.version, &maintainer)?;
    programs(&stage.join("bin"), job)?;
    for folder in FOLDERS {
        copy_all(&packaging.join(folder), &stage.join(folder))?;
    }
    copy(&packaging.join("stoqd.toml"), &stage.join("etc/stoqd.toml"))?;
    for file in ["sysusers.conf", "tmpfiles.conf", "copyright"] {
        copy(&packaging.join(file), &stage.join(file))?;
    }
    manual(stage, &packaging, job)?;
    documents(&stage.join("doc"), job.bills.as_deref())?;
    fs::write(stage.join("changelog"), changelog(job.version, &maintainer, &rfc_2822(date)?))?;
    set_times(stage, date)
}

/// Gives every file the commit's time. A packer only lowers later ones to it, which is not enough where the clock
/// is behind the commit.
fn set_times(stage: &Path, date: u64) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(date);
    let mut folders = vec![stage.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else {
                fs::File::open(&path)?
                    .set_modified(time)
                    .with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Who answers for the packages, by what the variable says.
fn maintainer(named: Option<String>) -> Result<String> {
    // An empty variable is how a workflow passes on that there is none.
    let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(MAINTAINER.into()) };
    let parts = named.strip_suffix('>').and_then(|rest| rest.split_once(" <"));
    let is_address = |address: &str| address.contains('@') && !address.contains([' ', '<', '>']);
    let is_one = parts.is_some_and(|(name, address)| !name.is_empty() && is_address(address));
    // It goes into strings of the manifest.
    let is_plain = !named.contains(|c: char| c.is_control() || c == '"' || c == '\\');
    ensure!(
        is_one && is_plain,
        "expected {MAINTAINER_VARIABLE} to be `NAME <ADDRESS>`, got {named:?}"
    );
    Ok(named)
}

/// The manifest with this version, and the empty source without which cargo takes no manifest.
fn manifest(stage: &Path, packaging: &Path, version: &str, maintainer: &str) -> Result<()> {
    let text = fs::read_to_string(packaging.join("package.toml"))?;
    let with_version = text.replacen("version = \"0.0.0\"", &format!("version = \"{version}\""), 1);
    ensure!(with_version != text, "packaging/package.toml has no `version = \"0.0.0\"`");
    ensure!(text.contains(MAINTAINER), "packaging/package.toml does not name {MAINTAINER}");
    fs::write(stage.join("Cargo.toml"), with_version.replace(MAINTAINER, maintainer))?;
    fs::write(stage.join("empty.rs"), "")?;
    Ok(())
}

/// Copies the programs without symbols; the list of crates in them stays.
fn programs(bin: &Path, job: &Job<'_>) -> Result<()> {
    for program in PROGRAMS {
        let to = bin.join(program);
        copy(&job.binaries.join(program), &to)?;
        run(Command::new(job.architecture.tool("strip")).args(STRIP).arg(&to))?;
    }
    Ok(())
}

/// Manual pages, compressed, and completions: as the command line itself writes them.
fn manual(stage: &Path, packaging: &Path, job: &Job<'_>) -> Result<()> {
    let stoqctl = || job.architecture.program(&job.binaries.join("stoqctl"));
    let (commands, daemons) = (stage.join("man1"), stage.join("man8"));
    run(stoqctl().arg("man").arg(&commands))?;
    copy_all(&packaging.join("man"), &daemons)?;
    for page in entries(&commands)?.iter().chain(&entries(&daemons)?) {
        // -n: neither name nor time of the page.
        run(Command::new("gzip").arg("-n9").arg(page))?;
    }
    fs::create_dir_all(stage.join("completions"))?;
    for (shell, file) in SHELLS {
        let script = run(stoqctl().args(["completions", shell]))?;
        fs::write(stage.join("completions").join(file), script)?;
    }
    Ok(())
}

/// What the operator reads: the documents, the licences, what the programs are made of.
fn documents(doc: &Path, bills: Option<&Path>) -> Result<()> {
    let root = workspace::root();
    for path in entries(&root.join("docs"))? {
        if path.extension().is_some_and(|ending| ending == "md") {
            copy(&path, &doc.join(path.file_name().unwrap_or_default()))?;
        }
    }
    copy(&root.join("packaging/prometheus/stoq.rules.yml"), &doc.join("stoq.rules.yml"))?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&root.join(licence), &doc.join(licence))?;
    }
    fs::write(doc.join("THIRD-PARTY"), licences::texts()?)?;
    for bill in bills.map(entries).transpose()?.unwrap_or_default() {
        copy(&bill, &doc.join(bill.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn changelog(version: &str, maintainer: &str, date: &str) -> String {
    format!(
        "stoq ({version}-1) unstable; urgency=medium\n\n  * Version {version}.\n\n \
         -- {maintainer}  {date}\n"
    )
}

fn rfc_2822(date: u64) -> Result<String> {
    let text = run(Command::new("date").args(["-u", "-R", "-d", &format!("@{date}")]))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for path in entries(from)? {
        copy(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot take {} along", from.display()))?;
    Ok(())
}

/// What is in a folder, in the order of names.
///
/// # Errors
/// When it cannot be read.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        listed.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}

/// Runs a command that must succeed, and returns its output.
///
/// # Errors
/// When it cannot be started, or fails; with what it said.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output =
        command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_commits_time_however_deep_they_are() {
        let stage = workspace::scratch("unit-times").unwrap();
        let file = stage.join("a/b/file");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        set_times(&stage, 1_700_000_000).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
    }

    #[test]
    fn the_changelog_has_debians_form() {
        let date = rfc_2822(1_700_000_000).unwrap();
        assert_eq!(date, "Tue, 14 Nov 2023 22:13:20 +0000");
        let text = changelog("1.2.3", MAINTAINER, &date);
        assert!(text.starts_with("stoq (1.2.3-1) unstable;"), "{text}");
        assert!(text.ends_with(">  Tue, 14 Nov 2023 22:13:20 +0000\n"), "{text}");
    }

    #[test]
    fn a_maintainer_is_a_name_and_an_address_and_nothing_that_ends_a_string() {
        let with = |named: &str| maintainer(Some(named.to_owned()));
        assert_eq!(with("A Packager <a@example.org>").unwrap(), "A Packager <a@example.org>");
        assert_eq!(with("").unwrap(), MAINTAINER);
        assert_eq!(maintainer(None).unwrap(), MAINTAINER);
        for wrong in ["a@example.org", "A <a>", " <a@b>", "A\" <a@b>", "A\n <a@b>", "A <a@b> <c@d>"]
        {
            with(wrong).unwrap_err();
        }
    }
}
