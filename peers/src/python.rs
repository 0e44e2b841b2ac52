//! The one process of Python that stands beside this one.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::environment::Environment;

/// The worker; it ends with its standard input.
#[derive(Debug)]
pub struct Python {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// Starts the worker.
    pub fn start(environment: &Environment) -> Result<Self> {
        let mut child = environment.worker(&[]).spawn().context("the Python worker cannot be started")?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the worker has no standard output")?);
        Ok(Self { child, requests, answers })
    }

    /// The answer to a request; what Python raised is an error here.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        let what = request["do"].as_str().unwrap_or_default().to_owned();
        let requests = self.requests.as_mut().context("the worker has been ended")?;
        writeln!(requests, "{request}")?;
        requests.flush()?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the Python worker ended during `{what}`; what it wrote above says why");
        }
        let answer: Value = serde_json::from_str(&line)
            .map_err(|error| anyhow!("`{what}` was answered with {line:?}: {error}"))?;
        match answer["error"].as_str() {
            Some(error) => Err(anyhow!("Python, `{what}`: {error}")),
            None => Ok(answer),
        }
    }

    /// A request that is answered with seconds.
    pub fn seconds(&mut self, request: &Value) -> Result<f64> {
        self.ask(request)?["seconds"].as_f64().context("the worker gave no seconds")
    }

    /// The same request under another verb.
    pub fn verb(request: &Value, verb: &str) -> Value {
        let mut request = request.clone();
        request["do"] = json!(verb);
        request
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.requests.take());
        // the end of its input ends it
        let _ = self.child.wait();
    }
}
