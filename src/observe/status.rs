//! The answer of `spf-milter status` and of the status page: one value, which is written as text, as
//! HTML and as JSON.

mod clock;
mod html;
mod json;
mod shown;
mod text;
mod values;
mod warnings;

#[cfg(test)]
mod tests;

pub use self::{
    clock::{spell_time, spell_zoned},
    html::STYLE_HASH,
    shown::{Counts, Shown},
    values::{
        Configuration, Connections, Dns, FailedReload, Messages, Method, NameServer, Refusal,
        Status,
    },
};
