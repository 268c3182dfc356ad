//! Who is taken: the sooner of two, by weights where nothing tells them apart.
