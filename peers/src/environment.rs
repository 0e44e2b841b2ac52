//! The Python environment: made once, in the build folder, from pinned packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// What the packages of the environment are.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// An environment that has every package of `requirements.txt`.
#[derive(Clone, Debug)]
pub struct Environment {
    python: PathBuf,
    scripts: PathBuf,
    cache: PathBuf,
    threads: usize,
}

impl Environment {
    /// The environment of this folder, made when it is missing or of other packages.
    ///
    /// # Errors
    /// There is no Python, or no network: the message says what to do.
    pub fn new(folder: &Path, threads: usize) -> Result<Self> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let venv = folder.join("venv");
        let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let stamp = venv.join("requirements.txt");
        if !fs::read_to_string(&stamp).is_ok_and(|made| made == REQUIREMENTS) {
            eprintln!("making the Python environment {} (about 700 MB, once)", venv.display());
            fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
            create(&venv)?;
            install(&python)?;
            fs::write(&stamp, REQUIREMENTS)?;
        }
        Ok(Self { python, scripts, cache: folder.join("pycache"), threads })
    }

    /// The worker script with these arguments.
    pub fn worker(&self, arguments: &[&str]) -> Command {
        let threads = self.threads.to_string();
        let mut command = Command::new(&self.python);
        command
            .arg(self.scripts.join("worker.py"))
            .args(arguments)
            .env("PEERS_THREADS", &threads)
            .env("OMP_NUM_THREADS", &threads)
            .env("OPENBLAS_NUM_THREADS", &threads)
            .env("MKL_NUM_THREADS", &threads)
            .env("JAX_PLATFORMS", "cpu")
            // compiled scripts belong to the build folder
            .env("PYTHONPYCACHEPREFIX", &self.cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }
}

fn create(venv: &Path) -> Result<()> {
    let version = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))";
    let named = std::env::var("PYTHON").ok();
    let candidates = named.as_deref().map_or_else(
        || vec!["python3", "python3.13", "python3.12", "python3.11", "python"],
        |named| vec![named],
    );
    let fits = |python: &&str| {
        Command::new(python)
            .args(["-c", version])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let Some(python) = candidates.iter().copied().find(fits) else {
        bail!(
            "no Python 3.11, 3.12 or 3.13 was found (tried {}); install one, or name it in the variable PYTHON. \
             Nothing but this task needs it",
            candidates.join(", ")
        );
    };
    let status = Command::new(python).args(["-m", "venv", "--clear"]).arg(venv).status()?;
    if !status.success() {
        bail!(
            "`{python} -m venv {}` failed; on Debian and Ubuntu the package python3-venv is needed",
            venv.display()
        );
    }
    Ok(())
}

fn install(python: &Path) -> Result<()> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt");
    let status = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements)
        .status()?;
    if !status.success() {
        bail!(
            "pip could not install {}; the task needs a package index once: run it again with a network, or let pip \
             find the packages in a folder with PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER",
            requirements.display()
        );
    }
    Ok(())
}
