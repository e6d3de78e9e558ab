//! The errors of a configuration, and their positions.

use std::{borrow::Cow, fmt, path::Path, sync::Arc};

/// Errors of one configuration that are kept; a file that is not a configuration at all has one on
/// every line.
const MAX_ERRORS: usize = 100;

/// The source of an assignment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A file.
    File(Arc<Path>),
    /// An option on the command line, with its hyphens; where it may say several things, with what
    /// it says something about.
    Option(Cow<'static, str>),
}

/// A position in a file or on the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Position {
    pub(super) origin: Origin,
    /// From 1; 0 for the whole of the file, and on the command line.
    pub(super) line: usize,
    /// Octets into the line. The column is counted only where the position is shown: a line may be
    /// long, and have a fault in each item of a list.
    pub(super) offset: usize,
    /// The line.
    pub(super) source: Arc<str>,
}

impl Position {
    /// A file as a whole.
    pub(super) fn file(path: &Path) -> Self {
        Self::line(&Origin::File(path.into()), 0, &Arc::from(""))
    }

    /// The beginning of a line.
    pub(super) fn line(origin: &Origin, line: usize, source: &Arc<str>) -> Self {
        Self { origin: origin.clone(), line, offset: 0, source: source.clone() }
    }

    /// The position so many octets into the line.
    pub(super) fn at(&self, octets: usize) -> Self {
        Self { offset: octets, ..self.clone() }
    }

    /// Characters from 1.
    pub(super) fn column(&self) -> usize {
        let before = self.source.char_indices().take_while(|(index, _)| *index < self.offset);
        before.count() + 1
    }

    /// Orders the positions of one reading: the configuration file, other files one after the
    /// other, then the command line; each from top to bottom.
    pub(super) fn order(&self, config_file: &Path) -> (u8, Option<Arc<Path>>, usize, usize) {
        let (origin, path) = match &self.origin {
            Origin::File(path) if **path == *config_file => (0, None),
            Origin::File(path) => (1, Some(Arc::clone(path))),
            Origin::Option(_) => (2, None),
        };
        (origin, path, self.line, self.offset)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(path) if self.line == 0 => write!(f, "{}", path.display()),
            Origin::File(path) => write!(f, "{}:{}:{}", path.display(), self.line, self.column()),
            Origin::Option(name) => f.write_str(name),
        }
    }
}

/// One fault of a configuration, or something that looks like one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    pub(super) position: Position,
    /// The parameter, where there is one and the position does not say it.
    pub(super) parameter: Option<String>,
    /// The fault, and the expected form in parentheses.
    pub(super) message: String,
}

impl ConfigError {
    pub(super) fn new(
        position: Position,
        parameter: Option<&str>,
        message: impl Into<String>,
    ) -> Self {
        let parameter =
            parameter.filter(|_| matches!(position.origin, Origin::File(_))).map(str::to_owned);
        Self { position, parameter, message: message.into() }
    }

    /// The line of the file with a caret below the position; nothing where there is no line.
    fn excerpt(&self) -> String {
        const BEFORE: usize = 60;
        const WIDTH: usize = 100;
        if self.position.line == 0 {
            return String::new();
        }
        // Long lines are cut to what is around the position; tabs and control characters take one
        // column.
        let before = self.position.column() - 1;
        let first = before.saturating_sub(BEFORE);
        let shown = self.position.source.chars().skip(first).take(WIDTH);
        let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let indent = before - first;
        format!("    {}\n    {}^\n", shown.trim_end(), " ".repeat(indent))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parameter {
            Some(parameter) => write!(f, "{}: {parameter}: {}", self.position, self.message),
            None => write!(f, "{}: {}", self.position, self.message),
        }
    }
}

/// Something that is not an error, but hardly meant. Written as an error is.
pub type Warning = ConfigError;

/// All faults of a configuration, at least one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Errors {
    errors: Vec<ConfigError>,
    /// How many more there were.
    more: usize,
}

impl Errors {
    /// The errors of the configuration file from top to bottom, then of other files and of the
    /// command line, then of values that contradict each other.
    #[cfg(any(test, feature = "testing"))]
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// Whether only the command line is wrong.
    pub fn are_of_options(&self) -> bool {
        self.errors.iter().all(|error| matches!(error.position.origin, Origin::Option(_)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn push(&mut self, error: ConfigError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn extend(&mut self, errors: impl IntoIterator<Item = ConfigError>) {
        errors.into_iter().for_each(|error| self.push(error));
    }

    pub(super) fn append(&mut self, other: Self) {
        self.more += other.more;
        for error in other.errors {
            self.push(error);
        }
    }

    pub(super) fn sort(&mut self, config_file: &Path) {
        self.errors.sort_by_key(|error| error.position.order(config_file));
    }

    /// The errors, each on a line of its own; on request with the line of the file and a caret
    /// below the position.
    pub fn render(&self, with_source: bool) -> String {
        let mut text = String::new();
        for error in &self.errors {
            text.push_str(&format!("{error}\n"));
            if with_source {
                text.push_str(&error.excerpt());
            }
        }
        if self.more > 0 {
            text.push_str(&format!("and {} errors more\n", self.more));
        }
        text
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str, offset: usize) -> ConfigError {
        let position = Position {
            origin: Origin::File(Path::new("a.conf").into()),
            line: 3,
            offset,
            source: source.into(),
        };
        ConfigError::new(position, Some("socket"), "wrong")
    }

    #[test]
    fn errors_show_the_place() {
        let mut errors = Errors::default();
        errors.push(error("söcket\t= x", 10));
        assert_eq!(errors.to_string(), "a.conf:3:10: socket: wrong");
        assert_eq!(
            errors.render(true),
            "a.conf:3:10: socket: wrong\n    söcket = x\n             ^\n"
        );
    }

    #[test]
    fn errors_of_options_are_recognised() {
        let position = Position::line(&Origin::Option("--socket".into()), 0, &Arc::from("x"));
        let mut errors = Errors::default();
        errors.push(ConfigError::new(position, Some("socket"), "wrong"));
        assert!(errors.are_of_options());
        errors.push(error("x", 0));
        assert!(!errors.are_of_options());
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let long = "x".repeat(100_000) + "!" + &"y".repeat(1000);
        let excerpt = error(&long, 100_000).excerpt();
        let (line, caret) = excerpt.split_once('\n').unwrap();
        assert_eq!(line.len(), 104);
        assert_eq!(line.find('!'), caret.find('^'));
    }

    #[test]
    fn a_flood_of_errors_is_counted() {
        for (count, more) in
            [(99, ""), (100, ""), (101, "and 1 errors more"), (105, "and 5 errors more")]
        {
            let mut errors = Errors::default();
            (0..count).for_each(|_| errors.push(error("", 0)));
            let text = errors.to_string();
            assert_eq!(text.lines().count(), count.min(100) + usize::from(count > 100), "{count}");
            assert!(
                text.ends_with(more) && text.contains("more") == (count > 100),
                "{count}: {more}"
            );
        }
    }
}
