//! The inbox: what arrived, kept to be looked at.
