//! The format of configuration files: text in, assignments and all errors out.

use std::path::Path;

use super::{
    assignment::{Assignment, Assignments},
    error::{ConfigError, Errors},
    params::{Parameter, parameters},
    source::lines,
    types::{number::boolean, value::quote},
};

/// Reads a configuration file that was read into memory.
pub(super) fn parse(text: &[u8], path: &Path) -> (Assignments, Errors) {
    let mut assignments = Assignments::default();
    let mut errors = Errors::default();
    // Whether the line before ends with a backslash.
    let mut goes_on = false;
    for line in lines(text, path) {
        let continues = std::mem::replace(&mut goes_on, line.text.ends_with('\\'));
        let (name, value) = match line.text.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value)),
            None => (line.text.as_str(), None),
        };
        let parameter = Parameter::find(name);
        if let Some((offset, problem)) = &line.problem {
            errors.push(ConfigError::new(
                line.position.at(*offset),
                parameter.map(|parameter| parameter.name),
                problem.clone(),
            ));
        } else if let Err((offset, known, message)) = check_name(name, value, parameter, continues)
        {
            errors.push(ConfigError::new(line.position.at(line.offset + offset), known, message));
        }
        let Some(parameter) = parameter else { continue };
        if let Some(first) = assignments.find(name) {
            let message =
                format!("given twice, first in line {} (expected once)", first.position.line);
            errors.push(ConfigError::new(line.position.at(line.offset), Some(name), message));
            continue;
        }
        let raw = value.unwrap_or_default();
        let offset = line.offset + line.text.len() - raw.trim_start().len();
        let value = value.filter(|_| line.problem.is_none()).map(|value| value.trim().to_owned());
        assignments.push(Assignment {
            name: parameter.name,
            value,
            position: line.position,
            offset,
        });
    }
    (assignments, errors)
}

/// Checks the left side. An error has its position in octets, the parameter, and the message.
pub(super) fn check_name<'a>(
    name: &'a str,
    value: Option<&str>,
    parameter: Option<&Parameter>,
    continues: bool,
) -> Result<(), (usize, Option<&'a str>, String)> {
    if value.is_none() {
        let word = name.split_whitespace().next().filter(|word| Parameter::find(word).is_some());
        let hint = match name {
            _ if continues => "; a value cannot go on in the next line",
            _ if name.starts_with([';', '!']) || name.starts_with("//") => {
                "; a comment begins with #"
            }
            _ if name.starts_with('[') => "; there are no sections",
            _ => "",
        };
        return Err((name.len(), word, format!("no '=' (expected name = value{hint})")));
    }
    if name.is_empty() {
        return Err((0, None, "no name before '=' (expected name = value)".into()));
    }
    if parameter.is_none() {
        let hint = match (replacement(name, value.unwrap_or_default()), nearest(name)) {
            (Some(lines), _) => lines,
            (None, Some(known)) => format!("did you mean {known}?"),
            (None, None) => "expected one of spf-milter.conf(5)".into(),
        };
        return Err((0, None, format!("{} is not a parameter ({hint})", quote(name))));
    }
    Ok(())
}

/// What to write in place of a parameter that there was for some time.
fn replacement(name: &str, value: &str) -> Option<String> {
    let has = |policy| value.split(',').any(|item| item.trim() == policy);
    let lines = match name {
        "enforce_dmarc_policies" => [
            has("quarantine").then_some("dmarc_quarantine_action = quarantine"),
            has("reject").then_some("dmarc_reject_action = reject"),
        ],
        "defer_dmarc_temperror" => {
            let is_on = boolean(value.trim()) == Ok(true);
            [is_on.then_some("dmarc_temperror_action = defer"), None]
        }
        _ => return None,
    };
    Some(match lines {
        [Some(one), Some(other)] => format!("write '{one}' and in another line '{other}'"),
        [Some(line), None] | [None, Some(line)] => format!("write '{line}'"),
        [None, None] => "leave the line out".into(),
    })
}

/// The parameter whose name is most like this one, if any is.
fn nearest(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase().replace(['-', ' '], "_");
    let best = parameters()
        .iter()
        .map(|parameter| (distance(&name, parameter.name), parameter.name))
        .min()?;
    (best.0 <= (name.chars().count() / 3).max(1)).then_some(best.1)
}

/// The number of characters to insert, delete, replace or swap with the next to make one text of
/// the other.
fn distance(one: &str, other: &str) -> usize {
    let width = other.chars().count();
    // A row has a cell for each beginning of the other text, from the empty one on.
    let mut before: Vec<usize> = vec![usize::MAX - 1; width + 1];
    let mut above: Vec<usize> = (0..=width).collect();
    let mut last = None;
    for (row, c) in one.chars().enumerate() {
        let mut left = row + 1;
        let mut current = vec![left];
        let mut previous = None;
        // To swap is to go on from the row before the last, two cells to the left.
        let swapped = std::iter::once(usize::MAX - 1).chain(before.iter().copied());
        for ((d, over), (diagonal, swapped)) in
            other.chars().zip(above.iter().skip(1)).zip(above.iter().zip(swapped))
        {
            let mut best = (diagonal + usize::from(c != d)).min(over + 1).min(left + 1);
            if last == Some(d) && previous == Some(c) {
                best = best.min(swapped + 1);
            }
            current.push(best);
            left = best;
            previous = Some(d);
        }
        before = std::mem::replace(&mut above, current);
        last = Some(c);
    }
    // The row is never empty.
    above.into_iter().next_back().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow twin of `distance`: the definition, without a table.
    fn slow_distance(one: &[char], other: &[char]) -> usize {
        match (one, other) {
            ([], rest) | (rest, []) => rest.len(),
            ([a @ .., c], [b @ .., d]) => {
                let mut best = (slow_distance(a, b) + usize::from(c != d))
                    .min(slow_distance(a, other) + 1)
                    .min(slow_distance(one, b) + 1);
                if let ([a @ .., e], [b @ .., f]) = (a, b)
                    && (e, c) == (d, f)
                {
                    best = best.min(slow_distance(a, b) + 1);
                }
                best
            }
        }
    }

    #[test]
    fn distances_are_those_of_the_definition() {
        let texts: Vec<String> = (0..3_u32.pow(5))
            .map(|n| {
                (0..5).map(|index| ['a', 'b', 'c'][(n / 3_u32.pow(index) % 3) as usize]).collect()
            })
            .collect();
        for (index, one) in texts.iter().enumerate().step_by(7) {
            for other in texts.iter().skip(index % 5).step_by(11) {
                for (one, other) in [
                    (one.as_str(), other.as_str()),
                    (&one[1..], other),
                    (one, &other[2..]),
                    (&one[4..], &other[5..]),
                ] {
                    let chars = |text: &str| text.chars().collect::<Vec<_>>();
                    assert_eq!(
                        distance(one, other),
                        slow_distance(&chars(one), &chars(other)),
                        "{one} {other}"
                    );
                }
            }
        }
    }

    fn read(text: &str) -> Vec<(&'static str, Option<String>, usize)> {
        let (assignments, errors) = parse(text.as_bytes(), Path::new("a.conf"));
        assert!(errors.is_empty(), "{errors}");
        assignments
            .iter()
            .map(|a| (a.name, a.value.clone(), a.position.at(a.offset).column()))
            .collect()
    }

    #[test]
    fn lines_are_read() {
        assert_eq!(
            read("\u{feff}# x\n\n  # y\r\n\thostname\t= a \r\n"),
            [("hostname", Some("a".into()), 13)]
        );
        assert_eq!(
            read("fail_reply_text=a = b # c"),
            [("fail_reply_text", Some("a = b # c".into()), 17)]
        );
        assert_eq!(read("header = "), [("header", Some(String::new()), 9)]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn the_nearest_name_is_found() {
        for (typo, name) in [
            ("sokcet", "socket"),
            ("SOCKET", "socket"),
            ("max_lookup", "max_lookups"),
            ("log-level", "log_level"),
            ("verify_hello", "verify_helo"),
        ] {
            assert_eq!(nearest(typo), Some(name));
        }
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(distance("abc", "bac"), 1);
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
