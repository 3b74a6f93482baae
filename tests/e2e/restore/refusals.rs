//! What is refused before anything is touched.
