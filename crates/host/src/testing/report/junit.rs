//! XML as `JUnit` writes it and CI servers read it.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::failure::Failure;
use crate::testing::{FileResult, Problem};

/// The results as a document.
///
/// # Errors
/// They cannot be written as XML.
pub fn junit(files: &[FileResult]) -> Result<String, Failure> {
    let mut report = Report::new("postrider");
    for file in files {
        let name = file.file.display().to_string();
        let mut suite = TestSuite::new(name.as_str());
        for case in &file.cases {
            let mut status = TestCaseStatus::success();
            if let Some(problem) = &case.problem {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                explain(&mut status, problem, &case.at);
            }
            let mut told = TestCase::new(case.name.as_str(), status);
            told.set_classname(name.as_str());
            told.set_time(case.took);
            if let Some(problem) = &case.problem {
                told.set_system_out(problem.log.join("\n"));
            }
            suite.add_test_case(told);
        }
        if let Some(problem) = &file.broken {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            explain(&mut status, problem, &name);
            let mut told = TestCase::new("can be run", status);
            told.set_classname(name.as_str());
            suite.add_test_case(told);
        }
        report.add_test_suite(suite);
    }
    report
        .to_string()
        .map_err(|error| Failure::new("file.failed", format!("JUnit: {error}")))
}

fn explain(status: &mut TestCaseStatus, problem: &Problem, at: &str) {
    let failure = &problem.failure;
    let place = failure.at.as_deref().unwrap_or(at);
    status
        .set_type(failure.code.as_str())
        .set_message(failure.message.as_str());
    let mut text = format!("{place}: {}", failure.message);
    for key in ["expected", "got"] {
        if let Some(value) = failure.details.get(key).and_then(|value| value.as_str()) {
            let _ = write!(text, "\n{key}: {value}");
        }
    }
    for line in &problem.trace {
        let _ = write!(text, "\nfrom: {line}");
    }
    status.set_description(text);
}
