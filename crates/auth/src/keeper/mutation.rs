//! Deliberate mistakes, one against each promise of the design: the tests must find them.
//!
//! Outside of tests there are none: `mutated!(…)` is `false` then, and nothing of this is
//! compiled.

/// Whether the mistake of this name is being made.
#[cfg(not(test))]
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}

/// Whether the mistake of this name is being made.
#[cfg(test)]
macro_rules! mutated {
    ($mutation:ident) => {
        $crate::keeper::mutation::Mutation::$mutation.is_made()
    };
}

pub(crate) use mutated;

#[cfg(test)]
pub(crate) use mistakes::Mutation;

#[cfg(test)]
mod mistakes {
    use std::cell::Cell;

    /// A mistake, by the number of the promise that it breaks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Mutation {
        /// 1: whoever finds the grant locked refreshes it all the same.
        IgnoresTheLock,
        /// 2: tokens are handed out to their very end.
        HasNoFloor,
        /// 3: a token is handed out, then kept.
        PublishesFirst,
        /// 4: a refresh token whose rotation was lost is tried for ever.
        TriesForEver,
        /// 5: a sign-in begins to count anew.
        CountsAnew,
        /// 6: the provider is asked though somebody must sign in.
        AsksInVain,
        /// 7: a refresh that nobody waits for any more is given up.
        FliesForCallers,
        /// 8: while the provider is left in peace, a token that is due is held back.
        HoldsBack,
        /// 9: requests start as they come.
        TakesNoTurns,
        /// 10: no token is older than the one before it, whatever the clock says.
        NeverGoesBack,
        /// 11: a refusal counts against whatever token is the newest.
        BlamesTheNewest,
        /// 12: what is sent is logged.
        LogsTokens,
        /// 13: nonsense from the provider is taken for a last word.
        TakesNonsenseForNo,
    }

    thread_local! {
        static MADE: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    impl Mutation {
        pub(crate) fn is_made(self) -> bool {
            MADE.get() == Some(self)
        }

        /// Makes this mistake on this thread while `run` runs.
        pub(crate) fn make<T>(self, run: impl FnOnce() -> T) -> T {
            MADE.set(Some(self));
            let outcome = run();
            MADE.set(None);
            outcome
        }
    }
}
