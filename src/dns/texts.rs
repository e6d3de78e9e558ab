//! The texts of an answer, and a value that was parsed from them.

use std::{any::Any, ops::Deref, sync::Arc};

/// The texts at a name, each with its character-strings joined. Cheap to clone.
///
/// Texts that come from the cache have the value with them that a method parsed from them and kept
/// with [`Dns::keep_parsed`](super::Dns::keep_parsed), so that it need not parse them again.
#[derive(Clone, Debug)]
pub struct Texts {
    texts: Arc<[Box<[u8]>]>,
    parsed: Option<Arc<dyn Any + Send + Sync>>,
}

impl Texts {
    /// The value that was parsed from them; `None` where none was kept, or one of another type.
    pub fn parsed<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.parsed.as_ref()?).downcast().ok()
    }

    /// As [`Self::parsed`], for a look at it.
    pub fn parsed_ref<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.parsed.as_ref()?.downcast_ref()
    }

    /// The same texts with a value that was parsed from them.
    pub(super) fn with_parsed(self, parsed: Arc<dyn Any + Send + Sync>) -> Self {
        Self { parsed: Some(parsed), ..self }
    }

    /// Whether both came with one answer.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.texts, &other.texts)
    }

    pub(super) fn into_shared(self) -> Arc<[Box<[u8]>]> {
        self.texts
    }
}

impl Deref for Texts {
    type Target = [Box<[u8]>];

    fn deref(&self) -> &Self::Target {
        &self.texts
    }
}

impl<T: Into<Arc<[Box<[u8]>]>>> From<T> for Texts {
    fn from(texts: T) -> Self {
        Self { texts: texts.into(), parsed: None }
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Texts {}
