//! Sessions from their events to their edits.
