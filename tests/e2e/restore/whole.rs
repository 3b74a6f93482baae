//! All stores together.
