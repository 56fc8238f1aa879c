//! What keeps going wrong in the same way is said once.

/// What was last said about one thing that went wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaint(Option<String>);

impl Complaint {
    /// Whether `text` is something else than what was last said; it counts as said from now on.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.0.as_deref() != Some(text);
        if is_news {
            self.0 = Some(text.to_owned());
        }
        is_news
    }

    /// All is well again, so that the same would be news.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_until_all_is_well_again() {
        let mut complaint = Complaint::default();
        assert!(complaint.is_news("disk full"));
        assert!(!complaint.is_news("disk full"));
        assert!(complaint.is_news("no such directory"));
        assert!(complaint.is_news("disk full"));
        complaint.end();
        assert!(complaint.is_news("disk full"));
    }
}
