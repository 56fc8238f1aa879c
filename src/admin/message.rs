//! What is asked and answered.

use serde::{Deserialize, Serialize};

use super::Status;

/// The form of requests and responses. It changes when a program that reads them could no longer.
pub const VERSION: u8 = 1;

/// One line of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u8,
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// How is it going?
    Status,
    /// Forget answers.
    Flush {
        /// The name at and below which answers are forgotten; absent for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Read the configuration again, as SIGHUP does.
    Reload,
}

/// One line for each request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u8,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// How it is going.
    Status(Box<Status>),
    /// Answers were forgotten.
    Flushed(Flushed),
    /// The configuration was read again.
    Reloaded(Reloaded),
    /// Nothing was done, and why, for people.
    Error(String),
}

/// Which answers were forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// The name at and below which they stood; `.` for all.
    pub name: String,
    /// How many there were.
    pub answers: u64,
}

/// What reading the configuration again changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The changes, for people.
    pub changes: String,
}
