//! MATH: compares the final answer of a solution with the reference's. Without a computer algebra
//! system the score is a lower bound, since answers that it accepts are equal. With Python, SymPy
//! decides.

mod equal;
mod expression;
mod extract;
mod latex;
mod symbolic;
mod tokens;
mod words;

use std::path::Path;

use serde_json::{Map, json};

use crate::error::Result;
use crate::grade::judge::{Grade, Judge};
use crate::record::Record;
use extract::Extractor;
use symbolic::Symbolic;

/// Grades solutions.
pub(crate) struct Math {
    extractor: Extractor,
    symbolic: Option<Symbolic>,
}

impl Math {
    /// Creates the grader. SymPy is that of the given Python.
    pub(crate) fn new(python: Option<&Path>) -> Result<Self> {
        let symbolic = python.map(Symbolic::new).transpose()?;
        Ok(Self { extractor: Extractor::new()?, symbolic })
    }
}

impl Judge for Math {
    fn equality(&self) -> Option<String> {
        let sympy = |symbolic: &Symbolic| format!("sympy {}", symbolic.version());
        Some(self.symbolic.as_ref().map_or_else(|| "own".to_owned(), sympy))
    }

    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        // The right answer is extracted from the reference solution in the same way.
        let gold = self.extractor.answer(record.text("solution")?);
        let answer = self.extractor.answer(output);
        Ok(Grade {
            correct: equal::equal(&answer, &gold, self.symbolic.as_ref())?,
            extracted: json!(answer),
            gold: json!(gold),
            more: Map::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read_file;
    use crate::task::{DataFile, Task};
    use std::path::Path;

    fn record(solution: &str) -> Record {
        let fields = serde_json::json!({"solution": solution}).to_string();
        Record {
            path: "t".into(),
            line: 1,
            index: 0,
            fields: serde_json::from_str(&fields).unwrap(),
            json: None,
        }
    }

    /// SymPy in the Python that `TRILOBITE_PYTHON` names.
    fn python() -> Math {
        let python = std::env::var("TRILOBITE_PYTHON").expect("TRILOBITE_PYTHON");
        Math::new(Some(Path::new(&python))).unwrap()
    }

    #[test]
    fn answers_are_found_and_compared() {
        find_and_compare(&Math::new(None).unwrap());
    }

    #[test]
    #[ignore = "needs TRILOBITE_PYTHON, a Python with SymPy"]
    fn answers_are_found_and_compared_with_python() {
        find_and_compare(&python());
    }

    fn find_and_compare(math: &Math) {
        for (output, gold, correct) in [
            ("so the answer is \\boxed{\\dfrac{1}{2}}.", "\\boxed{\\frac12}", true),
            (
                "The final answer is $\\frac{14}{3}$. I hope it is correct.",
                "\\boxed{\\frac{14}{3}}",
                true,
            ),
            ("Hence, the answer is 3 inches.", "\\boxed{3}", true),
            ("First 12, then 1,075", "\\boxed{1075}", true),
            ("\\boxed{0.5}", "\\boxed{\\frac{1}{2}}", true),
            ("\\boxed{(3,\\tfrac{\\pi}{2})}", "\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}", true),
            ("\\boxed{y-x+0}", "\\boxed{-x+y}", true),
            ("\\boxed{(x+1)^2}", "\\boxed{x^2+2x+1}", true),
            ("\\boxed{x = 3}", "\\boxed{3}", true),
            ("\\boxed{2\\sqrt{2}}", "\\boxed{\\sqrt{8}}", true),
            ("\\boxed{2u+3v=6}", "\\boxed{6-3v=2u}", true),
            ("\\boxed{1200}", "\\boxed{12}", true),
            (
                "\\boxed{\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}}",
                "\\boxed{\\begin{pmatrix} 0.5 \\\\ 3 \\end{pmatrix}}",
                true,
            ),
            ("\\boxed{x-y}", "\\boxed{y-x}", false),
            ("\\boxed{(1,2)}", "\\boxed{(2,1)}", false),
            // The reference grader compares the elements only.
            ("\\boxed{[1,2]}", "\\boxed{[1,2)}", true),
            ("\\boxed{4}", "\\boxed{5}", false),
            ("nothing", "\\boxed{5}", false),
            ("", "\\boxed{5}", false),
        ] {
            let found = math.grade(output, &record(gold)).unwrap().correct;
            assert_eq!(found, correct, "{output} | {gold}");
        }
    }

    /// No repetition in an answer causes deep recursion or more than linear time.
    #[test]
    fn long_answers_end() {
        const TIMES: usize = 10_000;
        let math = Math::new(None).unwrap();
        let pieces = [
            "\\frac",
            "\\sqrt ",
            "-",
            "(",
            ")",
            "[",
            "{",
            "}",
            "|",
            "(1,",
            "x_",
            "x_{",
            "x^",
            "x^{",
            "f(",
            "\\sin ",
            "\\sin(",
            "\\sin_",
            "\\log_2",
            "\\frac{1}{",
            "\\sqrt{",
            "\\sqrt[",
            "1+",
            "2*",
            "xy",
            "!",
            "x=",
            "9",
            "1/",
            "1,",
            "\\text{",
            "boxed{",
            "\\begin{pmatrix}",
            "1&",
            "1\\\\",
            "'",
            ".",
            "one ",
            "\\left(",
            "\\binom{",
        ];
        for piece in pieces {
            for end in ["", "12}"] {
                let answer = format!("\\boxed{{{}{end}}}", piece.repeat(TIMES));
                let grade = math.grade(&answer, &record("\\boxed{\\frac{1}{2}}")).unwrap();
                assert!(!grade.correct, "{piece}");
                assert!(math.grade(&answer, &record(&answer)).unwrap().correct, "{piece}");
            }
        }
    }

    /// Equalities that need a computer algebra system, and answers that are Python but no
    /// expression.
    #[test]
    #[ignore = "needs TRILOBITE_PYTHON, a Python with SymPy"]
    fn python_compares_expressions_and_runs_no_answer() {
        let math = python();
        let symbolic = math.symbolic.as_ref().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let code = format!("__import__('os').mkdir('{}')", trace.display());
        assert!(symbolic.equal("\\sin^2(x)+\\cos^2(x)", "1").unwrap());
        assert!(!symbolic.equal(&code, "1").unwrap());
        assert!(!symbolic.equal("1", &format!("x+{code}")).unwrap());
        assert!(!symbolic.equal("exit()", "1").unwrap());
        assert!(!trace.exists());
        // This would take forever. The next comparison must work nevertheless.
        assert!(!symbolic.equal("9**9**9**9", "1").unwrap());
        assert!(symbolic.equal("\\frac{x^2-1}{x-1}", "x+1").unwrap());
    }

    #[test]
    fn without_python_or_sympy_there_is_an_error() {
        let error = |path: &Path| Math::new(Some(path)).err().unwrap().to_string();
        let nothing = error(Path::new("/nonexistent/python3"));
        assert!(nothing.starts_with("Python /nonexistent/python3: No such file"), "{nothing}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("python3");
            let script = "#!/bin/sh\necho 'Traceback' >&2\n\
                          echo \"ModuleNotFoundError: No module named 'sympy'\" >&2\nexit 1\n";
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let error = error(&path);
            assert!(error.contains("No module named 'sympy'") && error.contains("pip install"));
        }
    }

    /// Verdicts of math-evaluation-harness on answers of many kinds, by
    /// `tests/data/math500/verdicts.py`.
    #[test]
    fn verdicts_are_those_of_the_reference() {
        agree_as_recorded(&Math::new(None).unwrap());
    }

    #[test]
    #[ignore = "needs TRILOBITE_PYTHON, a Python with SymPy"]
    fn verdicts_with_sympy_are_those_of_the_reference() {
        agree_as_recorded(&python());
    }

    fn agree_as_recorded(math: &Math) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/math500/verdicts.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let (mut extracted, mut missed, mut falsely) = (Vec::new(), Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            let (pred, gold) = (
                math.extractor.answer(&text("response")),
                math.extractor.answer(&text("solution")),
            );
            for (found, field) in [(&pred, "pred"), (&gold, "gt")] {
                if *found != text(field) {
                    extracted.push(format!("line {number}: {found:?} not {:?}", text(field)));
                }
            }
            let note = format!("line {number}: {} | {}", text("pred"), text("gt"));
            let equal = equal::equal(&text("pred"), &text("gt"), math.symbolic.as_ref()).unwrap();
            match (equal, line["equal"].as_bool().unwrap()) {
                (false, true) => missed.push(note),
                (true, false) => falsely.push(note),
                _ => {}
            }
        }
        println!("extracted {extracted:#?} missed {missed:#?} falsely {falsely:#?}");
        assert!(extracted.is_empty() && missed.is_empty() && falsely.is_empty());
    }

    /// Fraction of verdicts that may differ from the reference's, which uses a computer algebra
    /// system.
    const DISAGREEMENT: f64 = 0.03;
    /// Fraction of verdicts that may wrongly accept an answer.
    const FALSELY_EQUAL: f64 = 0.005;

    /// With the original data in `TRILOBITE_EVALDATA`: the verdicts of the real grader.
    #[test]
    #[ignore = "needs TRILOBITE_EVALDATA, a folder of the original data sets"]
    fn verdicts_agree_with_the_reference() {
        agree_with_the_reference(&Math::new(None).unwrap());
    }

    #[test]
    #[ignore = "needs TRILOBITE_EVALDATA, and TRILOBITE_PYTHON, a Python with SymPy"]
    fn verdicts_with_python_agree_with_the_reference() {
        agree_with_the_reference(&python());
    }

    fn agree_with_the_reference(math: &Math) {
        let folder = std::env::var("TRILOBITE_EVALDATA").expect("TRILOBITE_EVALDATA");
        let task = Task::named("math500").unwrap();
        let read = |name: &str| {
            let file = DataFile { file: name.into(), ..task.data[0].clone() };
            read_file(&task, &file, 0, Path::new(&folder), None, true).unwrap()
        };
        agree(math, read);
    }

    fn agree(math: &Math, read: impl Fn(&str) -> Vec<Record>) {
        for problem in read("math500/math500_test.jsonl") {
            let solution = problem.text("solution").unwrap();
            assert!(
                math.grade(solution, &problem).unwrap().correct,
                "line {} {:?}",
                problem.line,
                math.extractor.answer(solution)
            );
        }
        let golden = read("golden/math500_golden.jsonl");
        let (mut extracted, mut missed, mut falsely) = (Vec::new(), Vec::new(), Vec::new());
        for row in &golden {
            let (pred, gold) = (row.text("pred").unwrap(), row.text("gt").unwrap());
            let found = math.extractor.answer(row.text("response").unwrap());
            if found != pred {
                extracted.push(format!("line {}: {found:?} not {pred:?}", row.line));
            }
            let note = format!("line {}: {found:?} | {gold:?}", row.line);
            let equal = equal::equal(&found, gold, math.symbolic.as_ref()).unwrap();
            match (equal, row.fields["equal"].is_true()) {
                (false, true) => missed.push(note),
                (true, false) => falsely.push(note),
                _ => {}
            }
        }
        println!(
            "SymPy {}, of {}: extracted otherwise {extracted:#?}, missed {missed:#?}, falsely equal {falsely:#?}",
            math.symbolic.is_some(),
            golden.len()
        );
        let most = |share: f64| (share * golden.len() as f64) as usize;
        assert!(missed.len() + falsely.len() <= most(DISAGREEMENT));
        assert!(falsely.len() <= most(FALSELY_EQUAL));
        assert!(extracted.len() <= most(FALSELY_EQUAL));
    }
}
