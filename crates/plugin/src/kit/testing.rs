//! Drives a plugin as a table of actions and answers, through its real vtable but without
//! loading a library.
